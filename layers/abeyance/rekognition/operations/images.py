"""DetectFaces and CompareFaces, which store nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from abeyance.rekognition.call import Call
from abeyance.rekognition.errors import NO_FACE, invalid
from abeyance.rekognition.eyes import DEFAULT_ATTRIBUTES, Seen
from abeyance.rekognition.operations.tools import Tools

#: Similarity from which CompareFaces calls it a match, where the request says nothing.
SIMILARITY: Final = 80.0


def wanted(attributes: Sequence[str] | None) -> frozenset[str]:
    """The attributes of a request beyond the default; empty if it asks for none."""
    return frozenset(attributes or ()) - DEFAULT_ATTRIBUTES


def detect_faces(call: Call, tools: Tools) -> dict[str, Any]:
    """Every face, described."""
    data = tools.photos.read(call.params["Image"], call.grant.tenant)
    faces = tools.eyes.look(data, call.timings, wanted=wanted(call.params.get("Attributes")))
    return {"FaceDetails": [seen.detail for seen in faces]}


def compare_faces(call: Call, tools: Tools) -> dict[str, Any]:
    """The largest face of one photo against every face of another."""
    threshold = call.threshold("SimilarityThreshold", SIMILARITY)
    probe = _good(call, tools, "SourceImage")[0]
    others = _good(call, tools, "TargetImage")
    template, *templates = tools.eyes.templates([probe, *others], call.timings)
    compared = [
        (tools.eyes.similarity(float(template @ other)), seen.detail)
        for other, seen in zip(templates, others, strict=True)
    ]
    matches = sorted((pair for pair in compared if pair[0] >= threshold), key=lambda pair: -pair[0])
    return {
        "SourceImageFace": {
            "BoundingBox": probe.detail["BoundingBox"],
            "Confidence": probe.detail["Confidence"],
        },
        "FaceMatches": [
            {"Similarity": similarity, "Face": _compared(detail)} for similarity, detail in matches
        ],
        "UnmatchedFaces": [_compared(detail) for similarity, detail in compared if similarity < threshold],
    }


def _good(call: Call, tools: Tools, name: str) -> list[Seen]:
    data = tools.photos.read(call.params[name], call.grant.tenant)
    quality = call.params.get("QualityFilter", "NONE")
    faces = [seen for seen in tools.eyes.look(data, call.timings, quality=quality) if not seen.reasons]
    if not faces:
        raise invalid(NO_FACE)
    return faces


def _compared(detail: Any) -> dict[str, Any]:
    return {name: detail[name] for name in ("BoundingBox", "Confidence", "Landmarks", "Pose", "Quality")}
