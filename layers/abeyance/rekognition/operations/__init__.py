"""The operations, each a function of a permitted call and what it works with; all of them by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from abeyance.rekognition.call import Call
from abeyance.rekognition.facedetail import beyond_default
from abeyance.rekognition.operations import associations, collections, faces, images, search, templates, users
from abeyance.rekognition.operations.services import Services

Params = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """How an operation is answered, and the moratorium's actions that it comes to."""

    answer: Callable[[Call, Services], dict[str, Any]]
    actions: Callable[[Params], tuple[str, ...]]


def _does(*actions: str) -> Callable[[Params], tuple[str, ...]]:
    return lambda _: actions


#: Managing one's own collections needs no decision, and no moratorium may stand in the way of erasure.
_MANAGES = _does()


def _detects(params: Params) -> tuple[str, ...]:
    return ("analyze",) if beyond_default(params.get("Attributes")) else ("detect",)


def _indexes(params: Params) -> tuple[str, ...]:
    return ("index", "analyze") if beyond_default(params.get("DetectionAttributes")) else ("index",)


OPERATIONS: Final[Mapping[str, Entry]] = {
    "AssociateFaces": Entry(associations.associate_faces, _does("index", "compare")),
    "CompareFaces": Entry(images.compare_faces, _does("compare")),
    "CreateCollection": Entry(collections.create_collection, _MANAGES),
    "CreateUser": Entry(users.create_user, _MANAGES),
    "DeleteCollection": Entry(collections.delete_collection, _MANAGES),
    "DeleteFaces": Entry(faces.delete_faces, _MANAGES),
    "DeleteUser": Entry(users.delete_user, _MANAGES),
    "DescribeCollection": Entry(collections.describe_collection, _MANAGES),
    "DetectFaces": Entry(images.detect_faces, _detects),
    "DisassociateFaces": Entry(associations.disassociate_faces, _MANAGES),
    "GetFaceTemplate": Entry(templates.get_face_template, _does("template_export")),
    "IndexFaces": Entry(faces.index_faces, _indexes),
    "ListCollections": Entry(collections.list_collections, _MANAGES),
    "ListFaces": Entry(faces.list_faces, _MANAGES),
    "ListUsers": Entry(users.list_users, _MANAGES),
    "SearchFaces": Entry(search.search_faces, _does("search")),
    "SearchFacesByImage": Entry(search.search_faces_by_image, _does("search")),
    "SearchFacesByTemplate": Entry(templates.search_faces_by_template, _does("template_search")),
    "SearchUsers": Entry(search.search_users, _does("search")),
    "SearchUsersByImage": Entry(search.search_users_by_image, _does("search")),
}

__all__ = ["OPERATIONS", "Entry", "Services"]
