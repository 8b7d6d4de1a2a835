"""Classification of changes into loosening and tightening, for everything that decides whom a halt reaches.

=============  ==========================================================  ========
what changes   loosening is                                                people
=============  ==========================================================  ========
flags          anything that permits more, or on lower terms               2
registrations  a new tenant; another sector or place; another purpose,     2
               action, principal or bucket; resuming
people         another principal; one person becoming two                  2
authorisations a new one; revoking one tightens                            2
audits         one that lifts a halt, or for longer than the one before    2
guardrails     any change but a guardrail more                             3
=============  ==========================================================  ========

A tightening takes one person, but for guardrails: every change of those takes three. Presets are flags: to bring one
into force is a change of the document.

Flags are compared one by one and never generously. One flag *covers* another if, whatever the request and the moment,
it is at least as strict. A document is no looser than another if every flag of the other is covered by one of its own:
a flag more can only take away (``decide``'s first law), so that is enough. The converse need not hold. Two flags may
together cover a third without either doing so alone; such a change is called a loosening although it is not. That is
the side to err on: it costs a second signature.

Registrations are compared without looking at the flags, so that the answer holds whatever flags come later. Sectors and
places have no order then: under some flags each is freer than any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import combinations
from typing import Any, Final

from msgspec import Struct, structs

from abeyance.moratorium.claims import implies
from abeyance.moratorium.document import Flag, FlagSet
from abeyance.moratorium.guardrails import Guardrails
from abeyance.moratorium.model import Effect
from abeyance.moratorium.places import same_place, within
from abeyance.moratorium.tenants import Tenant


class ChangeKind(StrEnum):
    """The effect of a change of document on what is permitted."""

    NEUTRAL = "neutral"
    TIGHTENING = "tightening"
    #: Permits something that was not permitted, or may; whatever else it tightens.
    LOOSENING = "loosening"


NEUTRAL, TIGHTENING, LOOSENING = ChangeKind
#: People who have to agree to a loosening of flags, registrations or people, and to any change of guardrails.
LOOSENING_PEOPLE: Final = 2
GUARDRAIL_PEOPLE: Final = 3
_PEOPLE: Final = {NEUTRAL: 1, TIGHTENING: 1, LOOSENING: LOOSENING_PEOPLE}


class FlagChange(Struct, frozen=True, kw_only=True):
    """The change of one flag: ``what`` is added, removed or changed; ``attributes`` are those that differ."""

    key: str
    what: str
    kind: ChangeKind
    attributes: tuple[str, ...] = ()


class PartChange(Struct, frozen=True, kw_only=True):
    """The change of one attribute of a registration, of one person or of one guardrail, by name; in words."""

    name: str
    kind: ChangeKind
    what: str


class Change(Struct, frozen=True, kw_only=True):
    """The change as a whole, and in its parts. A flag that loosens may be made good by another: ``kind`` decides.

    Attributes
    ----------
    kind : ChangeKind
    people : int
        Distinct people who have to agree, the proposer among them.
    flags : tuple of FlagChange
        The parts of a change of flags.
    attributes : tuple of PartChange
        The parts of any other change.
    """

    kind: ChangeKind
    people: int
    flags: tuple[FlagChange, ...] = ()
    attributes: tuple[PartChange, ...] = ()


def classify(old: FlagSet, new: FlagSet, *, since: datetime | None = None) -> Change:
    """Compare two documents.

    Parameters
    ----------
    old, new : FlagSet
        What is in force, and what is to be.
    since : datetime, optional
        Aware. Only moments from here on count, so that clearing away what has long ended is no loosening.
        Without it all moments count.

    Returns
    -------
    Change
        ``kind`` is ``tightening`` or ``neutral`` only if nothing that ``old`` forbids or restricts at any
        such moment is permitted, or restricted less, by ``new``.
    """
    looser = [flag for flag in old.flags if not _covered(flag, new, since)]
    tighter = [flag for flag in new.flags if not _covered(flag, old, since)]
    kind = _kind(bool(looser), bool(tighter))
    return Change(kind=kind, people=_PEOPLE[kind], flags=_details(old, new, since))


def classify_registration(old: Tenant | None, new: Tenant | None) -> Change:
    """Compare two registrations of one tenant; ``None`` stands for none.

    ``kind`` is ``tightening`` or ``neutral`` only if, whatever the flags, the request and the moment, nobody is
    permitted by ``new`` what was denied by ``old``. Raises ``ValueError`` for two tenants.
    """
    if old is not None and new is not None and old.id != new.id:
        raise ValueError("these are registrations of two tenants")
    if old is None and new is None:
        return _combined(())
    if old is None or new is None:
        kind, what = (LOOSENING, "registered") if old is None else (TIGHTENING, "removed")
        return _combined((PartChange(name="id", kind=kind, what=what),))
    return _combined(
        PartChange(name=name, kind=_KINDS.get(name, _any_other)(was, becomes), what=_say(was, becomes))
        for name in old.__struct_fields__
        if (was := getattr(old, name)) != (becomes := getattr(new, name))
    )


def classify_links(old: Mapping[str, str], new: Mapping[str, str]) -> Change:
    """Compare who may change something: principal to person. Two principals agree only if they are two people's.

    ``kind`` is ``tightening`` or ``neutral`` only if every principal of ``new`` is one of ``old``, and any two that
    are two people's in ``new`` are two people's in ``old``.
    """
    before, after = old.keys(), new.keys()
    parts = [
        *(PartChange(name=name, kind=LOOSENING, what="linked") for name in sorted(after - before)),
        *(PartChange(name=name, kind=TIGHTENING, what="unlinked") for name in sorted(before - after)),
    ]
    for one, other in combinations(sorted(before & after), 2):
        was, becomes = old[one] != old[other], new[one] != new[other]
        if was != becomes:
            kind, what = (LOOSENING, "become two people") if becomes else (TIGHTENING, "become one person")
            parts.append(PartChange(name=f"{one}, {other}", kind=kind, what=what))
    return _combined(parts)


def classify_guardrails(old: Guardrails, new: Guardrails) -> Change:
    """Compare two documents of guardrails.

    ``kind`` is ``tightening`` or ``neutral`` only if every guardrail of ``old`` follows from one of ``new``, so that
    no flags document that ``old`` refuses is one that ``new`` lets through. Any change takes three people.
    """
    before, after = ({one.key: one for one in document} for document in (old, new))
    parts = []
    for key in sorted(before.keys() | after.keys()):
        was, becomes = before.get(key), after.get(key)
        if was == becomes:
            continue
        loose = was is not None and not any(implies(one.claim, was.claim) for one in new)
        tight = becomes is not None and not any(implies(one.claim, becomes.claim) for one in old)
        what = _say("" if was is None else str(was.claim), "" if becomes is None else str(becomes.claim))
        parts.append(PartChange(name=key, kind=_kind(loose, tight), what=what))
    change = _combined(parts)
    return structs.replace(change, people=GUARDRAIL_PEOPLE) if parts else change


def _combined(parts: Iterable[PartChange]) -> Change:
    attributes = tuple(parts)
    kinds = {part.kind for part in attributes}
    kind = _kind(LOOSENING in kinds, TIGHTENING in kinds)
    return Change(kind=kind, people=_PEOPLE[kind], attributes=attributes)


def _sets(was: tuple[str, ...], becomes: tuple[str, ...]) -> ChangeKind:
    return _kind(not set(becomes) <= set(was), not set(was) <= set(becomes))


def _any_other(was: object, becomes: object) -> ChangeKind:
    return LOOSENING


#: Attribute of a registration -> its rule. One that is not here loosens, however it changes.
_KINDS: Final[dict[str, Callable[[Any, Any], ChangeKind]]] = {
    "actions": _sets,
    "purposes": _sets,
    "principals": _sets,
    "buckets": _sets,
    "uploads": _sets,
    "status": lambda _, becomes: TIGHTENING if becomes == "suspended" else LOOSENING,
    "jurisdiction": lambda was, becomes: NEUTRAL if same_place(was, becomes) else LOOSENING,
}


def _say(was: object, becomes: object) -> str:
    """Return ``was → becomes``, and of two sets what comes and goes."""
    if isinstance(was, tuple) and isinstance(becomes, tuple):
        signs = [f"+{name}" for name in becomes if name not in was] + [
            f"-{n}" for n in was if n not in becomes
        ]
        return ", ".join(signs)
    return f"{was or 'none'} → {becomes or 'none'}"


def _kind(looser: bool, tighter: bool) -> ChangeKind:
    return LOOSENING if looser else TIGHTENING if tighter else NEUTRAL


def covers(new: Flag, old: Flag, since: datetime | None = None) -> bool:
    """Return whether ``new`` is at least as strict as ``old`` for every request at every moment (from ``since``)."""
    return (
        _effect(new, old)
        and (new.actions is None or (old.actions is not None and old.actions <= new.actions))
        and (new.sectors is None or (old.sectors is not None and old.sectors <= new.sectors))
        and _places(new, old)
        and _times(new, old, since)
        and _exemptions(new, old)
        and _audits(new, old)
    )


def _covered(flag: Flag, others: FlagSet, since: datetime | None) -> bool:
    if since is not None and flag.until <= since:
        return True
    return any(covers(other, flag, since) for other in others.flags)


def _effect(new: Flag, old: Flag) -> bool:
    if new.effect is Effect.HALT:
        return True
    return (
        old.effect is Effect.RESTRICT
        and (
            old.min_similarity is None
            or (new.min_similarity is not None and new.min_similarity >= old.min_similarity)
        )
        and new.human_review >= old.human_review
    )


def _places(new: Flag, old: Flag) -> bool:
    if new.jurisdictions is None:
        return True
    if old.jurisdictions is None:
        return False
    return all(any(within(one, other) for other in new.jurisdictions) for one in old.jurisdictions)


def _times(new: Flag, old: Flag, since: datetime | None) -> bool:
    starts = old.starts if since is None else max(old.starts, since)
    return new.starts <= starts and new.until >= old.until


def _exemptions(new: Flag, old: Flag) -> bool:
    if not new.exempt_purposes:
        return True
    return (
        set(new.exempt_purposes) <= set(old.exempt_purposes)
        and (
            not old.exempt_tenants
            or (bool(new.exempt_tenants) and set(new.exempt_tenants) <= set(old.exempt_tenants))
        )
        and (
            old.exempt_until is None
            or (new.exempt_until is not None and new.exempt_until <= old.exempt_until)
        )
        and (not old.authorization_required or (new.authorization_required and _due(new) <= _due(old)))
    )


def _audits(new: Flag, old: Flag) -> bool:
    """Return whether no audit lifts ``new`` that does not lift ``old``."""
    if new.audit is None or old.audit is None:
        return new.audit is None
    return (
        new.audit.max_age <= old.audit.max_age
        and set(new.audit.signers) <= set(old.audit.signers)
        and new.audit.similarity == old.audit.similarity
        and _at_most(new.audit.max_fmr, old.audit.max_fmr)
        and _at_most(new.audit.max_fmr_ratio, old.audit.max_fmr_ratio)
        and (
            old.audit.min_accuracy is None
            or (new.audit.min_accuracy is not None and new.audit.min_accuracy >= old.audit.min_accuracy)
        )
    )


def _at_most(new: float | None, old: float | None) -> bool:
    return old is None or (new is not None and new <= old)


def _due(flag: Flag) -> timedelta:
    """Return the time that an authorisation may be late by."""
    return flag.authorization_due_within or timedelta(0)


def _details(old: FlagSet, new: FlagSet, since: datetime | None) -> tuple[FlagChange, ...]:
    before = {flag.key: flag for flag in old.flags}
    after = {flag.key: flag for flag in new.flags}
    changes = []
    for key in sorted(before.keys() | after.keys()):
        was, becomes = before.get(key), after.get(key)
        if was is None:
            what = "enabled" if key in old.disabled else "added"
            changes.append(FlagChange(key=key, what=what, kind=TIGHTENING))
        elif becomes is None:
            over = since is not None and was.until <= since
            what = "disabled" if key in new.disabled else "removed"
            changes.append(FlagChange(key=key, what=what, kind=_kind(not over, tighter=False)))
        elif was.version != becomes.version:
            kind = _kind(not covers(becomes, was, since), not covers(was, becomes, since))
            attributes = tuple(
                name
                for name in was.value.__struct_fields__
                if getattr(was.value, name) != getattr(becomes.value, name)
            )
            changes.append(FlagChange(key=key, what="changed", kind=kind, attributes=attributes))
    return tuple(changes)
