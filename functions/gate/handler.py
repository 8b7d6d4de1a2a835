"""Gate: decides whether an upload may be processed, from metadata, flags and tenants; never from pixels."""

from __future__ import annotations

from typing import Any

from abeyance.deployment.build import build_gate
from abeyance.pipeline.batch import answer

gate = build_gate()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an SQS batch of S3 events with the ids of the messages to deliver again."""
    return answer(event, gate)
