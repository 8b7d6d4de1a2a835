"""Faces as Amazon Rekognition describes them, beyond its default attributes.

What no model here can tell is absent, never invented: CONFUSED among the emotions, glasses, beard, moustache,
whether eyes are open, where they look, and whether a face is covered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abeyance.vision.attributes.estimate import Answer, Estimate, estimate
from abeyance.vision.attributes.raw import Loader, Networks
from abeyance.vision.detector import Face
from abeyance.vision.models.manifest import Manifest, Role

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Rekognition's names of attributes, and which model each takes. Those of the enum that are not here take none.
ROLES: Mapping[str, frozenset[Role]] = {
    "AGE_RANGE": frozenset({Role.AGE}),
    "GENDER": frozenset({Role.GENDER}),
    "EMOTIONS": frozenset({Role.EXPRESSION}),
    "SMILE": frozenset({Role.EXPRESSION}),
    "MOUTH_OPEN": frozenset({Role.MESH}),
    "ALL": frozenset({Role.AGE, Role.GENDER, Role.EXPRESSION, Role.MESH}),
}


class Attributes:
    """Describes faces. May be used from several threads at once.

    Parameters
    ----------
    loader
        See :class:`abeyance.vision.attributes.raw.Networks`.
    """

    def __init__(self, loader: Loader) -> None:
        self.networks = Networks(loader)

    def estimate(
        self,
        pixels: NDArray[np.uint8],
        faces: Sequence[Face],
        roles: frozenset[Role],
        *,
        withhold: bool = True,
    ) -> list[Estimate]:
        """What may be said of each face; see :func:`abeyance.vision.attributes.estimate.estimate`."""
        entries = {role: self.networks.entry(role) for role in roles}
        seen = self.networks.look(pixels, faces, roles)
        return [estimate(raw, entries, withhold=withhold) for raw in seen]

    def judge(self, pixels: NDArray[np.uint8], faces: Sequence[Face]) -> list[Estimate]:
        """Everything that may be said of each face; see :meth:`estimate`."""
        return self.estimate(pixels, faces, ROLES["ALL"])

    def describe(
        self, pixels: NDArray[np.uint8], faces: Sequence[Face], wanted: frozenset[str]
    ) -> list[Mapping[str, Any]]:
        """For each face the members of a FaceDetail that ``wanted`` asks for, and that can be told.

        Parameters
        ----------
        pixels
            (h, w, 3) uint8 RGB, upright.
        wanted
            Names of Rekognition's enum: ``GENDER``, ``ALL``.

        Returns
        -------
        list of dict
            Confidences are 0 to 100. ``ALL`` has the 30 landmarks and the pose of the mesh in place of those of
            the detector's five points.
        """
        roles = frozenset().union(*(ROLES.get(name, frozenset()) for name in wanted))
        if not roles or not faces:
            return [{} for _ in faces]
        height, width = pixels.shape[:2]
        return [face_detail(e, wanted, width, height) for e in self.estimate(pixels, faces, roles)]


def face_detail(found: Estimate, wanted: frozenset[str], width: int, height: int) -> dict[str, Any]:
    """An estimate as members of a FaceDetail, only those that were asked for."""
    detail: dict[str, Any] = {}
    if found.ages is not None:
        detail["AgeRange"] = {"Low": found.ages[0], "High": found.ages[1]}
    if found.gender is not None:
        detail["Gender"] = {"Value": found.gender.value, "Confidence": 100 * found.gender.confidence}
    if found.expression is not None and wanted & {"ALL", "EMOTIONS"}:
        detail["Emotions"] = [
            {"Type": name, "Confidence": 100 * share}
            for name, share in sorted(found.expression.items(), key=lambda pair: -pair[1])
        ]
    if found.smile is not None and wanted & {"ALL", "SMILE"}:
        detail["Smile"] = _flag(found.smile)
    if found.mouth_open is not None:
        detail["MouthOpen"] = _flag(found.mouth_open)
    if "ALL" in wanted and found.pose is not None and found.landmarks is not None:
        yaw, pitch, roll = found.pose
        detail["Pose"] = {"Roll": roll, "Yaw": yaw, "Pitch": pitch}
        detail["Landmarks"] = [
            {"Type": name, "X": x / width, "Y": y / height} for name, (x, y) in found.landmarks.items()
        ]
    return detail


def _flag(answer: Answer) -> dict[str, Any]:
    return {"Value": answer.value == "true", "Confidence": 100 * answer.confidence}


def load_attributes(
    directory: str | Path = "", *, manifest: Manifest | None = None, threads: int = 1, verify: bool = True
) -> Attributes:
    """The attribute models of the manifest: for each role the first one. Nothing is opened yet."""
    known = manifest or Manifest.load()
    return Attributes(_loader(known, directory, threads, verify))


def _loader(manifest: Manifest, directory: str | Path, threads: int, verify: bool) -> Loader:
    def load(role: Role) -> tuple[Any, Any]:
        from abeyance.vision.errors import ModelMissing
        from abeyance.vision.models.store import locate
        from abeyance.vision.session import open_session

        entry = next((e for e in manifest.entries.values() if e.role is role), None)
        if entry is None:
            raise ModelMissing(f"the manifest has no model for {role}")
        return open_session(locate(entry, directory, verify=verify), threads=threads), entry

    return load
