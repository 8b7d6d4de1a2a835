"""What the attribute models answer, before anything is made of it. Models are opened when first asked for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abeyance.vision.attributes import mesh
from abeyance.vision.attributes.crops import (
    averaged,
    back_to_photo,
    cut,
    dlib_transform,
    square_transform,
)
from abeyance.vision.detector import Face
from abeyance.vision.errors import ModelMissing
from abeyance.vision.models.manifest import ModelEntry, Role
from abeyance.vision.quality import pose

log = logging.getLogger("abeyance")

#: Faces of one call of a model.
_BATCH = 16
#: Chips of dlib's are sampled four times as finely as the age model sees them, and averaged down.
_FINE, _PADDING = 256, 0.2
#: What the age model's outputs stand for, in years.
_YEARS = np.array([0.25, *range(1, 81)], np.float64)
#: How much of the photo the expression model is shown, in longer sides of the box.
_EXPRESSION_MARGIN = 1.2
_EPSILON = 1e-6
#: Degrees that a mesh may be tilted in its square before it is made again.
_TILT = 6.0
#: Presence from which a second mesh takes the place of the first in any case.
_SEEN = 0.9

Loader = Callable[[Role], tuple[Any, ModelEntry]]


@dataclass(frozen=True, slots=True, eq=False)
class Raw:
    """What models said of one face; None where a model was not asked or is not on this machine."""

    #: Logarithm of the odds of Female against Male.
    female: float | None = None
    #: Expected age in years.
    years: float | None = None
    #: (classes,) float64: logarithms of the shares of the expression model's classes.
    expression: NDArray[np.float64] | None = None
    #: (468, 3) float32 in pixels of the photo; the third grows away from the camera.
    mesh: NDArray[np.float32] | None = None
    #: 0 to 1: whether the mesh found a face where the detector did.
    mesh_presence: float = 0.0


class Networks:
    """The attribute models of a manifest. May be used from several threads at once.

    Parameters
    ----------
    loader
        Gives an open session and the manifest's entry for a role; called once per role, when it is first asked
        for. What it cannot find (``ModelMissing``) is left out of the answers, and logged once.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._open: dict[Role, tuple[Any, ModelEntry] | None] = {}
        self._lock = threading.Lock()

    def entry(self, role: Role) -> ModelEntry | None:
        """The entry of the model for ``role``, which is opened for it; None if it is not on this machine."""
        opened = self._opened(role)
        return opened and opened[1]

    def look(self, pixels: NDArray[np.uint8], faces: Sequence[Face], roles: frozenset[Role]) -> list[Raw]:
        """What the models for ``roles`` say of each face.

        Parameters
        ----------
        pixels
            (h, w, 3) uint8 RGB, upright.
        """
        found: list[Raw] = []
        for start in range(0, len(faces), _BATCH):
            found += self._batch(pixels, faces[start : start + _BATCH], roles)
        return found

    def _batch(self, pixels: NDArray[np.uint8], faces: Sequence[Face], roles: frozenset[Role]) -> list[Raw]:
        count = len(faces)
        female: Sequence[float | None] = [None] * count
        years: Sequence[float | None] = [None] * count
        expression: Sequence[NDArray[np.float64] | None] = [None] * count
        if roles & {Role.GENDER, Role.AGE}:
            fine = [cut(pixels, dlib_transform(f.landmarks, _FINE, _PADDING), _FINE) for f in faces]
            if (shares := self._shares(Role.GENDER, fine, roles)) is not None:
                odds = np.log(shares[..., 0] + _EPSILON) - np.log(shares[..., 1] + _EPSILON)
                female = odds.mean(axis=0).tolist()
            if (shares := self._shares(Role.AGE, fine, roles)) is not None:
                years = (shares.mean(axis=0) @ _YEARS).tolist()
        if Role.EXPRESSION in roles and (opened := self._opened(Role.EXPRESSION)):
            side = opened[1].preprocessing.width
            views = [_around(f, _EXPRESSION_MARGIN, side, pose(f.landmarks)[2]) for f in faces]
            shares = self._shares(Role.EXPRESSION, [cut(pixels, m, side) for m in views], roles)
            assert shares is not None
            expression = list(np.log(shares + 1e-8).mean(axis=0))
        meshes = self._meshes(pixels, faces) if Role.MESH in roles else [(None, 0.0)] * count
        return [Raw(female[i], years[i], expression[i], meshes[i][0], meshes[i][1]) for i in range(count)]

    def _shares(
        self, role: Role, chips: Sequence[NDArray[np.uint8]], roles: frozenset[Role]
    ) -> NDArray[np.float64] | None:
        """(2, n, classes): what the model says of each chip and of its mirror image, whose mean errs less."""
        opened = self._opened(role) if role in roles else None
        if opened is None:
            return None
        session, entry = opened
        factor = chips[0].shape[0] // entry.preprocessing.width
        small = np.stack([averaged(chip, factor) if factor > 1 else chip for chip in chips])
        both = np.concatenate([small, small[:, :, ::-1]])
        (answer,) = session.run(None, {session.get_inputs()[0].name: _tensor(both, entry)})
        shares: NDArray[np.float64] = answer.astype(np.float64).reshape(2, len(chips), -1)
        return shares

    def _meshes(
        self, pixels: NDArray[np.uint8], faces: Sequence[Face]
    ) -> list[tuple[NDArray[np.float32] | None, float]]:
        opened = self._opened(Role.MESH)
        if opened is None:
            return [(None, 0.0)] * len(faces)
        tilts = [pose(face.landmarks)[2] for face in faces]
        found = self._mesh_pass(pixels, faces, tilts, *opened)
        # The five points follow a tilted head only half way: where the mesh says so, look again, upright.
        again = [i for i, (own, _) in enumerate(found) if abs(mesh.pose(own)[2] - tilts[i]) > _TILT]
        better = self._mesh_pass(
            pixels, [faces[i] for i in again], [mesh.pose(found[i][0])[2] for i in again], *opened
        )
        for i, other in zip(again, better, strict=True):
            if other[1] >= found[i][1] or other[1] >= _SEEN:
                found[i] = other
        return list(found)

    @staticmethod
    def _mesh_pass(
        pixels: NDArray[np.uint8],
        faces: Sequence[Face],
        tilts: Sequence[float],
        session: Any,
        entry: ModelEntry,
    ) -> list[tuple[NDArray[np.float32], float]]:
        if not faces:
            return []
        views = [_around(face, mesh.MARGIN, mesh.SIDE, tilt) for face, tilt in zip(faces, tilts, strict=True)]
        chips = np.stack([cut(pixels, view, mesh.SIDE) for view in views])
        points, presence = session.run(["output_mesh", "output_faceflag"], {"image": _tensor(chips, entry)})
        found = []
        for view, own, there in zip(views, points.reshape(-1, mesh.POINTS, 3), presence.ravel(), strict=True):
            flat = back_to_photo(view, own[:, :2])
            depth = own[:, 2:] / float(np.hypot(*view[0, :2]))
            found.append((np.concatenate([flat, depth], axis=1).astype(np.float32), float(there)))
        return found

    def _opened(self, role: Role) -> tuple[Any, ModelEntry] | None:
        with self._lock:
            if role not in self._open:
                try:
                    self._open[role] = self._loader(role)
                except ModelMissing as error:
                    log.warning("attribute left out: %s", error)
                    self._open[role] = None
            return self._open[role]


def _around(face: Face, margin: float, side: int, roll: float) -> NDArray[np.float32]:
    """To a square around the box, turned so that a head tilted by ``roll`` degrees is upright."""
    x, y, width, height = face.box
    return square_transform((x + width / 2, y + height / 2), margin * max(width, height), roll, side)


def _tensor(chips: NDArray[np.uint8], entry: ModelEntry) -> NDArray[np.float32]:
    pre = entry.preprocessing
    values = (chips.astype(np.float32) - np.array(pre.mean, np.float32)) / np.array(pre.std, np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32)
