"""A fitted map of templates, appended to an embedder: similar strangers become less similar, and cosine stays cosine.

An embedder spends much of the angle between templates on what many people share: age, sex, the look of a camera. The
map takes the mean away and damps the directions in which strangers vary most, in the way of within-class whitening
(Hatch et al. 2006), with strangers in the place of classes. ``abeyance calibrate map`` fits one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from abeyance.vision.errors import ManifestInvalid, ModelCorrupt
from abeyance.vision.models.manifest import FittedMap


class TemplateMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The map: unit vector less ``mean``, each of ``directions`` times its gain, unit length again."""

    #: Data, number of people and terms of use.
    provenance: str
    #: (d,)
    mean: tuple[float, ...]
    #: (k, d), orthonormal to the digits that are written.
    directions: tuple[tuple[float, ...], ...]
    #: (k,), more than 0 and at most 1.
    gains: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.gains) != len(self.directions) or {len(row) for row in self.directions} - {
            len(self.mean)
        }:
            raise ValueError(
                "a map has one gain for each direction, and directions of the length of its mean"
            )
        if not all(0 < gain <= 1 for gain in self.gains):
            raise ValueError("the gains of a map are more than 0 and at most 1")

    @classmethod
    def read(cls, fitted: FittedMap) -> TemplateMap:
        """Read a map that a manifest names.

        Raises
        ------
        ModelCorrupt
            If the file is not the one that the manifest means.
        ManifestInvalid
            If it cannot be read, or is no map.
        """
        try:
            content = Path(fitted.file).read_bytes()
        except OSError as error:
            raise ManifestInvalid(f"cannot read the map {fitted.file}: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != fitted.sha256:
            raise ModelCorrupt(f"{fitted.file} is not the map that the manifest means: its SHA-256 differs")
        try:
            return msgspec.json.decode(content, type=cls)
        except msgspec.MsgspecError as error:
            raise ManifestInvalid(f"{fitted.file} is not a map: {error}") from error

    def affine(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (d, d) and (d,): a unit row vector times the first, plus the second, is the mapped direction."""
        mean, rows = np.array(self.mean), np.array(self.directions).reshape(-1, len(self.mean))
        damping = rows.T @ ((1 - np.array(self.gains))[:, None] * rows)
        matrix = np.eye(len(mean)) - damping
        return matrix.astype(np.float32), (-mean @ matrix).astype(np.float32)

    def apply(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return mapped templates, (n, d) float32 of unit length; rows of zeros stay zero.

        Parameters
        ----------
        vectors
            (n, d) float32 of unit length, before the map.
        """
        matrix, shift = self.affine()
        mapped = vectors @ matrix + shift
        mapped[~vectors.any(axis=1)] = 0
        mapped /= np.maximum(np.linalg.norm(mapped, axis=1, keepdims=True), np.float32(1e-12))
        return mapped

    def undo(self, mapped: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the unit vectors that :meth:`apply` made ``mapped`` of, so that cached templates can be fitted anew.

        The length that was lost is the one that makes the vector before the map a unit vector; as the mean is shorter
        than that, there is exactly one.
        """
        matrix, _ = self.affine()
        mean = np.array(self.mean)
        rays = mapped.astype(np.float64) @ np.linalg.inv(matrix.astype(np.float64))
        a, b, c = (rays**2).sum(axis=1), rays @ mean, float(mean @ mean) - 1
        length = (-b + np.sqrt(np.maximum(b**2 - a * c, 0))) / np.maximum(a, 1e-12)
        return np.where(a[:, None] > 0, mean + length[:, None] * rays, 0).astype(np.float32)
