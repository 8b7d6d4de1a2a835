"""Claims about what flags permit, written as a sentence, and which claim follows from which.

::

    deny law_enforcement search in US unless missing_children, human_trafficking
    deny law_enforcement search in any without review
    permit nonprofit any in US by thorn for missing_children

A claim speaks of every tenant of the sector that could be registered in the place, by any name and for any action and
purpose; nobody beyond a registration is ever permitted, so nothing else needs a claim.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, Literal

from msgspec import Struct

from abeyance.moratorium.errors import MoratoriumError
from abeyance.moratorium.places import is_jurisdiction, within
from abeyance.moratorium.vocabulary import ACTIONS, SECTORS, is_purpose, is_tenant_id

ANY: Final = "any"
FORM: Final = (
    "deny|permit SECTOR ACTION in PLACE [by TENANT, …] [for PURPOSE, …] [unless PURPOSE, …] "
    "[without review | without N reviewers | without similarity N | "
    "without authorization | without audit]; any stands for every sector, action or place"
)
_CLAUSES: Final = ("in", "by", "for", "unless", "without")


class ClaimError(MoratoriumError):
    """A sentence that is no claim; the message says what one looks like."""


class PolicyClaim(Struct, frozen=True, kw_only=True):
    """A claim about every decision in its scope.

    ``deny``: none is permitted, whatever authorisation and audit there is. With ``reviewers``, ``similarity``,
    ``authorization`` or ``audit``: none is permitted on lower terms than these. ``permit``: every one is permitted,
    under whatever terms, and without an authorisation or an audit.

    Attributes
    ----------
    sector, action, place : str
        A word of the vocabulary, or ``any``. Tenants count that are registered in the place or inside it.
    tenants, purposes : tuple of str
        Only these; empty for all.
    unless : tuple of str
        Purposes of which nothing is claimed.
    reviewers : int
        0, or the number of reviewers that a permit needs.
    similarity : float or None
        The lowest similarity, 0 to 100, that a permit needs.
    authorization : bool
        Whether a permit needs an authorisation, which in an emergency may be late.
    audit : bool
        Whether a permit needs an audit of the deployed model within a flag's bounds.
    since, until : datetime or None
        Aware; the moments [since, until) of which it speaks.
    """

    verb: Literal["deny", "permit"]
    sector: str = ANY
    action: str = ANY
    place: str = ANY
    tenants: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    reviewers: int = 0
    similarity: float | None = None
    authorization: bool = False
    audit: bool = False
    since: datetime | None = None
    until: datetime | None = None

    def __str__(self) -> str:
        words = [self.verb, self.sector, self.action, "in", self.place]
        for clause, names in (("by", self.tenants), ("for", self.purposes), ("unless", self.unless)):
            words += [clause, ", ".join(names)] if names else []
        if self.reviewers:
            words.append("without review" if self.reviewers == 1 else f"without {self.reviewers} reviewers")
        if self.similarity is not None:
            words.append(f"without similarity {self.similarity:g}")
        if self.authorization:
            words.append("without authorization")
        if self.audit:
            words.append("without audit")
        return " ".join(words)


def parse_claim(text: str, *, since: datetime | None = None, until: datetime | None = None) -> PolicyClaim:
    """Read a claim of the form :data:`FORM`. Raises :class:`ClaimError` on anything else."""
    head, clauses = _split(text)
    if len(head) != 3 or head[0] not in ("deny", "permit") or "in" not in clauses:
        raise _not_a_claim("it does not begin with deny|permit SECTOR ACTION in PLACE")
    verb, sector, action = head
    place = clauses["in"]
    if sector not in SECTORS | {ANY}:
        raise _not_a_claim(f"there is no sector {sector!r}; there are {', '.join(sorted(SECTORS))}")
    if action not in ACTIONS | {ANY}:
        raise _not_a_claim(f"there is no action {action!r}; there are {', '.join(sorted(ACTIONS))}")
    if place != ANY and not is_jurisdiction(place):
        raise _not_a_claim(f"there is no place {place!r}; use codes such as US, US-CA, EU")
    if since is not None and until is not None and since >= until:
        raise _not_a_claim("it ends before it begins")
    terms = _terms(clauses.get("without"))
    if verb == "permit" and "without" in clauses:
        raise _not_a_claim("without belongs to deny")
    return PolicyClaim(
        verb="deny" if verb == "deny" else "permit",
        sector=sector,
        action=action,
        place=place,
        tenants=_names(clauses.get("by"), is_tenant_id, "tenant"),
        purposes=_names(clauses.get("for"), is_purpose, "purpose"),
        unless=_names(clauses.get("unless"), is_purpose, "purpose"),
        **terms,
        since=since,
        until=until,
    )


def implies(stronger: PolicyClaim, weaker: PolicyClaim) -> bool:
    """Return whether every document of which ``stronger`` holds is one of which ``weaker`` holds. Never generous."""
    return (
        stronger.verb == weaker.verb
        and stronger.sector in (ANY, weaker.sector)
        and stronger.action in (ANY, weaker.action)
        and (stronger.place == ANY or (weaker.place != ANY and within(weaker.place, stronger.place)))
        and _contains(stronger.tenants, weaker.tenants)
        and _claimed(stronger, weaker)
        and _demands(stronger, weaker)
        and (stronger.since is None or (weaker.since is not None and stronger.since <= weaker.since))
        and (stronger.until is None or (weaker.until is not None and weaker.until <= stronger.until))
    )


def _contains(more: tuple[str, ...], fewer: tuple[str, ...]) -> bool:
    return not more or (bool(fewer) and set(fewer) <= set(more))


def _claimed(stronger: PolicyClaim, weaker: PolicyClaim) -> bool:
    """Return whether the weaker claim's purposes are among the stronger one's."""
    if weaker.purposes:
        left = set(weaker.purposes) - set(weaker.unless)
        return (not stronger.purposes or left <= set(stronger.purposes)) and left.isdisjoint(stronger.unless)
    return not stronger.purposes and set(stronger.unless) <= set(weaker.unless)


def _demands(stronger: PolicyClaim, weaker: PolicyClaim) -> bool:
    """Return whether what violates the weaker claim violates the stronger one."""
    if stronger.authorization:
        return weaker.authorization
    if stronger.audit:
        return weaker.audit
    if not stronger.reviewers and stronger.similarity is None:
        return True
    if stronger.reviewers:
        return 0 < weaker.reviewers <= stronger.reviewers
    least = stronger.similarity
    return least is not None and weaker.similarity is not None and weaker.similarity <= least


def _split(text: str) -> tuple[list[str], dict[str, str]]:
    """Return the words before the first clause, and the clauses, in the order of :data:`_CLAUSES`."""
    parts = re.split(rf"\s+({'|'.join(_CLAUSES)})\s+", f"{text.strip()} ")
    clauses = dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))
    if len(clauses) != len(parts) // 2 or list(clauses) != [name for name in _CLAUSES if name in clauses]:
        raise _not_a_claim("a clause occurs twice, or they are out of order")
    return parts[0].split(), clauses


def _names(text: str | None, is_name: Callable[[object], bool], kind: str) -> tuple[str, ...]:
    if text is None:
        return ()
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if not is_name(name) or name == ANY:
            raise _not_a_claim(f"{name!r} is no {kind}")
    return names


def _terms(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    if text == "review":
        return {"reviewers": 1}
    if text == "authorization":
        return {"authorization": True}
    if text == "audit":
        return {"audit": True}
    if match := re.fullmatch(r"([1-9]|10) reviewers?", text):
        return {"reviewers": int(match[1])}
    if (match := re.fullmatch(r"similarity (\d{1,3}(?:\.\d+)?)", text)) and 0 < float(match[1]) <= 100:
        return {"similarity": float(match[1])}
    raise _not_a_claim(
        "without is followed by review, 2 reviewers (1 to 10), similarity 99 (up to 100), authorization, or audit"
    )


def _not_a_claim(why: str) -> ClaimError:
    return ClaimError(f"this is not a claim, because {why}. A claim is: {FORM}")
