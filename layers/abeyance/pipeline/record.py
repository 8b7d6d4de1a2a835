"""The ledger's writer: each of our events becomes one entry, without personal or biometric fields."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from abeyance.aws.timestamps import timestamp, utc_now
from abeyance.ledger.admissible import named
from abeyance.ledger.chain import Record, normalise, refusal
from abeyance.ledger.errors import Inadmissible
from abeyance.ledger.pseudonym import pseudonym
from abeyance.ledger.store import LedgerStore
from abeyance.moratorium.boundaries import Boundary, BoundaryType
from abeyance.pipeline import events
from abeyance.pipeline.batch import Batch, Message
from abeyance.pipeline.events import Event

log = logging.getLogger("abeyance")

#: Type of the entry for an event outside our contract. It is noted, because it must not hold up later events.
UNREADABLE = "Unreadable Event"


class RecordDecisions:
    """The writer that appends the messages of a batch to the chain in their order, each event once."""

    def __init__(self, store: LedgerStore, pseudonym_key: bytes) -> None:
        self._store = store
        self._key = pseudonym_key

    def __call__(self, batch: Batch[Message]) -> None:
        """Append all or none: an error fails the invocation, and the queue delivers the batch again in its order."""
        records = [_admissible(self._record(message.envelope)) for message in batch]
        if records:
            self._store.append(records)
        for record in records:
            log.info("recorded", extra=log_line(record, utc_now()))

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


def log_line(record: Record, now: datetime) -> dict[str, Any]:
    """Return the log fields of an entry, without personal data; the deployment's metrics are counted from them."""
    decision = record.body.get("decision")
    line: dict[str, Any] = {"type": record.type}
    if isinstance(decision, Mapping):
        line |= {name: str(decision.get(name) or "none") for name in ("outcome", "clause", "fault")}
    try:
        line["lag_ms"] = round((now - datetime.fromisoformat(record.time)).total_seconds() * 1000)
    except (ValueError, TypeError):
        line["lag_ms"] = -1  # an entry without a time that can be read is still an entry
    return line


#: Detail-types of the announcements of moratoria that start or end.
BOUNDARIES = frozenset(map(str, BoundaryType))


def _boundary(detail: Any) -> Record:
    boundary = msgspec.convert(detail, Boundary)
    body = msgspec.to_builtins(boundary)
    return Record(id=f"boundary:{boundary.id}", type=str(boundary.type), time=boundary.at, body=body)


def _admissible(record: Record) -> Record:
    """Return the record; else the part of its decision that can be written; else a note that it was refused.

    An inadmissible record must neither hold up later ones nor make its decision disappear.
    """
    try:
        return normalise(record)
    except Inadmissible as error:
        try:
            return normalise(msgspec.structs.replace(record, body=_core(record.body, error)))
        except (Inadmissible, AttributeError, TypeError):
            return refusal(record, error)


def _core(body: Mapping[str, Any], error: Inadmissible) -> dict[str, Any]:
    """Return the essential fields of a decision, without free text."""
    decision = body.get("decision") or {}
    kept = (
        "outcome",
        "clause",
        "fault",
        "tenant",
        "action",
        "purpose",
        "sector",
        "jurisdiction",
        "as_of",
        "digest",
    )
    core = {name: decision[name] for name in kept if name in decision}
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
    canonical = json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(canonical).hexdigest()
    return Record(
        id=f"unreadable:{envelope.get('id', digest)}",
        type=UNREADABLE,
        time=str(envelope.get("time") or timestamp()),
        body={"sha256": digest},
    )
