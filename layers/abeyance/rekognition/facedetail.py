"""Analysed faces as the service writes them, and the attributes that a request asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from abeyance.rekognition.wire import single
from abeyance.vision.models.manifest import ModelRole

if TYPE_CHECKING:
    from abeyance.vision.analysis import AnalyzedFace
    from abeyance.vision.attributes.estimate import AttributeAnswer, AttributeEstimate

#: The service's names of our five points. It counts sides as the viewer sees them, the detector as the person does.
LANDMARKS: Final = ("eyeLeft", "eyeRight", "nose", "mouthLeft", "mouthRight")

#: Attributes of the service's enum -> the models that each needs. No model estimates the others.
ROLES: Final[Mapping[str, frozenset[ModelRole]]] = {
    "AGE_RANGE": frozenset({ModelRole.AGE}),
    "GENDER": frozenset({ModelRole.GENDER, ModelRole.AGE}),
    "EMOTIONS": frozenset({ModelRole.EXPRESSION}),
    "SMILE": frozenset({ModelRole.EXPRESSION}),
    "MOUTH_OPEN": frozenset({ModelRole.MESH}),
    "EYES_OPEN": frozenset({ModelRole.MESH, ModelRole.IRIS}),
    "ALL": frozenset({ModelRole.AGE, ModelRole.GENDER, ModelRole.EXPRESSION, ModelRole.MESH, ModelRole.IRIS}),
}


def beyond_default(attributes: Sequence[str] | None) -> frozenset[str]:
    """Return the attributes of a request that are not answered anyway."""
    return frozenset(attributes or ()) - {"DEFAULT"}


def attribute_roles(attributes: Sequence[str] | None) -> frozenset[ModelRole]:
    """Return the roles of the models that the attributes of a request need."""
    return frozenset().union(*(ROLES.get(name, frozenset()) for name in attributes or ()))


def face_detail(face: AnalyzedFace, attributes: Sequence[str] | None = None) -> dict[str, Any]:
    """Return a FaceDetail, in single precision, with the ``attributes`` of the request that were estimated.

    ``ALL`` has the 30 landmarks and the pose of the mesh in place of those of the detector's five points.
    """
    found = face.quality
    quality = (found.brightness, found.sharpness, found.yaw, found.pitch, found.roll)
    detail = detected_members(face.relative_box, face.relative_landmarks, quality, percent(face.confidence))
    if face.attributes is not None:
        detail |= attribute_members(face.attributes, beyond_default(attributes), face.photo_size)
    return detail


def detected_members(
    box: tuple[float, float, float, float],
    landmarks: Iterable[Iterable[float]],
    quality: tuple[float, float, float, float, float],
    confidence: float,
) -> dict[str, Any]:
    """Return the members that every FaceDetail has.

    Parameters
    ----------
    box
        Left, top, width and height, as shares of the photo or frame.
    landmarks
        x and y of the detector's five points, as shares likewise.
    quality
        Brightness and sharpness, 0 to 100; yaw, pitch and roll in degrees.
    confidence
        0 to 100.
    """
    brightness, sharpness, *angles = quality
    return {
        "BoundingBox": wire_box(box),
        "Landmarks": [_landmark(name, x, y) for name, (x, y) in zip(LANDMARKS, landmarks, strict=True)],
        "Pose": _pose(*angles),
        "Quality": {"Brightness": single(brightness), "Sharpness": single(sharpness)},
        "Confidence": single(confidence),
    }


def attribute_members(
    estimate: AttributeEstimate, wanted: frozenset[str], photo_size: tuple[int, int]
) -> dict[str, Any]:
    """Return the members of a FaceDetail that ``wanted`` asks for; ``photo_size`` is (width, height) in pixels."""
    members: dict[str, Any] = {}
    if estimate.ages is not None and wanted & {"ALL", "AGE_RANGE"}:
        members["AgeRange"] = {"Low": estimate.ages[0], "High": estimate.ages[1]}
    if estimate.gender is not None:
        members["Gender"] = {
            "Value": estimate.gender.value,
            "Confidence": single(100 * estimate.gender.confidence),
        }
    if estimate.expression is not None and wanted & {"ALL", "EMOTIONS"}:
        members["Emotions"] = [
            {"Type": name, "Confidence": single(100 * share)}
            for name, share in sorted(estimate.expression.items(), key=lambda pair: -pair[1])
        ]
    if estimate.smile is not None and wanted & {"ALL", "SMILE"}:
        members["Smile"] = _flag(estimate.smile)
    if estimate.mouth_open is not None and wanted & {"ALL", "MOUTH_OPEN"}:
        members["MouthOpen"] = _flag(estimate.mouth_open)
    if estimate.eyes_open is not None:
        members["EyesOpen"] = _flag(estimate.eyes_open)
    if "ALL" in wanted and estimate.pose is not None and estimate.landmarks is not None:
        width, height = photo_size
        members["Pose"] = _pose(*estimate.pose)
        members["Landmarks"] = [
            _landmark(name, x / width, y / height) for name, (x, y) in estimate.landmarks.items()
        ]
    return members


def _flag(answer: AttributeAnswer) -> dict[str, Any]:
    return {"Value": answer.value == "true", "Confidence": single(100 * answer.confidence)}


def _landmark(name: str, x: float, y: float) -> dict[str, Any]:
    return {"Type": name, "X": single(x), "Y": single(y)}


def _pose(yaw: float, pitch: float, roll: float) -> dict[str, float]:
    angles = {"Roll": roll, "Yaw": yaw, "Pitch": pitch}
    return {name: single(min(180.0, max(-180.0, angle))) for name, angle in angles.items()}


def wire_box(box: tuple[float, float, float, float]) -> dict[str, float]:
    """Return the BoundingBox of left, top, width and height, which are shares of the photo."""
    left, top, width, height = box
    return {"Width": single(width), "Height": single(height), "Left": single(left), "Top": single(top)}


def percent(share: float) -> float:
    """Return a Percent for a share, 0 to 1."""
    return single(min(100.0, max(0.0, 100 * share)))
