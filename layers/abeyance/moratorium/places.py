"""Places: their codes, the places that lie in them, and those that overlap.

A place is written ``US`` (ISO 3166-1 alpha-2), ``US-CA`` (ISO 3166-2) or ``US-CA-SAN_FRANCISCO`` (a place inside a
subdivision, upper case, words joined by ``_``). ``EU`` is the territory in which the treaties of the European Union
apply. Codes, and where they come from, are in ``places.json``.

Decision: the two codes of one place are one place, and it lies in its state
-----------------------------------------------------------------------------
ISO 3166 lists some territories twice: as countries (``PR``, ``GP``, ``HK``, ``TW``, ``AX``) and as subdivisions of a
state (``US-PR``, ``FR-GP``, ``CN-HK``, ``CN-TW``, ``FI-01``). Both codes name one place here, and a flag for the state
binds it. This follows ISO, which follows the United Nations; it takes no position on anybody's status. A territory
that ISO lists only as a country (``GL``, ``FO``, ``GI``, ``IM``) lies in no other: a flag has to name it. Where ISO
gives subdivisions on two levels, the lower ones lie in the upper ones (``FR-75C`` in ``FR-IDF``).

Decision: two places *overlap* if one lies in the other, in either direction
-----------------------------------------------------------------------------
A flag for ``US`` obviously binds a tenant in ``US-CA``. Does a flag for ``US-CA`` bind a tenant that is
registered only as ``US``? We say yes. Such a tenant is somewhere in the United States, possibly in
California, and nothing we know says that it is not; the halt has to win over what we do not know. The price
is that an organisation which works nationwide is halted by the strictest city in the country until it is
registered place by place (one tenant for each place it works in, ``acme-texas``, ``acme-oregon``), which is
also what an auditor wants to see. The alternative, letting a request say where it happens and believing it,
would hand the halt's reach to the one who is halted; a request's own place can therefore only be *refused*
(when it lies outside the registration), never used to escape a flag.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

#: A place as the codes of the places that it lies in: ``("US", "US-CA", "US-CA-OAKLAND")``. The state comes first.
Lineage: TypeAlias = tuple[str, ...]

_PATTERN: Final = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3}(-[A-Z0-9_]{1,48})?)?")
_TABLE: Final[dict[str, Any]] = msgspec.json.decode(Path(__file__).with_name("places.json").read_bytes())


class _Union(NamedTuple):
    """A place that is no single node of the hierarchy: these places, without those."""

    of: tuple[Lineage, ...]
    without: tuple[Lineage, ...] = ()


#: ISO 3166-1 alpha-2.
COUNTRIES: Final = frozenset(_TABLE["countries"].split())
#: ISO 3166-2:US, the second part.
US_SUBDIVISIONS: Final = frozenset(_TABLE["us_subdivisions"].split())
#: The other codes of a place -> the one that is used here.
SAME: Final[Mapping[str, str]] = _TABLE["same"]
#: A place -> the place that it lies in, where its code does not begin with that place's.
INSIDE: Final[Mapping[str, str]] = {
    part: whole for whole, parts in _TABLE["inside"].items() for part in parts.split()
}
#: Places inside a US state that a flag may name without any tenant being registered there. A name that is neither here
#: nor a tenant's place is taken for a misspelling.
_US_LOCALITIES: Final = frozenset(_TABLE["us_localities"].split())


def is_jurisdiction(text: object) -> bool:
    """Return whether ``text`` is a well-formed place in a country (in the United States: a state) that exists."""
    if not isinstance(text, str) or _PATTERN.fullmatch(text) is None:
        return False
    parts = text.split("-")
    if parts[0] not in COUNTRIES:
        return text in UNIONS
    return parts[0] != "US" or len(parts) == 1 or parts[1] in US_SUBDIVISIONS


def is_known_place(text: str, *, also: frozenset[str] = frozenset()) -> bool:
    """Return whether every level of a jurisdiction is known: listed here, or in or around one of ``also``.

    Parameters
    ----------
    text : str
        A place such as ``US-CA-SAN_FRANCISCO``.
    also : frozenset of str
        Further places that exist, such as those of all registered tenants.
    """
    if not is_jurisdiction(text):
        return False
    if any(within(place, text) for place in also):
        return True
    line = lineage(text)
    return line[0] != "US" or len(line) <= 2 or line[-1] in INSIDE or line[-1] in _US_LOCALITIES


@lru_cache(maxsize=4096)
def lineage(place: str) -> Lineage:
    """Return the codes of the places that ``place`` lies in, the state first and ``place`` itself last.

    Every place has one code here, whichever was given: ``US-PR`` and ``PR`` are ``("US", "PR")``. ``place`` is well
    formed.
    """
    head, _, rest = place.partition("-")
    code, _, locality = rest.partition("-")
    own = f"{head}-{code}" if code else head
    own = SAME.get(own, own)
    whole = INSIDE.get(own, own.rpartition("-")[0])
    above = (*lineage(whole), own) if whole else (own,)
    return (*above, f"{own}-{locality}") if locality else above


def canonical_place(place: str) -> str:
    """Return the one code of a place: ``PR`` for ``US-PR``. ``place`` is well formed."""
    return lineage(place)[-1]


def overlap(one: str, other: str) -> bool:
    """Return whether two places overlap: one place, or one inside the other. See the module's decision."""
    a, b = _union(one), _union(other)
    return any(
        (_holds(left, right) or _holds(right, left))
        and not any(_holds(gap, max(left, right, key=len)) for gap in (*a.without, *b.without))
        for left in a.of
        for right in b.of
    )


def within(inner: str, outer: str) -> bool:
    """Return whether ``inner`` is ``outer`` or lies wholly inside it."""
    a, b = _union(inner), _union(outer)
    if a == b:
        return True
    return all(
        any(_holds(whole, part) for whole in b.of)
        and all(
            any(_holds(hole, gap) for hole in a.without)
            for gap in b.without
            if _holds(gap, part) or _holds(part, gap)
        )
        for part in a.of
    )


def lines(place: str) -> tuple[Lineage, ...]:
    """Return the places of which ``place`` consists, and those that are cut out of it, as lineages."""
    union = _union(place)
    return (*union.of, *union.without)


def same_place(one: str, other: str) -> bool:
    """Return whether two codes name one place."""
    return _union(one) == _union(other)


def _holds(whole: Lineage, part: Lineage) -> bool:
    return part[: len(whole)] == whole


@lru_cache(maxsize=4096)
def _union(place: str) -> _Union:
    return UNIONS.get(place) or _Union((lineage(place),))


#: The places that are unions of others.
UNIONS: Final[Mapping[str, _Union]] = {
    name: _Union(*(tuple(map(lineage, union[part].split())) for part in ("of", "without")))
    for name, union in _TABLE["unions"].items()
}
