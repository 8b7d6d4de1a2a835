"""Queues: encrypted, TLS only."""

from __future__ import annotations

from typing import Any

from aws_cdk import Duration
from aws_cdk import aws_sqs as sqs

from constructs import Construct

#: SQS's maximum.
DEAD_LETTER_DAYS = 14


def queue(scope: Construct, construct_id: str, name: str, **properties: Any) -> sqs.Queue:
    """Add a queue."""
    return sqs.Queue(
        scope,
        construct_id,
        queue_name=name,
        encryption=sqs.QueueEncryption.SQS_MANAGED,
        enforce_ssl=True,
        **properties,
    )


def dead_letter_queue(scope: Construct, construct_id: str, name: str, **properties: Any) -> sqs.Queue:
    """Add a queue where messages wait for a person."""
    return queue(scope, construct_id, name, retention_period=Duration.days(DEAD_LETTER_DAYS), **properties)
