"""The finitely many regions into which flags cut all decisions that could ever be made.

A decision about a registered request depends on its sector, action, place, tenant, purpose and moment. Flags mention
finitely many places, tenants, purposes and moments, so everything that they do not mention falls into a few classes:
"any other tenant", "elsewhere in US", "from 2027-01-01 on". Within one sector, action, class of places and interval of
time, what a flag exempts is a set of tenants times a set of purposes. The intersection of such rectangles is a
rectangle again: what is permitted is one rectangle for each combination, found without trying tenants or purposes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from abeyance.moratorium.document import NEVER, Flag, FlagSet
from abeyance.moratorium.model import Effect
from abeyance.moratorium.places import (
    COUNTRIES,
    UNIONS,
    US_SUBDIVISIONS,
    Lineage,
    lineage,
    lines,
    overlap,
    within,
)
from abeyance.moratorium.vocabulary import ACTIONS, INVOLVES, SECTORS

#: Earlier than any moment that a flag may name.
FIRST: Final = datetime.min.replace(tzinfo=UTC)


class Names(NamedTuple):
    """A set of tenants or purposes: these, or all but these."""

    named: frozenset[str] = frozenset()
    all_but: bool = True

    @classmethod
    def only(cls, names: Iterable[str]) -> Names:
        """Return the set of these names; all names, if none is given."""
        named = frozenset(names)
        return cls(named, all_but=not named)

    def both(self, other: Names) -> Names:
        """Return the names that are in both sets."""
        if self.all_but and other.all_but:
            return Names(self.named | other.named)
        if self.all_but:
            return Names(other.named - self.named, all_but=False)
        return Names(self.named - other.named if other.all_but else self.named & other.named, all_but=False)

    def without(self, other: Names) -> Names:
        """Return the names that are in this set alone."""
        return self.both(Names(other.named, all_but=not other.all_but))

    @property
    def empty(self) -> bool:
        """Return True if no name is in the set. Names are without number, so all but some are never none."""
        return not self.all_but and not self.named

    def pick(self, *preferred: str) -> str:
        """Return one name of the set, a preferred one if it can be."""
        if not self.all_but:
            return min(self.named, key=lambda name: (name not in preferred, name))
        numbered = (f"{preferred[-1]}{number}" for number in range(2, len(self.named) + 3))
        return next(name for name in (*preferred, *numbered) if name not in self.named)


class Rectangle(NamedTuple):
    """A set of tenants, each with every purpose of a set."""

    tenants: Names = Names()
    purposes: Names = Names()

    @property
    def empty(self) -> bool:
        """Return True if nothing is in it."""
        return self.tenants.empty or self.purposes.empty

    def both(self, other: Rectangle) -> Rectangle:
        """Return what is in both."""
        return Rectangle(self.tenants.both(other.tenants), self.purposes.both(other.purposes))

    def without(self, other: Rectangle) -> Iterator[Rectangle]:
        """Yield what is in this one alone, as up to two rectangles that do not overlap."""
        for part in (
            Rectangle(self.tenants.without(other.tenants), self.purposes),
            Rectangle(self.tenants.both(other.tenants), self.purposes.without(other.purposes)),
        ):
            if not part.empty:
                yield part


NOTHING: Final = Rectangle(Names(all_but=False), Names(all_but=False))


class Terms(NamedTuple):
    """Terms of a permit: reviewers, lowest similarity (0 to 100), and whether it needs an authorisation or an audit."""

    reviewers: int = 0
    similarity: float | None = None
    authorization: bool = False
    audit: bool = False


class PlaceClass(NamedTuple):
    """Places that no flag tells apart: one of them, and its lineage.

    ``rest_of`` is None for a place that stands for itself; else these are all places inside that lineage that nothing
    mentions, and all countries that nothing mentions if it is empty.
    """

    place: str
    line: Lineage
    rest_of: Lineage | None = None


def place_classes(mentioned: Iterable[str], scope: str | None = None) -> list[PlaceClass]:
    """Return classes that together hold every place there is, or every place in ``scope``.

    Two places of one class overlap the same of the mentioned places, and lie in the same.
    """
    places = {*mentioned, *({scope} if scope else ())}
    spelled: dict[Lineage, str] = {}
    for place in sorted(places):
        for line in lines(place):
            for depth in range(1, len(line)):
                spelled.setdefault(line[:depth], line[depth - 1])
            # A locality keeps the spelling that it is mentioned by: not every canonical code is a well-formed place.
            spelled[line] = line[-1] if place in UNIONS else place
    classes = [PlaceClass(name, lineage(name)) for name in UNIONS]
    for line, place in spelled.items():
        if place not in UNIONS:
            classes.append(PlaceClass(place, line))
        if (fresh := _fresh_part(place, spelled)) is not None:
            classes.append(PlaceClass(fresh, lineage(fresh), rest_of=line))
    if country := next(
        (code for code in sorted(COUNTRIES) if lineage(code)[:1] not in spelled and code not in UNIONS), None
    ):
        classes.append(PlaceClass(country, lineage(country), rest_of=()))
    return [found for found in classes if scope is None or within(found.place, scope)]


def _fresh_part(place: str, known: Mapping[Lineage, str]) -> str | None:
    """Return a place inside ``place`` that is in none of the known ones; None if there cannot be one."""
    if place == "US":
        candidates = (f"US-{code}" for code in sorted(US_SUBDIVISIONS))
    elif "-" not in place:
        candidates = (f"{place}-{number}" for number in range(1000))
    elif place.count("-") == 1:
        candidates = (f"{place}-ELSEWHERE{number or ''}" for number in range(1000))
    else:
        return None
    inside = len(lineage(place)) + 1
    return next(
        (
            one
            for one in candidates
            if len(lineage(one)) == inside and lineage(one) not in known and within(one, place)
        ),
        None,
    )


class Blocking(NamedTuple):
    """Flags that hold requests up, as bit masks: all of them, and those whose exemption does not count."""

    flags: int
    closed: int = 0


class CompiledFlags:
    """The flags of one document as bit masks: bit n is flag n.

    Attributes
    ----------
    halts : int
        Flags with effect halt.
    authorized : int
        Those of them whose exemption requires an authorisation.
    audited : int
        Those of them that an audit lifts.
    """

    def __init__(self, flags: FlagSet) -> None:
        self.flags = flags.flags
        self.halts = self._which(lambda flag: flag.effect is Effect.HALT)
        self.audited = self._which(lambda flag: flag.audit is not None)
        self.authorized = self._which(lambda flag: flag.authorization_required)
        self._edges = tuple(tuple(_edges(flag)) for flag in self.flags)
        self._sectors = {
            sector: self._which(lambda flag: flag.sectors is None or sector in flag.sectors)  # noqa: B023
            for sector in SECTORS
        }
        self._actions = {
            action: self._which(lambda flag: flag.actions is None or bool(flag.actions & INVOLVES[action]))  # noqa: B023
            for action in ACTIONS
        }
        self._everywhere = self._which(lambda flag: flag.jurisdictions is None)
        self._mentions: dict[str, int] = {}
        for bit, flag in enumerate(self.flags):
            for place in flag.jurisdictions or ():
                self._mentions[place] = self._mentions.get(place, 0) | 1 << bit
        self._at: dict[Lineage, int] = {}
        self._below: dict[Lineage, int] = {}
        for place, mask in self._mentions.items():
            if place in UNIONS:
                continue
            line = lineage(place)
            self._at[line] = self._at.get(line, 0) | mask
            for depth in range(1, len(line)):
                self._below[line[:depth]] = self._below.get(line[:depth], 0) | mask
        self._exempt = tuple(
            Rectangle(Names.only(flag.exempt_tenants), Names.only(flag.exempt_purposes))
            if flag.exempt_purposes
            else NOTHING
            for flag in self.flags
        )
        self._moments: dict[datetime, tuple[int, int]] = {}
        self._open: dict[int, Rectangle] = {0: Rectangle()}

    @property
    def places(self) -> frozenset[str]:
        """The places that the flags mention."""
        return frozenset(self._mentions)

    def restricting(self, terms: Terms) -> Blocking:
        """Return the flags that keep a permit to these terms: halts, and restrictions that demand as much."""
        similarity = terms.similarity
        demanding = self._which(
            lambda flag: (
                flag.effect is Effect.RESTRICT
                and (
                    (0 < terms.reviewers <= flag.human_review)
                    or (
                        similarity is not None
                        and flag.min_similarity is not None
                        and flag.min_similarity >= similarity
                    )
                )
            )
        )
        halts = self.halts if terms.audit else self.halts & ~self.audited
        return Blocking(halts | demanding, self.authorized if terms.authorization else 0)

    def naming(self, sector: str, action: str) -> int:
        """Return the flags that name a sector and an action, wherever."""
        return self._sectors[sector] & self._actions[action]

    def binding(self, place: str) -> int:
        """Return the flags whose places overlap ``place``."""
        found = self._everywhere
        if place in UNIONS:
            for mentioned, mask in self._mentions.items():
                found |= mask if overlap(mentioned, place) else 0
            return found
        line = lineage(place)
        found |= self._below.get(line, 0)
        for depth in range(1, len(line) + 1):
            found |= self._at.get(line[:depth], 0)
        for union in UNIONS:
            if union in self._mentions and overlap(union, place):
                found |= self._mentions[union]
        return found

    def edges(self, binding: int) -> Iterator[datetime]:
        """Yield the moments at which one of the ``binding`` flags, or its exemption, begins or ends."""
        for bit in _bits(binding):
            yield from self._edges[bit]

    def versions(self, binding: int) -> frozenset[str]:
        """Return what the ``binding`` flags say, as the hashes that decisions carry."""
        return frozenset(self.flags[bit].version for bit in _bits(binding))

    def at(self, moment: datetime) -> tuple[int, int]:
        """Return the flags in force at a moment, and those of which the exemption holds then."""
        found = self._moments.get(moment)
        if found is None:
            found = self._moments[moment] = (
                self._which(lambda flag: flag.in_force(moment)),
                self._which(
                    lambda flag: (
                        bool(flag.exempt_purposes)
                        and (flag.exempt_until is None or moment < flag.exempt_until)
                    )
                ),
            )
        return found

    def permitted(self, binding: int, moment: datetime, blocking: Blocking) -> Rectangle:
        """Return who is held up by none of the ``blocking`` flags among the ``binding`` ones at a moment."""
        in_force, exempting = self.at(moment)
        held = binding & blocking.flags & in_force
        if held & ~exempting or held & blocking.closed:
            return NOTHING
        found = self._open.get(held)
        if found is None:
            lowest = held & -held
            rest = self.permitted(held & ~lowest, moment, blocking)
            found = self._open[held] = rest.both(self._exempt[lowest.bit_length() - 1])
        return found

    def held(self, binding: int, moment: datetime) -> Iterator[Rectangle]:
        """Yield rectangles that together hold everybody whom a halt among the ``binding`` flags denies at a moment.

        Nobody has an authorisation, and no audit lifts anything.
        """
        in_force, exempting = self.at(moment)
        halting = binding & self.halts & in_force
        for bit in _bits(halting):
            exempt = self._exempt[bit] if (exempting & ~self.authorized) >> bit & 1 else NOTHING
            yield from Rectangle().without(exempt)

    def terms(self, binding: int, moment: datetime, who: Rectangle) -> Terms:
        """Return the terms that everybody in ``who``, all of whom are permitted, needs at least."""
        in_force, exempting = self.at(moment)
        reviewers, similarity = 0, None
        for bit in _bits(binding & in_force & ~self.halts):
            flag = self.flags[bit]
            if exempting >> bit & 1 and not self._exempt[bit].both(who).empty:
                continue
            reviewers = max(reviewers, flag.human_review)
            if flag.min_similarity is not None:
                similarity = max(similarity or 0.0, flag.min_similarity)
        audit = any(
            not exempting >> bit & 1 or self._exempt[bit].both(who).empty
            for bit in _bits(binding & in_force & self.audited)
        )
        authorization = bool(binding & in_force & self.authorized & ~self.audited)
        return Terms(reviewers, similarity, authorization, audit)

    def _which(self, holds: Callable[[Flag], bool]) -> int:
        return sum(1 << bit for bit, flag in enumerate(self.flags) if holds(flag))


def intervals(
    cuts: Iterable[datetime], since: datetime | None, until: datetime | None
) -> list[tuple[datetime, datetime]]:
    """Return the stretches [start, end) between the cuts, from ``since`` to ``until``."""
    first, last = since or FIRST, until or NEVER
    inner = sorted({cut for cut in cuts if first < cut < last})
    return list(zip([first, *inner], [*inner, last], strict=True))


def _edges(flag: Flag) -> Iterator[datetime]:
    yield flag.starts
    if flag.until < NEVER:
        yield flag.until
    if flag.exempt_until is not None:
        yield flag.exempt_until


def _bits(mask: int) -> Iterator[int]:
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest
