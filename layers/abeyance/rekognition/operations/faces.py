"""IndexFaces, ListFaces, DeleteFaces."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any, Final

from abeyance.gallery.model import Face, NewFace
from abeyance.gallery.paging import page_start, page_token
from abeyance.rekognition.call import Call
from abeyance.rekognition.facedetail import attribute_roles, face_detail
from abeyance.rekognition.operations.services import Services, deployed_model, wire_face, wire_refusal
from abeyance.vision.quality import QualityFilter, UnindexedReason

#: Default for the faces of a page.
PAGE: Final = 1000

#: Namespace of the ids of faces and photos that come through this API.
_FACES = uuid.UUID("0e3a56fb-8d6b-5f0a-9d0e-6e8f2b8d5a43")


def index_faces(call: Call, services: Services) -> dict[str, Any]:
    """Add a photo's faces. The same bytes with the same external id make the same face ids, and add nothing."""
    params = call.params
    model = deployed_model(call, services)
    attributes = params.get("DetectionAttributes")
    data = services.photos.read(params["Image"], call.grant.tenant)
    faces = services.analyze(
        call, data, quality_filter=QualityFilter.AUTO, attributes=attribute_roles(attributes)
    )
    usable = [number for number, face in enumerate(faces) if not face.reasons]
    chosen = usable[: params.get("MaxFaces")]
    details = [face_detail(face, attributes) for face in faces]
    external = params.get("ExternalImageId", "")
    photo = f"{call.grant.tenant}/{params['CollectionId']}/{hashlib.sha256(data).hexdigest()}"
    new: list[NewFace] = []
    if chosen:
        templates = services.embed(call, [faces[number] for number in chosen], model)
        new = [
            NewFace(
                id=str(uuid.uuid5(_FACES, f"{photo}/{external}/{number}")),
                model=model,
                template=template,
                image_id=str(uuid.uuid5(_FACES, photo)),
                external_image_id=external,
                box=_stored_box(details[number]),
                confidence=faces[number].confidence,
                quality=_stored_quality(details[number]),
            )
            for number, template in zip(chosen, templates, strict=True)
        ]
    with call.timings.measure("gallery"):
        stored = {face.id: face for face in services.gallery.index(call.ref, new)} if new else {}
    return {
        "FaceRecords": [
            {"Face": wire_face(stored[face.id]), "FaceDetail": details[number]}
            for face, number in zip(new, chosen, strict=True)
            if face.id in stored
        ],
        "FaceModelVersion": model,
        "UnindexedFaces": [
            {
                "FaceDetail": details[number],
                "Reasons": [str(reason) for reason in face.reasons or (UnindexedReason.EXCEEDS_MAX_FACES,)],
            }
            for number, face in enumerate(faces)
            if number not in chosen
        ],
    }


def list_faces(call: Call, services: Services) -> dict[str, Any]:
    """List faces by id: of the whole collection, of one user, or of those that the request names."""
    params = call.params
    limit = params.get("MaxResults") or PAGE
    token, user_id = params.get("NextToken", ""), params.get("UserId", "")
    if "FaceIds" in params:
        faces, next_token = _named_faces(call, services, limit, token)
    else:
        page = services.gallery.list_faces(call.ref, limit=limit, token=token, user_id=user_id)
        faces, next_token = list(page.items), page.next_token
    return {
        "Faces": [wire_face(face) for face in faces],
        "FaceModelVersion": services.gallery.describe(call.ref).model,
        "NextToken": next_token or None,
    }


def delete_faces(call: Call, services: Services) -> dict[str, Any]:
    """Erase faces; those of a user stay, and are listed as such."""
    with call.timings.measure("gallery"):
        outcome = services.gallery.delete_faces(call.ref, call.params["FaceIds"])
    return {
        "DeletedFaces": list(outcome.done),
        "UnsuccessfulFaceDeletions": [wire_refusal(refusal) for refusal in outcome.refused],
    }


def _named_faces(call: Call, services: Services, limit: int, token: str) -> tuple[list[Face], str]:
    asked = sorted(set(call.params["FaceIds"]))
    user_id = call.params.get("UserId", "")
    listing = f"named faces of {call.ref} {user_id} {hashlib.sha256(','.join(asked).encode()).hexdigest()}"
    start = page_start(listing, token)
    found = services.gallery.get_faces(call.ref, [face_id for face_id in asked if face_id > start])
    if user_id:
        found = [face for face in found if face.user_id == user_id]
    page = found[:limit]
    return page, page_token(listing, page[-1].id) if len(found) > limit else ""


def _stored_box(detail: dict[str, Any]) -> tuple[float, float, float, float]:
    box = detail["BoundingBox"]
    return box["Left"], box["Top"], box["Width"], box["Height"]


def _stored_quality(detail: dict[str, Any]) -> dict[str, float]:
    """Return the quality that the gallery keeps, under the names that the pipeline uses too."""
    return {
        name.lower(): detail[part][name]
        for part, name in (
            ("Quality", "Brightness"),
            ("Quality", "Sharpness"),
            ("Pose", "Yaw"),
            ("Pose", "Pitch"),
            ("Pose", "Roll"),
        )
    }
