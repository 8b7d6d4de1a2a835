"""The photo of a face of another service: found by a rule or a list, in S3 or on this machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from abeyance.aws.errors import aws_code
from abeyance.moving.columns import read_column
from abeyance.moving.errors import MovingError
from abeyance.moving.journal import SourceFace

#: Names that a rule may have in braces.
FIELDS: Final = {
    "ExternalImageId": "external_image_id",
    "ImageId": "image_id",
    "FaceId": "face_id",
    "UserId": "user_id",
}
_FIELD: Final = re.compile(r"\{(\w+)\}")
_S3: Final = re.compile(r"s3://([^/]+)/(.+)", re.DOTALL)
#: S3 answers AccessDenied for a missing key too, where the caller may not list the bucket.
_ABSENT: Final = frozenset({"404", "AccessDenied", "NoSuchBucket", "NoSuchKey", "NoSuchVersion", "NotFound"})


class PhotoMissing(Exception):
    """A photo that no rule names, or that is not where the rule says; the message is the reason."""


class FoundPhoto(msgspec.Struct, frozen=True):
    """A photo, and its place: ``s3://BUCKET/KEY`` or a path."""

    place: str
    content: bytes

    @property
    def s3_object(self) -> dict[str, str] | None:
        """The S3Object that names it, if it is in S3."""
        found = _S3.fullmatch(self.place)
        return {"Bucket": found[1], "Name": found[2]} if found else None


#: Returns the place of a face's photo, empty if none is known.
Locate = Callable[[SourceFace], str]


def by_rule(rule: str, slash: str = "") -> Locate:
    """Return the rule ``s3://photos/{ExternalImageId}.jpg``, or a path, as a function.

    Parameters
    ----------
    slash
        Character of names that stands for ``/`` in keys; empty for none.

    Raises
    ------
    MovingError
        A name in braces is none of :data:`FIELDS`.
    """
    if unknown := set(_FIELD.findall(rule)) - FIELDS.keys():
        raise MovingError(f"{', '.join(sorted(unknown))}: a rule may name {', '.join(FIELDS)}")

    def locate(face: SourceFace) -> str:
        values = {name: str(getattr(face, field)) for name, field in FIELDS.items()}
        if slash:
            values["ExternalImageId"] = values["ExternalImageId"].replace(slash, "/")
        used = _FIELD.findall(rule)
        parts = {part for name in used for part in values[name].split("/")}
        # A name is nobody's path: one that is empty or climbs has no photo.
        if not all(values[name] for name in used) or parts & {"", ".", ".."}:
            return ""
        return _FIELD.sub(lambda found: values[found[1]], rule)

    return locate


def by_list(path: Path) -> Locate:
    """Return a CSV file with the column ``photo`` and one of :data:`FIELDS`, as a function."""
    name, places = read_column(path, "photo", FIELDS)
    return lambda face: places.get(getattr(face, FIELDS[name]), "")


class PhotoReader:
    """Reads the photos that a rule or a list names.

    Parameters
    ----------
    locate
        :func:`by_rule` or :func:`by_list`.
    s3
        A boto3 S3 client that may read the photos.
    """

    def __init__(self, locate: Locate, s3: Any) -> None:
        self._locate = locate
        self._s3 = s3

    def read(self, face: SourceFace) -> FoundPhoto:
        """Return the photo of a face; raises :class:`PhotoMissing`."""
        place = self._locate(face)
        if not place:
            raise PhotoMissing("no place is known")
        if found := _S3.fullmatch(place):
            return FoundPhoto(place, self._get(found[1], found[2]))
        try:
            return FoundPhoto(place, Path(place).read_bytes())
        except (FileNotFoundError, IsADirectoryError):
            raise PhotoMissing("no such file") from None

    def _get(self, bucket: str, key: str) -> bytes:
        try:
            answer: Mapping[str, Any] = self._s3.get_object(Bucket=bucket, Key=key)
        except self._s3.exceptions.ClientError as error:
            if (code := aws_code(error)) in _ABSENT:
                raise PhotoMissing(code) from None
            raise
        with answer["Body"] as body:
            content: bytes = body.read()
        return content
