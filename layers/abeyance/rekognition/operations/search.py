"""SearchFaces, SearchFacesByImage, SearchUsers, SearchUsersByImage."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from abeyance.gallery.model import Kind
from abeyance.rekognition.call import Call
from abeyance.rekognition.errors import NO_FACE, ApiError, invalid
from abeyance.rekognition.eyes import Seen
from abeyance.rekognition.operations.tools import Tools, deployed_model, wire_face

#: Similarity from which a candidate is answered, where the request says nothing.
THRESHOLD: Final = 80.0
#: Candidates of an answer, where the request names no number.
MAX_FACES: Final = 80
MAX_USERS: Final = 80

Template = NDArray[np.float32]


def search_faces(call: Call, tools: Tools) -> dict[str, Any]:
    """Faces that match a face of the collection, without that face itself."""
    face_id = call.params["FaceId"]
    model = deployed_model(call, tools)
    template = tools.gallery.templates(call.ref, [face_id]).get(face_id)
    if template is None:
        raise invalid("faceId was not found in the collection.")
    return {
        "SearchedFaceId": face_id,
        "FaceMatches": face_matches(call, tools, template, model, without=face_id),
        "FaceModelVersion": model,
    }


def search_faces_by_image(call: Call, tools: Tools) -> dict[str, Any]:
    """Faces that match the largest face of a photo."""
    model = deployed_model(call, tools)
    probe = next((seen for seen in _faces(call, tools) if not seen.reasons), None)
    if probe is None:
        raise invalid(NO_FACE)
    template = tools.eyes.templates([probe], call.timings)[0]
    return {
        "SearchedFaceBoundingBox": probe.detail["BoundingBox"],
        "SearchedFaceConfidence": probe.detail["Confidence"],
        "FaceMatches": face_matches(call, tools, template, model),
        "FaceModelVersion": model,
    }


def search_users(call: Call, tools: Tools) -> dict[str, Any]:
    """Users that match a face, or another user, of the collection."""
    params = call.params
    if ("FaceId" in params) == ("UserId" in params):
        raise invalid("A search for users names either a FaceId or a UserId")
    model = deployed_model(call, tools)
    if "UserId" in params:
        searched: dict[str, Any] = {"SearchedUser": {"UserId": params["UserId"]}}
        template = tools.gallery.user_template(call.ref, params["UserId"])
    else:
        searched = {"SearchedFace": {"FaceId": params["FaceId"]}}
        template = tools.gallery.templates(call.ref, [params["FaceId"]]).get(params["FaceId"])
        if template is None:
            raise ApiError("ResourceNotFoundException", "faceId was not found in the collection.")
    matches = (
        []
        if template is None
        else _user_matches(call, tools, template, model, without=params.get("UserId", ""))
    )
    return {"UserMatches": matches, "FaceModelVersion": model, **searched}


def search_users_by_image(call: Call, tools: Tools) -> dict[str, Any]:
    """Users that match the largest face of a photo; without a face that will do, nobody."""
    model = deployed_model(call, tools)
    faces = _faces(call, tools)
    good = [seen for seen in faces if not seen.reasons]
    answer: dict[str, Any] = {
        "UserMatches": [],
        "FaceModelVersion": model,
        "UnsearchedFaces": [_unsearched(seen) for seen in faces if seen not in good[:1]],
    }
    if good:
        template = tools.eyes.templates(good[:1], call.timings)[0]
        answer["SearchedFace"] = {"FaceDetail": good[0].detail}
        answer["UserMatches"] = _user_matches(call, tools, template, model)
    return answer


def face_matches(
    call: Call, tools: Tools, template: Template, model: str, *, without: str = ""
) -> list[dict[str, Any]]:
    """FaceMatches of a template, best first."""
    limit = call.params.get("MaxFaces", MAX_FACES)
    found = _candidates(call, tools, template, model, Kind.FACE, limit, "FaceMatchThreshold", without)
    with call.timings.measure("gallery"):
        faces = {face.id: face for face in tools.gallery.get_faces(call.ref, [name for name, _ in found])}
    return [
        {"Similarity": similarity, "Face": wire_face(faces[face_id])}
        for face_id, similarity in found
        if face_id in faces
    ]


def _user_matches(
    call: Call, tools: Tools, template: Template, model: str, *, without: str = ""
) -> list[dict[str, Any]]:
    limit = call.params.get("MaxUsers", MAX_USERS)
    found = _candidates(call, tools, template, model, Kind.USER, limit, "UserMatchThreshold", without)
    with call.timings.measure("gallery"):
        users = {user.id: user for user in tools.gallery.get_users(call.ref, [name for name, _ in found])}
    return [
        {"Similarity": similarity, "User": {"UserId": user_id, "UserStatus": str(users[user_id].status)}}
        for user_id, similarity in found
        if user_id in users
    ]


def _candidates(
    call: Call, tools: Tools, template: Template, model: str, kind: Kind, limit: int, name: str, without: str
) -> list[tuple[str, float]]:
    """Ids and similarities at or above the threshold, best first."""
    threshold = call.threshold(name, THRESHOLD)
    with call.timings.measure("search"):
        (found,) = tools.searcher.search(
            call.ref,
            template[np.newaxis],
            limit=limit + bool(without),
            min_cosine=tools.eyes.cosine(threshold),
            kind=kind,
            model=model,
        )
    scored = [(c.face_id, tools.eyes.similarity(c.cosine)) for c in found if c.face_id != without]
    return [pair for pair in scored if pair[1] >= threshold][:limit]


def _faces(call: Call, tools: Tools) -> tuple[Seen, ...]:
    data = tools.photos.read(call.params["Image"], call.grant.tenant)
    return tools.eyes.look(data, call.timings, quality=call.params.get("QualityFilter", "NONE"))


def _unsearched(seen: Seen) -> dict[str, Any]:
    return {"FaceDetails": seen.detail, "Reasons": list(seen.reasons) or ["FACE_NOT_LARGEST"]}
