"""The operations by name: each is a function of a permitted call and the services."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from abeyance.rekognition.call import Call
from abeyance.rekognition.facedetail import beyond_default
from abeyance.rekognition.operations import (
    associations,
    collections,
    faces,
    images,
    reembed,
    search,
    tags,
    templates,
    transfer,
    users,
    videos,
)
from abeyance.rekognition.operations.services import Services

Params = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OperationHandler:
    """An operation's answer, and the actions of the moratorium that it takes."""

    answer: Callable[[Call, Services], dict[str, Any]]
    actions: Callable[[Params], tuple[str, ...]]
    #: Name of the collection that a request is about; empty for none.
    collection: Callable[[Params], str] = lambda params: params.get("CollectionId", "")
    #: Name of another collection that it names; empty for none.
    other: Callable[[Params], str] = lambda params: ""
    #: Whether the answer comes later, so that it can wait for reviewers.
    waits: bool = False


def _takes(*actions: str) -> Callable[[Params], tuple[str, ...]]:
    return lambda _: actions


#: Managing one's own collections needs no decision, and no moratorium may stand in the way of erasure.
_MANAGES = _takes()


def _target(params: Params) -> str:
    name: str = params["TargetCollectionId"]
    return name


def _detects(params: Params) -> tuple[str, ...]:
    return ("analyze",) if beyond_default(params.get("Attributes")) else ("detect",)


def _indexes(params: Params) -> tuple[str, ...]:
    return ("index", "analyze") if beyond_default(params.get("DetectionAttributes")) else ("index",)


OPERATIONS: Final[Mapping[str, OperationHandler]] = {
    "AssociateFaces": OperationHandler(associations.associate_faces, _takes("index", "compare")),
    "CompareFaces": OperationHandler(images.compare_faces, _takes("compare")),
    "CreateCollection": OperationHandler(collections.create_collection, _MANAGES),
    "CreateUser": OperationHandler(users.create_user, _MANAGES),
    "DeleteCollection": OperationHandler(collections.delete_collection, _MANAGES),
    "DeleteFaces": OperationHandler(faces.delete_faces, _MANAGES),
    "DeleteUser": OperationHandler(users.delete_user, _MANAGES),
    "DescribeCollection": OperationHandler(collections.describe_collection, _MANAGES),
    "DetectFaces": OperationHandler(images.detect_faces, _detects),
    "DisassociateFaces": OperationHandler(associations.disassociate_faces, _MANAGES),
    "ExportFaces": OperationHandler(transfer.export_faces, transfer.exports),
    "GetFaceTemplate": OperationHandler(templates.get_face_template, _takes("template_export")),
    "ImportFaces": OperationHandler(transfer.import_faces, _takes("template_import")),
    "GetFaceDetection": OperationHandler(videos.get_face_detection, _MANAGES),
    "GetFaceSearch": OperationHandler(videos.get_face_search, _MANAGES),
    "IndexFaces": OperationHandler(faces.index_faces, _indexes),
    "ListCollections": OperationHandler(collections.list_collections, _MANAGES),
    "ListFaces": OperationHandler(faces.list_faces, _MANAGES),
    "ListTagsForResource": OperationHandler(tags.list_tags_for_resource, _MANAGES, tags.tagged_collection),
    "ListUsers": OperationHandler(users.list_users, _MANAGES),
    "ReembedFaces": OperationHandler(
        reembed.reembed_faces,
        _takes("index"),
        collection=_target,
        other=lambda params: params["CollectionId"],
    ),
    "SearchFaces": OperationHandler(search.search_faces, _takes("search")),
    "SearchFacesByImage": OperationHandler(search.search_faces_by_image, _takes("search")),
    "SearchFacesByTemplate": OperationHandler(templates.search_faces_by_template, _takes("template_search")),
    "SearchUsers": OperationHandler(search.search_users, _takes("search")),
    "SearchUsersByImage": OperationHandler(search.search_users_by_image, _takes("search")),
    "StartFaceDetection": OperationHandler(videos.start_face_detection, _takes("analyze")),
    "StartFaceSearch": OperationHandler(videos.start_face_search, _takes("search"), waits=True),
    "SwitchCollections": OperationHandler(reembed.switch_collections, _MANAGES, other=_target),
    "TagResource": OperationHandler(tags.tag_resource, _MANAGES, tags.tagged_collection),
    "UntagResource": OperationHandler(tags.untag_resource, _MANAGES, tags.tagged_collection),
}

__all__ = ["OPERATIONS", "OperationHandler", "Services"]
