"""Calibration: the outputs of attribute models become answers with confidences that hold.

The numbers for it are in the model manifest (``confidence``), with the data that they were fitted to. A confidence
of 0.9 means that about 90 % of the answers with about this confidence were right on photos of that kind. An answer
below the manifest's floor is withheld.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from abeyance.vision.attributes import mesh as face_mesh
from abeyance.vision.models.manifest import Confidence, ModelEntry, ModelRole

#: Below this presence the mesh lies beside the face: neither pose nor landmarks are read from it.
LEAST_PRESENCE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class AttributeScores:
    """Outputs of the attribute models for one face; None where a model was not asked."""

    #: Logarithm of the odds of Female against Male.
    female: float | None = None
    #: Expected age in years.
    years: float | None = None
    #: (classes,) float64: logarithms of the shares of the expression model's classes.
    expression: NDArray[np.float64] | None = None
    #: (468, 3) float32 in pixels of the photo; the third coordinate grows away from the camera.
    mesh: NDArray[np.float32] | None = None
    #: The mesh model's confidence that there is a face where the detector found one, 0 to 1.
    mesh_presence: float = 0.0
    #: How far the eyes are open; see :func:`abeyance.vision.attributes.eyes.openness`.
    eyes: float | None = None


@dataclass(frozen=True, slots=True)
class AttributeAnswer:
    """One of two values, and the calibrated confidence in it, 0 to 1."""

    #: ``Female`` or ``Male``; ``true`` or ``false``.
    value: str
    confidence: float


@dataclass(frozen=True, slots=True)
class AttributeEstimate:
    """Attributes of one face; None where an answer is withheld, or was not asked for."""

    gender: AttributeAnswer | None = None
    #: Lowest and highest age in years.
    ages: tuple[int, int] | None = None
    #: Class -> share, 0 to 1, adding up to 1; the names are Rekognition's.
    expression: Mapping[str, float] | None = None
    smile: AttributeAnswer | None = None
    mouth_open: AttributeAnswer | None = None
    eyes_open: AttributeAnswer | None = None
    #: Yaw, pitch, roll in degrees, signs as in :class:`abeyance.vision.quality.FaceQuality`.
    pose: tuple[float, float, float] | None = None
    #: The 30 landmarks by Rekognition's names, x and y in pixels of the photo.
    landmarks: Mapping[str, tuple[float, float]] | None = None

    def enlarged(self, reduction: int) -> AttributeEstimate:
        """Return the estimate for the photo of which a copy reduced by ``reduction`` along each side was used."""
        if reduction == 1 or self.landmarks is None:
            return self
        # Centres of pixels lie at whole numbers.
        points = {
            name: ((x + 0.5) * reduction - 0.5, (y + 0.5) * reduction - 0.5)
            for name, (x, y) in self.landmarks.items()
        }
        return replace(self, landmarks=points)


def estimate(
    scores: AttributeScores, entries: Mapping[ModelRole, ModelEntry], *, withhold: bool = True
) -> AttributeEstimate:
    """Return the attributes that follow from a face's scores.

    Parameters
    ----------
    entries
        The manifest's entry of each model that was asked.
    withhold
        False also gives answers below the floor, for measuring them.
    """

    def confidence(role: ModelRole) -> Confidence:
        entry = entries.get(role)
        return (entry.confidence if entry else None) or Confidence(provenance="")

    def kept(answer: AttributeAnswer, floor: float) -> AttributeAnswer | None:
        return answer if answer.confidence * 100 >= floor or not withhold else None

    gender = ages = smile = expression = mouth = eyes = angles = points = None
    if scores.female is not None:
        how = confidence(ModelRole.GENDER)
        gender = kept(_either("Female", "Male", female_share(scores.female, how)), how.floor)
    if scores.years is not None:
        ages = age_range(scores.years, confidence(ModelRole.AGE))
    entry = entries.get(ModelRole.EXPRESSION)
    if scores.expression is not None and entry is not None:
        how = confidence(ModelRole.EXPRESSION)
        shares = expression_shares(scores.expression, how)
        named = dict(zip(entry.classes, shares.tolist(), strict=True))
        if max(named.values()) * 100 >= how.floor or not withhold:
            expression = named
        smile = kept(_either("true", "false", named["HAPPY"]), how.floor)
    if scores.mesh is not None:
        how = confidence(ModelRole.MESH)
        fits = scores.mesh_presence >= LEAST_PRESENCE
        if fits:
            angles, points = face_mesh.pose(scores.mesh), face_mesh.landmarks(scores.mesh)

        def opened(gap: float, how: Confidence) -> AttributeAnswer | None:
            if not how.knots:
                return None
            share = openness_share(gap, how)
            # A mesh beside the face knows the less of it, the less it is present; knowing nothing is 1/2.
            share = share if fits else 0.5 + scores.mesh_presence * (share - 0.5)
            return kept(_either("true", "false", share), how.floor)

        mouth = opened(face_mesh.mouth_openness(scores.mesh), how)
        if scores.eyes is not None:
            eyes = opened(scores.eyes, confidence(ModelRole.IRIS))
    return AttributeEstimate(gender, ages, expression, smile, mouth, eyes, angles, points)


def female_share(odds: float, how: Confidence) -> float:
    """Return the share of women, 0 to 1, among faces that the model gives these odds (a logarithm)."""
    claimed = float(1 / (1 + np.exp(-odds)))
    return _along(claimed, how.knots) if how.knots else claimed


def age_range(years: float, how: Confidence) -> tuple[int, int]:
    """Return the lowest and highest age, in years, of the manifest's range for the model's estimate."""
    table = np.array(how.ranges or [(0.0, 0.0, 0.0), (80.0, 80.0, 80.0)])
    low, high = (float(np.interp(years, table[:, 0], table[:, column])) for column in (1, 2))
    return round(low), round(high)


def expression_shares(logarithms: NDArray[np.float64], how: Confidence) -> NDArray[np.float64]:
    """Return (classes,) shares that add up to 1."""
    scaled = logarithms / how.temperature + (np.array(how.biases) if how.biases else 0.0)
    grown = np.exp(scaled - scaled.max())
    return np.asarray(grown / grown.sum(), np.float64)


def openness_share(gap: float, how: Confidence) -> float:
    """Return the share of open mouths or eyes, 0 to 1, among those with this gap."""
    return _along(gap, how.knots)


def _either(one: str, other: str, share: float) -> AttributeAnswer:
    return AttributeAnswer(one, share) if share >= 0.5 else AttributeAnswer(other, 1 - share)


def _along(value: float, knots: tuple[tuple[float, float], ...]) -> float:
    table = np.array(knots)
    return float(np.interp(value, table[:, 0], table[:, 1]))
