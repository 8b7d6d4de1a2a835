"""Records the outcome of an upload once, emits it, and publishes the result."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias, TypeVar, cast

import msgspec

from abeyance.moratorium.authorization import Search
from abeyance.moratorium.decide import Decision
from abeyance.moratorium.guard import Guard
from abeyance.pipeline import events, topology
from abeyance.pipeline.batch import Batch
from abeyance.pipeline.events import Event, Upload
from abeyance.pipeline.pointers import recorded_for, refusal
from abeyance.pipeline.ports import EventBus, ObjectStore
from abeyance.pipeline.registered import RegisteredBuckets
from abeyance.pipeline.upload_records import UploadRecords, UploadState
from abeyance.pipeline.uploads import result_key_of, tenant_of_key

Value = TypeVar("Value")
EventType = TypeVar("EventType", bound=Event)

#: Decides for a tenant, an action, a purpose, and the request that may use an authorisation.
Decide: TypeAlias = Callable[[str, str, str, Search], Decision]

#: The events that end an upload and are written as its result.
FINAL_EVENTS = (
    events.UploadHalted,
    events.UploadRejected,
    events.RecognitionHalted,
    events.FacesIndexed,
    events.FacesMatched,
    events.MatchesReleased,
    events.MatchesWithheld,
    events.FacesAnalyzed,
    events.AuthorizationLapsed,
)


#: The stages in the order in which an upload passes them.
_ORDER = (*(stage.name for stage in topology.STAGES), topology.LAPSE.task)


class RecordedEvent(NamedTuple):
    """The event recorded for an upload, and whether this call recorded it."""

    event: Event
    is_new: bool


class PublishedEvent(NamedTuple):
    """An event that ended an upload, and whether the upload is still the latest on its key."""

    event: Event
    is_latest: bool


class _Publication(NamedTuple):
    """The result to write for a recorded event; ``written`` and ``latest`` are identities of uploads on its key."""

    recorded: RecordedEvent
    written: str = ""
    latest: str = ""


class Outbox:
    """The outcomes of one stage.

    The order makes a crash harmless: first the record, then the event, then the result. A redelivered message finds
    the record, and its event is emitted again, also when a later upload has taken the key: no decision stays untold.
    """

    def __init__(
        self,
        stage: str,
        records: UploadRecords,
        bus: EventBus,
        objects: ObjectStore,
        results_bucket: str,
        registered: RegisteredBuckets | None = None,
    ) -> None:
        #: The buckets that tenants registered for uploads.
        self.registered = registered or RegisteredBuckets()
        self._stage = stage
        self._records = records
        self._bus = bus
        self._objects = objects
        self._results_bucket = results_bucket

    def read_states(
        self, batch: Batch[Value], upload_of: Callable[[Value], Upload], guard: Guard | None = None
    ) -> Batch[tuple[Value, UploadState]]:
        """Return each value with the state of its upload, all from one request.

        The same request reads the registrations for a ``guard`` of the batch. If it cannot, the guard reads them.
        """

        def pair(values: Sequence[Value]) -> list[tuple[Value, UploadState]]:
            uploads = [upload_of(value) for value in values]
            tenants = {upload.tenant or tenant_of_key(upload.key) for upload in uploads}
            along = guard.read_along(tenants) if guard else ()
            return list(zip(values, self._records.read_states(uploads, along), strict=True))

        return batch.map_together(pair)

    def verified(self, event: EventType, state: UploadState) -> EventType | None:
        """Return what a stage recorded and ``event`` points to; ``None`` if there is no such record.

        An event that differs from the record leaves a trace on the bus, and so on the ledger.
        """
        recorded = recorded_for(event, state, self.registered.derive)
        if recorded != event:
            self._bus.emit([refusal(self._stage, event, recorded)])
        return cast("EventType | None", recorded)

    def already_recorded(self, state: UploadState) -> RecordedEvent | None:
        """Return what the stage has recorded for an upload, or None."""
        event = state.recorded.get(self._stage)
        return RecordedEvent(event, is_new=False) if event else None

    def recorded_event(self, upload: Upload) -> Event | None:
        """Return what the stage has recorded for one upload outside a batch, or None."""
        return self._records.recorded(upload.identity).get(self._stage)

    def recorded_parts(self, upload: Upload, parts: Sequence[str | int]) -> dict[str | int, Event]:
        """Return what the stage has recorded for some parts of an upload; nothing for the others."""
        found = self._records.recorded_parts(upload, parts)
        return {part: recorded[self._stage] for part, recorded in found.items() if self._stage in recorded}

    def is_latest(self, upload: Upload) -> bool:
        """Return True if no later event has come on the upload's key."""
        return self._records.latest([upload]) == [upload.identity]

    def record_outcome(self, event: Event) -> Event:
        """Record, emit and publish one event outside a batch; return the one that stands. Raises what fails."""
        recorded = Batch.single(event).map(self._record)
        self._announce(recorded)
        recorded.raise_failure()
        (outcome,) = recorded
        return outcome.event

    def record_outcomes(self, outcomes: Batch[Event | RecordedEvent]) -> Batch[PublishedEvent]:
        """Record, emit and publish a batch, in as few requests as it takes.

        Returns the events that ended an upload.
        """
        return self._announce(outcomes.map(self._record))

    def has_recorded(self, upload: Upload, kind: type[Event]) -> bool:
        """Return True if the stage recorded an event of ``kind``, or if the records of the upload have expired."""
        recorded = self._records.recorded(upload.identity)
        return not recorded or isinstance(recorded.get(self._stage), kind)

    def stands_indexed(self, upload: Upload) -> bool:
        """Return True if an upload's faces are recorded as indexed, and its authorisation did not lapse."""
        recorded = self._records.recorded(upload.identity)
        indexed = any(isinstance(event, events.FacesIndexed) for event in recorded.values())
        return indexed and topology.LAPSE.task not in recorded

    def announce(self, event: Event) -> None:
        """Emit a recorded event again, and publish it if it ends its upload."""
        self._announce(
            Batch.single(event).map(lambda event: RecordedEvent(event, is_new=False))
        ).raise_failure()

    def republish(self, event: Event) -> None:
        """Write the result on the key of a recorded event again, from what is recorded now."""
        published = Batch.single(event).map(lambda event: _Publication(RecordedEvent(event, is_new=False)))
        self._publish(published).raise_failure()

    def delete_result(self, upload: Upload) -> None:
        """Delete the result on an upload's key, if there is one."""
        self._objects.delete(self._results_bucket, result_key_of(upload))

    def _record(self, outcome: Event | RecordedEvent) -> RecordedEvent:
        if isinstance(outcome, RecordedEvent):
            return outcome
        standing = self._records.record(self._stage, outcome)
        return RecordedEvent(standing, is_new=standing is outcome)

    def _announce(self, recorded: Batch[RecordedEvent]) -> Batch[PublishedEvent]:
        emitted = recorded.map_together(self._emit)
        final = emitted.filter(lambda outcome: isinstance(outcome.event, FINAL_EVENTS))
        # What is new was the latest when its upload's state was read. If it no longer is, the reading that follows
        # the writing shows it.
        new = final.filter(lambda outcome: outcome.is_new)
        again = final.filter(lambda outcome: not outcome.is_new)
        written = new.map(
            lambda outcome: self._write(_Publication(outcome, latest=outcome.event.upload.identity))
        )
        return self._publish(written + again.map(_Publication)).map(
            lambda result: PublishedEvent(
                result.recorded.event, result.latest == result.recorded.event.upload.identity
            )
        )

    def _emit(self, recorded: Sequence[RecordedEvent]) -> Sequence[RecordedEvent]:
        self._bus.emit([outcome.event for outcome in recorded])
        return recorded

    def _publish(self, results: Batch[_Publication]) -> Batch[_Publication]:
        """Make each result that of the latest upload on its key, and none while that one has none.

        The keys are read again after writing, so that of two writers at once the later upload's result stays.
        """
        if not results:
            return results
        read = results.map_together(self._read_latest)
        outdated = read.filter(lambda result: result.latest != result.written)
        current = read.filter(lambda result: result.latest == result.written)
        return current + self._publish(outdated.map(self._write))

    def _read_latest(self, results: Sequence[_Publication]) -> list[_Publication]:
        latest = self._records.latest([result.recorded.event.upload for result in results])
        return [result._replace(latest=own) for result, own in zip(results, latest, strict=True)]

    def _write(self, result: _Publication) -> _Publication:
        """Write the last of the events that ended the latest upload as the result on its key.

        The last one is that of the last stage: the stages' clocks may differ.
        """
        event, is_new = result.recorded
        key = result_key_of(event.upload)
        own = is_new and result.latest == event.upload.identity
        known = {self._stage: event} if own else self._records.recorded(result.latest)
        final = {stage: event for stage, event in known.items() if isinstance(event, FINAL_EVENTS)}
        last = final[max(final, key=_ORDER.index)] if final else None
        # The latest upload may have been registered for another tenant, whose result is elsewhere.
        if last is not None and result_key_of(last.upload) == key:
            body = json.dumps({"event": last.detail_type, **msgspec.to_builtins(last)}, indent=1)
            self._objects.put(self._results_bucket, key, body.encode(), "application/json")
        else:
            self._objects.delete(self._results_bucket, key)
        return result._replace(written=result.latest)


def search_of(upload: Upload, authorization: str = "", job: str = "") -> Search:
    """Return an upload as a request that may use an authorisation: the one that it names, if it names one.

    A job of the Rekognition API uses the one that its request used, under that request's id, ``job``.
    """
    collection = "" if upload.collection == topology.NO_COLLECTION else upload.collection
    return Search(id=job or upload.identity, collection=collection, named=authorization, may_be_late=not job)


def halted(
    upload: Upload, decision: Decision, video: events.VideoExamined | msgspec.UnsetType = msgspec.UNSET
) -> Event:
    """Return the end of an upload that the gate let pass and that is denied now."""
    return events.RecognitionHalted.of(upload, decision=decision, video=video)


def registration_changed(stage: str, upload: Upload) -> Event:
    """Return the end of an upload to a place that is not registered any more, or not like this."""
    message = "The place of the object was registered otherwise meanwhile. Copy the object over itself."
    return rejected(stage, upload, "REGISTRATION_CHANGED", message)


def rejected(stage: str, upload: Upload, reason: str, message: str) -> Event:
    """Return the end of an upload that ``stage`` cannot process: a documented code, and what to do."""
    return events.UploadRejected.of(upload, stage=stage, reason=reason, message=message)
