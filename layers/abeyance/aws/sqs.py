"""Queues of SQS by their name or URL."""

from __future__ import annotations

from typing import Any


def queue_url(sqs: Any, queue: str) -> str:
    """Return the URL of a queue that is given by its name or by its URL."""
    return queue if "://" in queue else str(sqs.get_queue_url(QueueName=queue)["QueueUrl"])
