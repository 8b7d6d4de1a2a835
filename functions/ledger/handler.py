"""Ledger: gives every event of ours a place on the log, thousands at a time, and builds the tiles. It cannot sign."""

from __future__ import annotations

from typing import Any

from abeyance.deployment.build import build_record
from abeyance.pipeline.batch import answer

record = build_record()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Append an SQS batch to the log."""
    return answer(event, record)
