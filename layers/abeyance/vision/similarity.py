"""Similarity: a published scale from 0 to 100 over cosine, per model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from abeyance.vision.errors import ManifestInvalid
from abeyance.vision.models.manifest import ModelEntry


class SimilarityScale:
    """A scale between the cosine of two templates and similarity: straight lines between knots.

    Both directions are monotone, so a threshold on one side is a threshold on the other. Cosines below the first knot
    or above the last have the similarity of that knot.

    Parameters
    ----------
    knots
        (cosine, similarity) pairs, strictly increasing in both; cosines within -1 to 1, similarities from 0
        to 100.

    Raises
    ------
    ManifestInvalid
        If the knots are not of this kind.
    """

    def __init__(self, knots: Sequence[tuple[float, float]]) -> None:
        points = np.array(knots, np.float64).reshape(-1, 2)
        cosines, similarities = points[:, 0], points[:, 1]
        if (
            len(points) < 2
            or not (np.diff(points, axis=0) > 0).all()
            or not (cosines[0] >= -1 and cosines[-1] <= 1)
            or (similarities[0], similarities[-1]) != (0, 100)
        ):
            raise ManifestInvalid(
                "calibration knots must rise strictly in cosine (within -1 to 1) and in similarity (from 0 "
                "to 100)"
            )
        self._cosines, self._similarities = cosines, similarities

    @classmethod
    def of(cls, entry: ModelEntry) -> SimilarityScale:
        """Return an embedder's scale; raise ``ManifestInvalid`` if its entry has no calibration."""
        if entry.calibration is None:
            raise ManifestInvalid(f"the manifest has no calibration for {entry.name}")
        return cls(entry.calibration.knots)

    @overload
    def similarity(self, cosine: float) -> float: ...
    @overload
    def similarity(self, cosine: NDArray[Any]) -> NDArray[np.float64]: ...
    def similarity(self, cosine: ArrayLike) -> float | NDArray[np.float64]:
        """Return the similarity, 0 to 100, of cosines of any shape."""
        result = np.interp(np.asarray(cosine, np.float64), self._cosines, self._similarities)
        return float(result) if np.ndim(result) == 0 else result

    @overload
    def cosine(self, similarity: float) -> float: ...
    @overload
    def cosine(self, similarity: NDArray[Any]) -> NDArray[np.float64]: ...
    def cosine(self, similarity: ArrayLike) -> float | NDArray[np.float64]:
        """Return the lowest cosine that has at least this similarity.

        0 gives -1, because every pair has at least that; more than 100 gives infinity, because no pair has it.
        """
        wanted = np.asarray(similarity, np.float64)
        result = np.interp(wanted, self._similarities, self._cosines)
        result = np.where(wanted <= 0, -1.0, np.where(wanted > 100, np.inf, result))
        return float(result) if np.ndim(result) == 0 else result
