"""Work that waits for something outside: back into its own queue, without costing it a delivery.

A message that fails is delivered again, and after ``max_receives`` deliveries it is set aside as dead: right for a
message that breaks the stage, wrong for one that came while the embedding endpoint was away. So the stage sends such a
message to its own queue again, with a delay, and only then lets go of the one it was handed. The copy starts to count
anew. A crash in between leaves two, and settling an upload twice changes nothing.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from abeyance.ledger.queue import queue_url
from abeyance.pipeline.stage import Message

log = logging.getLogger("abeyance")

#: The longest delay that SQS knows.
LONGEST = 900


class Postpone:
    """Sends messages to their own queue again.

    Parameters
    ----------
    sqs
        An SQS client.
    queue
        Name or URL of the stage's own queue.
    give_up
        Age of an event past which it is not postponed any more: it fails as any message does, and ends in the
        dead-letter queue, from where it can be moved back.
    """

    def __init__(
        self,
        sqs: Any,
        queue: str,
        *,
        give_up: timedelta = timedelta(days=3),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._sqs = sqs
        self._queue = queue
        self._give_up = give_up
        self._now = now
        self._url = ""

    def __call__(self, messages: Sequence[Message], least: float = 1.0) -> list[str]:
        """Put ``messages`` back for at least ``least`` seconds; the ids of those that could not be."""
        failed = []
        for message in messages:
            try:
                age = self._now() - datetime.fromisoformat(message.envelope["time"])
                if age > self._give_up:
                    failed.append(message.id)
                    continue
                self._url = self._url or queue_url(self._sqs, self._queue)
                self._sqs.send_message(
                    QueueUrl=self._url,
                    MessageBody=msgspec.json.encode(message.envelope).decode(),
                    DelaySeconds=delay(age, least),
                )
            except Exception as error:  # noqa: BLE001 - then it is delivered again like any that failed
                log.warning(
                    "message cannot be postponed",
                    extra={"message_id": message.id, "error": type(error).__name__},
                )
                failed.append(message.id)
        return failed


def delay(age: timedelta, least: float) -> int:
    """Seconds to wait: some quarter of the event's age, so that a backlog is not asked for over and over.

    Whoever waited through an outage of an hour is looked at again within a quarter of an hour of its end.
    """
    seconds = max(least, age.total_seconds() / 4) * random.uniform(0.75, 1.25)
    return min(LONGEST, max(1, round(seconds)))
