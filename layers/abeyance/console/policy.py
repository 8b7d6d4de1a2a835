"""Moratoria as a policy officer works with them: those in force, the effect of a draft, and proposals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from abeyance.console.errors import RequestRefused, Unavailable
from abeyance.moratorium import proofs, words
from abeyance.moratorium.brake import with_halt, without_halt
from abeyance.moratorium.changes import Change, ChangeKind, classify
from abeyance.moratorium.claims import ClaimError, parse_claim
from abeyance.moratorium.client import ChangeClient
from abeyance.moratorium.decide import Decision, Request, decide
from abeyance.moratorium.document import Flag, FlagSet, load, parse, without_metadata
from abeyance.moratorium.errors import FlagsError, MoratoriumError
from abeyance.moratorium.guardrails import check_all, parse_guardrails
from abeyance.moratorium.presets import document as of_presets
from abeyance.moratorium.presets import presets
from abeyance.moratorium.proposals import Proposal, change_digest
from abeyance.moratorium.simulate import Difference, Direction, Simulation, simulate
from abeyance.moratorium.source import FlagSource
from abeyance.moratorium.subjects import BrakeChange, FlagsChange
from abeyance.moratorium.tenants import Tenant
from abeyance.moratorium.validate import check

#: A draft is tried on the decisions of this many days.
SIMULATED_DAYS: Final = 30


class MoratoriumSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One moratorium in words."""

    key: str
    effect: str
    state: str
    binds: str
    since: str
    until: str
    reason: str
    source: str


class AttributeChange(msgspec.Struct, frozen=True):
    """One attribute of a flag as text, before and after; "" where the flag does not have it."""

    name: str
    before: str
    after: str


class FlagDifference(msgspec.Struct, frozen=True, kw_only=True):
    """The change of one flag, as a sentence and by attribute."""

    key: str
    kind: str
    sentence: str
    attributes: tuple[AttributeChange, ...]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """Recorded decisions, decided again with a draft.

    Attributes
    ----------
    simulation
        All differences from the recorded decisions.
    own
        Differences that the draft makes and the flags in force do not.
    already
        Number of the other differences: the flags in force make them too.
    restored
        Number of decisions that the flags in force change and the draft does not.
    """

    simulation: Simulation
    own: tuple[Difference, ...]
    already: int
    restored: int

    @property
    def counts(self) -> dict[str, int]:
        """The number of the draft's own differences in each direction."""
        return {str(way): sum(one.direction is way for one in self.own) for way in Direction}


