"""The ledger's writer: each message becomes one entry, without personal or biometric fields, whatever it is."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec

from abeyance.aws.timestamps import timestamp, utc_now
from abeyance.ledger.admissible import named
from abeyance.ledger.entry import LogEntry, Record, make_entry, refusal
from abeyance.ledger.errors import Inadmissible, LedgerCorrupt
from abeyance.ledger.pseudonym import pseudonym
from abeyance.ledger.recent import LOOKBACK_S
from abeyance.ledger.sequencer import Placed, random_seed
from abeyance.moratorium.boundaries import Boundary, BoundaryType
from abeyance.pipeline import events
from abeyance.pipeline.batch import Batch, Message
from abeyance.pipeline.events import Event
from abeyance.pipeline.senders import Senders

log = logging.getLogger("abeyance")

#: Type of the entry for an event outside our contract. It is noted, because it must not hold up later events.
UNREADABLE: Final = "Unreadable Event"
#: The line that is logged where the ledger contradicts itself; an alarm rings on it.
CORRUPT: Final = "ledger corrupt"
#: Detail-types of the announcements of moratoria that start or end.
BOUNDARIES: Final = frozenset(map(str, BoundaryType))
#: What is kept of a decision whose record cannot be written as it is.
_CORE: Final = (
    *("outcome", "clause", "fault", "tenant", "action", "purpose"),
    *("sector", "jurisdiction", "as_of", "digest"),
)


class Log(Protocol):
    """The port of :class:`~abeyance.ledger.sequencer.Sequencer`."""

    def append(self, entries: Sequence[LogEntry], since: float) -> list[Placed]: ...


class RecordDecisions:
    """The writer that gives every message of a batch its place on the log, each event once.

    Parameters
    ----------
    sequencer
        Gives entries their places.
    pseudonym_key
        Secret that hides the keys of objects.
    senders
        Who may send what.
    seed
        Makes the random seed of an entry.
    """

    def __init__(
        self,
        sequencer: Log,
        pseudonym_key: bytes,
        senders: Senders | None = None,
        seed: Callable[[], bytes] = random_seed,
    ) -> None:
        self._sequencer = sequencer
        self._key = pseudonym_key
        self._senders = senders or Senders()
        self._seed = seed

    def __call__(self, batch: Batch[Message]) -> None:
        """Append all or none: an error fails the invocation, and the queue delivers the batch again.

        No message fails alone: one that cannot be read, or must not be written, becomes an entry that says so.
        """
        entries = [self._entry(message) for message in batch]
        if not entries:
            return
        now_s = utc_now().timestamp()
        since = min(now_s - LOOKBACK_S, *(message.first_received or now_s for message in batch))
        with corruption_logged():
            placed = self._sequencer.append(entries, since)
        for line in log_lines([one.entry for one in placed if one.new], utc_now()):
            log.info("recorded", extra=line)

    def _entry(self, message: Message) -> LogEntry:
        """Return the entry of a message; of its decision where the rest cannot be written; else that it was refused."""
        record = Record("", "", "", {})
        try:
            self._senders.check(message.sender, message.envelope)
            record = self._record(message.envelope)
            return make_entry(record, self._seed())
        except Inadmissible as error:
            return self._remainder(message, record, error)
        except Exception as error:  # noqa: BLE001 - no message may hold up the others
            return self._remainder(message, record, Inadmissible(f"message: {type(error).__name__}"))

    def _remainder(self, message: Message, record: Record, error: Inadmissible) -> LogEntry:
        try:
            body = _core(record.body, error)
            return make_entry(msgspec.structs.replace(record, body=body), self._seed())
        except Exception:  # noqa: BLE001 - whatever is wrong with it, that it came can be written
            named_record = record if record.id else Record(f"message:{message.id}", "", timestamp(), {})
            return make_entry(refusal(named_record, error), self._seed())

    def _record(self, envelope: Mapping[str, Any]) -> Record:
        try:
            if "detail-type" not in envelope:
                return msgspec.convert(envelope, Record)  # queued by a synchronous caller, see LedgerQueue
            if envelope["detail-type"] in BOUNDARIES:
                return _boundary(envelope["detail"])
            event = events.parse(envelope["detail-type"], envelope["detail"])
        except (msgspec.ValidationError, TypeError, KeyError):
            return _unreadable(envelope)
        return Record(id=event.id, type=event.detail_type, time=event.time, body=entry_body(event, self._key))


@contextlib.contextmanager
def corruption_logged() -> Iterator[None]:
    """Log that the ledger contradicts itself, for the alarm, and let the error pass."""
    try:
        yield
    except LedgerCorrupt as error:
        log.error(CORRUPT, extra={"what": str(error)})
        raise


def log_lines(entries: Sequence[LogEntry], now: datetime) -> list[dict[str, Any]]:
    """Return the log fields of a batch, a line for each kind of entry; the deployment's metrics are counted from them.

    They hold kinds and numbers, nothing personal: the type, what was decided, how many, and the longest way to the log.
    """
    counted: Counter[tuple[str, str, str, str]] = Counter()
    slowest: dict[tuple[str, str, str, str], int] = {}
    for entry in entries:
        kind = (entry.type, *_outcome(entry))
        counted[kind] += 1
        slowest[kind] = max(slowest.get(kind, -1), _lag_ms(entry, now))
    names = ("type", "outcome", "clause", "fault")
    return [
        {**dict(zip(names, kind, strict=True)), "count": count, "lag_ms": slowest[kind]}
        for kind, count in counted.items()
    ]


class _Outcome(msgspec.Struct):
    outcome: str | None = None
    clause: str | None = None
    fault: str | None = None


class _Decided(msgspec.Struct):
    decision: _Outcome | None = None


class _OpenedRecord(msgspec.Struct):
    body: _Decided


class _Opened(msgspec.Struct):
    record: _OpenedRecord


_decode_outcome: Final = msgspec.json.Decoder(_Opened).decode


def _outcome(entry: LogEntry) -> tuple[str, str, str]:
    try:
        found = _decode_outcome(entry.opening).record.body.decision or _Outcome()
    except msgspec.MsgspecError:
        found = _Outcome()
    return found.outcome or "none", found.clause or "none", found.fault or "none"


def _lag_ms(entry: LogEntry, now: datetime) -> int:
    """Return the milliseconds since the entry's time; -1 for an entry without a time that can be read."""
    try:
        return round((now - datetime.fromisoformat(entry.time)).total_seconds() * 1000)
    except (ValueError, TypeError):
        return -1


