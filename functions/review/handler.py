"""Review: queues a search whose candidates people must look at, for the console."""

from __future__ import annotations

from typing import Any

from abeyance.deployment.build import build_review
from abeyance.pipeline.batch import answer

review = build_review()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an SQS batch of Faces Matched events with the ids of the messages to deliver again."""
    return answer(event, review)
