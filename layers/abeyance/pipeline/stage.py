"""What every stage does the same way: settle an upload once, tell the world, and answer for a batch of messages."""

from __future__ import annotations

import hashlib
import json
import logging
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from abeyance.moratorium.decide import Decision
from abeyance.pipeline import events
from abeyance.pipeline.events import Event, Upload
from abeyance.pipeline.ports import Bus, Objects, Standing, Uploads
from abeyance.pipeline.uploads import result_key

log = logging.getLogger("abeyance")

Thing = TypeVar("Thing")
Result = TypeVar("Result")

#: Decides for a tenant, an action and a purpose.
Decide = Callable[[str, str, str], Decision]


def timestamp() -> str:
    """The time now, UTC, RFC 3339 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Message(msgspec.Struct, frozen=True):
    """One queue message: an EventBridge envelope, or for the ledger also a record that was queued directly."""

    id: str
    receives: int
    envelope: Mapping[str, Any]

    def event(self) -> Event:
        """Our own event that the envelope carries; raises ``msgspec.ValidationError``."""
        return events.parse(self.envelope["detail-type"], self.envelope["detail"])


class _Settled(NamedTuple):
    """An event that stands for its upload, and whether it is this moment that it came to."""

    event: Event
    fresh: bool


class Outbox:
    """Settles an upload for one stage and emits the event that it was settled with.

    The order is what makes a crash harmless: first the record, then the event, then the result. Whoever is handed
    the message again finds the record and says the same once more, also when a later upload has taken the key: a
    decision that was made is never left untold.
    """

    def __init__(self, stage: str, uploads: Uploads, bus: Bus, objects: Objects, results_bucket: str) -> None:
        self._stage = stage
        self._uploads = uploads
        self._bus = bus
        self._objects = objects
        self._results_bucket = results_bucket

    def look(self, uploads: Sequence[Upload]) -> list[Standing]:
        """How each upload stands, all from one read."""
        return self._uploads.look(uploads)

    def repeat(self, upload: Upload, standing: Standing | None = None) -> bool:
        """Whether nothing is to do: the stage has settled the upload, and says so again, or a later event has come.

        ``standing`` is how the upload stands, if that has been read.
        """
        standing = standing or self._uploads.look([upload])[0]
        settled = standing.settled.get(self._stage)
        if settled:
            self.tell(settled)
        return settled is not None or not standing.latest

    def is_latest(self, upload: Upload) -> bool:
        """Whether no later event has come on the upload's key."""
        return self._uploads.latest(upload.bucket, upload.key) == upload.identity

    def settle(self, event: Event) -> Event:
        """Settle the upload with ``event`` unless it is already, and tell; the event that stands."""
        standing = self._uploads.settle(self._stage, event)
        self.tell(standing)
        return standing

    def tell(self, event: Event) -> None:
        """Emit the event, and if it ends its upload, see to the result."""
        self._bus.emit([event])
        if isinstance(event, ENDS):
            self._publish(event.upload.bucket, event.upload.key)

    def settle_all(
        self, settling: Iterable[tuple[Message, Event]], failed: list[str]
    ) -> list[tuple[Message, Event]]:
        """Settle and tell the events of a batch, in as few requests as it takes.

        Returns those that ended an upload when a later event had come on its key. The ids of messages of which
        something failed are added to ``failed``.
        """
        settled = each(settling, self._stand, failed)
        told = together(settled, self._emit, failed)
        ends = [(message, own) for message, own in told if isinstance(own.event, ENDS)]
        written = each(together(ends, self._looked, failed), self._write, failed)
        looked = together(written, self._looked, failed)
        overtaken = [(message, own.event) for message, (own, latest) in looked if not latest]
        each(overtaken, lambda event: self._publish(event.upload.bucket, event.upload.key), failed)
        return overtaken

    def _stand(self, event: Event) -> _Settled:
        standing = self._uploads.settle(self._stage, event)
        return _Settled(standing, standing is event)

    def _emit(self, settled: Sequence[_Settled]) -> Sequence[_Settled]:
        self._bus.emit([own.event for own in settled])
        return settled

    def _looked(self, settled: Sequence[_Settled]) -> list[tuple[_Settled, bool]]:
        """Each with whether no later event has come on its key."""
        latest = self._uploads.still_latest([own.event.upload for own in settled])
        return list(zip(settled, latest, strict=True))

    def _write(self, looked: tuple[_Settled, bool]) -> _Settled:
        """Write the result of an upload that is the latest on its key."""
        own, latest = looked
        if latest:
            upload = own.event.upload
            known = [own.event] if own.fresh else self._uploads.settled(upload.identity).values()
            self._put(upload.key, known)
        return own

    def _publish(self, bucket: str, key: str) -> None:
        """Make the result that of the latest upload on the key, and none while that one has none.

        Whoever writes looks again, so that of two that write at once the later upload's result stays.
        """
        written = ""
        while (latest := self._uploads.latest(bucket, key)) != written:
            if not self._put(key, self._uploads.settled(latest).values()):
                self._objects.delete(self._results_bucket, result_key(key))
            written = latest

    def _put(self, key: str, known: Iterable[Event]) -> bool:
        """Write the last of the events that end their upload as the result on the key; whether there is one."""
        ends = [event for event in known if isinstance(event, ENDS)]
        if ends:
            end = max(ends, key=lambda event: event.time)
            body = json.dumps({"event": end.detail_type, **msgspec.to_builtins(end)}, indent=1)
            self._objects.put(self._results_bucket, result_key(key), body.encode(), "application/json")
        return bool(ends)


