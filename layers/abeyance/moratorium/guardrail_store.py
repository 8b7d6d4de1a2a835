"""The deployed guardrails: their store, the check of everything that loosens, and their change by three people.

============================  ==============================================================================
``pk``, ``sk``                holds
============================  ==============================================================================
``guardrails``, ``deployed``  the document in force, its ``generation`` and ``digest``
``guardrails``, ``000001``    the same of each generation, never changed
``guardrails``, ``drift``     that the ledger has it that the two do not agree
============================  ==============================================================================

``deployed`` and its generation are written in one transaction. If they do not agree, somebody wrote past the change
service: then nothing can be loosened until three people deploy guardrails again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from msgspec import Struct

from abeyance.aws.table import PARTITION, SORT, Conflict, Delete, Item, Operation, Put, Require, Table
from abeyance.aws.timestamps import rfc3339
from abeyance.moratorium.change_log import DRIFT, ChangeRecorder
from abeyance.moratorium.changes import GUARDRAIL_PEOPLE, LOOSENING_PEOPLE, ChangeKind, classify_guardrails
from abeyance.moratorium.document import FlagSet, canonical_digest, parse
from abeyance.moratorium.errors import MoratoriumError
from abeyance.moratorium.guardrails import NO_GUARDRAILS, Guardrails, parse_guardrails, violations
from abeyance.moratorium.inforce import BRAKE, FLAGS, InForce, InForceTable, pack, unpack
from abeyance.moratorium.model import SCHEMA_VERSION
from abeyance.moratorium.subjects import (
    ChangeJudgement,
    ChangeRefused,
    GuardrailsChange,
    StateChanged,
    transact,
)
from abeyance.moratorium.validate import broken

log = logging.getLogger("abeyance")

GUARDRAILS: Final = "guardrails"
_DEPLOYED: Final = "deployed"
_DRIFT: Final = "drift"
#: Of the 400 KB of an item, compressed.
_MAX_BYTES: Final = 350_000
#: Flags that decide, or flags and a brake together, with the digests of their documents.
_Decided: TypeAlias = Sequence[tuple[FlagSet, Mapping[str, str]]]
#: The document of a deployment whose guardrails nobody has set yet.
_NONE: Final[dict[str, Any]] = {"version": SCHEMA_VERSION, "guardrails": {}}


class DeployedGuardrails(Struct, frozen=True, kw_only=True):
    """The guardrails that hold.

    Attributes
    ----------
    generation : int
        Counts the documents; 0 before the first.
    digest : str
        SHA-256 of the document's canonical JSON.
    is_intact : bool
        False if the store was written past the change service; ``guardrails`` are none then.
    """

    generation: int
    document: dict[str, Any]
    guardrails: Guardrails
    digest: str
    is_intact: bool = True


class GuardrailBroken(ChangeRefused):
    """A change that would break guardrails. What it takes to find that again goes on the ledger.

    Attributes
    ----------
    guardrails
        Digest of the document of guardrails.
    as_of
        Moment from which on they were to hold, RFC 3339.
    verbs
        The claims that were asked about, such as ``deny``; empty for all.
    decided
        Digests of the flags that decide, and of the brake beside them; of each pair that was asked about.
    """

    def __init__(
        self,
        what: str,
        guardrails: str,
        as_of: datetime,
        verbs: tuple[str, ...],
        decided: Sequence[Mapping[str, str]],
    ) -> None:
        super().__init__(what)
        self.guardrails = guardrails
        self.as_of = rfc3339(as_of, "microseconds")
        self.verbs = verbs
        self.decided = tuple(decided)


class GuardrailTable:
    """The guardrails in the change service's table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def read(self) -> DeployedGuardrails:
        """Return the guardrails that hold."""
        items = {item[SORT]: item for item in self._table.query(GUARDRAILS)}
        deployed = items.get(_DEPLOYED)
        newest = max((sort for sort in items if sort.isdigit()), default="")
        if deployed is None and not newest:
            return DeployedGuardrails(
                generation=0, document=_NONE, guardrails=NO_GUARDRAILS, digest=canonical_digest(_NONE)
            )
        now, agreed = _compiled(deployed), _compiled(items.get(newest))
        if now is not None and agreed is not None and _base(now) == _base(agreed):
            return now
        document = next((one.document for one in (agreed, now) if one is not None), _NONE)
        return DeployedGuardrails(
            generation=max(int(newest or 0), 0 if now is None else now.generation),
            document=document,
            guardrails=NO_GUARDRAILS,
            digest=canonical_digest(document),
            is_intact=False,
        )

    def replaced(self, before: DeployedGuardrails, document: dict[str, Any]) -> list[Operation]:
        """Return the operations that deploy a document in the place of what was read.

        Raises ``ChangeRefused`` if it is too large for an item.
        """
        number, packed = before.generation + 1, pack(document)
        if len(packed) > _MAX_BYTES:
            raise ChangeRefused("the guardrails are too large to be kept; shorten them")
        item: Item = {
            PARTITION: GUARDRAILS,
            "generation": number,
            "document": packed,
            "digest": canonical_digest(document),
        }
        made: list[Operation] = [
            # No generation is given twice, whatever became of the item beside it.
            Put({**item, SORT: _name(number)}, absent=True),
            Put({**item, SORT: _DEPLOYED}, expect=_expected(before) if before.is_intact else {}),
        ]
        return made if before.is_intact else [*made, Delete((GUARDRAILS, _DRIFT))]

    def history(self, known: Container[str] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield number and document of every generation that is intact and not ``known`` by its number."""
        for item in self._table.query(GUARDRAILS):
            number = item[SORT]
            if number.isdigit() and number not in known and (found := _compiled(item)) is not None:
                yield number, found.document

    @staticmethod
    def unchanged(found: DeployedGuardrails) -> Require:
        """Return the condition that these are still the guardrails."""
        return Require((GUARDRAILS, _DEPLOYED), _expected(found))

    def noticed(self) -> Put:
        """Return the operation that notes drift, once."""
        return Put({PARTITION: GUARDRAILS, SORT: _DRIFT}, absent=True)


class GuardrailCheck:
    """The check of what is to be decided by against the deployed guardrails. Only what loosens is asked about.

    Flags are checked by themselves: a guardrail must not hold by the brake alone. What else loosens is checked together
    with the flags in force; it cannot break a claim that permits.

    Parameters
    ----------
    records
        What is in force.
    """

    def __init__(self, table: GuardrailTable, records: InForceTable, clock: Callable[[], datetime]) -> None:
        self._table = table
        self._records = records
        self._clock = clock

    def document(self, name: str, new: FlagSet) -> tuple[Require, ...]:
        """Check flags or brake. Return what must still be so when they come into force; raises ``ChangeRefused``."""
        alone = [(new, {"flags": new.digest})]
        return self._check(alone) if name == FLAGS else self._check(self._decided([new]), "deny")

    def registrations(self) -> tuple[Require, ...]:
        """Check the flags by which a tenant would be decided about that may do more; as :meth:`document` does."""
        return self._check(self._decided(), "deny")

    def most_people(self) -> tuple[int, tuple[Require, ...]]:
        """Return the number of people that the change with the most of them takes, and what must still be so then."""
        found = self._table.read()
        guarded = not found.is_intact or len(found.guardrails) > 0
        holds_if = (self._table.unchanged(found),) if found.is_intact else ()
        return (GUARDRAIL_PEOPLE if guarded else LOOSENING_PEOPLE), holds_if

    def allows(self, name: str, new: FlagSet) -> bool:
        """Return whether flags or a brake that nobody agreed to, as at a first deployment, break no guardrail."""
        try:
            self.document(name, new)
        except ChangeRefused:
            return False
        return True

    def _check(self, decided: _Decided, *verbs: str) -> tuple[Require, ...]:
        found = self._table.read()
        if not found.is_intact:
            raise ChangeRefused(
                "the guardrails are not those that three people agreed to (drift): let three deploy them again with "
                "`abeyance moratoria guardrails propose`; until then nothing can be loosened"
            )
        _require(found.guardrails, found.digest, decided, self._clock(), *verbs)
        return (self._table.unchanged(found),)

    def _decided(self, brakes: Sequence[FlagSet] = ()) -> _Decided:
        """Return what decides now: each of the flags in force with each brake, or with these."""
        records = self._records.read_all()
        flags, held = ([parse(one) for one in _agreed(records.get(name))] for name in (FLAGS, BRAKE))
        beside = brakes or held
        if not beside:
            return [(one, {"flags": one.digest}) for one in flags]
        return [
            (one.joined([("brake:", other)]), {"flags": one.digest, "brake": other.digest})
            for one in flags
            for other in beside
        ]


class GuardrailSubject:
    """Guardrails as a subject of change.

    Parameters
    ----------
    table
        The change service's, for the operations that belong to a change.
    flags
        Returns the record of the flags in force, in step with their store.
    record
        Puts a document of guardrails on the ledger. If that fails, the task that watches for drift does it later.
    """

    def __init__(
        self,
        guardrails: GuardrailTable,
        table: Table,
        changes: ChangeRecorder,
        flags: Callable[[], InForce],
        record: Callable[[dict[str, Any]], object],
        clock: Callable[[], datetime],
    ) -> None:
        self._guardrails = guardrails
        self._table = table
        self._changes = changes
        self._flags = flags
        self._record = record
        self._clock = clock

    def read(self) -> DeployedGuardrails:
        """Return the guardrails that hold."""
        return self._guardrails.read()

    def judge(self, change: GuardrailsChange, /) -> ChangeJudgement:
        try:
            new = parse_guardrails(change.document)
        except MoratoriumError as error:
            raise ChangeRefused(str(error)) from None
        old, flags = self._guardrails.read(), self._flags()
        known = set(old.guardrails)
        added = Guardrails(tuple(one for one in new if one not in known))
        decided = [(one, {"flags": one.digest}) for one in map(parse, _agreed(flags))]
        _require(added, canonical_digest(change.document), decided, self._clock())
        found = classify_guardrails(old.guardrails, new)
        return ChangeJudgement(
            kind=found.kind if old.is_intact else ChangeKind.LOOSENING,
            people=found.people if old.is_intact else GUARDRAIL_PEOPLE,
            base=_base(old),
            holds_if=(InForceTable.unchanged(flags),),
        )

    def apply(
        self,
        change: GuardrailsChange,
        judgement: ChangeJudgement,
        proposal: str,
        note: str,
        also: Sequence[Operation],
        /,
    ) -> dict[str, Any]:
        before = self._guardrails.read()
        if _base(before) != judgement.base:
            raise StateChanged
        try:
            self._record(change.document)
        except Exception as error:  # noqa: BLE001 - whatever it was, nothing may hold up guardrails
            log.warning("guardrails are not on the ledger yet", extra={"error": type(error).__name__})
        transact(self._table, [*self._guardrails.replaced(before, change.document), *also])
        return {"generation": before.generation + 1}

    def is_made(self, change: GuardrailsChange, base: str, /) -> bool:
        return False  # one transaction has the change and its end

    def watch(self) -> str:
        """Put on the ledger, once, that the guardrails are not those agreed to; return ``intact`` or ``drift``."""
        found = self._guardrails.read()
        if found.is_intact:
            return "intact"
        log.error("drift", extra={"document": GUARDRAILS, "digest": found.digest})
        body = {"subject": GUARDRAILS, "generation": found.generation, "foreign": found.digest}
        with contextlib.suppress(Conflict):
            self._table.transact([self._guardrails.noticed(), self._changes.later(DRIFT, body)])
        return "drift"


def _require(guardrails: Guardrails, digest: str, decided: _Decided, now: datetime, *verbs: str) -> None:
    """Raise ``GuardrailBroken`` with the smallest decision of each guardrail that one of the flag sets breaks."""
    text = broken_by(guardrails, [flags for flags, _ in decided], now, *verbs)
    if text:
        raise GuardrailBroken(text, digest, now, verbs, [digests for _, digests in decided])


def broken_by(guardrails: Guardrails, decided: Iterable[FlagSet], now: datetime, *verbs: str) -> str:
    """Return the smallest decision of each guardrail that one of the flag sets breaks, in words; empty if none does.

    ``verbs`` are the claims to ask about, all by default. The refusal on the ledger can be found again by this.
    """
    asked = Guardrails(tuple(one for one in guardrails if not verbs or one.claim.verb in verbs))
    found = {one.guardrail.key: one for flags in decided for one in violations(asked, flags, now)}
    return " ".join(broken(one) for one in found.values())


def _agreed(record: InForce | None) -> tuple[dict[str, Any], ...]:
    """Return the documents that decide now, or would again if a rollout failed. What tightens holds at once."""
    if record is None:
        return ()
    return record.agreed() if record.loosening else (record.document,)


def _compiled(item: Item | None) -> DeployedGuardrails | None:
    """Return the guardrails of an item, or ``None`` for one that the change service has not written like this."""
    if item is None:
        return None
    try:
        document = unpack(item["document"])
        made = DeployedGuardrails(
            generation=int(item["generation"]),
            document=document,
            guardrails=parse_guardrails(document),
            digest=canonical_digest(document),
        )
    except Exception:  # noqa: BLE001 - whatever is wrong with it, nobody agreed to it
        return None
    return made if made.digest == item.get("digest") else None


def _expected(found: DeployedGuardrails) -> dict[str, Any]:
    if not found.generation:
        return {"generation": None}
    return {"generation": found.generation, "digest": found.digest}


def _base(found: DeployedGuardrails) -> str:
    return f"{found.generation}:{found.digest}" + ("" if found.is_intact else ":drift")


def _name(generation: int) -> str:
    return f"{generation:06d}"
