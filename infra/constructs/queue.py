"""Queues: encrypted, TLS only."""

from __future__ import annotations

from typing import Any

from aws_cdk import Duration
from aws_cdk import aws_sqs as sqs

from constructs import Construct

#: Long enough for somebody to come back from a long weekend and a holiday.
DEAD_LETTER_DAYS = 14


def queue(scope: Construct, construct_id: str, name: str, **properties: Any) -> sqs.Queue:
    """A queue that is FIFO if its name says so; whoever puts the same FIFO message twice has put it once."""
    fifo = name.endswith(".fifo")
    return sqs.Queue(
        scope,
        construct_id,
        queue_name=name,
        fifo=fifo or None,
        content_based_deduplication=fifo or None,
        encryption=sqs.QueueEncryption.SQS_MANAGED,
        enforce_ssl=True,
        **properties,
    )


def dead_letter_queue(scope: Construct, construct_id: str, name: str, **properties: Any) -> sqs.Queue:
    """A queue where messages wait for a person."""
    return queue(scope, construct_id, name, retention_period=Duration.days(DEAD_LETTER_DAYS), **properties)
