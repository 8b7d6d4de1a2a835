"""Proofs of what flags permit: exact, over every tenant, place, purpose and moment that there could be.

``prove`` looks for a decision that contradicts a claim, in each of the finitely many regions of ``regions``. If there
is one, it returns the smallest; else the claim holds of every request that ``decide`` could ever be asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import chain
from operator import and_
from typing import Final, NamedTuple, TypeAlias

from msgspec import Struct, structs

from abeyance.moratorium.audits import example_audit
from abeyance.moratorium.authorization import Authorization, AuthorizationUse
from abeyance.moratorium.claims import ANY, PolicyClaim
from abeyance.moratorium.decide import Decision, Request, asking_flags, decide
from abeyance.moratorium.document import NEVER, FlagSet, instant_text
from abeyance.moratorium.places import UNIONS, lines, within
from abeyance.moratorium.regions import (
    FIRST,
    CompiledFlags,
    Names,
    PlaceClass,
    Rectangle,
    Terms,
    intervals,
    place_classes,
)
from abeyance.moratorium.tenants import Tenant
from abeyance.moratorium.vocabulary import ACTIONS, SECTORS, UNSPECIFIED

_DAY: Final = timedelta(days=1)


class Counterexample(Struct, frozen=True, kw_only=True):
    """One decision that contradicts a claim, and all others like it.

    ``decision`` is that of a tenant called ``tenant``, registered in ``place``. The others differ in the tenant
    (one of ``tenants``), the purpose (one of ``purposes``) or the moment ([``since``, ``until``); "" has no end).
    """

    tenant: str
    sector: str
    action: str
    place: str
    places: str
    purpose: str
    tenants: Names
    purposes: Names
    since: str
    until: str
    decision: Decision


class PolicyProof(Struct, frozen=True, kw_only=True):
    """The answer to a claim: it holds unless there is a counterexample. ``regions`` is the number looked at."""

    claim: str
    counterexample: Counterexample | None
    regions: int

    @property
    def holds(self) -> bool:
        """Return True if the claim holds of every decision that it speaks of."""
        return self.counterexample is None


class RegionKind(StrEnum):
    """The meaning of a region in a list."""

    PERMITTED = "permitted"
    NEWLY_PERMITTED = "newly_permitted"
    NEWLY_DENIED = "newly_denied"
    #: Permitted before and after; after on lower terms than those given.
    LESS_RESTRICTED = "less_restricted"
    #: Permitted before and after; before on lower terms than those given.
    MORE_RESTRICTED = "more_restricted"


class Region(Struct, frozen=True, kw_only=True):
    """All decisions about these sectors, actions, places, tenants and purposes in [since, until); "" has no end.

    ``places`` are codes, each with everything in it; ``US as a whole`` (registered no narrower); ``elsewhere in US``
    and ``anywhere else`` (wherever no flag mentions a place). ``anywhere but`` comes first where the others are left
    out.
    ``reviewers``, ``similarity``, ``authorization`` and ``audit`` are the terms: those that a permit needs at least, or
    that are new or gone.
    """

    kind: RegionKind
    sectors: tuple[str, ...]
    actions: tuple[str, ...]
    places: tuple[str, ...]
    tenants: Names
    purposes: Names
    since: str
    until: str
    reviewers: int = 0
    similarity: float | None = None
    authorization: bool = False
    audit: bool = False


class _Case(NamedTuple):
    sector: str
    action: str
    place: int


class _Finding(NamedTuple):
    kind: RegionKind
    who: Rectangle
    terms: Terms = Terms()


_Span: TypeAlias = tuple[datetime, datetime]


def prove(claim: PolicyClaim, flags: FlagSet) -> PolicyProof:
    """Return whether a claim holds of a document, with the smallest counterexample if it does not.

    Pure. Without ``claim.since`` it speaks of all moments, also of those that are over.
    """
    compiled = CompiledFlags(flags)
    classes, wanted = _classes(claim, compiled), _wanted(claim)
    blocking = compiled.restricting(
        Terms(claim.reviewers, claim.similarity, claim.authorization, claim.audit)
    )
    cases = _cases(claim, (compiled,), classes)
    regions = 0
    best: tuple[tuple[object, ...], _Case, Rectangle, _Span] | None = None
    for (binding,), members in cases.items():
        case = min(members, key=lambda one: _size(classes[one.place], one))
        spans = intervals(compiled.edges(binding), claim.since, claim.until)
        regions += len(spans)
        for span in spans:
            rest = span[0], *_size(classes[case.place], case)
            if best is not None and best[0] <= (False, False, *rest):
                break
            if claim.verb == "deny":
                found: Iterable[Rectangle] = (compiled.permitted(binding, span[0], blocking),)
            else:
                found = compiled.held(binding, span[0])
            for rectangle in found:
                who = rectangle.both(wanted)
                size = (not who.tenants.all_but, not who.purposes.all_but, *rest)
                if not who.empty and (best is None or size < best[0]):
                    best = size, case, who, span
    counterexample = None if best is None else _counterexample(claim, flags, classes, *best[1:])
    return PolicyProof(claim=str(claim), counterexample=counterexample, regions=regions)


def who_may(claim: PolicyClaim, flags: FlagSet) -> list[Region]:
    """Return every region of a claim's scope in which requests are permitted; the verb does not matter."""

    def findings(binding: tuple[int, ...], moment: datetime) -> Iterator[_Finding]:
        who = compiled.permitted(binding[0], moment, halts).both(wanted)
        if not who.empty:
            yield _Finding(RegionKind.PERMITTED, who, compiled.terms(binding[0], moment, who))

    def spans(binding: tuple[int, ...]) -> list[_Span]:
        return intervals(compiled.edges(binding[0]), claim.since, claim.until)

    compiled = CompiledFlags(flags)
    wanted, halts = _wanted(claim), compiled.restricting(Terms())
    return _regions(claim, (compiled,), spans, findings)


