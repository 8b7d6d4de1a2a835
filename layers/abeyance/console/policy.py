"""The policy officer's room: what is in force, what a change would mean, and making it, as two principals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from abeyance.console.errors import Refused, Unavailable
from abeyance.moratorium import words
from abeyance.moratorium.changes import Change, classify
from abeyance.moratorium.decide import Decision, Request, decide
from abeyance.moratorium.document import Flag, FlagSet, document_digest, load, parse
from abeyance.moratorium.errors import FlagsError, MoratoriumError
from abeyance.moratorium.presets import document as of_presets
from abeyance.moratorium.presets import presets
from abeyance.moratorium.proposals import Proposal, Proposals
from abeyance.moratorium.publish import FlagPublisher
from abeyance.moratorium.simulate import Difference, Direction, Simulation, simulate
from abeyance.moratorium.source import FlagSource
from abeyance.moratorium.tenants import Tenant
from abeyance.moratorium.validate import check

#: Days of the ledger that a draft is tried on.
SIMULATED_DAYS: Final = 30


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """One moratorium in force, in words."""

    key: str
    effect: str
    state: str
    binds: str
    since: str
    until: str
    reason: str
    source: str


class AttributeChange(msgspec.Struct, frozen=True):
    """One attribute of one flag, before and after, as text; "" where the flag has none."""

    name: str
    before: str
    after: str


class FlagDifference(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to one flag, in a sentence and attribute by attribute."""

    key: str
    kind: str
    sentence: str
    attributes: tuple[AttributeChange, ...]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """Recorded decisions decided again with a draft.

    Attributes
    ----------
    simulation
        As it came out, against what was recorded.
    own
        Differences that the draft makes; the others the flags in force make too.
    already
        How many those others are.
    restored
        Decisions that the flags in force would make otherwise than recorded, and the draft would not.
    """

    simulation: Simulation
    own: tuple[Difference, ...]
    already: int
    restored: int

    @property
    def counts(self) -> dict[str, int]:
        """How many of the draft's own differences go which way."""
        return {str(way): sum(one.direction is way for one in self.own) for way in Direction}


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A document that is not in force, looked at from all sides.

    ``kind`` is that of the whole change; ``findings`` say what is wrong with it, and then there is nothing else.
    """

    document: dict[str, Any]
    digest: str = ""
    kind: str = ""
    findings: tuple[str, ...] = ()
    differences: tuple[FlagDifference, ...] = ()
    trial: Trial | None = None


class Policy:
    """What the moratoria pages ask.

    Parameters
    ----------
    source, publisher
        Of flags: what decides, and where documents come into force.
    proposals
        The rules for changing them.
    tenants
        Every registered tenant.
    entries
        Ledger entries since a moment, as mappings.
    clock
        Now, aware.
    """

    def __init__(
        self,
        source: FlagSource,
        publisher: FlagPublisher,
        proposals: Proposals,
        tenants: Callable[[], Iterable[Tenant]],
        entries: Callable[[int], Iterable[Mapping[str, Any]]],
        clock: Callable[[], datetime],
    ) -> None:
        self._source = source
        self._publisher = publisher
        self.proposals = proposals
        self._tenants = tenants
        self._entries = entries
        self.now = clock

    def flags(self) -> FlagSet:
        """The flags that decide at this moment. Raises :class:`Unavailable`: then everything is denied."""
        try:
            return self._source.current().flags
        except Exception:  # noqa: BLE001 - whatever the source raises, the page has to say that there are none
            raise Unavailable(
                "The moratoria cannot be read. While that is so, everything is denied."
            ) from None

    def in_force(self) -> list[InForce]:
        """What binds somebody at this moment, by key."""
        now = self.now()
        return [in_words(flag, now) for flag in self.flags().flags if flag.in_force(now)]

    def tenants(self) -> list[Tenant]:
        """Every tenant, by id."""
        return sorted(self._tenants(), key=lambda tenant: tenant.id)

    def explain(
        self, tenant_id: str, action: str, purpose: str, place: str, at: datetime
    ) -> tuple[Decision, list[str]]:
        """Whether a tenant may do something, and why, in sentences."""
        tenant = next((one for one in self._tenants() if one.id == tenant_id), None)
        flags = self.flags()
        request = Request(
            tenant=tenant, tenant_id=tenant_id, action=action, purpose=purpose, jurisdiction=place or None
        )
        decision = decide(request, flags, at)
        return decision, words.explain(decision, flags)

    def document(self) -> dict[str, Any]:
        """The hosted document in force. Raises :class:`Unavailable`."""
        try:
            return self._publisher.current().document
        except FlagsError as error:
            raise Unavailable(f"There is no document in force that can be read: {error}") from None

    def switched(self, key: str, on: bool) -> dict[str, Any]:
        """The document in force with one flag switched. Raises :class:`Refused` if there is none of that key."""
        document = json.loads(json.dumps(self.document()))
        if key not in document["values"]:
            raise Refused("There is no moratorium of this name.")
        document["values"][key]["enabled"] = on
        return dict(document)

    def with_preset(self, preset_id: str) -> dict[str, Any]:
        """The document in force with a preset's flags added or put back. Raises :class:`Refused`."""
        if preset_id not in {preset.id for preset in presets()}:
            raise Refused("There is no preset of this name.")
        document, added = json.loads(json.dumps(self.document())), of_presets([preset_id])
        for part in ("flags", "values"):
            document[part].update(added[part])
        return dict(document)

    def draft(self, text: str) -> Draft:
        """A document from a form, looked at. Total: what is wrong with it is in ``findings``."""
        try:
            document = load(text)
        except FlagsError as error:
            return Draft(document={}, findings=(str(error),))
        return self.look_at(document)

    def look_at(self, document: dict[str, Any], since: FlagSet | None = None) -> Draft:
        """A document compared with the flags in force (or ``since``), and tried on the ledger."""
        places = frozenset(tenant.jurisdiction for tenant in self._tenants())
        found = check(document, places=places)
        if found:
            lines = tuple(f"{one.flag}: {one.message}".removeprefix(": ") for one in found)
            return Draft(document=document, findings=lines)
        new, old = parse(document), since or parse(self.document())
        change = classify(old, new, since=self.now())
        recorded = list(self._entries(SIMULATED_DAYS))
        return Draft(
            document=document,
            digest=document_digest(document),
            kind=str(change.kind),
            differences=tuple(differences(old, new, change)),
            trial=compare(simulate(recorded, new), simulate(recorded, old)),
        )

    def submit(self, text: str, principal: str, note: str, *, at_once: bool) -> Proposal | None:
        """Propose a document, or put it into force at once if it loosens nothing (then None). Raises ``Refused``."""
        try:
            document = load(text)
            if at_once:
                self.proposals.tighten(document, principal, note=note)
                return None
            return self.proposals.propose(document, principal, note=note)
        except MoratoriumError as error:
            raise Refused(str(error)) from None

    def proposal(self, proposal_id: str) -> Proposal:
        """One proposal; raises :class:`Refused`."""
        try:
            return self.proposals.get(proposal_id)
        except MoratoriumError as error:
            raise Refused(str(error)) from None

    def approve(self, proposal_id: str, principal: str, digest: str) -> Proposal:
        """Approve what was looked at; raises :class:`Refused`."""
        try:
            return self.proposals.approve(proposal_id, principal, digest)
        except MoratoriumError as error:
            raise Refused(str(error)) from None

    def resume(self, proposal_id: str) -> Proposal:
        """Bring an approved proposal into force whose deployment failed; raises :class:`Refused`."""
        try:
            return self.proposals.resume(proposal_id)
        except MoratoriumError as error:
            raise Refused(str(error)) from None

    def withdraw(self, proposal_id: str, principal: str) -> Proposal:
        """Close a proposal; raises :class:`Refused`."""
        try:
            return self.proposals.withdraw(proposal_id, principal)
        except MoratoriumError as error:
            raise Refused(str(error)) from None


