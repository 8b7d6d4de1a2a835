"""Ledger: the one writer of the hash chain, which every event of ours reaches, in one order."""

from __future__ import annotations

from typing import Any

from abeyance.deployment.build import build_checkpoint, build_record
from abeyance.pipeline import topology
from abeyance.pipeline.batch import answer

record = build_record()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Append an SQS FIFO batch to the ledger; or, on schedule, write a checkpoint of it."""
    if event.get("task") == topology.CHECKPOINT.task:
        return build_checkpoint()()
    return answer(event, record)
