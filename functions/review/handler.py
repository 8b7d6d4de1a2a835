"""Review: puts a search whose candidates people must look at into the queue of the console."""

from __future__ import annotations

from typing import Any

from abeyance.pipeline import assemble
from abeyance.pipeline.batch import answer

review = assemble.review()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an SQS batch of Faces Matched events with the ids of those to deliver again."""
    return answer(event, review)
