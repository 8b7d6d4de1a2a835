"""The common part of the scripts that run Abeyance's models, by its own Python."""

from __future__ import annotations

from _serve import SETTINGS, THREADS  # isort: skip
import numpy as np
from _photos import Found

from abeyance.embedding.onnx import load_embedder
from abeyance.vision.alignment import align
from abeyance.vision.image import open_photo
from abeyance.vision.models.store import load_detector

_detector = load_detector(threads=THREADS, straighten=SETTINGS.get("straighten", True))
_embedder = load_embedder(threads=THREADS)


def templates(body: bytes) -> list[Found]:
    """Return the box and the template of each face that Abeyance finds in an encoded photo."""
    photo = open_photo(body)
    faces = _detector.detect(photo)
    if not faces:
        return []
    rows = _embedder.embed(align(photo, np.stack([face.landmarks for face in faces])))
    return [(list(face.box), row.tolist()) for face, row in zip(faces, rows, strict=True)]
