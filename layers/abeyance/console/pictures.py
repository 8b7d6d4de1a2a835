"""The two pictures of a comparison: chips, which recognition itself saw, at one scale and one alignment."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from abeyance.embedding.npy import MEDIA_TYPE, BadBody, decode_chips, encode
from abeyance.gallery.model import Face
from abeyance.pipeline.events import Upload
from abeyance.pipeline.ports import ObjectGone, ObjectStore
from abeyance.pipeline.recognize import face_id

if TYPE_CHECKING:
    from abeyance.vision.analysis import FaceAnalyzer

Chip = NDArray[np.uint8]
#: Least overlap (intersection over union) at which a face found again is taken for the one of the gallery.
SAME_BOX = 0.5


class Pictures:
    """Chips from the chips bucket; a candidate's, where it is no longer kept, cut anew from the photo it came from.

    Parameters
    ----------
    objects
        Both buckets.
    chips_bucket
        Its name.
    analyzer
        Finds the face again when a photo has to be cut anew.
    """

    def __init__(self, objects: ObjectStore, chips_bucket: str, analyzer: FaceAnalyzer) -> None:
        self._objects = objects
        self._bucket = chips_bucket
        self._analyzer = analyzer

    def probe(self, upload: Upload, chip: int) -> Chip | None:
        """(112, 112, 3) uint8 RGB of one row of the upload's chips file; None if it is gone."""
        chips = self._chips(upload)
        if chips is None or not 0 <= chip < len(chips):
            return None
        row: Chip = chips[chip]
        return row

    def candidate(self, face: Face) -> Chip | None:
        """(112, 112, 3) uint8 RGB of a face in the gallery; None if no picture of it is kept anywhere.

        A face that was indexed through the Rekognition API has no photo in the uploads bucket, and so no picture.
        """
        if face.source is None:
            return None
        upload = _upload(face)
        chips = self._chips(upload)
        if chips is not None:
            for row in range(len(chips)):
                if face_id(upload, row) == face.id:
                    kept: Chip = chips[row]
                    return kept
        return self._cut_anew(upload, face)

    def blank(self, face: Face) -> bool:
        """Take a face out of the chips of its photo; whether there was anything to take out."""
        if face.source is None:
            return False
        upload = _upload(face)
        chips = self._chips(upload)
        rows = [] if chips is None else [n for n in range(len(chips)) if face_id(upload, n) == face.id]
        if chips is None or not rows:
            return False
        chips = chips.copy()
        chips[rows] = 0
        self._objects.put(self._bucket, _chips_key(upload), encode(chips), MEDIA_TYPE)
        return True

    def _chips(self, upload: Upload) -> Chip | None:
        try:
            body = self._objects.get(self._bucket, _chips_key(upload))
            return decode_chips(body, max_chips=10_000)
        except (ObjectGone, BadBody):
            return None

    def _cut_anew(self, upload: Upload, face: Face) -> Chip | None:
        from abeyance.vision.boxes import iou
        from abeyance.vision.errors import ImageRejected

        try:
            found = self._analyzer.analyze(self._objects.read(upload)).faces
        except (ObjectGone, ImageRejected):
            return None
        if not found:
            return None
        overlaps = iou(face.box, [one.relative_box for one in found])[0]
        best = int(np.argmax(overlaps))
        return found[best].chip if overlaps[best] >= SAME_BOX else None


def _upload(face: Face) -> Upload:
    assert face.source
    source = face.source
    return Upload(
        bucket=source.bucket,
        key=source.key,
        version=source.version,
        sequencer=source.sequencer,
        tenant=face.collection.tenant,
        collection=face.collection.name,
    )


def _chips_key(upload: Upload) -> str:
    return f"{upload.folder}{upload.identity}.npy"


def png(chip: Chip) -> bytes:
    """An (h, w, 3) uint8 RGB picture as PNG (ISO/IEC 15948), without any text or time in it."""
    height, width = chip.shape[:2]
    rows = io.BytesIO()
    for row in np.ascontiguousarray(chip):
        rows.write(b"\0" + row.tobytes())
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(rows.getvalue(), 6))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
