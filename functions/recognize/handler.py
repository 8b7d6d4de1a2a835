"""Recognize: decides again, makes templates, and indexes or searches; deletes faces when their source goes."""

from __future__ import annotations

from typing import Any

from abeyance.deployment.build import build_recognize, build_sweep
from abeyance.pipeline import topology
from abeyance.pipeline.batch import answer

recognize = build_recognize()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an SQS batch with the ids of the messages to deliver again; or, on schedule, finish deletions."""
    if event.get("task") == topology.SWEEP.task:
        return build_sweep()()
    return answer(event, recognize)
