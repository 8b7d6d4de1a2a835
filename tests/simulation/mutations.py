"""Faults put into the product on purpose: each must be found. ``python -m tests.simulation --mutations`` says how soon.

The first ones are those that a death between two calls of AWS once brought.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

from msgspec import structs

from abeyance.aws.table import PRESENT, Put, Update
from abeyance.gallery import faces
from abeyance.gallery.collections import CollectionStore
from abeyance.gallery.model import CollectionRef
from abeyance.ledger.queue import LedgerQueue
from abeyance.ledger.recent import RecentIds
from abeyance.moratorium import authorization_store, authorization_uses
from abeyance.moratorium.authorization import AuthorizationRefusal
from abeyance.moratorium.authorization_uses import UseTable
from abeyance.moratorium.change_log import ChangeRecorder
from abeyance.moratorium.guard import Guard
from abeyance.moratorium.source import AppConfigSource
from abeyance.moratorium.tenants import TenantTable
from abeyance.pipeline import recognize
from abeyance.pipeline.aws import EventBridgeBus, S3Objects
from abeyance.pipeline.batch import Batch
from abeyance.pipeline.detect import Detect
from abeyance.pipeline.gate import Gate
from abeyance.pipeline.lapse import SettleLateSearches
from abeyance.pipeline.leftovers import Leftovers
from abeyance.pipeline.outbox import Outbox, RecordedEvent
from abeyance.pipeline.postpone import Postpone
from abeyance.pipeline.record import RecordDecisions
from abeyance.pipeline.registered import RegisteredBuckets
from abeyance.pipeline.upload_records import KEY, UploadRecords

Patch = Callable[[], contextlib.AbstractContextManager[Any]]


@dataclass(frozen=True)
class Mutation:
    """A fault: its name, what is wrong, and the patch that puts it in."""

    name: str
    wrong: str
    patch: Patch


def _replaced(owner: Any, name: str, by: Any) -> Patch:
    return lambda: mock.patch.object(owner, name, by)


def _nothing(*_: Any, **__: Any) -> Any:
    return None


def _emit_first(self: Outbox, outcomes: Any) -> Any:
    def emit(outcome: Any) -> Any:
        self._emit([outcome if isinstance(outcome, RecordedEvent) else RecordedEvent(outcome, True)])
        return outcome

    return self._announce(outcomes.map(emit).map(self._record))


def _publish_once(self: Outbox, results: Any) -> Any:
    written = results.filter(lambda result: bool(result.written))
    read = results.filter(lambda result: not result.written).map_together(self._read_latest)
    outdated = read.filter(lambda result: result.latest != result.written)
    current = read.filter(lambda result: result.latest == result.written)
    return written + current + outdated.map(self._write)


def _record_always(self: UploadRecords, stage: str, event: Any) -> Any:
    with mock.patch("abeyance.pipeline.upload_records.Update", _unconditional):
        return _RECORD(self, stage, event)


def _unconditional(key: Any, **how: Any) -> Any:
    return _UPDATE(key, **{**how, "expect": {}})


_RECORD, _UPDATE = UploadRecords.record, Update


def _claim_always(self: UploadRecords, upload: Any) -> bool:
    item = {KEY: f"{upload.bucket}/{upload.key}", "sequencer": "0", "upload": upload.identity, "replaced": 1}
    self._table.transact([Put(item)])
    return True


def _first_event_only(self: EventBridgeBus, events: Sequence[Any]) -> None:
    _EMIT(self, events[:1])


_EMIT = EventBridgeBus.emit


def _forget_recorded(self: Gate, notification: Any, state: Any, decide: Any) -> Any:
    return None if state.recorded else _GATE_OUTCOME(self, notification, state, decide)


_GATE_OUTCOME = Gate._outcome


def _detect_undecided(self: Detect, job: Any, state: Any, _: Any) -> Any:
    return _DETECT_OUTCOME(self, job, state, lambda *_: job.permitted.decision)


_DETECT_OUTCOME = Detect._outcome


def _all_or_nothing(self: Batch[Any], work: Any) -> Any:
    return Batch([(message, work(value)) for message, value in self._items], self._failed)


def _first_record_only(self: RecordDecisions, batch: Any) -> None:
    _WRITE(self, Batch(batch._items[:1], batch._failed))


_WRITE = RecordDecisions.__call__


def _drop_judgements(self: LedgerQueue, record: Any) -> None:
    if record.type != "review.judged":
        _QUEUE(self, record)


_QUEUE = LedgerQueue.put


def _no_approval_entry(self: ChangeRecorder, kind: str, body: Any) -> None:
    if kind != "moratorium.approved":
        _REQUIRE(self, kind, body)


_REQUIRE = ChangeRecorder.require


@contextlib.contextmanager
def _one_principal_loosens() -> Iterator[None]:
    from abeyance.moratorium import documents
    from abeyance.moratorium.changes import ChangeKind

    def classify(*arguments: Any, **named: Any) -> Any:
        change = before(*arguments, **named)
        return structs.replace(change, kind=ChangeKind.TIGHTENING, people=1)

    before = documents.classify
    with mock.patch.object(documents, "classify", classify):
        yield


def _use_without_row(self: UseTable, authorization: Any, used: Any) -> None:
    self._table.transact(authorization_uses._consumption(authorization, used))


@contextlib.contextmanager
def _without_limit() -> Iterator[None]:
    def unusable(order: Any, *scope: Any) -> Any:
        found = before(order, *scope)
        return None if found is AuthorizationRefusal.USED_UP else found

    before = authorization_store._unusable
    no_limit = mock.patch.object(authorization_uses, "Below", lambda _: PRESENT)
    with no_limit, mock.patch.object(authorization_store, "_unusable", unusable):
        yield


@contextlib.contextmanager
def _tenants_cached() -> Iterator[None]:
    known: dict[Any, Any] = {}

    def get(self: TenantTable, tenant_id: str, /) -> Any:
        key = id(self), tenant_id
        if key not in known:
            known[key] = self, before(self, tenant_id)
        return known[key][1]

    before = TenantTable.get
    alone = mock.patch.object(Guard, "read_along", lambda *_: [])
    with alone, mock.patch.object(TenantTable, "get", get):
        yield


MUTATIONS = (
    Mutation(
        "unrecorded-template-stays",
        "a denial leaves what an interrupted delivery of the photo indexed",
        _replaced(Outbox, "has_recorded", lambda *_: True),
    ),
    Mutation(
        "dropped-upload-keeps-faces",
        "an upload that is dropped because a later one came leaves the faces of its interrupted delivery",
        _replaced(Leftovers, "delete_indexed", _nothing),
    ),
    Mutation(
        "chips-of-replaced-stay",
        "the chips of a replaced upload are not deleted",
        _replaced(Leftovers, "clean_up", lambda self, ended, _: None),
    ),
    Mutation(
        "emit-before-record",
        "the event goes out before its record",
        _replaced(Outbox, "record_outcomes", _emit_first),
    ),
    Mutation(
        "no-second-look",
        "keys are not read again after a result is written",
        _replaced(Outbox, "_publish", _publish_once),
    ),
    Mutation(
        "record-again",
        "a second delivery replaces the record of the first",
        _replaced(UploadRecords, "record", _record_always),
    ),
    Mutation(
        "claim-any-order",
        "a late event takes the key from a later one",
        _replaced(UploadRecords, "claim", _claim_always),
    ),
    Mutation(
        "folder-not-deleted",
        "chips are not deleted with their photo",
        _replaced(S3Objects, "delete_all", _nothing),
    ),
    Mutation(
        "result-not-deleted",
        "the result of a deleted photo stays",
        _replaced(Outbox, "republish", _nothing),
    ),
    Mutation(
        "one-event-a-call",
        "only the first event of a batch goes out",
        _replaced(EventBridgeBus, "emit", _first_event_only),
    ),
    Mutation(
        "redelivery-dropped",
        "the gate drops a message whose outcome is recorded",
        _replaced(Gate, "_outcome", _forget_recorded),
    ),
    Mutation(
        "detect-trusts-the-gate",
        "detect does not decide again",
        _replaced(Detect, "_outcome", _detect_undecided),
    ),
    Mutation(
        "flags-for-ever",
        "flags are read once and never again",
        _replaced(AppConfigSource, "_due", lambda self, *_: self._asked is None),
    ),
    Mutation("tenants-for-ever", "registrations are read once and never again", _tenants_cached),
    Mutation(
        "poison-ends-the-batch",
        "a message that fails fails its whole batch",
        _replaced(Batch, "map", _all_or_nothing),
    ),
    Mutation(
        "postponed-is-lost", "a postponed message is not sent again", _replaced(Postpone, "_send", _nothing)
    ),
    Mutation(
        "late-index-accepted",
        "faces are indexed after their photo was deleted or replaced",
        _replaced(faces, "_is_superseded", lambda *_: False),
    ),
    Mutation(
        "sweep-does-nothing",
        "interrupted deletions of collections are not finished",
        _replaced(CollectionStore, "_purge", lambda *_: 1),
    ),
    Mutation(
        "ledger-tail-lost",
        "the ledger writes the first record of a batch and answers for all",
        _replaced(RecordDecisions, "__call__", _first_record_only),
    ),
    Mutation(
        "ledger-forgets-ids",
        "the ledger does not find what it has written",
        _replaced(RecentIds, "find", lambda *_: None),
    ),
    Mutation(
        "judgements-off-the-ledger",
        "a review is closed without its judgements on the ledger",
        _replaced(LedgerQueue, "put", _drop_judgements),
    ),
    Mutation(
        "approval-off-the-ledger",
        "flags are loosened without an entry",
        _replaced(ChangeRecorder, "require", _no_approval_entry),
    ),
    Mutation("one-principal-loosens", "a loosening is taken for a tightening", _one_principal_loosens),
    Mutation(
        "used-at-each-delivery",
        "an authorisation is used without the row of the request that uses it",
        _replaced(UseTable, "use", _use_without_row),
    ),
    Mutation("last-one-shared", "the number of searches of an authorisation is no limit", _without_limit),
    Mutation(
        "lapsed-faces-stay",
        "faces of a search stay though its authorisation did not come",
        _replaced(Leftovers, "delete_lapsed", lambda *_: 0),
    ),
    Mutation(
        "late-for-ever",
        "a search whose authorisation did not come is not undone",
        _replaced(SettleLateSearches, "_undo", _nothing),
    ),
    Mutation(
        "other-rules-forgotten",
        "what a key had under former rules of its bucket stays",
        _replaced(RegisteredBuckets, "others", lambda *_: []),
    ),
    Mutation(
        "wrong-tenant",
        "recognition uses one tenant's collections for all",
        _replaced(recognize, "collection_of", lambda upload: CollectionRef("acme", upload.collection)),
    ),
)
