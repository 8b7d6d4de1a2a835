"""The audits in force: the record that stages read, and their change.

The record is that of :mod:`abeyance.moratorium.inforce`, under the name ``audits``. Its document has the signed note of
the latest audit of each model, and the keys whose signatures were verified when it was registered::

    {"version": "1", "audits": {"<model>": {"note": "<signed note>", "signers": ["<public key>", ...]}}}
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from abeyance.aws.table import Operation, Table
from abeyance.aws.timestamps import later
from abeyance.moratorium.audits import AuditFacts, AuditStatement, AuditUse, shortfall
from abeyance.moratorium.changes import LOOSENING_PEOPLE, ChangeKind
from abeyance.moratorium.document import FlagSet, canonical_digest, instant
from abeyance.moratorium.errors import MoratoriumError
from abeyance.moratorium.inforce import InForce, InForceTable
from abeyance.moratorium.model import SCHEMA_VERSION
from abeyance.moratorium.subjects import AuditChange, ChangeJudgement, ChangeRefused, StateChanged, transact

AUDITS: Final = "audits"
#: Latest models whose audits are kept.
_MAX_MODELS: Final = 8
_MAX_NOTE: Final = 100_000


class _Kept(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    note: str
    signers: tuple[str, ...]


class _Document(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: str
    audits: dict[str, _Kept]


#: Returns which of some public keys have a good signature under a note.
VerifyNote = Callable[[str, Iterable[str]], tuple[str, ...]]


def read_statement(note: str) -> AuditStatement:
    """Return the statement in a signed note, whose signatures are not looked at; raises ``ChangeRefused``."""
    text, _, _ = note.partition("\n\n")
    try:
        return msgspec.json.decode(text, type=AuditStatement)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ChangeRefused(f"this is no audit: {error}") from None


def audit_digest(note: str) -> str:
    """Return the SHA-256 (64 hex digits) of a signed note."""
    return hashlib.sha256(note.encode()).hexdigest()


def audits_of(record: InForce | None) -> dict[str, AuditFacts]:
    """Return the audits of a record by model; raises ``MoratoriumError`` if it cannot be read."""
    if record is None:
        return {}
    try:
        document = msgspec.convert(record.document, _Document)
    except msgspec.ValidationError as error:
        raise MoratoriumError(f"the audits in force cannot be read: {error}") from None
    return {model: _facts(one) for model, one in document.audits.items()}


class AuditSubject:
    """Audits: one that lifts a halt, or lifts it for longer, loosens.

    Parameters
    ----------
    verify
        Verifies the signatures under a note.
    flags
        Returns the flags that are in force.
    check
        Raises :class:`ChangeRefused` while nobody may be given more, because a guardrail is broken.
    record
        Puts a note on the ledger; raises if the ledger does not confirm it.
    clock
        Now, aware.
    """

    def __init__(
        self,
        table: Table,
        verify: VerifyNote,
        flags: Callable[[], Iterable[FlagSet]],
        check: Callable[[], object],
        record: Callable[[str], object],
        clock: Callable[[], datetime],
    ) -> None:
        self._table = table
        self._records = InForceTable(table)
        self._verify = verify
        self._flags = flags
        self._check = check
        self._record = record
        self._clock = clock

    def judge(self, change: AuditChange, /) -> ChangeJudgement:
        if len(change.note) > _MAX_NOTE:
            raise ChangeRefused("this audit is too large to be kept; state fewer thresholds")
        statement, now = read_statement(change.note), self._clock()
        if instant(statement.measured) > now:
            raise ChangeRefused("this audit says that it was measured in the future")
        signers = self._signers(change.note)
        if not signers:
            raise ChangeRefused("no flag in force asks for a key that signed this audit")
        record = self._records.read(AUDITS)
        old = audits_of(record).get(statement.model)
        if old is not None and instant(old.measured) >= instant(statement.measured):
            raise ChangeRefused("an audit of this model that is as young is registered already")
        new = statement.facts(audit_digest(change.note), signers)
        loosens = any(
            _lifted_until(flags, new, now) > _lifted_until(flags, old, now) for flags in self._bounds()
        )
        if loosens:
            self._check()
        kind = ChangeKind.LOOSENING if loosens else ChangeKind.TIGHTENING
        base = f"{statement.model}:{0 if record is None else record.generation}"
        return ChangeJudgement(kind=kind, people=LOOSENING_PEOPLE if loosens else 1, base=base)

    def apply(
        self,
        change: AuditChange,
        judgement: ChangeJudgement,
        proposal: str,
        note: str,
        also: Sequence[Operation],
        /,
    ) -> dict[str, Any]:
        statement = read_statement(change.note)
        before = self._records.read(AUDITS)
        if judgement.base != f"{statement.model}:{0 if before is None else before.generation}":
            raise StateChanged
        kept = dict(before.document["audits"]) if before is not None else {}
        kept[statement.model] = {"note": change.note, "signers": list(self._signers(change.note))}
        # A decision names it by its digest, so its text is on the ledger first.
        self._record(change.note)
        transact(self._table, [self._records.write(self._successor(before, kept, proposal)), *also])
        return {"audit": audit_digest(change.note)}

    def is_made(self, change: AuditChange, base: str, /) -> bool:
        return False  # one transaction has the change and its end

    def in_force(self) -> dict[str, AuditFacts]:
        """Return the audits in force by model."""
        return audits_of(self._records.read(AUDITS))

    def _successor(self, before: InForce | None, kept: Mapping[str, Any], proposal: str) -> InForce:
        latest = sorted(kept, key=lambda model: read_statement(kept[model]["note"]).measured)[-_MAX_MODELS:]
        document = {"version": SCHEMA_VERSION, "audits": {model: kept[model] for model in sorted(latest)}}
        return InForce(
            name=AUDITS,
            generation=1 if before is None else before.generation + 1,
            document=document,
            digest=canonical_digest(document),
            phase="settled",
            proposal=proposal,
            since_s=int(self._clock().timestamp()),
            revision=0 if before is None else before.revision,
        )

    def _signers(self, note: str) -> tuple[str, ...]:
        named = {signer for flag in self._bounds() for signer in flag.signers}
        return tuple(sorted(self._verify(note, sorted(named)))) if named else ()

    def _bounds(self) -> list[Any]:
        return [flag.audit for flags in self._flags() for flag in flags.flags if flag.audit is not None]


def _lifted_until(bounds: Any, facts: AuditFacts | None, now: datetime) -> datetime:
    """Return until when an audit lifts a halt with these bounds; ``now`` if it does not now."""
    if facts is None or shortfall(bounds, AuditUse(model=facts.model, facts=facts), now):
        return now
    return later(instant(facts.measured), bounds.max_age)


def _facts(kept: _Kept) -> AuditFacts:
    return read_statement(kept.note).facts(audit_digest(kept.note), kept.signers)
