"""What every stage does the same way: settle an upload once, tell the world, and answer for a batch of messages."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from abeyance.pipeline import events
from abeyance.pipeline.events import Event, Upload
from abeyance.pipeline.ports import Bus, Objects, Uploads
from abeyance.pipeline.uploads import result_key

log = logging.getLogger("abeyance")


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


class Outbox:
    """Settles an upload for one stage and emits the event that it was settled with.

    The order is what makes a crash harmless: first the record, then the result, then the event. Whoever is
    handed the message again finds the record and says the same once more.
    """

    def __init__(self, stage: str, uploads: Uploads, bus: Bus, objects: Objects, results_bucket: str) -> None:
        self._stage = stage
        self._uploads = uploads
        self._bus = bus
        self._objects = objects
        self._results_bucket = results_bucket

    def repeat(self, upload: Upload) -> bool:
        """Whether nothing is to do: the stage has settled the upload, and says so again, or a later event has come."""
        record = self._uploads.get(upload)
        if record is None:
            return True
        if self._stage not in record.settled:
            return False
        self.tell([record.settled[self._stage]])
        return True

    def settle(self, event: Event) -> Event | None:
        """Settle the upload with ``event`` unless it is already; the event that stands, or None if superseded."""
        return self._uploads.settle(self._stage, event)

    def tell(self, settled: Iterable[Event | None]) -> None:
        """Write the results of events that end an upload, and emit all of them."""
        standing = [event for event in settled if event is not None]
        for event in standing:
            if isinstance(event, ENDS):
                body = {"event": event.detail_type, **msgspec.to_builtins(event)}
                key = result_key(event.upload)
                self._objects.put(
                    self._results_bucket, key, json.dumps(body, indent=1).encode(), "application/json"
                )
        self._bus.emit(standing)


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

    Returns Lambda's partial batch response. A message that is no JSON object is delivered again until
    it lands in the dead-letter queue, where somebody can look at it.
    """
    messages, failed = [], []
    for record in sqs_event["Records"]:
        try:
            envelope = json.loads(record["body"])
            receives = int(record.get("attributes", {}).get("ApproximateReceiveCount", 1))
            if not isinstance(envelope, dict):
                raise TypeError
            messages.append(Message(record["messageId"], receives, envelope))
        except (ValueError, TypeError):
            log.error("not a JSON object", extra={"message_id": record["messageId"]})
            failed.append(record["messageId"])
    failed.extend(work(messages))
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def one_by_one(messages: Sequence[Message], work: Callable[[Message], None]) -> list[str]:
    """Run ``work`` on each message; the ids of those that failed, each with a line in the log."""
    failed = []
    for message in messages:
        try:
            work(message)
        except Exception as error:
            log.warning(
                "message goes back to its queue",
                extra={"message_id": message.id, "receives": message.receives, "error": type(error).__name__},
                exc_info=error,
            )
            failed.append(message.id)
    return failed
