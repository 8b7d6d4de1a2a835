"""The two pictures of a comparison: the aligned chips that recognition used."""

from __future__ import annotations

import io
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
#: A detected face is the face of the gallery from this intersection over union on.
SAME_BOX_IOU = 0.5


class Pictures:
    """Chips from the chips bucket; a candidate's chip that has expired is cut again from its photo.

    Parameters
    ----------
    objects
        Both buckets.
    chips_bucket
        Its name.
    analyzer
        Finds the face in its photo when the chip has to be cut again.
    """

    def __init__(self, objects: ObjectStore, chips_bucket: str, analyzer: FaceAnalyzer) -> None:
        self._objects = objects
        self._bucket = chips_bucket
        self._analyzer = analyzer

    def probe(self, upload: Upload, chip: int) -> Chip | None:
        """Return one row of the upload's chips file, (112, 112, 3) uint8 RGB; None if it is gone."""
        chips = self._chips(upload)
        if chips is None or not 0 <= chip < len(chips):
            return None
        row: Chip = chips[chip]
        return row

    def candidate(self, face: Face) -> Chip | None:
        """Return the picture of a face in the gallery, (112, 112, 3) uint8 RGB; None if there is none.

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
        return self._cut_again(upload, face)

    def blank(self, face: Face) -> bool:
        """Blank a face in the chips of its photo; return whether there was anything to blank."""
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

    def _cut_again(self, upload: Upload, face: Face) -> Chip | None:
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
        return found[best].chip if overlaps[best] >= SAME_BOX_IOU else None


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
    """Return an (h, w, 3) uint8 RGB picture as PNG without metadata."""
    from PIL import Image  # Here, because no other page needs it and its import delays a cold start.

    body = io.BytesIO()
    Image.fromarray(chip).save(body, "PNG")
    return body.getvalue()
