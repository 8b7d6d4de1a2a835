"""A collection of Amazon Rekognition, made again here from its photos: the service gives no templates out.

::

    ListFaces, ListUsers -> journal -> each photo: IndexFaces here, faces paired by their boxes -> users -> report
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from abeyance.aws.errors import aws_code
from abeyance.moving.calls import pages, require_collection
from abeyance.moving.errors import MovingError
from abeyance.moving.journal import Ended, FaceOutcome, Journal, SourceFace
from abeyance.moving.photos import FoundPhoto, PhotoMissing, PhotoReader
from abeyance.vision.boxes import iou

#: Two services frame one face differently; the faces of a photo hardly overlap.
SAME_FACE_IOU: Final = 0.25
#: Largest photo in a request; a larger one is named by its S3Object.
MAX_BYTES: Final = 5 * 1024 * 1024
#: Errors of IndexFaces that are about the photo, and no others.
_PHOTO_ERRORS: Final = frozenset(
    {
        "ImageTooLargeException",
        "InvalidImageFormatException",
        "InvalidParameterException",
        "InvalidS3ObjectException",
    }
)


class ImportReport(msgspec.Struct, frozen=True):
    """The state of an import."""

    collection: str
    #: Faces by their outcome.
    faces: dict[str, int]
    users: int
    #: Faces that are not moved, with the reason.
    unmoved: tuple[dict[str, Any], ...] = ()


class RekognitionImport:
    """The import of one collection, which continues where the journal ends.

    Parameters
    ----------
    source
        A boto3 client of Amazon Rekognition.
    source_collection
        The collection to read.
    api
        A client of the deployment.
    collection
        The collection to make. It has to be new, or empty.
    photos
        Finds the photos.
    journal
        Its journal.
    quality_filter
        QualityFilter of IndexFaces.
    """

    def __init__(
        self,
        source: Any,
        source_collection: str,
        api: Any,
        collection: str,
        photos: PhotoReader,
        journal: Journal,
        *,
        quality_filter: str = "AUTO",
    ) -> None:
        self._source = source
        self._from = source_collection
        self._api = api
        self._to = collection
        self._photos = photos
        self._journal = journal
        self._quality_filter = quality_filter

    def run(self, advance: Callable[[int, int], None] = lambda done, total: None) -> ImportReport:
        """Move what is not moved yet; return the report.

        Raises
        ------
        MovingError
            The collection has other faces.
        botocore.exceptions.ClientError
            One of the two services refused a call; call again later.
        """
        self._require_own_collection()
        if not self._journal.fact("listed"):
            self._list()
        total = self._journal.count()
        for faces in self._journal.photos():
            self._journal.end(self._move(faces))
            advance(total - self._journal.count(waiting=True), total)
        for user_id, face_ids in self._journal.waiting_users():
            self._make_user(user_id, face_ids)
            self._journal.end_user(user_id)
        found = self._api.describe_collection(CollectionId=self._to)
        return ImportReport(
            self._to, self._journal.outcomes(), found["UserCount"], tuple(self._journal.unmoved())
        )

    def _require_own_collection(self) -> None:
        """Create the collection, or see that it is this journal's: the other faces of a photo are deleted from it."""
        found, _ = require_collection(self._api, self._to)
        created = str(found["CreationTimestamp"])
        known = self._journal.fact("created")
        if known != created and (known or found["FaceCount"]):
            raise MovingError(
                f"the collection {self._to} has faces that this import did not make; name a new one with --into"
            )
        self._journal.fact("created", created)

    def _list(self) -> None:
        for page in pages(self._source, "list_faces", CollectionId=self._from):
            self._journal.add(map(_source_face, page["Faces"]))
        # A collection of an early face model cannot have users.
        with contextlib.suppress(self._source.exceptions.InvalidParameterException):
            for page in pages(self._source, "list_users", CollectionId=self._from):
                self._journal.add_users(user["UserId"] for user in page["Users"])
        self._journal.fact("listed", "yes")

    def _move(self, faces: Sequence[SourceFace]) -> list[Ended]:
        """Index the photo of some faces; return their outcomes."""
        # One photo, indexed once for each name that its faces have.
        names = dict.fromkeys(face.external_image_id for face in faces)
        return [
            ended
            for name in names
            for ended in self._move_named(name, [face for face in faces if face.external_image_id == name])
        ]

    def _move_named(self, name: str, faces: Sequence[SourceFace]) -> list[Ended]:
        try:
            photo = self._photos.read(faces[0])
        except PhotoMissing as missing:
            return [Ended(face.face_id, FaceOutcome.PHOTO_MISSING, str(missing)) for face in faces]
        return self._index(photo, name, faces)

    def _index(self, photo: FoundPhoto, name: str, faces: Sequence[SourceFace]) -> list[Ended]:
        try:
            answer = self._api.index_faces(
                CollectionId=self._to,
                Image=image_of(photo),
                QualityFilter=self._quality_filter,
                **({"ExternalImageId": name} if name else {}),
            )
        except self._api.exceptions.ClientError as error:
            if (code := aws_code(error)) not in _PHOTO_ERRORS:
                raise
            return [Ended(face.face_id, FaceOutcome.PHOTO_REFUSED, code) for face in faces]
        records, refused = answer["FaceRecords"], answer["UnindexedFaces"]
        boxes = [_box(one["Face"]) for one in records] + [_box(one["FaceDetail"]) for one in refused]
        pairs = pair([face.box for face in faces], boxes)
        ended = []
        for number, face in enumerate(faces):
            other = pairs.get(number)
            if other is None:
                ended.append(Ended(face.face_id, FaceOutcome.FACE_NOT_FOUND))
            elif other < len(records):
                ended.append(Ended(face.face_id, FaceOutcome.MOVED, new_id=records[other]["Face"]["FaceId"]))
            else:
                reasons = ", ".join(refused[other - len(records)]["Reasons"])
                ended.append(Ended(face.face_id, FaceOutcome.QUALITY_REFUSED, reasons))
        kept = {one.new_id for one in ended}
        if others := [one["Face"]["FaceId"] for one in records if one["Face"]["FaceId"] not in kept]:
            self._api.delete_faces(CollectionId=self._to, FaceIds=others)
        return ended

    def _make_user(self, user_id: str, face_ids: Sequence[str]) -> None:
        with contextlib.suppress(self._api.exceptions.ConflictException):
            self._api.create_user(CollectionId=self._to, UserId=user_id)
        if face_ids:
            # They are one person's by the other service's word; a threshold would leave some of them out.
            self._api.associate_faces(
                CollectionId=self._to, UserId=user_id, FaceIds=list(face_ids), UserMatchThreshold=0
            )


