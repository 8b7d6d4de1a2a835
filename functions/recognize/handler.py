"""Recognize: decides again, makes templates, and indexes or searches; takes faces out when their source goes."""

from __future__ import annotations

from typing import Any

from abeyance.pipeline import assemble, topology
from abeyance.pipeline.batch import answer

recognize = assemble.recognize()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an SQS batch with the ids of the messages to deliver again; or, when the schedule asks, tidy up."""
    if event.get("task") == topology.SWEEP.task:
        return assemble.sweep()
    return answer(event, recognize)
