"""The chips bucket: the aligned faces of an upload in one file, a row each."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import Final

import numpy as np
from numpy.typing import NDArray

from abeyance.embedding.npy import MEDIA_TYPE, BadBody, decode_chips, encode
from abeyance.gallery.model import Face
from abeyance.pipeline.events import Upload
from abeyance.pipeline.ports import ObjectGone, ObjectStore

Chips = NDArray[np.uint8]

#: More than any photo has faces.
_MAX_CHIPS: Final = 10_000


class ChipStore:
    """The chips files of uploads, by the key of :func:`abeyance.pipeline.uploads.chips_key`."""

    def __init__(self, objects: ObjectStore, bucket: str) -> None:
        self._objects = objects
        self._bucket = bucket

    def load(self, key: str) -> Chips | None:
        """Return the chips, (n, 112, 112, 3) uint8 RGB; None if they are gone or damaged."""
        try:
            return decode_chips(self._objects.get(self._bucket, key), max_chips=_MAX_CHIPS)
        except (ObjectGone, BadBody):
            return None

    def visible(self, key: str, rows: Collection[int]) -> list[int]:
        """Return those of the rows that are there and not blank."""
        chips = self.load(key) if rows else None
        return [] if chips is None else [row for row in sorted(rows) if row < len(chips) and chips[row].any()]

    def blank(self, key: str, rows: Collection[int]) -> None:
        """Make rows black, if they are there."""
        with contextlib.suppress(ObjectGone):
            self._objects.change(self._bucket, key, lambda body: _blanked(body, rows), MEDIA_TYPE)


def _blanked(body: bytes, rows: Collection[int]) -> bytes:
    """Return a chips file with rows made black; one that is damaged or has none of them as it is."""
    try:
        chips = decode_chips(body, max_chips=_MAX_CHIPS)
    except BadBody:
        return body
    visible = [row for row in rows if row < len(chips) and chips[row].any()]
    if not visible:
        return body
    chips = chips.copy()
    chips[visible] = 0
    return encode(chips)


def upload_of(face: Face) -> Upload | None:
    """Return the upload that a face comes from; None for one that came through the Rekognition API."""
    if (source := face.source) is None:
        return None
    return Upload(
        bucket=source.bucket,
        key=source.key,
        version=source.version,
        sequencer=source.sequencer,
        etag=source.etag,
        tenant=face.collection.tenant,
        collection=face.collection.name,
    )
