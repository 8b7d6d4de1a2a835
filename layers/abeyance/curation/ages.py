"""The ages of enrolled faces, read from their photos."""

from __future__ import annotations

from abeyance.aws.objects import ObjectUnreadable
from abeyance.gallery.model import Face
from abeyance.pipeline.chips import upload_of
from abeyance.pipeline.events import Upload
from abeyance.pipeline.ports import ObjectGone, ObjectStore
from abeyance.vision.analysis import AnalyzedFace, FaceAnalyzer, face_at
from abeyance.vision.errors import ImageRejected
from abeyance.vision.models.manifest import ModelRole


class AgeReader:
    """Reads ages from uploaded photos.

    Parameters
    ----------
    objects
        The uploads bucket.
    """

    def __init__(self, objects: ObjectStore, analyzer: FaceAnalyzer) -> None:
        self._objects = objects
        self._analyzer = analyzer

    def __call__(self, face: Face) -> tuple[int, int] | None:
        """Return the lowest and highest age of a face in years; None without a photo or a face in it."""
        upload = upload_of(face)
        found = face_at(self._analyze(upload), face.box) if upload else None
        return found.attributes.ages if found and found.attributes else None

    def _analyze(self, upload: Upload) -> tuple[AnalyzedFace, ...]:
        try:
            return self._analyzer.analyze(
                self._objects.read(upload), attributes=frozenset({ModelRole.AGE})
            ).faces
        except (ObjectGone, ObjectUnreadable, ImageRejected):
            return ()