def halted(upload: Upload, decision: Decision) -> Event:
    """The end of an upload that the gate let pass, and that may not go on now."""
    return events.RecognitionHalted(
        id=events.RecognitionHalted.identify(upload), time=timestamp(), upload=upload, decision=decision
    )


def rejected(stage: str, upload: Upload, reason: str, message: str) -> Event:
    """The end of an upload that ``stage`` cannot process: a documented code, and what to do."""
    return events.UploadRejected(
        id=events.UploadRejected.identify(upload),
        time=timestamp(),
        upload=upload,
        stage=stage,
        reason=reason,
        message=message,
    )


#: The events that end an upload and are written as its result.
ENDS = (
    events.UploadHalted,
    events.UploadRejected,
    events.RecognitionHalted,
    events.FacesIndexed,
    events.FacesMatched,
    events.MatchesReleased,
    events.MatchesWithheld,
    events.FacesAnalyzed,
)


def answer(
    sqs_event: Mapping[str, Any], work: Callable[[Sequence[Message]], Iterable[str]]
) -> dict[str, Any]:
    """Run ``work`` on the messages of an SQS event; it returns the ids of those to deliver again.

    Returns Lambda's partial batch response. A message that is no JSON object has an envelope that says only its
    digest: the ledger notes it, and the other stages fail on it until it is in the dead-letter queue.
    """
    messages = []
    for record in sqs_event["Records"]:
        try:
            envelope = json.loads(record["body"])
        except ValueError:
            envelope = None
        if not isinstance(envelope, dict):
            envelope = {"unreadable": hashlib.sha256(record["body"].encode()).hexdigest()}
        receives = int(record.get("attributes", {}).get("ApproximateReceiveCount", 1))
        messages.append(Message(record["messageId"], receives, envelope))
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in work(messages)]}


def frames(error: BaseException) -> dict[str, Any]:
    """What the log says of an exception: its type and where it came from, not its text, which may quote a key."""
    trace = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "trace": [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in trace],
    }


def each(
    pairs: Iterable[tuple[Message, Thing]], work: Callable[[Thing], Result], failed: list[str]
) -> list[tuple[Message, Result]]:
    """Run ``work`` on what each message has come to; what it returns, beside the message.

    A message of which it fails goes to ``failed``, with a line in the log, and is not in what returns.
    """
    done = []
    for message, thing in pairs:
        try:
            done.append((message, work(thing)))
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the batch or the answer
            _goes_back(message, error, failed)
    return done


def together(
    pairs: Sequence[tuple[Message, Thing]],
    work: Callable[[list[Thing]], Sequence[Result]],
    failed: list[str],
    let: type[Exception] | tuple[type[Exception], ...] = (),
) -> list[tuple[Message, Result]]:
    """Run ``work`` once on what all the messages have come to; if it fails, all of them have failed.

    Exceptions of the types in ``let`` are the caller's.
    """
    if not pairs:
        return []
    try:
        results = work([thing for _, thing in pairs])
    except let:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the answer
        for message, _ in pairs:
            _goes_back(message, error, failed)
        return []
    return [(message, result) for (message, _), result in zip(pairs, results, strict=True)]


def one_by_one(messages: Sequence[Message], work: Callable[[Message], None]) -> list[str]:
    """Run ``work`` on each message; the ids of those that failed, each with a line in the log."""
    failed: list[str] = []
    each(((message, message) for message in messages), work, failed)
    return failed


def _goes_back(message: Message, error: Exception, failed: list[str]) -> None:
    log.warning(
        "message goes back to its queue",
        extra={"message_id": message.id, "receives": message.receives, **frames(error)},
    )
    failed.append(message.id)
