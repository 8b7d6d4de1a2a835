"""Ledger: the one writer of the hash chain. Every event of ours comes here, in one order."""

from __future__ import annotations

from typing import Any

from abeyance.pipeline import assemble, topology
from abeyance.pipeline.batch import answer

record = assemble.record()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Append an SQS FIFO batch to the ledger; or, when the schedule asks, write a checkpoint of it."""
    if event.get("task") == topology.CHECKPOINT.task:
        return assemble.checkpoint()
    return answer(event, record)
