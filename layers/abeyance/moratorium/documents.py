"""Flags and brake as subjects of change: the record of what is in force, kept in step with the store that hands it out.

::

    apply:   record (pending, with the one before) --deploy--> rolling --store has settled--> settled
    refresh: a loosening that was rolled back: the one before is in force again
             something that the service did not deploy: drift; stages hold both, and the ledger has it
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from msgspec import Struct, structs

from abeyance.aws.table import Conflict, Operation, Table
from abeyance.moratorium.brake import with_halt
from abeyance.moratorium.change_log import DRIFT, ChangeRecorder
from abeyance.moratorium.changes import ChangeKind, classify
from abeyance.moratorium.document import FlagSet, parse, without_metadata
from abeyance.moratorium.errors import MoratoriumError, NothingDeployed
from abeyance.moratorium.guardrail_store import GuardrailCheck
from abeyance.moratorium.inforce import InForce, InForceTable
from abeyance.moratorium.presets import no_flags
from abeyance.moratorium.publish import FlagPublisher, Serving
from abeyance.moratorium.subjects import (
    ChangeJudgement,
    ChangeRefused,
    DocumentChange,
    EffectFailed,
    StateChanged,
)
from abeyance.moratorium.validate import check

log = logging.getLogger("abeyance")

ADOPTED: Final = "moratorium.adopted"
DRIFT_ENDED: Final = "moratorium.drift_ended"
ROLLED_BACK: Final = "moratorium.rolled_back"

#: Seconds for which a document that was superseded may still reach a stage: no drift.
GRACE_S: Final = 60


class DocumentState(Struct, frozen=True, kw_only=True):
    """The record, and the documents that a store hands out although the service did not deploy them."""

    record: InForce
    foreign: tuple[FlagSet, ...] = ()

    def in_force(self) -> tuple[FlagSet, ...]:
        """Return every document that holds somewhere now."""
        return (*map(parse, self.record.agreed()), *self.foreign)


class GovernedDocument:
    """One document: flags or brake.

    Parameters
    ----------
    initial
        Returns the document of a new deployment.
    gradual
        Whether a loosening is let out little by little.
    adopts
        Whether a document that somebody else put into the store is in force: so it is with a file on one machine.
    places
        Returns the jurisdictions of registered tenants, for the check of a document.
    guardrails
        The check of everything that loosens. What tightens is never held up by it.
    """

    def __init__(
        self,
        name: str,
        publisher: FlagPublisher,
        table: Table,
        changes: ChangeRecorder,
        *,
        initial: Callable[[], dict[str, Any]],
        clock: Callable[[], datetime],
        gradual: bool = False,
        adopts: bool = False,
        places: Callable[[], Iterable[str]] = tuple,
        guardrails: GuardrailCheck,
    ) -> None:
        self.name = name
        self._publisher = publisher
        self._table = table
        self._records = InForceTable(table)
        self._changes = changes
        self._initial = initial
        self._clock = clock
        self._gradual = gradual
        self._adopts = adopts
        self._places = places
        self._guardrails = guardrails

    def in_force(self) -> tuple[FlagSet, ...]:
        """Return every document that holds somewhere now."""
        return self.refresh().in_force()

    # -- a subject of change

    def judge(self, change: DocumentChange, /) -> ChangeJudgement:
        findings = check(change.document, places=self._places())
        if findings:
            raise ChangeRefused(
                "; ".join(f"{finding.flag}: {finding.message}".removeprefix(": ") for finding in findings)
            )
        state = self.refresh()
        new, now = parse(change.document), self._clock()
        found = [classify(old, new, since=now) for old in state.in_force()]
        kinds = {one.kind for one in found}
        kind = next(one for one in _STRICTEST if one in kinds)
        loosens = kind is ChangeKind.LOOSENING
        return ChangeJudgement(
            kind=kind,
            people=max(one.people for one in found),
            base=str(state.record.generation),
            refusal=_unsettled(state),
            holds_if=self._guardrails.document(self.name, new) if loosens else (),
        )

    def apply(
        self,
        change: DocumentChange,
        judgement: ChangeJudgement,
        proposal: str,
        note: str,
        also: Sequence[Operation],
        /,
    ) -> dict[str, Any]:
        record = self.refresh().record
        if str(record.generation) != judgement.base:
            raise StateChanged
        made = self._succeeded(
            record,
            change.document,
            phase="pending",
            loosening=judgement.kind is ChangeKind.LOOSENING,
            proposal=proposal,
            note=note,
        )
        stored = self._store(made, also)
        if stored is None:
            raise StateChanged
        return self.deploy(stored)

    def is_made(self, change: DocumentChange, base: str, /) -> bool:
        return False  # one transaction has the change and its end

    def deploy(self, record: InForce) -> dict[str, Any]:
        """Hand a pending document to its store. Raises :class:`EffectFailed` for one that loosens.

        One that tightens holds already, because stages read its record: the store gets it when it can.
        """
        try:
            version = self._publisher.deploy(
                record.document, gradual=self._gradual and record.loosening, note=record.note
            )
        except Exception as error:  # noqa: BLE001 - whatever it was, the record says that it is pending
            log.warning(
                "a document waits for its deployment",
                extra={"document": self.name, "because": type(error).__name__},
            )
            if record.loosening:
                reason = str(error) if isinstance(error, MoratoriumError) else type(error).__name__
                raise EffectFailed(f"approved, and not deployed yet ({reason}): retry it") from None
            return {"version": "", "generation": record.generation}
        # Another call may have seen the deployment first; then this is written already.
        self._store(structs.replace(record, phase="rolling", version=version, since_s=self._now_s()))
        return {"version": version, "generation": record.generation}

    def retry(self, proposal: str) -> dict[str, Any]:
        """Deploy again what a proposal brought and no store took.

        Raises :class:`StateChanged` if anything came since.
        """
        record = self.refresh().record
        if record.proposal != proposal:
            raise StateChanged
        if record.phase != "pending":
            return {"version": "", "generation": record.generation}
        return self.deploy(record)

    def abandon(self, proposal: str, also: Sequence[Operation] = ()) -> None:
        """Return to the document before a loosening that no store took."""
        record = self.refresh().record
        if record.proposal != proposal or record.phase != "pending" or record.previous is None:
            raise StateChanged
        made = self._succeeded(record, record.previous, phase="pending", note=f"abandons {proposal}")
        stored = self._store(made, also)
        if stored is None:
            raise StateChanged
        self.deploy(stored)

    # -- in step with the store

    def refresh(self) -> DocumentState:
        """Return what is in force, after writing down what has happened in the store since."""
        try:
            serving = self._publisher.serving()
        except NothingDeployed:
            serving = None
        for _ in range(3):
            record = self._records.read(self.name)
            changed = self._first(serving) if record is None else self._followed(record, serving)
            if changed is None:
                break
            made, kind = changed
            entry = [] if kind is None else [self._changes.later(kind, self._body(made))]
            if (stored := self._store(made, entry)) is not None:
                record = stored
                if kind == DRIFT:
                    # The words of an alarm's filter.
                    log.error("drift", extra={"document": self.name, "digest": made.drift})
                if kind is not None:
                    self._changes.flush()
        if record is None:
            raise StateChanged
        foreign = () if serving is None else _foreign(record, serving)
        return DocumentState(record=record, foreign=foreign)

    def watch(self) -> DocumentState:
        """Refresh, and hand what tightens to the store if that has not happened yet."""
        state = self.refresh()
        if state.record.phase == "pending" and not state.record.loosening:
            self.deploy(state.record)
        return state

    def _first(self, serving: Serving | None) -> tuple[InForce, str | None]:
        """Return the first record: of what is handed out, or of a new deployment.

        What breaks a guardrail does not come into force in this way either: then everything is halted.
        """
        found = self._initial() if serving is None else serving.documents[-1].document
        handed_out = serving is not None
        if not (self._adopts and handed_out) and not self._guardrails.allows(self.name, parse(found)):
            found, handed_out = self._everything_halted(), False
        record = InForce(
            name=self.name,
            generation=1,
            document=without_metadata(found),
            digest=parse(found).digest,
            phase="settled" if handed_out else "pending",
            since_s=self._now_s(),
        )
        return record, ADOPTED

    def _everything_halted(self) -> dict[str, Any]:
        reason = "What was to come into force breaks a guardrail."
        return with_halt(no_flags(), "guardrails", reason=reason, starts=self._clock())

    def _followed(self, record: InForce, serving: Serving | None) -> tuple[InForce, str | None] | None:
        """Return the record as the store has made it, and what the ledger should know; ``None`` if nothing changed."""
        if serving is None:
            # A store that was made anew: everything is denied until it has again what was in force.
            if record.phase == "pending":
                return None
            if record.phase == "rolling" and record.loosening and record.previous is not None:
                return self._succeeded(record, record.previous, phase="pending"), ROLLED_BACK
            return structs.replace(record, phase="pending", loosening=False, since_s=self._now_s()), None
        digests = [one.flags.digest for one in serving.documents]
        foreign = next((one for one in digests if not record.expects(one)), "")
        if foreign and self._adopts:
            document = serving.documents[0].document
            return self._succeeded(record, document, phase="settled", drift=""), ADOPTED
        if foreign != record.drift:
            return structs.replace(record, drift=foreign), DRIFT if foreign else DRIFT_ENDED
        if record.phase == "settled":
            return None
        now_s = self._now_s()
        if record.phase == "pending":
            found = next((one for one in serving.documents if one.flags.digest == record.digest), None)
            if found is None:
                return None
            return structs.replace(record, phase="rolling", version=found.version, since_s=now_s), None
        if record.loosening and record.previous is not None and serving.undone == record.version:
            return self._succeeded(record, record.previous, phase="settled"), ROLLED_BACK
        if not serving.settled or now_s - record.since_s < (0 if self._adopts else GRACE_S):
            return None
        if digests == [record.digest]:
            settled = {"phase": "settled", "previous": None, "previous_digest": "", "earlier": ()}
            return structs.replace(record, since_s=now_s, **settled), None
        if not record.loosening:
            # Somebody stopped what tightens: it is handed over again.
            return structs.replace(record, phase="pending", since_s=now_s), None
        return None

    def _succeeded(self, record: InForce, document: dict[str, Any], **fields: Any) -> InForce:
        """Return the record of the next document."""
        settled = fields["phase"] == "settled"
        return InForce(
            name=self.name,
            generation=record.generation + 1,
            document=without_metadata(document),
            digest=parse(document).digest,
            previous=None if settled else record.document,
            previous_digest="" if settled else record.digest,
            earlier=()
            if settled or record.phase == "settled"
            else (record.previous_digest, *record.earlier)[:8],
            since_s=self._now_s(),
            revision=record.revision,
            **{"drift": record.drift, **fields},
        )

    def _store(self, record: InForce, also: Sequence[Operation] = ()) -> InForce | None:
        """Write a record made from the one in the table; ``None`` if that has changed meanwhile."""
        try:
            self._table.transact([self._records.write(record), *also])
        except Conflict as conflict:
            if any(conflict.failed):
                return None
            raise
        return structs.replace(record, revision=record.revision + 1)

    def _body(self, record: InForce) -> dict[str, Any]:
        return {
            "subject": self.name,
            "generation": record.generation,
            "digest": record.digest,
            "foreign": record.drift,
            "proposal": record.proposal,
        }

    def _now_s(self) -> int:
        return int(self._clock().timestamp())


_STRICTEST: Final = (ChangeKind.LOOSENING, ChangeKind.TIGHTENING, ChangeKind.NEUTRAL)


def _foreign(record: InForce, serving: Serving) -> tuple[FlagSet, ...]:
    return tuple(one.flags for one in serving.documents if not record.expects(one.flags.digest))


def _unsettled(state: DocumentState) -> str:
    """Return why nothing can be loosened now; empty if it can."""
    record = state.record
    if state.foreign or record.drift:
        return (
            "something is handed out that was not deployed here (drift); tighten or restore before you loosen"
        )
    if record.phase == "pending":
        return "a change waits for its deployment; wait for it, or withdraw it"
    if record.phase == "rolling" and record.loosening:
        return "a loosening is being rolled out; wait for its end, or tighten, which stops it"
    return ""
