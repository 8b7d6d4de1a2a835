"""SearchFaces, SearchFacesByImage, SearchUsers, SearchUsersByImage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from abeyance.gallery.model import Collection, Face, TemplateKind, User
from abeyance.gallery.verdicts import CollectionSubject
from abeyance.rekognition.call import Call
from abeyance.rekognition.errors import NO_FACE, ApiError, invalid
from abeyance.rekognition.facedetail import face_detail
from abeyance.rekognition.operations.services import Services, searched_collection, wire_face
from abeyance.vision.analysis import AnalyzedFace

#: Default for the least similarity of a candidate.
THRESHOLD: Final = 80.0
#: Default for the candidates of an answer.
MAX_FACES: Final = 80
MAX_USERS: Final = 80
#: Candidates that one subject who is somebody else can take from an answer.
_FACES_OF_OTHERS: Final = 100

Template = NDArray[np.float32]
Match = TypeVar("Match", Face, User)


def search_faces(call: Call, services: Services) -> dict[str, Any]:
    """Search for faces that match a face of the collection, without that face itself."""
    face_id = call.params["FaceId"]
    collection = searched_collection(call, services)
    template = services.gallery.templates(collection, [face_id]).get(face_id)
    if template is None:
        raise invalid("faceId was not found in the collection.")
    others = _known_others(services, collection, face_id=face_id)
    return {
        "SearchedFaceId": face_id,
        "FaceMatches": face_matches(call, services, template, collection, without=face_id, others=others),
        "FaceModelVersion": collection.model,
    }


def search_faces_by_image(call: Call, services: Services) -> dict[str, Any]:
    """Search for faces that match the largest usable face of a photo."""
    collection = searched_collection(call, services)
    probe = next((face for face in _faces(call, services) if not face.reasons), None)
    if probe is None:
        raise invalid(NO_FACE)
    template = services.embed(call, [probe], collection.model)[0]
    detail = face_detail(probe)
    return {
        "SearchedFaceBoundingBox": detail["BoundingBox"],
        "SearchedFaceConfidence": detail["Confidence"],
        "FaceMatches": face_matches(call, services, template, collection),
        "FaceModelVersion": collection.model,
    }


def search_users(call: Call, services: Services) -> dict[str, Any]:
    """Search for users that match a face, or another user, of the collection."""
    params = call.params
    if ("FaceId" in params) == ("UserId" in params):
        raise invalid("A search for users names either a FaceId or a UserId")
    collection = searched_collection(call, services)
    if "UserId" in params:
        searched: dict[str, Any] = {"SearchedUser": {"UserId": params["UserId"]}}
        template = services.gallery.user_template(collection, params["UserId"])
    else:
        searched = {"SearchedFace": {"FaceId": params["FaceId"]}}
        template = services.gallery.templates(collection, [params["FaceId"]]).get(params["FaceId"])
        if template is None:
            raise ApiError("ResourceNotFoundException", "faceId was not found in the collection.")
    matches = (
        []
        if template is None
        else _user_matches(
            call,
            services,
            template,
            collection,
            without=params.get("UserId", ""),
            others=_known_others(
                services, collection, face_id=params.get("FaceId", ""), user_id=params.get("UserId", "")
            ),
        )
    )
    return {"UserMatches": matches, "FaceModelVersion": collection.model, **searched}


def search_users_by_image(call: Call, services: Services) -> dict[str, Any]:
    """Search for users that match the largest usable face of a photo; without one, nobody matches."""
    collection = searched_collection(call, services)
    faces = _faces(call, services)
    usable = [face for face in faces if not face.reasons]
    answer: dict[str, Any] = {
        "UserMatches": [],
        "FaceModelVersion": collection.model,
        "UnsearchedFaces": [_unsearched(face) for face in faces if face not in usable[:1]],
    }
    if usable:
        template = services.embed(call, usable[:1], collection.model)[0]
        answer["SearchedFace"] = {"FaceDetail": face_detail(usable[0])}
        answer["UserMatches"] = _user_matches(call, services, template, collection)
    return answer


def face_matches(
    call: Call,
    services: Services,
    template: Template,
    collection: Collection,
    *,
    without: str = "",
    others: Set[CollectionSubject] = frozenset(),
) -> list[dict[str, Any]]:
    """Return the FaceMatches of a template, (d,) float32 of unit length; best first.

    ``others`` are faces and users that are known to be somebody else.
    """
    limit, threshold = call.params.get("MaxFaces", MAX_FACES), call.threshold("FaceMatchThreshold", THRESHOLD)
    wide = limit + _FACES_OF_OTHERS * len(others)
    found = _candidates(call, services, template, collection, TemplateKind.FACE, wide, threshold, without)
    with call.timings.measure("gallery"):
        faces = services.gallery.get_faces(collection, list(found))
    same = [
        face
        for face in _ranked(faces, found)
        if not {(TemplateKind.FACE, face.id), (TemplateKind.USER, face.user_id)} & others
    ]
    return [{"Similarity": found[face.id], "Face": wire_face(face)} for face in same[:limit]]


def _user_matches(
    call: Call,
    services: Services,
    template: Template,
    collection: Collection,
    *,
    without: str = "",
    others: Set[CollectionSubject] = frozenset(),
) -> list[dict[str, Any]]:
    limit, threshold = call.params.get("MaxUsers", MAX_USERS), call.threshold("UserMatchThreshold", THRESHOLD)
    wide = limit + len(others)
    found = _candidates(call, services, template, collection, TemplateKind.USER, wide, threshold, without)
    with call.timings.measure("gallery"):
        users = services.gallery.get_users(collection, list(found))
    return [
        {"Similarity": found[user.id], "User": {"UserId": user.id, "UserStatus": str(user.status)}}
        for user in _ranked(users, found)
        if (TemplateKind.USER, user.id) not in others
    ][:limit]


def _known_others(
    services: Services, collection: Collection, *, face_id: str = "", user_id: str = ""
) -> Set[CollectionSubject]:
    """Return the faces and users that people have said are not the person who is searched for."""
    if not collection.verdicts:
        return frozenset()
    gallery = services.gallery
    subjects = {CollectionSubject(TemplateKind.FACE, face_id)} if face_id else set()
    users = {user_id, *(face.user_id for face in gallery.get_faces(collection, [face_id] if face_id else []))}
    subjects |= {CollectionSubject(TemplateKind.USER, one) for one in users - {""}}
    return frozenset().union(*(gallery.verdicts_of(collection, one) for one in subjects))


def _ranked(things: Iterable[Match], found: Mapping[str, float]) -> list[Match]:
    """Return faces or users in the order of the candidates."""
    rank = {name: number for number, name in enumerate(found)}
    return sorted(things, key=lambda thing: rank[thing.id])


def _candidates(
    call: Call,
    services: Services,
    template: Template,
    collection: Collection,
    kind: TemplateKind,
    limit: int,
    threshold: float,
    without: str,
) -> dict[str, float]:
    """Return the similarities of candidates at or above the threshold by their id, best first."""
    with call.timings.measure("search"):
        (found,) = services.searcher.search(
            collection,
            template[np.newaxis],
            limit=limit + bool(without),
            min_cosine=services.cosine(threshold, collection.model),
            kind=kind,
            model=collection.model,
        )
    scored = [
        (c.face_id, services.similarity(c.cosine, collection.model)) for c in found if c.face_id != without
    ]
    return dict([pair for pair in scored if pair[1] >= threshold][:limit])


def _faces(call: Call, services: Services) -> tuple[AnalyzedFace, ...]:
    return services.analyze(call, services.photos.read(call.params["Image"], call.grant.tenant))


def _unsearched(face: AnalyzedFace) -> dict[str, Any]:
    reasons = [str(reason) for reason in face.reasons] or ["FACE_NOT_LARGEST"]
    return {"FaceDetails": face_detail(face), "Reasons": reasons}
