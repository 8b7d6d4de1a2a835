"""What the attribute models say of labelled photos, computed once and kept in the user's cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abeyance.evaluation.datasets import PhotoSet
from abeyance.evaluation.errors import DataInvalid
from abeyance.evaluation.templates import _Store, central
from abeyance.vision.analysis import ATTRIBUTE_ROLES
from abeyance.vision.attributes import mesh as face_mesh
from abeyance.vision.attributes.estimate import AttributeScores
from abeyance.vision.attributes.estimator import AttributeEstimator
from abeyance.vision.detector import Detector

#: Classes of the expression model.
EXPRESSIONS = 7
#: Changes when a row means something else.
_LAYOUT = "attributes-2"


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """What was said of the photos of a set, one row each; NaN where no face was found or no model said anything."""

    photos: PhotoSet
    #: (n,) bool
    found: NDArray[np.bool_]
    #: (n,) logarithm of the odds of Female
    female: NDArray[np.float64]
    #: (n,) years
    years: NDArray[np.float64]
    #: (n, 7) logarithms of shares
    expression: NDArray[np.float64]
    #: (n,) how far the lips are apart
    mouth: NDArray[np.float64]
    #: (n,) whether the mesh lies on the face, 0 to 1
    presence: NDArray[np.float64]
    #: (n,) bool: photos that calibrations are fitted to; the others judge them. By the photo's own bytes, so that a
    #: photo is on the same side in every set that has it.
    fitted: NDArray[np.bool_]

    def labels(self, attribute: str) -> NDArray[np.str_] | None:
        """(n,) what was published, or None if there is no such column."""
        if attribute not in self.photos.attributes:
            return None
        return np.array(self.photos.labels([attribute]))


def look(
    photos: PhotoSet,
    detector: Detector,
    attributes: AttributeEstimator,
    identity: str,
    *,
    cache: Path | None = None,
    workers: int = 2,
    tick: Callable[[], None] | None = None,
) -> Looked:
    """Ask the models about the one face that each photo is of.

    Parameters
    ----------
    identity
        Names detector and models, for the cache.

    Raises
    ------
    DataInvalid
        If a photo cannot be read.
    """

    def one(path: Path) -> NDArray[np.float64]:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataInvalid(f"cannot read a photo in {path.parent}: {error.strerror}") from error
        key = hashlib.sha256(data).hexdigest()
        known = store.get(key)
        if known is None:
            known = _row(data, detector, attributes).tobytes()
            store.put(key, known)
        if tick:
            tick()
        return np.append(np.frombuffer(known, np.float64), int(key[:8], 16) % 2 == 0)

    with (
        closing(_Store(cache, f"{_LAYOUT}+{identity}")) as store,
        ThreadPoolExecutor(workers) as pool,
    ):
        table = np.stack(list(pool.map(one, photos.paths)))
    return Looked(
        photos=photos,
        found=table[:, 0] > 0,
        female=table[:, 1],
        years=table[:, 2],
        mouth=table[:, 3],
        presence=table[:, 4],
        expression=table[:, 5 : 5 + EXPRESSIONS],
        fitted=table[:, -1] > 0,
    )


def _row(data: bytes, detector: Detector, attributes: AttributeEstimator) -> NDArray[np.float64]:
    from abeyance.vision.errors import ImageRejected
    from abeyance.vision.image import decode

    row = np.full(5 + EXPRESSIONS, np.nan)
    row[0] = 0
    try:
        pixels = decode(data)
    except ImageRejected:
        return row
    face = central(detector.detect(pixels), pixels.shape)
    if face is None:
        return row
    (raw,) = attributes.score(pixels, [face], ATTRIBUTE_ROLES)
    return _flat(raw)


def _flat(raw: AttributeScores) -> NDArray[np.float64]:
    nothing = float("nan")
    mouth = face_mesh.mouth_openness(raw.mesh) if raw.mesh is not None else nothing
    shares: Sequence[float] = [nothing] * EXPRESSIONS if raw.expression is None else raw.expression.tolist()
    female = nothing if raw.female is None else raw.female
    years = nothing if raw.years is None else raw.years
    return np.array([1.0, female, years, mouth, raw.mesh_presence, *shares])


def identity(attributes: AttributeEstimator, detector_identity: str) -> str:
    """Names what :func:`look` depends on; opens the models."""
    entries = attributes.open(sorted(ATTRIBUTE_ROLES, key=str))
    return "+".join([detector_identity, *(entry.identity for entry in entries.values())])


def span(label: str) -> tuple[float, float] | None:
    """Ages of a published group, half-open: ``3-9`` is [3, 10), ``more than 70`` [70, 90); None if it is none."""
    low, dash, high = label.partition("-")
    if dash and low.isdigit() and high.isdigit():
        return float(low), float(high) + 1
    digits = "".join(c for c in label if c.isdigit())
    return (float(digits), float(digits) + 20) if digits else None


def weights_of(one: Looked) -> NDArray[np.float64]:
    """(n,) how many photos each stands for: the column ``weight``, else 1."""
    labels = one.labels("weight")
    if labels is None:
        return np.ones(len(one.photos))
    return np.array([float(label) for label in labels])
