"""The two pictures of a comparison: the aligned chips that recognition used."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from abeyance.aws.objects import ObjectUnreadable
from abeyance.gallery.model import Face
from abeyance.pipeline.chips import ChipStore, upload_of
from abeyance.pipeline.events import Upload
from abeyance.pipeline.leftovers import face_id
from abeyance.pipeline.ports import ObjectGone, ObjectStore
from abeyance.pipeline.uploads import chips_key

if TYPE_CHECKING:
    from abeyance.vision.analysis import FaceAnalyzer

Chip = NDArray[np.uint8]


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
        self._chips = ChipStore(objects, chips_bucket)
        self._analyzer = analyzer

    def probe(self, upload: Upload, chip: int) -> Chip | None:
        """Return one row of the upload's chips file, (112, 112, 3) uint8 RGB; None if it is gone."""
        chips = self._chips.load(chips_key(upload))
        if chips is None or not 0 <= chip < len(chips):
            return None
        row: Chip = chips[chip]
        return row

    def candidate(self, face: Face) -> Chip | None:
        """Return the picture of a face in the gallery, (112, 112, 3) uint8 RGB; None if there is none.

        A face that was indexed through the Rekognition API has no photo in the uploads bucket, and so no picture.
        """
        if (upload := upload_of(face)) is None:
            return None
        chips = self._chips.load(chips_key(upload))
        if chips is not None:
            for row in range(len(chips)):
                if face_id(upload, row) == face.id:
                    kept: Chip = chips[row]
                    return kept
        return self._cut_again(upload, face)

    def _cut_again(self, upload: Upload, face: Face) -> Chip | None:
        from abeyance.vision.analysis import face_at
        from abeyance.vision.errors import ImageRejected

        try:
            found = self._analyzer.analyze(self._objects.read(upload)).faces
        except (ObjectGone, ObjectUnreadable, ImageRejected):
            return None
        again = face_at(found, face.box)
        return None if again is None else again.chip


def png(chip: Chip) -> bytes:
    """Return an (h, w, 3) uint8 RGB picture as PNG without metadata."""
    from PIL import Image  # Here, because no other page needs it and its import delays a cold start.

    body = io.BytesIO()
    Image.fromarray(chip).save(body, "PNG")
    return body.getvalue()
