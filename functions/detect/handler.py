"""Detect: turns a permitted photo into faces and aligned chips, or into a rejection with a reason."""

from __future__ import annotations

from typing import Any

from abeyance.deployment.build import build_detect
from abeyance.pipeline.batch import answer

detect = build_detect()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an SQS batch of Upload Permitted events with the ids of the messages to deliver again."""
    return answer(event, detect)
