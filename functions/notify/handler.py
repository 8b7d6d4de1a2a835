"""Notify: tells the callers of the Rekognition API that their jobs on stored video ended."""

from __future__ import annotations

from typing import Any

from abeyance.deployment.videos import build_notify
from abeyance.pipeline.batch import answer

notify = build_notify()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an SQS batch of events that end jobs with the ids of the messages to deliver again."""
    return answer(event, notify)