def difference(old: FlagSet, new: FlagSet, *, since: datetime | None = None) -> list[Region]:
    """Return all that a change of documents newly permits, denies, restricts less or restricts more.

    Parameters
    ----------
    old, new : FlagSet
    since : datetime, optional
        Aware; moments before it do not count.
    """
    pair = CompiledFlags(old), CompiledFlags(new)

    def spans(binding: tuple[int, ...]) -> list[_Span]:
        if pair[0].versions(binding[0]) == pair[1].versions(binding[1]):
            return []
        return intervals(chain(pair[0].edges(binding[0]), pair[1].edges(binding[1])), since, None)

    return _regions(PolicyClaim(verb="permit"), pair, spans, _compare(pair, lambda moment: (moment, moment)))


def changes_on(day: datetime, flags: FlagSet) -> list[Region]:
    """Return what is decided otherwise at the end of a day than before it; ``day`` is its first moment, aware."""
    compiled = CompiledFlags(flags)
    before = day - timedelta(microseconds=1)
    span = (day, min(day + _DAY, NEVER))
    pair = compiled, compiled

    def spans(binding: tuple[int, ...]) -> list[_Span]:
        return [span] if any(day <= edge < span[1] for edge in compiled.edges(binding[0])) else []

    after = span[1] - timedelta(microseconds=1)
    return _regions(PolicyClaim(verb="permit"), pair, spans, _compare(pair, lambda _: (before, after)))


def _compare(
    pair: tuple[CompiledFlags, CompiledFlags], moments: Callable[[datetime], _Span]
) -> Callable[[tuple[int, ...], datetime], Iterator[_Finding]]:
    """Return the comparison of two documents, each at a moment of its own."""
    levels: set[Terms] = set()
    for compiled in pair:
        for flag in compiled.flags:
            levels |= {Terms(reviewers=flag.human_review)} if flag.human_review else set()
            levels |= {Terms(similarity=flag.min_similarity)} if flag.min_similarity is not None else set()
            levels |= {Terms(authorization=True)} if flag.authorization_required else set()
            levels |= {Terms(audit=True)} if flag.audit is not None else set()
    ordered = sorted(levels, key=lambda level: (level.reviewers, level.similarity or 0.0))
    blocking = {level: [compiled.restricting(level) for compiled in pair] for level in (Terms(), *ordered)}

    def findings(binding: tuple[int, ...], moment: datetime) -> Iterator[_Finding]:
        at = moments(moment)
        was, becomes = (
            compiled.permitted(binding[n], at[n], blocking[Terms()][n]) for n, compiled in enumerate(pair)
        )
        for kind, one, other in (
            (RegionKind.NEWLY_PERMITTED, becomes, was),
            (RegionKind.NEWLY_DENIED, was, becomes),
        ):
            for part in one.without(other):
                yield _Finding(kind, part)
        both = was.both(becomes)
        if both.empty:
            return
        told: set[tuple[RegionKind, Rectangle, bool, bool, bool]] = set()
        for level in ordered:
            lower = [
                compiled.permitted(binding[n], at[n], blocking[level][n]) for n, compiled in enumerate(pair)
            ]
            for kind, one, other in (
                (RegionKind.LESS_RESTRICTED, lower[1], lower[0]),
                (RegionKind.MORE_RESTRICTED, lower[0], lower[1]),
            ):
                for part in one.without(other):
                    common = part.both(both)
                    key = kind, common, bool(level.reviewers), level.authorization, level.audit
                    if not common.empty and key not in told:
                        told.add(key)
                        yield _Finding(kind, common, level)

    return findings


