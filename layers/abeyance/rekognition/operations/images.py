"""DetectFaces and CompareFaces, which store nothing."""

from __future__ import annotations

from typing import Any, Final

from abeyance.rekognition.call import Call
from abeyance.rekognition.errors import NO_FACE, invalid
from abeyance.rekognition.facedetail import attribute_roles, face_detail
from abeyance.rekognition.operations.services import Services
from abeyance.vision.analysis import AnalyzedFace

#: Default for the least similarity of a match.
SIMILARITY: Final = 80.0


def detect_faces(call: Call, services: Services) -> dict[str, Any]:
    """Describe every face of a photo."""
    attributes = call.params.get("Attributes")
    data = services.photos.read(call.params["Image"], call.grant.tenant)
    faces = services.analyze(call, data, attributes=attribute_roles(attributes))
    return {"FaceDetails": [face_detail(face, attributes) for face in faces]}


def compare_faces(call: Call, services: Services) -> dict[str, Any]:
    """Compare the largest face of one photo with every face of another."""
    threshold = call.threshold("SimilarityThreshold", SIMILARITY)
    probe = _usable_faces(call, services, "SourceImage")[0]
    others = _usable_faces(call, services, "TargetImage")
    template, *templates = services.embed(call, [probe, *others])
    compared = [
        (services.similarity(float(template @ other)), _compared_face(face))
        for other, face in zip(templates, others, strict=True)
    ]
    matches = sorted((pair for pair in compared if pair[0] >= threshold), key=lambda pair: -pair[0])
    source = face_detail(probe)
    return {
        "SourceImageFace": {"BoundingBox": source["BoundingBox"], "Confidence": source["Confidence"]},
        "FaceMatches": [{"Similarity": similarity, "Face": face} for similarity, face in matches],
        "UnmatchedFaces": [face for similarity, face in compared if similarity < threshold],
    }


def _usable_faces(call: Call, services: Services, name: str) -> list[AnalyzedFace]:
    """Return the faces that meet the quality filter; raise ``ApiError`` if there are none."""
    data = services.photos.read(call.params[name], call.grant.tenant)
    faces = [face for face in services.analyze(call, data) if not face.reasons]
    if not faces:
        raise invalid(NO_FACE)
    return faces


def _compared_face(face: AnalyzedFace) -> dict[str, Any]:
    detail = face_detail(face)
    return {name: detail[name] for name in ("BoundingBox", "Confidence", "Landmarks", "Pose", "Quality")}
