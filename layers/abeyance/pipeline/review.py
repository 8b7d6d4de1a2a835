"""Queues a search for review by people, in the console.

An item of the reviews table names the upload only. The candidates stay in the chips bucket, where recognition has put
them aside (``recognize.review_key``), so that deleting them there deletes them everywhere.

========================  ===================================  =====================================================
``pk``                    ``sk``                               holds
========================  ===================================  =====================================================
``open``                  ``<arrival>#<upload identity>``      the queue, oldest first
``review#<identity>``     ``review``                           ``body``, the :class:`Waiting`; ``version``
``review#<identity>``     ``case#<number>``                    one comparison, see :mod:`abeyance.pipeline.review_cases`
========================  ===================================  =====================================================
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from abeyance.aws.table import PARTITION, SORT, TTL, Conflict, Put, Table
from abeyance.pipeline import events
from abeyance.pipeline.batch import Batch, Message
from abeyance.pipeline.events import Upload
from abeyance.pipeline.outbox import Outbox

#: Partition of the queue.
OPEN = "open"


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A search that awaits review, as in its event, without the candidates."""

    upload: Upload
    purpose: str
    reviewers: int
    arrived: str


class EnqueueReviews:
    """Faces Matched that asks for reviewers becomes an item of the queue, once for all deliveries of the event."""

    def __init__(
        self, table: Table, outbox: Outbox, keep_s: float, now: Callable[[], float] = time.time
    ) -> None:
        self._table = table
        self._outbox = outbox
        self._keep_s = keep_s
        self._now = now

    def __call__(self, batch: Batch[Message]) -> None:
        """Queue the review that each message asks for."""
        matched = batch.map(lambda message: message.event_of(events.FacesMatched))
        states = self._outbox.read_states(matched, lambda event: event.upload)
        states.map(lambda pair: self._enqueue(self._outbox.verified(*pair)))

    def _enqueue(self, event: events.FacesMatched | None) -> None:
        if event is None or not event.reviewers:
            return
        waiting = Waiting(
            upload=event.upload,
            purpose=event.decision.purpose,
            reviewers=event.reviewers,
            arrived=event.time,
        )
        identity, expires = event.upload.identity, int(self._now() + self._keep_s)
        review = {
            PARTITION: f"review#{identity}",
            SORT: "review",
            "body": msgspec.json.encode(waiting).decode(),
            "version": 0,
            TTL: expires,
        }
        entry = {PARTITION: OPEN, SORT: f"{event.time}#{identity}", TTL: expires}
        try:
            self._table.transact([Put(review, absent=True), Put(entry)])
        except Conflict as conflict:
            if not any(conflict.failed):
                raise
