"""Export and import of a collection through the API of a deployment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from abeyance.moving.archive import Archive, ArchiveWriter
from abeyance.moving.calls import pages, require_collection
from abeyance.moving.errors import MovingError
from abeyance.moving.keys import MasterKey

#: Fewest faces of a request, where there are so many; a user's faces are never parted.
FACES_A_REQUEST: Final = 100

#: Called with the number of faces that are done.
Advance = Callable[[int], None]


class Moved(msgspec.Struct, frozen=True):
    """The result of an export or an import."""

    collection: str
    model: str
    faces: int
    users: int
    templates: bool = True
    #: Faces that the collection has as another user's.
    refused: int = 0


class Progress(msgspec.Struct, frozen=True):
    """The state of an import, in a file beside the export. ``created`` is the collection's."""

    collection: str
    created: str
    bytes: int
    rows: int


def export_collection(
    api: Any,
    collection: str,
    path: Path,
    key: MasterKey,
    *,
    templates: bool,
    advance: Advance = lambda _: None,
) -> Moved:
    """Write a collection to a file, page by page.

    Parameters
    ----------
    api
        A client of :func:`abeyance.rekognition.client.client`.
    templates
        Export templates too, without which the file cannot be imported.

    Raises
    ------
    MovingError
        The collection changed meanwhile.
    botocore.exceptions.ClientError
        The API refused: a moratorium halts it, or there is no such collection.
    """
    before = api.describe_collection(CollectionId=collection)
    faces = users = 0
    with ArchiveWriter(
        path, key, model=before["FaceModelVersion"], collection=collection, templates=templates
    ) as archive:
        for page in pages(api, "export_faces", CollectionId=collection, WithTemplates=templates):
            archive.write(_rows(page))
            faces += len(page["Faces"])
            users += len(page["Users"])
            advance(faces)
        after = api.describe_collection(CollectionId=collection)
        counts = (faces, users)
        if any((one["FaceCount"], one["UserCount"]) != counts for one in (before, after)):
            raise MovingError("the collection changed while it was exported; export it again")
    return Moved(collection, before["FaceModelVersion"], faces, users, templates)


def import_collection(
    api: Any, path: Path, key: MasterKey, collection: str = "", *, advance: Advance = lambda _: None
) -> Moved:
    """Add the faces and users of a file to a collection, which is created if it is missing.

    After an interruption, call it again: a file beside the export has how far it came.

    Raises
    ------
    MovingError
        The file has no templates, or templates of another model than the collection's.
    botocore.exceptions.ClientError
        The API refused.
    """
    with Archive(path, key) as archive:
        name = collection or archive.collection
        if not archive.has_templates:
            raise MovingError(
                "the export has no templates; export with --templates, or index the photos again"
            )
        created = _require_model(api, name, archive.model)
        state = path.with_name(f"{path.name}.progress")
        start = Progress(name, created, path.stat().st_size, 0)
        known = _read_progress(state)
        done = known.rows if known and msgspec.structs.replace(known, rows=0) == start else 0
        refused = 0
        for page in archive.pages(FACES_A_REQUEST, done):
            answer = api.import_faces(
                CollectionId=name,
                FaceModelVersion=archive.model,
                Users=_users(page),
                Faces=[_face(row) for row in page if row["face_id"]],
            )
            refused += len(answer.get("UnsuccessfulFaceAssociations", ()))
            done += len(page)
            _write_progress(state, msgspec.structs.replace(start, rows=done))
            advance(done)
        found = api.describe_collection(CollectionId=name)
        state.unlink(missing_ok=True)
        return Moved(name, archive.model, found["FaceCount"], found["UserCount"], refused=refused)


def _require_model(api: Any, name: str, model: str) -> str:
    """Create the collection if it is missing; return when it was created. It has to be of the model."""
    found, made = require_collection(api, name)
    if found["FaceModelVersion"] != model:
        if made:
            api.delete_collection(CollectionId=name)
        raise MovingError(
            f"the export has templates of {model}, and here are those of {found['FaceModelVersion']}; "
            "index the photos again instead"
        )
    return str(found["CreationTimestamp"])


def _rows(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a page: users without faces, the faces of each user together, faces without a user."""
    left = {face["FaceId"]: face for face in page["Faces"]}
    rows = [{"user_id": user["UserId"]} for user in page["Users"] if not user["FaceIds"]]
    for user in page["Users"]:
        own = [left.pop(face_id) for face_id in user["FaceIds"] if face_id in left]
        rows += [{**_row(face), "user_id": user["UserId"]} for face in own]
    return rows + [_row(face) for face in left.values()]


def _row(face: Mapping[str, Any]) -> dict[str, Any]:
    box, photo = face["BoundingBox"], face.get("Photo", {})
    return {
        "face_id": face["FaceId"],
        "image_id": face.get("ImageId"),
        "external_image_id": face.get("ExternalImageId"),
        **{side.lower(): box[side] for side in ("Left", "Top", "Width", "Height")},
        "confidence": face["Confidence"],
        "quality": list(face["Measurements"].items()),
        "photo_bucket": photo.get("Bucket"),
        "photo_key": photo.get("Name"),
        "photo_version": photo.get("Version"),
        "template": face.get("Template"),
    }


def _face(row: Mapping[str, Any]) -> dict[str, Any]:
    face = {
        "FaceId": row["face_id"],
        "ImageId": row["image_id"],
        "ExternalImageId": row["external_image_id"],
        "BoundingBox": {side: row[side.lower()] for side in ("Left", "Top", "Width", "Height")},
        "Confidence": row["confidence"],
        "Measurements": dict(row["quality"]),
        "Template": row["template"],
    }
    return {name: value for name, value in face.items() if value is not None}


def _users(page: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    users: dict[str, list[str]] = {}
    for row in page:
        if row["user_id"]:
            users.setdefault(row["user_id"], []).extend([row["face_id"]] if row["face_id"] else [])
    return [{"UserId": user_id, "FaceIds": face_ids} for user_id, face_ids in users.items()]


def _read_progress(path: Path) -> Progress | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Progress)
    except (OSError, msgspec.MsgspecError):
        return None


def _write_progress(path: Path, progress: Progress) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(msgspec.json.encode(progress))
    part.replace(path)
