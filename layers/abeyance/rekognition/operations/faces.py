"""IndexFaces, ListFaces, DeleteFaces."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any, Final

from abeyance.gallery.core import page_start, page_token
from abeyance.gallery.model import Face, NewFace
from abeyance.rekognition.call import Call
from abeyance.rekognition.eyes import MAX_FACES, Seen
from abeyance.rekognition.operations.images import wanted
from abeyance.rekognition.operations.tools import Tools, deployed_model, wire_face

#: Faces of a page, where the request names no number.
PAGE: Final = 1000

#: Namespace of the ids of faces and photos that come through this API.
_FACES = uuid.UUID("0e3a56fb-8d6b-5f0a-9d0e-6e8f2b8d5a43")


def index_faces(call: Call, tools: Tools) -> dict[str, Any]:
    """Add a photo's faces. The same bytes under the same external id are the same faces, and add nothing."""
    params = call.params
    model = deployed_model(call, tools)
    data = tools.photos.read(params["Image"], call.grant.tenant)
    seen_faces = tools.eyes.look(
        data,
        call.timings,
        quality=params.get("QualityFilter", "AUTO"),
        wanted=wanted(params.get("DetectionAttributes")),
    )
    good = [number for number, seen in enumerate(seen_faces) if not seen.reasons]
    chosen = good[: min(params.get("MaxFaces", MAX_FACES), MAX_FACES)]
    external = params.get("ExternalImageId", "")
    photo = f"{call.grant.tenant}/{params['CollectionId']}/{hashlib.sha256(data).hexdigest()}"
    image_id = str(uuid.uuid5(_FACES, photo))
    new: list[NewFace] = []
    if chosen:
        templates = tools.eyes.templates([seen_faces[number] for number in chosen], call.timings)
        new = [
            NewFace(
                id=str(uuid.uuid5(_FACES, f"{photo}/{external}/{number}")),
                model=model,
                template=template,
                image_id=image_id,
                external_image_id=external,
                box=seen_faces[number].box,
                confidence=seen_faces[number].face.confidence,
                quality=_quality(seen_faces[number]),
            )
            for number, template in zip(chosen, templates, strict=True)
        ]
    with call.timings.measure("gallery"):
        stored = {face.id: face for face in tools.gallery.index(call.ref, new)} if new else {}
    left = [
        (seen, seen.reasons or ("EXCEEDS_MAX_FACES",)) for n, seen in enumerate(seen_faces) if n not in chosen
    ]
    return {
        "FaceRecords": [
            {"Face": wire_face(stored[face.id]), "FaceDetail": seen_faces[number].detail}
            for face, number in zip(new, chosen, strict=True)
            if face.id in stored
        ],
        "FaceModelVersion": model,
        "UnindexedFaces": [{"FaceDetail": seen.detail, "Reasons": list(why)} for seen, why in left],
    }


def list_faces(call: Call, tools: Tools) -> dict[str, Any]:
    """Faces by id, of the whole collection, of one user, or of those that were named."""
    params = call.params
    limit = params.get("MaxResults") or PAGE
    token, user_id = params.get("NextToken", ""), params.get("UserId", "")
    if "FaceIds" in params:
        faces, next_token = _named_faces(call, tools, limit, token)
    else:
        page = tools.gallery.list_faces(call.ref, limit=limit, token=token, user_id=user_id)
        faces, next_token = list(page.items), page.next_token
    return {
        "Faces": [wire_face(face) for face in faces],
        "FaceModelVersion": tools.gallery.describe(call.ref).model,
        "NextToken": next_token or None,
    }


def delete_faces(call: Call, tools: Tools) -> dict[str, Any]:
    """Erase faces; those of a user stay, and the answer says so."""
    with call.timings.measure("gallery"):
        outcome = tools.gallery.delete_faces(call.ref, call.params["FaceIds"])
    return {
        "DeletedFaces": list(outcome.done),
        "UnsuccessfulFaceDeletions": [
            {"FaceId": refusal.face_id, "UserId": refusal.user_id or None, "Reasons": [str(refusal.reason)]}
            for refusal in outcome.refused
        ],
    }


def _named_faces(call: Call, tools: Tools, limit: int, token: str) -> tuple[list[Face], str]:
    asked = sorted(set(call.params["FaceIds"]))
    user_id = call.params.get("UserId", "")
    listing = f"named faces of {call.ref} {user_id} {hashlib.sha256(','.join(asked).encode()).hexdigest()}"
    start = page_start(listing, token)
    found = tools.gallery.get_faces(call.ref, [face_id for face_id in asked if face_id > start])
    if user_id:
        found = [face for face in found if face.user_id == user_id]
    page = found[:limit]
    return page, page_token(listing, page[-1].id) if len(found) > limit else ""


def _quality(seen: Seen) -> dict[str, float]:
    """What the gallery keeps of a face's quality, by the names that the pipeline uses too."""
    pose, quality = seen.detail["Pose"], seen.detail["Quality"]
    return {
        "brightness": quality["Brightness"],
        "sharpness": quality["Sharpness"],
        "yaw": pose["Yaw"],
        "pitch": pose["Pitch"],
        "roll": pose["Roll"],
    }
