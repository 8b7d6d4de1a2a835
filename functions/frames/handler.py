"""Frames: opens a permitted video, and examines its segments, each after a decision of its own."""

from __future__ import annotations

from typing import Any

from abeyance.deployment.videos import build_frames
from abeyance.pipeline.batch import answer

frames = build_frames()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an SQS batch of permitted videos, jobs and segments with the ids of the messages to deliver again."""
    return answer(event, frames)