def _cases(
    claim: PolicyClaim, compiled: Sequence[CompiledFlags], classes: Sequence[PlaceClass]
) -> dict[tuple[int, ...], list[_Case]]:
    """Return the cases of a claim's scope, grouped by the flags of each document that bind them."""
    bindings = [[one.binding(found.place) for one in compiled] for found in classes]
    cases: dict[tuple[int, ...], list[_Case]] = defaultdict(list)
    for sector in sorted(SECTORS) if claim.sector == ANY else [claim.sector]:
        for action in sorted(ACTIONS) if claim.action == ANY else [claim.action]:
            named = [one.naming(sector, action) for one in compiled]
            for number, binding in enumerate(bindings):
                cases[tuple(map(and_, named, binding))].append(_Case(sector, action, number))
    return cases


def _classes(claim: PolicyClaim, *compiled: CompiledFlags) -> list[PlaceClass]:
    mentioned: frozenset[str] = frozenset().union(*(one.places for one in compiled))
    return place_classes(mentioned, None if claim.place == ANY else claim.place)


def _wanted(claim: PolicyClaim) -> Rectangle:
    unclaimed = Names(frozenset(claim.unless), all_but=False)
    return Rectangle(Names.only(claim.tenants), Names.only(claim.purposes).without(unclaimed))


def _size(found: PlaceClass, case: _Case) -> tuple[object, ...]:
    """Return a key by which plainer cases come first: a country before a city, a place before a rest."""
    return (
        found.place in UNIONS,
        len(found.line),
        found.rest_of is not None,
        case.sector,
        case.action,
        found.place,
    )


def _counterexample(
    claim: PolicyClaim,
    flags: FlagSet,
    classes: Sequence[PlaceClass],
    case: _Case,
    who: Rectangle,
    span: _Span,
) -> Counterexample:
    found = classes[case.place]
    purpose = who.purposes.pick(UNSPECIFIED, "another_purpose")
    name = who.tenants.pick("somebody", "another-tenant")
    tenant = Tenant(
        id=name, sector=case.sector, jurisdiction=found.place, actions=(case.action,), purposes=(purpose,)
    )
    request = Request(tenant=tenant, tenant_id=name, action=case.action, purpose=purpose)
    if claim.verb == "deny" and not claim.audit:
        bounds = [flag.audit for flag in flags.flags if flag.audit is not None]
        request = structs.replace(request, audit=example_audit(bounds, span[0]))
    decision = decide(request, flags, span[0])
    if claim.verb == "deny" and not claim.authorization and asking_flags(decision, flags):
        decision = decide(structs.replace(request, authorization=_example(request, span[0])), flags, span[0])
    return Counterexample(
        tenant=name,
        sector=case.sector,
        action=case.action,
        place=found.place,
        places=_place_name(found),
        purpose=purpose,
        tenants=who.tenants,
        purposes=who.purposes,
        since=_start(span),
        until=_end(span),
        decision=decision,
    )


def _example(request: Request, moment: datetime) -> AuthorizationUse:
    """Return an authorisation that the request could use, if somebody registered it."""
    assert request.tenant is not None
    terms = Authorization(
        tenant=request.tenant_id,
        number="example",
        issuer="Whoever issues authorisations",
        purposes=(request.purpose,),
        place=request.tenant.jurisdiction,
        starts=instant_text(moment.replace(microsecond=0)),
        ends=instant_text(NEVER.replace(microsecond=0)),
        searches=1,
    )
    return AuthorizationUse(state="used", search="example", number=terms.number, terms=terms)


def _place_name(found: PlaceClass) -> str:
    if found.rest_of is None:
        return found.place
    return f"elsewhere in {found.rest_of[-1]}" if found.rest_of else "anywhere else"


def _start(span: _Span) -> str:
    return "" if span[0] == FIRST else instant_text(span[0])


def _end(span: _Span) -> str:
    return "" if span[1] >= NEVER else instant_text(span[1])


