"""Puts messages back into their own queue while the embedding endpoint is away, without costing them a delivery.

A message that fails is delivered again, and after ``max_receives`` deliveries it goes to the dead-letter queue. That is
right for a message that breaks the stage, and wrong for one that came during an outage. So the stage sends such a
message to its own queue again, with a delay, and only then answers that the one it has was processed. The deliveries of
the copy are counted anew. A crash in between leaves two copies, and the second finds the outcome recorded.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from abeyance.aws.sqs import queue_url
from abeyance.aws.timestamps import utc_now
from abeyance.pipeline.batch import Batch, Message
from abeyance.pipeline.fairness import group_of

#: The longest delay of SQS.
MAX_DELAY_S = 900


class TooOld(Exception):
    """An event that has waited too long to be postponed again."""


class Postpone:
    """A sender of messages to their own queue.

    Parameters
    ----------
    sqs
        An SQS client.
    queue
        Name or URL of the stage's own queue.
    give_up
        Age of an event above which its message fails as any other does, and ends in the dead-letter queue, from where
        it can be moved back.
    """

    def __init__(
        self,
        sqs: Any,
        queue: str,
        *,
        give_up: timedelta = timedelta(days=3),
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._sqs = sqs
        self._queue = queue
        self._give_up = give_up
        self._now = now
        self._url = ""

    def __call__(self, messages: Batch[Message], least_s: float = 1.0) -> None:
        """Put the messages back for at least ``least_s`` seconds; those that cannot be put back have failed."""
        messages.map(lambda message: self._send(message, least_s))

    def _send(self, message: Message, least_s: float) -> None:
        age = self._now() - datetime.fromisoformat(message.envelope["time"])
        if age > self._give_up:
            raise TooOld
        self._url = self._url or queue_url(self._sqs, self._queue)
        self._sqs.send_message(
            QueueUrl=self._url,
            MessageBody=msgspec.json.encode(message.envelope).decode(),
            MessageGroupId=group_of(message.envelope),
            DelaySeconds=delay_s(age, least_s),
        )


def delay_s(age: timedelta, least_s: float) -> int:
    """Return the seconds to wait: about a quarter of the event's age, so that a backlog is not delivered over and over.

    A message that waited through an outage of an hour is delivered within a quarter of an hour of its end.
    """
    seconds = max(least_s, age.total_seconds() / 4) * random.uniform(0.75, 1.25)
    return min(MAX_DELAY_S, max(1, round(seconds)))