def pair(
    wanted: Sequence[tuple[float, float, float, float]], found: Sequence[tuple[float, float, float, float]]
) -> dict[int, int]:
    """Return which found box is which wanted one, by number: each once, the largest overlaps first.

    Parameters
    ----------
    wanted, found
        left, top, width, height as shares of the same photo.
    """
    if not wanted or not found:
        return {}
    overlaps = iou(wanted, found)
    pairs: dict[int, int] = {}
    for flat in np.argsort(-overlaps, axis=None, kind="stable"):
        one, other = divmod(int(flat), len(found))
        if overlaps[one, other] < SAME_FACE_IOU:
            break
        if one not in pairs and other not in pairs.values():
            pairs[one] = other
    return pairs


def image_of(photo: FoundPhoto) -> dict[str, Any]:
    """Return the Image of a request: bytes, or the object of a photo that is too large for them."""
    if len(photo.content) > MAX_BYTES and photo.s3_object:
        return {"S3Object": photo.s3_object}
    return {"Bytes": photo.content}


def _source_face(face: Mapping[str, Any]) -> SourceFace:
    return SourceFace(
        face["FaceId"],
        face.get("ImageId") or face["FaceId"],
        face.get("ExternalImageId", ""),
        face.get("UserId", ""),
        _box(face),
    )


def _box(face: Mapping[str, Any]) -> tuple[float, float, float, float]:
    box = face["BoundingBox"]
    return box["Left"], box["Top"], box["Width"], box["Height"]
