"""The batch of messages of one invocation. Each fails by itself; those that failed are delivered again."""

from __future__ import annotations

import hashlib
import logging
import traceback
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from abeyance.pipeline import events
from abeyance.pipeline.events import Event

log = logging.getLogger("abeyance")

Value = TypeVar("Value", covariant=True)
Result = TypeVar("Result")
EventType = TypeVar("EventType", bound=Event)


class Message(msgspec.Struct, frozen=True):
    """A queue message: an EventBridge envelope, or for the ledger also a record that was queued directly.

    ``receives`` counts its deliveries, this one included. ``sent`` is when it was put into the queue and
    ``first_received`` when it was first delivered, in epoch seconds; 0 if that is not known. ``sender`` is what SQS
    attests about who sent it.
    """

    id: str
    receives: int
    envelope: Mapping[str, Any]
    sent: float = 0.0
    first_received: float = 0.0
    sender: str = ""

    def event(self) -> Event:
        """Return our own event in the envelope; raises ``msgspec.ValidationError`` or ``KeyError`` on any other."""
        return events.parse(self.envelope["detail-type"], self.envelope["detail"])

    def event_of(self, kind: type[EventType]) -> EventType:
        """Return the event in the envelope, which must be of ``kind``; raises ``msgspec.ValidationError``."""
        event = self.event()
        if not isinstance(event, kind):
            raise msgspec.ValidationError(f"Unexpected detail-type {event.detail_type!r}")
        return event


class Batch(Generic[Value]):
    """Values, one for each message of an invocation that has come this far.

    A stage is a chain of steps, each of which makes a new batch. A message that fails in a step is logged, is in no
    later batch, and is in :attr:`failures` of every batch of the invocation.
    """

    def __init__(
        self, items: Iterable[tuple[Message, Value]], failed: dict[str, Exception] | None = None
    ) -> None:
        self._items = list(items)
        self._failed = {} if failed is None else failed

    @classmethod
    def of(cls, messages: Iterable[Message]) -> Batch[Message]:
        """Return the batch of an invocation's messages."""
        return Batch((message, message) for message in messages)

    @classmethod
    def single(cls, event: EventType) -> Batch[EventType]:
        """Return a batch for one event that did not come by a queue; see :meth:`raise_failure`."""
        return Batch([(Message(event.id, 1, {}), event)])

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Value]:
        return (value for _, value in self._items)

    def __add__(self, other: Batch[Result]) -> Batch[Value | Result]:
        return Batch([*self._items, *other._items], self._failed)

    @property
    def failures(self) -> list[str]:
        """The ids of the invocation's messages that failed so far."""
        return list(self._failed)

    @property
    def messages(self) -> Batch[Message]:
        """The messages of these values."""
        return Batch(((message, message) for message, _ in self._items), self._failed)

    def raise_failure(self) -> None:
        """Raise the first exception of the invocation, if there was any."""
        for error in self._failed.values():
            raise error

    def map(self, work: Callable[[Value], Result]) -> Batch[Result]:
        """Run ``work`` on each value; a message for which it raises has failed."""
        done = []
        for message, value in self._items:
            try:
                done.append((message, work(value)))
            except Exception as error:  # noqa: BLE001 - no exception may end the batch or its answer
                self._fail(message, error)
        return Batch(done, self._failed)

    def map_together(
        self,
        work: Callable[[list[Value]], Sequence[Result]],
        *,
        raises: type[Exception] | tuple[type[Exception], ...] = (),
    ) -> Batch[Result]:
        """Run ``work`` once on all values; it returns one result for each. If it raises, all messages have failed.

        Exceptions of the types in ``raises`` are the caller's.
        """
        results: Sequence[Result] = []
        try:
            results = work(list(self)) if self._items else []
        except raises:
            raise
        except Exception as error:  # noqa: BLE001 - no exception may end the answer
            for message, _ in self._items:
                self._fail(message, error)
            return Batch([], self._failed)
        pairs = zip(self._items, results, strict=True)
        return Batch([(message, result) for (message, _), result in pairs], self._failed)

    def filter(self, wanted: Callable[[Value], bool]) -> Batch[Value]:
        """Return the values for which ``wanted`` is true."""
        return Batch([item for item in self._items if wanted(item[1])], self._failed)

    def select(self, *kinds: type[Result]) -> Batch[Result]:
        """Return the values of the given types."""
        return Batch(
            [(message, value) for message, value in self._items if isinstance(value, kinds)], self._failed
        )

    def group_by(self, key: Callable[[Value], Hashable]) -> list[Batch[Value]]:
        """Return a batch for each key, in the order in which the keys first occur."""
        groups: dict[Hashable, list[tuple[Message, Value]]] = {}
        for item in self._items:
            groups.setdefault(key(item[1]), []).append(item)
        return [Batch(items, self._failed) for items in groups.values()]

    def _fail(self, message: Message, error: Exception) -> None:
        log.warning(
            "message goes back to its queue",
            extra={"message_id": message.id, "receives": message.receives, **error_fields(error)},
        )
        self._failed[message.id] = error


def answer(sqs_event: Mapping[str, Any], stage: Callable[[Batch[Message]], None]) -> dict[str, Any]:
    """Run ``stage`` on the messages of an SQS event and return Lambda's partial batch response.

    A message that is no JSON object, or has a lone surrogate and so is no text for any store, gets an envelope with
    nothing but its digest: the ledger notes it, and the other stages fail on it until it is in the dead-letter queue.
    """
    batch = Batch.of(map(_message, sqs_event["Records"]))
    stage(batch)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in batch.failures]}


def _message(record: Mapping[str, Any]) -> Message:
    try:
        envelope = msgspec.json.decode(record["body"])
    except (msgspec.DecodeError, ValueError, RecursionError):
        envelope = None
    if not isinstance(envelope, dict):
        body = record["body"].encode(errors="surrogatepass")
        envelope = {"unreadable": hashlib.sha256(body).hexdigest()}
    attributes = record.get("attributes", {})
    return Message(
        record["messageId"],
        int(attributes.get("ApproximateReceiveCount", 1)),
        envelope,
        sent=int(attributes.get("SentTimestamp", 0)) / 1000,
        first_received=int(attributes.get("ApproximateFirstReceiveTimestamp", 0)) / 1000,
        sender=attributes.get("SenderId", ""),
    )


def error_fields(error: BaseException) -> dict[str, Any]:
    """Return log fields for an exception: its type and trace, and not its text, which may quote an object's key."""
    trace = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "trace": [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in trace],
    }
