"""Analysed faces as events carry them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from abeyance.pipeline import events
from abeyance.pipeline.events import Box, DetectedFace, FaceAttributes, Judgement
from abeyance.vision.analysis import AnalyzedFace

if TYPE_CHECKING:
    from abeyance.vision.attributes.estimate import AttributeAnswer, AttributeEstimate


def detected_faces(found: Sequence[AnalyzedFace]) -> tuple[tuple[DetectedFace, ...], list[int]]:
    """Return the faces as events carry them, and the indices of those whose chips make the rows of the chips file."""
    rows = [index for index, face in enumerate(found) if not face.reasons]
    faces = tuple(
        detected_face(face, -1 if face.reasons else rows.index(index)) for index, face in enumerate(found)
    )
    return faces, rows


def detected_face(face: AnalyzedFace, chip: int = -1) -> DetectedFace:
    """Return a face as events carry it; ``chip`` is its row of the chips file."""
    return DetectedFace(
        box=Box(*map(_rounded_share, face.relative_box)),
        confidence=_percent(face.confidence),
        quality=events.Quality(
            brightness=round(face.quality.brightness, 3),
            sharpness=round(face.quality.sharpness, 3),
            yaw=round(face.quality.yaw, 3),
            pitch=round(face.quality.pitch, 3),
            roll=round(face.quality.roll, 3),
        ),
        landmarks=tuple((_rounded_share(x), _rounded_share(y)) for x, y in face.relative_landmarks),
        reasons=face.reasons,
        chip=chip,
        attributes=_face_attributes(face.attributes) if face.attributes else msgspec.UNSET,
    )


def _face_attributes(estimate: AttributeEstimate) -> FaceAttributes:
    return FaceAttributes(
        age_range=estimate.ages,
        gender=_judgement(estimate.gender),
        emotions={name: _percent(share) for name, share in (estimate.expression or {}).items()},
        smile=_judgement(estimate.smile),
        mouth_open=_judgement(estimate.mouth_open),
        eyes_open=_judgement(estimate.eyes_open),
    )


def _judgement(answer: AttributeAnswer | None) -> Judgement | None:
    return Judgement(answer.value, _percent(answer.confidence)) if answer else None


def _percent(fraction: float) -> float:
    return round(100 * fraction, 3)


def _rounded_share(share: float) -> float:
    # Six decimals are a hundredth of a pixel in the largest photo.
    return round(float(share), 6)
