"""What ``similarity`` means: a published scale from 0 to 100 over cosine, per model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from abeyance.vision.errors import ManifestInvalid
from abeyance.vision.models.manifest import ModelEntry


class SimilarityScale:
    """Cosine of two templates to similarity and back: straight lines between knots.

    Both directions are monotone, so a threshold on the one side is a threshold on the other. Below the first
    knot the similarity is that of the first knot, above the last that of the last.

    Parameters
    ----------
    knots
        (cosine, similarity) pairs, strictly increasing in both; cosines within -1 to 1, similarities from 0
        to 100.

    Raises
    ------
    ManifestInvalid
        If the knots do not make such a scale.
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
        """The scale that the manifest gives an embedder."""
        if entry.calibration is None:
            raise ManifestInvalid(f"the manifest has no calibration for {entry.name}")
        return cls(entry.calibration.knots)

    @overload
    def similarity(self, cosine: float) -> float: ...
    @overload
    def similarity(self, cosine: NDArray[Any]) -> NDArray[np.float64]: ...
    def similarity(self, cosine: ArrayLike) -> float | NDArray[np.float64]:
        """Similarity, 0 to 100, of cosines of any shape."""
        result = np.interp(np.asarray(cosine, np.float64), self._cosines, self._similarities)
        return float(result) if np.ndim(result) == 0 else result

    @overload
    def cosine(self, similarity: float) -> float: ...
    @overload
    def cosine(self, similarity: NDArray[Any]) -> NDArray[np.float64]: ...
    def cosine(self, similarity: ArrayLike) -> float | NDArray[np.float64]:
        """The lowest cosine that has at least this similarity.

        0 gives -1, because every pair has at least that; above 100 gives infinity, because none has.
        """
        wanted = np.asarray(similarity, np.float64)
        result = np.interp(wanted, self._similarities, self._cosines)
        result = np.where(wanted <= 0, -1.0, np.where(wanted > 100, np.inf, result))
        return float(result) if np.ndim(result) == 0 else result
