"""The chips bucket: the aligned faces of an upload in one file, a row each."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from abeyance.embedding.npy import MEDIA_TYPE, BadBody, decode_chips, encode
from abeyance.gallery.model import Face
from abeyance.pipeline.events import Upload
from abeyance.pipeline.ports import ObjectGone, ObjectStore

Chips = NDArray[np.uint8]


class ChipStore:
    """The chips files of uploads, by the key of :func:`abeyance.pipeline.uploads.chips_key`."""

    def __init__(self, objects: ObjectStore, bucket: str) -> None:
        self._objects = objects
        self._bucket = bucket

    def load(self, key: str) -> Chips | None:
        """Return the chips, (n, 112, 112, 3) uint8 RGB; None if they are gone or damaged."""
        try:
            return decode_chips(self._objects.get(self._bucket, key), max_chips=10_000)
        except (ObjectGone, BadBody):
            return None

    def visible(self, key: str, rows: Collection[int]) -> list[int]:
        """Return those of the rows that are there and not blank."""
        chips = self.load(key) if rows else None
        return [] if chips is None else [row for row in sorted(rows) if row < len(chips) and chips[row].any()]

    def blank(self, key: str, rows: Collection[int]) -> None:
        """Make rows black, if they are there."""
        if visible := self.visible(key, rows):
            chips = self.load(key)
            assert chips is not None
            chips = chips.copy()
            chips[visible] = 0
            self._objects.put(self._bucket, key, encode(chips), MEDIA_TYPE)


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
