"""Recognize: decides again, makes templates, and indexes or searches; takes faces out when their source goes."""

from __future__ import annotations

from typing import Any

from abeyance.pipeline import assemble
from abeyance.pipeline.stage import answer

recognize = assemble.recognize()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an SQS batch of Faces Detected and Upload Withdrawn events with the ids of those to deliver again."""
    return answer(event, recognize)