class ShownGuardrail(msgspec.Struct, frozen=True, kw_only=True):
    """A guardrail as the pages show it, with its proof; ``sentences`` are its counterexample, if any."""

    key: str
    claim: str
    holds: bool
    regions: int
    sentences: tuple[str, ...] = ()


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A document that is not in force, and its effect.

    ``kind`` is that of the whole change. ``findings`` are the faults of an invalid document, which has no other field.
    ``guardrails`` are the proofs of every deployed guardrail; ``is_refused`` if it loosens and breaks one, or if the
    deployed ones are not those agreed to.
    ``effects`` are exact: everything that anybody could be permitted or denied otherwise, as phrases by kind.
    """

    document: dict[str, Any]
    digest: str = ""
    kind: str = ""
    findings: tuple[str, ...] = ()
    differences: tuple[FlagDifference, ...] = ()
    guardrails: tuple[ShownGuardrail, ...] = ()
    is_refused: bool = False
    effects: dict[str, tuple[str, ...]] = {}
    trial: Trial | None = None


class PolicyService:
    """Moratoria, drafts and proposals.

    Parameters
    ----------
    source
        The flags that decide.
    changes
        The change service, for what only reads. What changes goes there in the name of the person who is signed in.
    entries
        Returns the ledger's entries of the last days.
    clock
        Now, aware.
    """

    def __init__(
        self,
        source: FlagSource,
        changes: ChangeClient,
        entries: Callable[[int], Iterable[Mapping[str, Any]]],
        clock: Callable[[], datetime],
    ) -> None:
        self._source = source
        self.changes = changes
        self._entries = entries
        self.now = clock

    def flags(self) -> FlagSet:
        """Return the flags that decide now. Raises :class:`Unavailable`: then every request is denied."""
        try:
            return self._source.current().flags
        except Exception:  # noqa: BLE001 - after any error the page must say that there are no flags
            raise Unavailable(
                "The moratoria cannot be read. Until they can, every request is denied."
            ) from None

    def in_force(self) -> list[MoratoriumSummary]:
        """Return the moratoria in force now, by key."""
        now = self.now()
        return [summarize(flag, now) for flag in self.flags().flags if flag.in_force(now)]

    def tenants(self) -> list[Tenant]:
        """Return every tenant, by id."""
        return sorted(self.changes.tenants(), key=lambda tenant: tenant.id)

    def explain(
        self, tenant_id: str, action: str, purpose: str, place: str, at: datetime
    ) -> tuple[Decision, list[str]]:
        """Decide one request, and return the decision with its reasons as sentences."""
        tenant = next((one for one in self.changes.tenants() if one.id == tenant_id), None)
        flags = self.flags()
        request = Request(
            tenant=tenant, tenant_id=tenant_id, action=action, purpose=purpose, jurisdiction=place or None
        )
        decision = decide(request, flags, at)
        return decision, words.explain(decision, flags)

    def prove(self, text: str) -> tuple[proofs.PolicyProof, list[str]]:
        """Prove a claim about every moment from now on; return the proof, and a counterexample as sentences.

        Raises :class:`RequestRefused` if the text is no claim.
        """
        try:
            claim = parse_claim(text, since=self.now().replace(microsecond=0))
        except ClaimError as error:
            raise RequestRefused(str(error)) from None
        proof = proofs.prove(claim, self.flags())
        found = proof.counterexample
        return proof, [] if found is None else words.counterexample(found)

    def document(self) -> dict[str, Any]:
        """Return a copy of the deployed document. Raises :class:`Unavailable`."""
        return dict(self._state()["flags"]["document"])

    def assess_guardrails(self, document: dict[str, Any]) -> tuple[ShownGuardrail, ...]:
        """Prove proposed guardrails of the flags in force. Raises ``MoratoriumError`` if they cannot be read."""
        return checked(document, parse(self.document()), self.now().replace(microsecond=0))

    def brake(self) -> list[MoratoriumSummary]:
        """Return the halts on the brake, by key. Raises :class:`Unavailable`."""
        now = self.now()
        return [summarize(flag, now) for flag in parse(self._state()["brake"]["document"]).flags]

    def halt(
        self,
        key: str,
        reason: str,
        token: str,
        *,
        sectors: Sequence[str],
        actions: Sequence[str],
        jurisdictions: Sequence[str],
    ) -> Proposal:
        """Put a halt on the brake, in force when this returns; an empty scope stands for all.

        ``token`` as for :meth:`submit`. Raises :class:`RequestRefused` for a bad form, and ``MoratoriumError``.
        """
        if not reason:
            raise RequestRefused("Give a reason: a caller who is denied reads it.")
        try:
            document = with_halt(
                self._state()["brake"]["document"],
                key,
                reason=reason,
                sectors=sectors,
                jurisdictions=jurisdictions,
                actions=actions,
                starts=self.now(),
            )
        except ValueError as error:
            raise RequestRefused(f"The brake is unchanged: {error}.") from None
        return self.changes.on_behalf_of(token).submit(BrakeChange(document), note=reason)

    def release(self, key: str, note: str, token: str) -> Proposal:
        """Propose to take a halt off the brake. Raises as :meth:`halt` does."""
        try:
            document = without_halt(self._state()["brake"]["document"], key)
        except ValueError as error:
            raise RequestRefused(f"The brake is unchanged: {error}.") from None
        return self.changes.on_behalf_of(token).submit(BrakeChange(document), note=note)

    def _state(self) -> dict[str, Any]:
        try:
            return self.changes.state()
        except MoratoriumError as error:
            raise Unavailable(f"The deployed document cannot be read: {error}") from None

    def switched(self, key: str, on: bool) -> dict[str, Any]:
        """Return the deployed document with one flag switched. Raises :class:`RequestRefused` for an unknown key."""
        document = self.document()
        if key not in document["values"]:
            raise RequestRefused("There is no moratorium with this name.")
        document["values"][key]["enabled"] = on
        return document

    def with_preset(self, preset_id: str) -> dict[str, Any]:
        """Return the deployed document with the flags of a preset. Raises :class:`RequestRefused`."""
        if preset_id not in {preset.id for preset in presets()}:
            raise RequestRefused("There is no preset with this name.")
        document, added = self.document(), of_presets([preset_id])
        for part in ("flags", "values"):
            document[part].update(added[part])
        return document

    def draft(self, text: str) -> Draft:
        """Return the draft of a document from a form. It never raises: ``findings`` has the faults."""
        try:
            document = load(text)
        except FlagsError as error:
            return Draft(document={}, findings=(str(error),))
        return self.assess(document)

    def assess(self, document: dict[str, Any]) -> Draft:
        """Compare a document with the flags in force, and try it on the ledger."""
        places = frozenset(tenant.jurisdiction for tenant in self.changes.tenants())
        findings = check(document, places=places)
        if findings:
            lines = tuple(f"{one.flag}: {one.message}".removeprefix(": ") for one in findings)
            return Draft(document=document, findings=lines)
        state, now = self._state(), self.now().replace(microsecond=0)
        new, old = parse(document), parse(state["flags"]["document"])
        change = classify(old, new, since=now)
        checks = checked(state["guardrails"]["document"], new, now)
        broken = state["guardrails"]["drift"] or not all(one.holds for one in checks)
        recorded = list(self._entries(SIMULATED_DAYS))
        return Draft(
            document=document,
            digest=change_digest(FlagsChange(without_metadata(document))),
            kind=str(change.kind),
            differences=tuple(differences(old, new, change)),
            guardrails=checks,
            is_refused=broken and change.kind is ChangeKind.LOOSENING,
            effects=phrases(proofs.difference(old, new, since=now)),
            trial=compare(simulate(recorded, new), simulate(recorded, old)),
        )

    def submit(self, text: str, token: str, note: str, *, at_once: bool) -> Proposal:
        """Propose a document; or deploy it now if it loosens nothing. Raises ``MoratoriumError``.

        ``token`` is the ID token of the person who asks; the change service verifies it for itself.
        """
        if at_once and self.draft(text).kind == "loosening":
            raise RequestRefused("This loosens. Propose it, and have another person approve it.")
        change = FlagsChange(load(text))
        return self.changes.on_behalf_of(token).submit(change, note=note, wait=not at_once)


def checked(document: dict[str, Any], flags: FlagSet, now: datetime) -> tuple[ShownGuardrail, ...]:
    """Return the proofs of a document of guardrails."""
    return tuple(
        ShownGuardrail(
            key=one.guardrail.key,
            claim=str(one.guardrail.claim),
            holds=one.proof.holds,
            regions=one.proof.regions,
            sentences=tuple(words.counterexample(found)) if (found := one.proof.counterexample) else (),
        )
        for one in check_all(parse_guardrails(document), flags, now)
    )


def phrases(regions: Iterable[proofs.Region]) -> dict[str, tuple[str, ...]]:
    """Return regions as phrases, by kind."""
    said: dict[str, tuple[str, ...]] = {}
    for region in regions:
        said[str(region.kind)] = (*said.get(str(region.kind), ()), words.region(region))
    return said


def compare(draft: Simulation, in_force: Simulation) -> Trial:
    """Separate what a draft changes from what the flags in force have changed since the decisions were recorded."""
    known = {(one.index, one.direction, one.after) for one in in_force.differences}
    own = tuple(one for one in draft.differences if (one.index, one.direction, one.after) not in known)
    touched = {one.index for one in draft.differences}
    return Trial(
        simulation=draft,
        own=own,
        already=len(draft.differences) - len(own),
        restored=sum(one.index not in touched for one in in_force.differences),
    )


def summarize(flag: Flag, now: datetime) -> MoratoriumSummary:
    """Return a flag as the pages show it at ``now``."""
    return MoratoriumSummary(
        key=flag.key,
        effect=str(flag.effect),
        state=words.state(flag, now),
        binds=words.binds(flag),
        since=f"{flag.starts.date()}",
        until=words.until(flag),
        reason=flag.reason,
        source=flag.source,
    )


def differences(old: FlagSet, new: FlagSet, change: Change) -> list[FlagDifference]:
    """Return a change flag by flag, in sentences."""
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
    return f"{key} has a new description. It binds nobody, before or after."


def _clause(flag: Flag) -> str:
    exempt = ", ".join(purpose.replace("_", " ") for purpose in flag.exempt_purposes)
    return f"{flag.effect} {words.binds(flag)}, from {flag.starts.date()} until {words.until(flag)}" + (
        f", exempt for {exempt}" if exempt else ""
    )


def _attributes(old: Flag | None, new: Flag | None, names: Sequence[str]) -> tuple[AttributeChange, ...]:
    def text(flag: Flag | None, name: str) -> str:
        value = msgspec.to_builtins(flag.value).get(name, "") if flag is not None else ""
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    return tuple(AttributeChange(name, text(old, name), text(new, name)) for name in names)
