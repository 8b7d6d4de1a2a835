"""The attribute models of a manifest, and what they estimate. Models are opened when first asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abeyance.vision.alignment import averaged
from abeyance.vision.attributes import eyes, mesh
from abeyance.vision.attributes.crops import back_to_photo, cut, dlib_transform, square_transform
from abeyance.vision.attributes.estimate import AttributeEstimate, AttributeScores, estimate
from abeyance.vision.detector import FaceDetection
from abeyance.vision.errors import ModelMissing
from abeyance.vision.models.manifest import Manifest, ModelEntry, ModelRole
from abeyance.vision.quality import pose

#: Faces of one call of a model: more of them take more memory, which stays with the process, and no less time.
_BATCH = 2
#: dlib's chips are sampled with eight times as many pixels a side as the gender model takes, and averaged down.
_FINE_SIDE, _PADDING = 256, 0.2
#: Sides of the squares that the model for age and gender takes, as multiples of the longer side of the box; their mean
#: errs less than either.
_AGE_MARGINS = (1.0, 1.1)
#: Side of the square that the expression model takes, as a multiple of the longer side of the box.
_EXPRESSION_MARGIN = 1.2
_EPSILON = 1e-6
#: Make a mesh again where it is tilted by more than this in its square.
_REDO_TILT_DEG = 6.0
#: A second mesh with at least this presence replaces the first, even if that had more.
_SURE_PRESENCE = 0.9

#: Models that a role needs beside its own.
_NEEDS = {ModelRole.GENDER: (ModelRole.AGE,), ModelRole.IRIS: (ModelRole.MESH,)}

#: Returns an open session and the manifest's entry for a role; raises ``ModelError``.
Loader = Callable[[ModelRole], tuple[Any, ModelEntry]]


class AttributeEstimator:
    """Estimates of gender, age, expression, pose, mouth and eyes. May be used from several threads at once.

    Parameters
    ----------
    loader
        Called once for each role, when it is first needed.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._opened: dict[ModelRole, tuple[Any, ModelEntry]] = {}
        self._lock = threading.Lock()

    def open(self, roles: Collection[ModelRole]) -> dict[ModelRole, ModelEntry]:
        """Open the models that ``roles`` need and return their entries; raises ``ModelError`` if one cannot be had."""
        needed = {role: None for asked in roles for role in (asked, *_NEEDS.get(asked, ()))}
        return {role: self._model(role)[1] for role in needed}

    def estimate(
        self,
        pixels: NDArray[np.uint8],
        faces: Sequence[FaceDetection],
        roles: Collection[ModelRole],
        *,
        withhold: bool = True,
    ) -> list[AttributeEstimate]:
        """Return what may be said of each face; see :func:`abeyance.vision.attributes.estimate.estimate`.

        Parameters
        ----------
        pixels
            (h, w, 3) uint8 RGB, upright.

        Raises
        ------
        ModelError
            If the model for one of ``roles`` is missing, damaged or cannot be run.
        """
        entries = self.open(roles)
        return [estimate(scores, entries, withhold=withhold) for scores in self.score(pixels, faces, roles)]

    def score(
        self, pixels: NDArray[np.uint8], faces: Sequence[FaceDetection], roles: Collection[ModelRole]
    ) -> list[AttributeScores]:
        """Return the outputs of the models for ``roles``, before calibration; see :meth:`estimate`."""
        found: list[AttributeScores] = []
        for start in range(0, len(faces), _BATCH):
            found += self._batch(pixels, faces[start : start + _BATCH], roles)
        return found

    def _batch(
        self, pixels: NDArray[np.uint8], faces: Sequence[FaceDetection], roles: Collection[ModelRole]
    ) -> list[AttributeScores]:
        count = len(faces)
        female: Sequence[float | None] = [None] * count
        years: Sequence[float | None] = [None] * count
        expression: Sequence[NDArray[np.float64] | None] = [None] * count
        meshes: Sequence[tuple[NDArray[np.float32] | None, float]] = [(None, 0.0)] * count
        eye_openness: Sequence[float | None] = [None] * count
        if ModelRole.GENDER in roles or ModelRole.AGE in roles:
            ages, odds = self._ages(pixels, faces)
            if ModelRole.AGE in roles:
                years = ages.tolist()
            if ModelRole.GENDER in roles:
                fine = [
                    cut(pixels, dlib_transform(f.landmarks, _FINE_SIDE, _PADDING), _FINE_SIDE) for f in faces
                ]
                shares = self._shares(ModelRole.GENDER, fine)
                # The mean of two networks that err in different ways.
                female = ((_odds(shares[..., 0], shares[..., 1]).mean(axis=0) + odds) / 2).tolist()
        if ModelRole.EXPRESSION in roles:
            side = self._model(ModelRole.EXPRESSION)[1].preprocessing.width
            views = [_around(f, _EXPRESSION_MARGIN, side, pose(f.landmarks)[2]) for f in faces]
            shares = self._shares(ModelRole.EXPRESSION, [cut(pixels, m, side) for m in views])
            expression = list(np.log(shares + 1e-8).mean(axis=0))
        if ModelRole.MESH in roles or ModelRole.IRIS in roles:
            found = meshes = self._meshes(pixels, faces)
            if ModelRole.IRIS in roles:
                eye_openness = self._eyes(pixels, [points for points, _ in found])
        return [
            AttributeScores(female[i], years[i], expression[i], *meshes[i], eye_openness[i])
            for i in range(count)
        ]

    def _ages(
        self, pixels: NDArray[np.uint8], faces: Sequence[FaceDetection]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return age in years, and logarithm of the odds of Female, of each face: (n,) each."""
        session, entry = self._model(ModelRole.AGE)
        side = entry.preprocessing.width
        chips = [cut(pixels, _around(f, m, side, 0.0), side) for m in _AGE_MARGINS for f in faces]
        both = np.stack([*chips, *(chip[:, ::-1] for chip in chips)])
        years, shares = session.run(["years", "shares"], {"image": _tensor(both, entry)})
        shape = 2 * len(_AGE_MARGINS), len(faces)
        odds = _odds(shares[:, 1].astype(np.float64), shares[:, 0].astype(np.float64)).reshape(shape)
        return years.astype(np.float64).reshape(shape).mean(axis=0), odds.mean(axis=0)

    def _eyes(self, pixels: NDArray[np.uint8], meshes: Sequence[NDArray[np.float32]]) -> list[float]:
        """Return how far the eyes of each face are open; see :func:`abeyance.vision.attributes.eyes.openness`."""
        session, entry = self._model(ModelRole.IRIS)
        chips = np.stack([chip for points in meshes for chip in eyes.cut_eyes(pixels, points)])
        (points,) = session.run(None, {"image": _tensor(chips, entry)})
        return list(map(float, eyes.openness(points.reshape(len(meshes), 2, -1, 3))))

    def _shares(self, role: ModelRole, chips: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Return (2, n, classes): shares for each chip and for its mirror image; their mean errs less."""
        session, entry = self._model(role)
        factor = chips[0].shape[0] // entry.preprocessing.width
        small = np.stack([averaged(chip, factor) if factor > 1 else chip for chip in chips])
        both = np.concatenate([small, small[:, :, ::-1]])
        (answer,) = session.run(None, {session.get_inputs()[0].name: _tensor(both, entry)})
        shares: NDArray[np.float64] = answer.astype(np.float64).reshape(2, len(chips), -1)
        return shares

    def _meshes(
        self, pixels: NDArray[np.uint8], faces: Sequence[FaceDetection]
    ) -> list[tuple[NDArray[np.float32], float]]:
        tilts = [pose(face.landmarks)[2] for face in faces]
        found = self._mesh_pass(pixels, faces, tilts)
        # The five points follow a tilted head only half way: where the mesh says so, cut out again, upright.
        again = [i for i, (own, _) in enumerate(found) if abs(mesh.pose(own)[2] - tilts[i]) > _REDO_TILT_DEG]
        better = self._mesh_pass(
            pixels, [faces[i] for i in again], [mesh.pose(found[i][0])[2] for i in again]
        )
        for i, other in zip(again, better, strict=True):
            if other[1] >= found[i][1] or other[1] >= _SURE_PRESENCE:
                found[i] = other
        return found

    def _mesh_pass(
        self, pixels: NDArray[np.uint8], faces: Sequence[FaceDetection], tilts: Sequence[float]
    ) -> list[tuple[NDArray[np.float32], float]]:
        """Return for each face (468, 3) points in pixels of the photo, and the presence of a face, 0 to 1."""
        if not faces:
            return []
        session, entry = self._model(ModelRole.MESH)
        views = [_around(face, mesh.MARGIN, mesh.SIDE, tilt) for face, tilt in zip(faces, tilts, strict=True)]
        chips = np.stack([cut(pixels, view, mesh.SIDE) for view in views])
        points, presence = session.run(["output_mesh", "output_faceflag"], {"image": _tensor(chips, entry)})
        found = []
        for view, own, there in zip(views, points.reshape(-1, mesh.POINTS, 3), presence.ravel(), strict=True):
            flat = back_to_photo(view, own[:, :2])
            depth = own[:, 2:] / float(np.hypot(*view[0, :2]))
            found.append((np.concatenate([flat, depth], axis=1).astype(np.float32), float(there)))
        return found

    def _model(self, role: ModelRole) -> tuple[Any, ModelEntry]:
        with self._lock:
            if role not in self._opened:
                self._opened[role] = self._loader(role)
            return self._opened[role]


def load_attributes(
    directory: str | Path = "", *, manifest: Manifest | None = None, threads: int = 1, verify: bool = True
) -> AttributeEstimator:
    """Return an estimator with the first model of the manifest for each role; opens none of them yet.

    Parameters
    ----------
    directory
        Directory of models; see :func:`abeyance.vision.models.store.models_directory`.
    verify
        Compare a model with its hash before it is opened.
    """
    known = manifest or Manifest.load()

    def load(role: ModelRole) -> tuple[Any, ModelEntry]:
        from abeyance.vision.models.store import locate
        from abeyance.vision.session import open_session

        entry = next((e for e in known.entries.values() if e.role is role), None)
        if entry is None:
            raise ModelMissing(f"the manifest has no model for {role}; add one")
        return open_session(locate(entry, directory, verify=verify), threads=threads), entry

    return AttributeEstimator(load)


def _around(face: FaceDetection, margin: float, side: int, roll: float) -> NDArray[np.float32]:
    """Return the transform to a square around the box, turned so that a head tilted by ``roll`` degrees is upright."""
    x, y, width, height = face.box
    return square_transform((x + width / 2, y + height / 2), margin * max(width, height), roll, side)


def _odds(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of the odds of ``one`` against ``other``, which are shares."""
    return np.log(one + _EPSILON) - np.log(other + _EPSILON)


def _tensor(chips: NDArray[np.uint8], entry: ModelEntry) -> NDArray[np.float32]:
    pre = entry.preprocessing
    values = (chips.astype(np.float32) - np.array(pre.mean, np.float32)) / np.array(pre.std, np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32)
