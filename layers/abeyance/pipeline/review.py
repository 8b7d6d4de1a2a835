"""Puts a search whose candidates people must look at into the queue of the console.

An item of the reviews table says only that there is something to look at. The candidates stay in the chips bucket,
where recognition kept them aside (``recognize.review_key``): what is deleted there is gone everywhere.

========================  ===================================  =====================================================
``pk``                    ``sk``                               holds
========================  ===================================  =====================================================
``open``                  ``<arrival>#<upload identity>``      the queue, oldest first
``review#<identity>``     ``review``                           ``body``, the :class:`Waiting`; ``version``
``review#<identity>``     ``case#<number>``                    one comparison, see :mod:`abeyance.console.review`
========================  ===================================  =====================================================
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from abeyance.pipeline import events
from abeyance.pipeline.events import Upload
from abeyance.pipeline.stage import Message, one_by_one

#: Partition of the queue.
OPEN = "open"


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A search that awaits review: what the event said of it, without candidates."""

    upload: Upload
    purpose: str
    reviewers: int
    arrived: str


class EnqueueReviews:
    """Faces Matched that asks for reviewers becomes an item of the queue; once, however often the event comes."""

    def __init__(
        self, dynamodb: Any, table: str, keep_seconds: float, now: Callable[[], float] = time.time
    ) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._keep = keep_seconds
        self._now = now

    def __call__(self, messages: Sequence[Message]) -> list[str]:
        """Settle every message; the ids of those to deliver again."""
        return one_by_one(messages, self._one)

    def _one(self, message: Message) -> None:
        event = message.event()
        assert isinstance(event, events.FacesMatched), event.detail_type
        if not event.reviewers:
            return
        waiting = Waiting(
            upload=event.upload,
            purpose=event.decision.purpose,
            reviewers=event.reviewers,
            arrived=event.time,
        )
        identity = event.upload.identity
        expires = {"N": str(int(self._now() + self._keep))}
        review = {
            "pk": {"S": f"review#{identity}"},
            "sk": {"S": "review"},
            "body": {"S": msgspec.json.encode(waiting).decode()},
            "version": {"N": "0"},
            "expires": expires,
        }
        entry = {"pk": {"S": OPEN}, "sk": {"S": f"{event.time}#{identity}"}, "expires": expires}
        first = "attribute_not_exists(pk)"
        try:
            self._dynamodb.transact_write_items(
                TransactItems=[
                    {"Put": {"TableName": self._table, "Item": review, "ConditionExpression": first}},
                    {"Put": {"TableName": self._table, "Item": entry}},
                ]
            )
        except self._dynamodb.exceptions.TransactionCanceledException as error:
            reasons = {reason.get("Code") for reason in error.response.get("CancellationReasons", [])}
            if "ConditionalCheckFailed" not in reasons:
                raise