def _boundary(detail: Any) -> Record:
    boundary = msgspec.convert(detail, Boundary)
    body = msgspec.to_builtins(boundary)
    return Record(id=f"boundary:{boundary.id}", type=str(boundary.type), time=boundary.at, body=body)


def _core(body: Mapping[str, Any], error: Inadmissible) -> dict[str, Any]:
    """Return the essential fields of a decision, without free text."""
    decision = body.get("decision") or {}
    core = {name: decision[name] for name in _CORE if name in decision}
    core["flags"] = [{"key": part["key"]} for part in decision.get("flags", ())]
    own = {
        name: body[name]
        for name in ("upload", "photo", "tenant", "action", "stage", "reason")
        if name in body
    }
    return {**own, "decision": core, "shortened": str(error)[:500]}


def entry_body(event: Event, key: bytes) -> dict[str, Any]:
    """Return the body of an event's entry.

    The object's key becomes a pseudonym: the secret and the key together find the entry, and the entry does not
    reveal the key. Each list of faces becomes its length.
    """
    upload = event.upload
    body: dict[str, Any] = {
        "upload": pseudonym(key, f"{upload.bucket}/{upload.key}"),
        "photo": pseudonym(key, upload.photo),
        "tenant": upload.tenant,
        "action": upload.action,
        **named(upload.collection),
    }
    for name, value in msgspec.to_builtins(event).items():
        if name in {"id", "time", "upload"}:
            continue
        if name not in event.withheld_from_ledger:
            body[name] = value
        elif isinstance(value, list | tuple):
            body[f"{name}_count"] = len(value)
    return body


def _unreadable(envelope: Mapping[str, Any]) -> Record:
    canonical = msgspec.json.encode(envelope, order="sorted")
    digest = hashlib.sha256(canonical).hexdigest()
    return Record(
        id=f"unreadable:{envelope.get('id', digest)}",
        type=UNREADABLE,
        time=str(envelope.get("time") or timestamp()),
        body={"sha256": digest},
    )
