"""Detect: a permitted photo becomes faces and aligned chips, or a rejection with a reason."""

from __future__ import annotations

from typing import Any

from abeyance.pipeline import assemble
from abeyance.pipeline.batch import answer

detect = assemble.detect()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an SQS batch of Upload Permitted events with the ids of the messages to deliver again."""
    return answer(event, detect)
