"""Classification of changes: whether a new document loosens, compared flag by flag and never generously.

One flag *covers* another if, whatever the request and the moment, it is at least as strict. A document is
no looser than another if every flag of the other is covered by one of its own: a flag more can only take
away (``decide``'s first law), so that is enough. The converse need not hold. Two flags may together cover a
third without either doing so alone; such a change is called a loosening although it is not. That is the
side to err on: it costs a second signature.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from abeyance.moratorium.document import Flag, FlagSet
from abeyance.moratorium.model import Effect
from abeyance.moratorium.places import within


class ChangeKind(StrEnum):
    """The effect of a change of document on what is permitted."""

    NEUTRAL = "neutral"
    TIGHTENING = "tightening"
    #: Permits something that was not permitted, or may; whatever else it tightens.
    LOOSENING = "loosening"


class FlagChange(Struct, frozen=True, kw_only=True):
    """The change of one flag: ``what`` is added, removed or changed; ``attributes`` are those that differ."""

    key: str
    what: str
    kind: ChangeKind
    attributes: tuple[str, ...] = ()


class Change(Struct, frozen=True, kw_only=True):
    """The change as a whole, and flag by flag. A flag that loosens may be made good by another, so ``kind``
    decides."""

    kind: ChangeKind
    flags: tuple[FlagChange, ...] = ()


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
    return Change(kind=_kind(bool(looser), bool(tighter)), flags=_details(old, new, since))


def _kind(looser: bool, tighter: bool) -> ChangeKind:
    return ChangeKind.LOOSENING if looser else ChangeKind.TIGHTENING if tighter else ChangeKind.NEUTRAL


def covers(new: Flag, old: Flag, since: datetime | None = None) -> bool:
    """Return whether ``new`` is at least as strict as ``old`` for every request at every moment (from ``since``)."""
    return (
        _effect(new, old)
        and (new.actions is None or (old.actions is not None and old.actions <= new.actions))
        and (new.sectors is None or (old.sectors is not None and old.sectors <= new.sectors))
        and _places(new, old)
        and _times(new, old, since)
        and _exemptions(new, old)
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
    )


def _details(old: FlagSet, new: FlagSet, since: datetime | None) -> tuple[FlagChange, ...]:
    before = {flag.key: flag for flag in old.flags}
    after = {flag.key: flag for flag in new.flags}
    changes = []
    for key in sorted(before.keys() | after.keys()):
        was, becomes = before.get(key), after.get(key)
        if was is None:
            what = "enabled" if key in old.disabled else "added"
            changes.append(FlagChange(key=key, what=what, kind=ChangeKind.TIGHTENING))
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