def _regions(
    claim: PolicyClaim,
    compiled: tuple[CompiledFlags, ...],
    spans: Callable[[tuple[int, ...]], list[_Span]],
    findings: Callable[[tuple[int, ...], datetime], Iterator[_Finding]],
) -> list[Region]:
    """Return the findings of every case in each of its spans, joined where they are the same."""
    classes = _classes(claim, *compiled)
    cases, name_places = _cases(claim, compiled, classes), _PlaceNames(classes)
    joined: dict[tuple[_Finding, _Span], list[_Case]] = defaultdict(list)
    for binding, members in cases.items():
        open_since: dict[_Finding, datetime] = {}
        stretches = spans(binding)
        for span in stretches:
            now = set(findings(binding, span[0]))
            for gone in open_since.keys() - now:
                joined[gone, (open_since.pop(gone), span[0])] += members
            for finding in now:
                open_since.setdefault(finding, span[0])
        for finding, since in open_since.items():
            joined[finding, (since, stretches[-1][1])] += members
    return sorted(
        (
            Region(
                kind=finding.kind,
                sectors=sectors,
                actions=actions,
                places=name_places(places),
                tenants=finding.who.tenants,
                purposes=finding.who.purposes,
                since=_start(span),
                until=_end(span),
                **finding.terms._asdict(),
            )
            for (finding, span), members in joined.items()
            for sectors, actions, places in _boxes(members)
        ),
        key=lambda region: (
            list(RegionKind).index(region.kind),
            region.since,
            region.places,
            region.sectors,
            region.actions,
        ),
    )


def _boxes(cases: Iterable[_Case]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...], frozenset[int]]]:
    """Yield the cases as boxes: sectors times actions times places."""
    places: dict[tuple[str, str], set[int]] = defaultdict(set)
    for case in cases:
        places[case.sector, case.action].add(case.place)
    actions: dict[tuple[str, frozenset[int]], list[str]] = defaultdict(list)
    for (sector, action), found in places.items():
        actions[sector, frozenset(found)].append(action)
    sectors: dict[tuple[tuple[str, ...], frozenset[int]], list[str]] = defaultdict(list)
    for (sector, found_places), named in actions.items():
        sectors[tuple(sorted(named)), found_places].append(sector)
    for (named_actions, found_places), named in sectors.items():
        yield tuple(sorted(named)), named_actions, found_places


class _PlaceNames:
    """The words for sets of the classes of places, as few as possible."""

    def __init__(self, classes: Sequence[PlaceClass]) -> None:
        self._classes = classes
        self._everything = frozenset(range(len(classes)))
        self._lines = [_node(found) for found in classes]
        whole: dict[tuple[str, ...], set[int]] = defaultdict(set)
        for number, line in enumerate(self._lines):
            for depth in range(1, len(line) + 1):
                whole[line[:depth]].add(number)
        self._whole = {line: frozenset(numbers) for line, numbers in whole.items()}
        self._unions = {
            union: frozenset(number for number, found in enumerate(classes) if within(found.place, union))
            for union in UNIONS
            if self._whole.keys() >= set(lines(union))
        }
        self._known: dict[frozenset[int], tuple[str, ...]] = {self._everything: ("anywhere",)}

    def __call__(self, chosen: frozenset[int]) -> tuple[str, ...]:
        """Return places, or ``anywhere but`` and places."""
        if chosen not in self._known:
            names, others = self._least(chosen), self._least(self._everything - chosen)
            self._known[chosen] = names if len(names) <= len(others) else ("anywhere but", *others)
        return self._known[chosen]

    def _least(self, chosen: frozenset[int]) -> tuple[str, ...]:
        complete = {union for union, parts in self._unions.items() if parts <= chosen}
        names, left = set(complete), chosen.difference(*(self._unions[union] for union in complete))
        full = {
            line for line in {self._lines[number] for number in left} if self._whole.get(line, left) <= chosen
        }
        for number in left:
            found, line = self._classes[number], self._lines[number]
            covering = next((line[:depth] for depth in range(1, len(line) + 1) if line[:depth] in full), None)
            alone = found.place in UNIONS or (found.rest_of is None and len(self._whole[line]) > 1)
            name = _place_name(found)
            names.add(covering[-1] if covering else f"{name} as a whole" if alone else name)
        return tuple(sorted(names))


def _node(found: PlaceClass) -> tuple[str, ...]:
    """Return the place of a class in the hierarchy; a union is outside it."""
    if found.place in UNIONS:
        return ()
    return found.line if found.rest_of is None else found.rest_of
