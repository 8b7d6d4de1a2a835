"""Raw outputs of the attribute models for labelled photos, computed once and cached."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abeyance.evaluation.arrays import BoolArray, FloatArray, StrArray
from abeyance.evaluation.datasets import PhotoSet
from abeyance.evaluation.errors import DataInvalid
from abeyance.evaluation.templates import PhotoCache, Tick, select_central
from abeyance.vision.analysis import ATTRIBUTE_ROLES
from abeyance.vision.attributes.estimate import AttributeScores
from abeyance.vision.attributes.estimator import AttributeEstimator
from abeyance.vision.attributes.mesh import mouth_openness
from abeyance.vision.detector import Detector

#: Classes of the expression model.
_EXPRESSIONS = 7
#: Version of the cached rows.
_LAYOUT = "attributes-3"
#: Photos of a shorter side are enlarged, in whole steps, to the second: sets of faces of 48 pixels are in use.
_SMALL_PX, _ENLARGED_PX = 80, 192
#: Rekognition's names of the expressions that published sets call otherwise.
_EXPRESSION_NAMES = {
    "neutral": "CALM",
    "happy": "HAPPY",
    "happiness": "HAPPY",
    "sadness": "SAD",
    "anger": "ANGRY",
    "disgust": "DISGUSTED",
    "surprise": "SURPRISED",
}


@dataclass(frozen=True, slots=True, eq=False)
class AttributeOutputs:
    """Outputs for the photos of a set, one row each; NaN where no face was found."""

    photos: PhotoSet
    #: (n,) bool
    found: BoolArray
    #: (n,) logarithm of the odds of Female
    female: FloatArray
    #: (n,) years
    years: FloatArray
    #: (n, 7) logarithms of shares
    expression: FloatArray
    #: (n,) distance of the lips, as a share of the width of the mouth
    mouth: FloatArray
    #: (n,) confidence that the mesh lies on the face, 0 to 1
    presence: FloatArray
    #: (n,) distance of the lids, as a share of the width of the eye
    eyes: FloatArray
    #: (n,) bool: photos that calibrations are fitted to; they are evaluated on the others. Chosen by the bytes of the
    #: photo, so that a photo is on the same side in every set.
    fitted: BoolArray

    def find_labels(self, attribute: str) -> StrArray | None:
        """Return the published labels, (n,), or None if there is no such column."""
        if attribute not in self.photos.attributes:
            return None
        labels = self.photos.labels([attribute])
        if attribute == "expression":
            labels = [_EXPRESSION_NAMES.get(label.lower(), label.upper()) for label in labels]
        return np.array(labels)

    def labels(self, attribute: str) -> StrArray:
        """Return the published labels, (n,).

        Raises
        ------
        DataInvalid
            If there is no such column.
        """
        labels = self.find_labels(attribute)
        if labels is None:
            raise DataInvalid(f"{self.photos.name} has no column {attribute}")
        return labels

    @property
    def weights(self) -> FloatArray:
        """(n,) number of photos that each stands for: the column ``weight``, else 1."""
        labels = self.find_labels("weight")
        return np.ones(len(self.photos)) if labels is None else labels.astype(np.float64)


def run_attribute_models(
    photos: PhotoSet,
    detector: Detector,
    attributes: AttributeEstimator,
    identity: str,
    *,
    cache: Path | None = None,
    workers: int = 2,
    tick: Tick | None = None,
) -> AttributeOutputs:
    """Run the models on the central face of each photo.

    Parameters
    ----------
    identity
        Identities of detector and models, for the cache; see :func:`model_identity`.
    cache
        Folder for outputs; None stores nothing.
    tick
        Called after each photo.

    Raises
    ------
    DataInvalid
        If a photo cannot be read from disk.
    """
    with closing(PhotoCache(cache, f"{_LAYOUT}+{identity}")) as known:
        rows = known.map(photos.paths, lambda data: _row(data, detector, attributes).tobytes(), workers, tick)
    table = np.stack([np.frombuffer(row, np.float64) for _, row in rows])
    return AttributeOutputs(
        photos=photos,
        found=table[:, 0] > 0,
        female=table[:, 1],
        years=table[:, 2],
        mouth=table[:, 3],
        presence=table[:, 4],
        eyes=table[:, 5],
        expression=table[:, 6:],
        fitted=np.array([int(key[:8], 16) % 2 == 0 for key, _ in rows]),
    )


def _row(data: bytes, detector: Detector, attributes: AttributeEstimator) -> FloatArray:
    from abeyance.vision.errors import ImageRejected
    from abeyance.vision.image import Limits, decode

    row = np.full(6 + _EXPRESSIONS, np.nan)
    row[0] = 0
    try:
        pixels = _enlarged(decode(data, Limits(min_side=1)))
    except ImageRejected:
        return row
    faces = select_central(detector.detect(pixels), pixels.shape)
    return _flat(attributes.score(pixels, faces, ATTRIBUTE_ROLES)[0]) if faces else row


def _flat(scores: AttributeScores) -> FloatArray:
    mouth = None if scores.mesh is None else mouth_openness(scores.mesh)
    shares = [np.nan] * _EXPRESSIONS if scores.expression is None else scores.expression.tolist()
    # None becomes NaN.
    row = [1.0, scores.female, scores.years, mouth, scores.mesh_presence, scores.eyes, *shares]
    return np.array(row, np.float64)


def _enlarged(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image

    height, width = pixels.shape[:2]
    if min(height, width) >= _SMALL_PX:
        return pixels
    factor = -(-_ENLARGED_PX // min(height, width))
    return np.asarray(
        Image.fromarray(pixels).resize((width * factor, height * factor), Image.Resampling.BICUBIC)
    )


def model_identity(attributes: AttributeEstimator, detector_identity: str) -> str:
    """Return the identities of everything that :func:`run_attribute_models` depends on; opens the models."""
    entries = attributes.open(sorted(ATTRIBUTE_ROLES))
    return "+".join([detector_identity, *(entry.identity for entry in entries.values())])


def age_bounds(label: str) -> tuple[float, float] | None:
    """Return the ages of a published group, half-open: ``3-9`` is [3, 10), ``more than 70`` [70, 90).

    Returns None if the label is not a group of ages.
    """
    low, dash, high = label.partition("-")
    if dash and low.isdigit() and high.isdigit():
        return float(low), float(high) + 1
    digits = "".join(c for c in label if c.isdigit())
    return (float(digits), float(digits) + 20) if digits else None
