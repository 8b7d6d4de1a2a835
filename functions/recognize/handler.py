"""Recognize: decides again, makes templates, and indexes or searches; deletes faces when their source goes."""

from __future__ import annotations

from typing import Any

from abeyance.deployment.build import build_lapse, build_recognize, build_sweep
from abeyance.pipeline import topology
from abeyance.pipeline.batch import answer

recognize = build_recognize()
TASKS = {topology.SWEEP.task: build_sweep, topology.LAPSE.task: build_lapse}


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an SQS batch with the ids of the messages to deliver again; or, on schedule, do a task."""
    if event.get("task") in TASKS:
        return TASKS[event["task"]]()()
    return answer(event, recognize)
