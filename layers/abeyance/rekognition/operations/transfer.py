"""ExportFaces and ImportFaces: not in Rekognition; a collection page by page, out and in again."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from abeyance.gallery.errors import UserExists
from abeyance.gallery.model import Collection, Face, NewFace, Refusal, SourceObject, User
from abeyance.rekognition.call import Call
from abeyance.rekognition.errors import invalid
from abeyance.rekognition.operations.services import Services, stored_members, wire_refusal

#: Most faces of a page that is exported; see ``ExportPageSize`` of the service model.
PAGE: Final = 1000
_USERS, _FACES = "users:", "faces:"


def exports(params: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the actions of an export: without templates it is a listing."""
    return ("template_export",) if params.get("WithTemplates") else ()


def export_faces(call: Call, services: Services) -> dict[str, Any]:
    """Return a page of a collection: first each user with all their faces in order, then the faces without a user."""
    token = call.params.get("NextToken", "")
    limit = call.params.get("MaxResults") or PAGE
    collection = services.gallery.describe(call.ref)
    with call.timings.measure("gallery"):
        if token.startswith(_FACES):
            users: list[User] = []
            page = services.gallery.list_faces(call.ref, limit=limit, token=token.removeprefix(_FACES))
            faces = [face for face in page.items if not face.user_id]
            next_token = f"{_FACES}{page.next_token}" if page.next_token else ""
        else:
            users, next_token = _users(call, services, limit, token.removeprefix(_USERS))
            ids = [face_id for user in users for face_id in user.face_ids]
            faces = services.gallery.get_faces(collection, ids)
        templates = _templates(call, services, collection, faces)
    return {
        "Users": [{"UserId": user.id, "FaceIds": list(user.face_ids)} for user in users],
        "Faces": [_wire(face, templates.get(face.id)) for face in faces],
        "FaceModelVersion": collection.model,
        "NextToken": next_token or None,
    }


def import_faces(call: Call, services: Services) -> dict[str, Any]:
    """Add faces with the templates that they had elsewhere, and users; what is there stays as it is."""
    params, gallery = call.params, services.gallery
    asked = {face["FaceId"] for face in params["Faces"]}
    with call.timings.measure("gallery"):
        present = {face.id for face in gallery.get_faces(call.ref, sorted(asked))}
        new = [_read(face, params["FaceModelVersion"]) for face in params["Faces"]]
        gallery.index(call.ref, [face for face in new if face.id not in present])
        refused: list[Refusal] = []
        users = params.get("Users", ())
        known = {user.id for user in gallery.get_users(call.ref, [user["UserId"] for user in users])}
        for user in users:
            if user["UserId"] not in known:
                with contextlib.suppress(UserExists):
                    gallery.create_user(call.ref, user["UserId"])
            if user["FaceIds"]:
                refused += gallery.associate_faces(call.ref, user["UserId"], user["FaceIds"]).refused
    return {
        "Imported": len(asked - present),
        "UnsuccessfulFaceAssociations": [wire_refusal(refusal) for refusal in refused],
    }


def _users(call: Call, services: Services, limit: int, token: str) -> tuple[list[User], str]:
    """Return as many users as have ``limit`` faces together, at least one, and the token of what comes next."""
    page = services.gallery.list_users(call.ref, limit=limit, token=token)
    faces = fitting = 0
    for user in page.items:
        faces += len(user.face_ids)
        if fitting and faces > limit:
            break
        fitting += 1
    if fitting < len(page.items):
        page = services.gallery.list_users(call.ref, limit=fitting, token=token)
    return list(page.items), f"{_USERS}{page.next_token}" if page.next_token else _FACES


def _templates(
    call: Call, services: Services, collection: Collection, faces: list[Face]
) -> dict[str, NDArray[np.float32]]:
    if not call.params.get("WithTemplates"):
        return {}
    return services.gallery.templates_of(collection, faces)


def _wire(face: Face, template: NDArray[np.float32] | None) -> dict[str, Any]:
    return {
        **stored_members(face),
        "Measurements": face.quality,
        "Photo": _photo(face.source) if face.source else None,
        "Template": None if template is None else template.astype("<f2").tobytes(),
    }


def _photo(source: SourceObject) -> dict[str, Any]:
    return {"Bucket": source.bucket, "Name": source.key, "Version": source.version or None}


def _read(face: Mapping[str, Any], model: str) -> NewFace:
    """Return an exported face as a new one. The photo is left out: it may be in another system, or another tenant's."""
    if "Template" not in face or len(face["Template"]) % 2:
        raise invalid("A face to import has the template that it was exported with")
    box = face.get("BoundingBox", {})
    return NewFace(
        id=face["FaceId"],
        model=model,
        template=np.frombuffer(face["Template"], dtype="<f2").astype(np.float32),
        image_id=face.get("ImageId", ""),
        external_image_id=face.get("ExternalImageId", ""),
        box=tuple(box.get(side, 0.0) for side in ("Left", "Top", "Width", "Height")),
        confidence=face.get("Confidence", 0.0) / 100,
        quality=face.get("Measurements", {}),
    )