def compare(draft: Simulation, in_force: Simulation) -> Trial:
    """What a draft changes by itself: recorded decisions may have been made under flags that have changed since."""
    by_now = {(one.seq, one.direction, one.after) for one in in_force.differences}
    own = tuple(one for one in draft.differences if (one.seq, one.direction, one.after) not in by_now)
    touched = {one.seq for one in draft.differences}
    return Trial(
        simulation=draft,
        own=own,
        already=len(draft.differences) - len(own),
        restored=sum(one.seq not in touched for one in in_force.differences),
    )


def in_words(flag: Flag, now: datetime) -> InForce:
    """A flag as the pages show it."""
    return InForce(
        key=flag.key,
        effect=str(flag.effect),
        state=words.state(flag, now),
        binds=words.binds(flag),
        since=f"{flag.starts:%Y-%m-%d}",
        until=words.until(flag),
        reason=flag.reason,
        source=flag.source,
    )


def differences(old: FlagSet, new: FlagSet, change: Change) -> list[FlagDifference]:
    """A change flag by flag, in sentences that somebody can be held to."""
    before = {flag.key: flag for flag in old.flags}
    after = {flag.key: flag for flag in new.flags}
    return [
        FlagDifference(
            key=one.key,
            kind=str(one.kind),
            sentence=_sentence(one.key, before.get(one.key), after.get(one.key)),
            attributes=_attributes(before.get(one.key), after.get(one.key), one.attributes),
        )
        for one in change.flags
    ]


def _sentence(key: str, old: Flag | None, new: Flag | None) -> str:
    if old is None and new is not None:
        return f"{key} comes into force: {_clause(new)}."
    if new is None and old is not None:
        return f"{key} goes out of force. It was: {_clause(old)}."
    if old is not None and new is not None:
        return f"{key} changes. It was: {_clause(old)}. It becomes: {_clause(new)}."
    return f"{key} is described otherwise; it binds nobody, before or after."


def _clause(flag: Flag) -> str:
    exempt = ", ".join(purpose.replace("_", " ") for purpose in flag.exempt_purposes)
    return f"{flag.effect} {words.binds(flag)}, from {flag.starts:%Y-%m-%d} until {words.until(flag)}" + (
        f", exempt for {exempt}" if exempt else ""
    )


def _attributes(old: Flag | None, new: Flag | None, names: Sequence[str]) -> tuple[AttributeChange, ...]:
    def text(flag: Flag | None, name: str) -> str:
        value = msgspec.to_builtins(flag.value).get(name, "") if flag is not None else ""
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    return tuple(AttributeChange(name, text(old, name), text(new, name)) for name in names)
