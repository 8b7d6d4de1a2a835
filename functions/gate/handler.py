"""Gate: may this tenant do this, here, for this purpose, now? Reads metadata, flags and tenants; never pixels."""

from __future__ import annotations

from typing import Any

from abeyance.pipeline import assemble
from abeyance.pipeline.batch import answer

gate = assemble.gate()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an SQS batch of S3 events with the ids of the messages to deliver again."""
    return answer(event, gate)
