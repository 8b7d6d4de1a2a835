"""DetectFaces and CompareFaces, which store nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from abeyance.rekognition.call import Call
from abeyance.rekognition.errors import NO_FACE, invalid
from abeyance.rekognition.eyes import DEFAULT_ATTRIBUTES, Sight
from abeyance.rekognition.operations.tools import Tools

#: Similarity from which CompareFaces calls it a match, where the request says nothing.
SIMILARITY: Final = 80.0


def wanted(attributes: Sequence[str] | None) -> frozenset[str]:
    """The attributes of a request beyond the default; empty if it asks for none."""
    return frozenset(attributes or ()) - DEFAULT_ATTRIBUTES


def detect_faces(call: Call, tools: Tools) -> dict[str, Any]:
    """Every face, described."""
    data = tools.photos.read(call.params["Image"], call.grant.tenant)
    sight = tools.eyes.look(data, call.timings, wanted=wanted(call.params.get("Attributes")))
    return {"FaceDetails": [seen.detail for seen in sight.faces]}


def compare_faces(call: Call, tools: Tools) -> dict[str, Any]:
    """The largest face of one photo against every face of another."""
    threshold = call.threshold("SimilarityThreshold", SIMILARITY)
    source, target = _sight(call, tools, "SourceImage"), _sight(call, tools, "TargetImage")
    probe = _good(source)[0]
    others = _good(target)
    template = tools.eyes.templates(source, [probe], call.timings)[0]
    templates = tools.eyes.templates(target, others, call.timings)
    compared = [
        (tools.eyes.similarity(cosine), seen.detail)
        for cosine, seen in zip((templates @ template).tolist(), others, strict=True)
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


def _sight(call: Call, tools: Tools, name: str) -> Sight:
    data = tools.photos.read(call.params[name], call.grant.tenant)
    return tools.eyes.look(data, call.timings, quality=call.params.get("QualityFilter", "NONE"))


def _good(sight: Sight) -> list[Any]:
    faces = [seen for seen in sight.faces if not seen.reasons]
    if not faces:
        raise invalid(NO_FACE)
    return faces


def _compared(detail: Any) -> dict[str, Any]:
    return {name: detail[name] for name in ("BoundingBox", "Confidence", "Landmarks", "Pose", "Quality")}
