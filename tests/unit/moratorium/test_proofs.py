"""Proofs agree with trying everything, and with a solver, on random documents; and they are exact in words."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Any

import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from abeyance.moratorium import words
from abeyance.moratorium.audits import AuditFacts, AuditRates, AuditUse
from abeyance.moratorium.authorization import Authorization, AuthorizationUse
from abeyance.moratorium.claims import ANY, ClaimError, PolicyClaim, implies, parse_claim
from abeyance.moratorium.decide import Decision, Request, decide
from abeyance.moratorium.document import Flag, FlagSet, parse
from abeyance.moratorium.guardrails import Guardrails, parse_guardrails, violations
from abeyance.moratorium.places import UNIONS, lines, overlap, same_place, within
from abeyance.moratorium.presets import document as of_presets
from abeyance.moratorium.presets import new_deployment, presets
from abeyance.moratorium.proofs import (
    Counterexample,
    Region,
    RegionKind,
    changes_on,
    difference,
    prove,
    who_may,
)
from abeyance.moratorium.tenants import Tenant
from abeyance.moratorium.validate import check
from abeyance.moratorium.vocabulary import ACTIONS, INVOLVES, SECTORS

from . import strategies as s
from .conftest import hosted, moment, value

#: Places that flags mention, and places around, in, beside and across them.
MENTIONED = (*s.PLACES, "EU", "FR", "FR-GP", "NC", "PR")
PLACES = (
    *MENTIONED,
    "US-CA-X",
    "US-WA",
    "US-OR-PORTLAND",
    "DE-BY",
    "GP",
    "GP-X1",
    "FR-IDF",
    "NL",
    "NL-AW",
    "AQ",
    "EH",
)
SECTORS_TRIED = (*s.SECTORS, "research")
ACTIONS_TRIED = (*s.ACTIONS, "template_search", "template_export", "template_import")
TENANTS = (*s.TENANTS, "another")
PURPOSES = (*s.PURPOSES, "another")
ALL_DAYS = range(-1, 22)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Up to four flags over a small vocabulary of actions, sectors, tenants, purposes and days, and more places."""
    document = {}
    for key in draw(st.lists(s.KEYS, max_size=4, unique=True)):
        flag = draw(s.values())
        if draw(st.booleans()):
            flag["jurisdictions"] = draw(
                st.lists(st.sampled_from(MENTIONED), min_size=1, max_size=3, unique=True)
            )
        document[key] = flag
    return document


def authorized(request: Request) -> AuthorizationUse:
    """Return an authorisation that covers a request at all times."""
    assert request.tenant is not None
    terms = Authorization(
        tenant=request.tenant_id,
        number="26-1",
        issuer="A court",
        purposes=(request.purpose,),
        place=request.tenant.jurisdiction,
        starts="1999-01-01T00:00:00Z",
        ends="2099-01-01T00:00:00Z",
        searches=1,
    )
    return AuthorizationUse(state="used", search="s", number="26-1", terms=terms)


def audited(day: datetime) -> AuditUse:
    """Return an audit of a day that is within all bounds."""
    rates = tuple(AuditRates(similarity=one, fmr=0.0, fmr_ratio=1.0, accuracy=1.0) for one in (80.0, 99.0))
    facts = AuditFacts(digest="d", model="m@1", measured=s.text(day), signers=s.SIGNERS, rates=rates)
    return AuditUse(model="m@1", facts=facts)


#: Asked in an emergency, a moment ago for some of the days that are tried.
LATE = AuthorizationUse(state="late", search="s", since=s.text(s.day(3)))


@st.composite
def claims(draw: st.DrawFn) -> PolicyClaim:
    def some(words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(draw(st.lists(st.sampled_from(words), max_size=2, unique=True)))

    verb = draw(st.sampled_from(["deny", "permit"]))
    terms = draw(
        st.sampled_from(
            [
                (0, None, ""),
                (0, None, ""),
                (1, None, ""),
                (2, None, ""),
                (0, 90.0, ""),
                (0, None, "authorization"),
                (0, None, "audit"),
            ]
        )
    )
    since, length = draw(st.none() | st.integers(-1, 12)), draw(st.none() | st.integers(1, 9))
    return PolicyClaim(
        verb=verb,
        sector=draw(st.sampled_from([ANY, *SECTORS_TRIED])),
        action=draw(st.sampled_from([ANY, *ACTIONS_TRIED])),
        place=draw(st.sampled_from([ANY, *PLACES])),
        tenants=some(TENANTS),
        purposes=some(PURPOSES) if draw(st.booleans()) else (),
        unless=some(PURPOSES) if draw(st.booleans()) else (),
        reviewers=terms[0] if verb == "deny" else 0,
        similarity=terms[1] if verb == "deny" else None,
        authorization=verb == "deny" and terms[2] == "authorization",
        audit=verb == "deny" and terms[2] == "audit",
        since=None if since is None else s.day(since),
        until=None if since is None or length is None else s.day(since + length),
    )


def contradicts(decision: Decision, claim: PolicyClaim) -> bool:
    """Return whether one decision in the scope of a claim is what the claim says that there is none of."""
    if claim.verb == "permit":
        return not decision.permitted
    if claim.authorization:
        return decision.permitted and decision.authorization is None
    if claim.audit:
        return decision.permitted and all(part.clause != "audited" for part in decision.flags)
    if not decision.permitted:
        return False
    if claim.reviewers:
        return decision.human_review < claim.reviewers
    return claim.similarity is None or (decision.min_similarity or 0.0) < claim.similarity


def in_scope(claim: PolicyClaim, tenant_id: str, purpose: str, day: datetime) -> bool:
    return (
        (not claim.tenants or tenant_id in claim.tenants)
        and (not claim.purposes or purpose in claim.purposes)
        and purpose not in claim.unless
        and (claim.since is None or claim.since <= day)
        and (claim.until is None or day < claim.until)
    )


def edges(document: dict[str, Any]) -> set[int]:
    found = {-1}
    for flag in document.values():
        for name in ("starts", "ends", "exempt_until"):
            if name in flag:
                found.add((datetime.fromisoformat(flag[name]) - s.EPOCH).days)
    return found


def tried(claim: PolicyClaim, document: dict[str, Any], flags: FlagSet) -> Decision | None:
    """Try everything there is in the small vocabulary; return the first decision that contradicts."""
    days = edges(document) | ({(claim.since - s.EPOCH).days} if claim.since else set())
    for sector, action, place in itertools.product(
        SECTORS_TRIED if claim.sector == ANY else (claim.sector,),
        ACTIONS_TRIED if claim.action == ANY else (claim.action,),
        PLACES,
    ):
        if claim.place != ANY and not within(place, claim.place):
            continue
        for tenant_id in TENANTS:
            who = Tenant(
                id=tenant_id, sector=sector, jurisdiction=place, actions=ACTIONS_TRIED, purposes=PURPOSES
            )
            for purpose, number in itertools.product(PURPOSES, days):
                if in_scope(claim, tenant_id, purpose, s.day(number)):
                    request = Request(tenant=who, tenant_id=tenant_id, action=action, purpose=purpose)
                    for use, audit in itertools.product(
                        (None, authorized(request), LATE), (None, audited(s.day(number)))
                    ):
                        asked = structs.replace(request, authorization=use, audit=audit)
                        decision = decide(asked, flags, s.day(number))
                        if contradicts(decision, claim):
                            return decision
    return None


def check_counterexample(found: Counterexample, claim: PolicyClaim) -> None:
    """Hold a counterexample against the claim: it is in its scope, and ``decide`` itself contradicts."""
    assert claim.sector in (ANY, found.sector)
    assert claim.action in (ANY, found.action)
    assert claim.place == ANY or within(found.place, claim.place)
    decision = found.decision
    assert not decision.fault
    assert (decision.tenant, decision.jurisdiction) == (found.tenant, found.place)
    assert in_scope(claim, found.tenant, found.purpose, datetime.fromisoformat(decision.as_of))
    assert contradicts(decision, claim)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(s.MANY, max_examples=500)
@given(documents(), claims())
def test_a_proof_agrees_with_trying_everything(document, claim) -> None:
    flags = parse(document)
    proof = prove(claim, flags)
    if proof.counterexample is None:
        assert tried(claim, document, flags) is None
    else:
        check_counterexample(proof.counterexample, claim)


class Question:
    """The same question to a solver: flags as formulas over one request, written down apart from ``decide``."""

    def __init__(self) -> None:
        self.sector, self.action, self.place, self.tenant, self.purpose, self.day = z3.Ints(
            "sector action place tenant purpose day"
        )
        self.audited = z3.Bool("audited")
        self.sectors, self.actions = sorted(SECTORS), sorted(ACTIONS)
        self.basis = z3.And(
            self.sector >= 0,
            self.sector < len(self.sectors),
            self.action >= 0,
            self.action < len(self.actions),
            self.place >= 0,
            self.place < len(PLACES),
            self.day >= -5,
        )

    def among(self, variable: z3.ArithRef, numbers: Any) -> z3.BoolRef:
        return z3.Or([variable == number for number in numbers])

    def binds(self, flag: Flag, authorized: z3.BoolRef) -> z3.BoolRef:
        """Return that a flag binds; the latest audit may lift those that are bound to one."""
        value = flag.value
        actions = [n for n, action in enumerate(self.actions) if INVOLVES[action] & {*value.actions}]
        places = [
            n
            for n, place in enumerate(PLACES)
            if any(overlap(place, one) for one in flag.jurisdictions or ())
        ]
        parts = [self.day >= days(flag.starts)]
        if "all" not in value.actions:
            parts.append(self.among(self.action, actions))
        if "all" not in value.sectors:
            parts.append(self.among(self.sector, [self.sectors.index(one) for one in value.sectors]))
        if flag.jurisdictions is not None:
            parts.append(self.among(self.place, places))
        if flag.ends is not None and not flag.hold:
            parts.append(self.day < days(flag.ends))
        if flag.audit is not None:
            parts.append(z3.Not(self.audited))
        return z3.And(*parts, z3.Not(self.exempts(flag, authorized)))

    def exempts(self, flag: Flag, authorized: z3.BoolRef) -> z3.BoolRef:
        if not flag.exempt_purposes:
            return z3.BoolVal(False)
        parts = [self.among(self.purpose, [PURPOSES.index(one) for one in flag.exempt_purposes])]
        if flag.exempt_tenants:
            parts.append(self.among(self.tenant, [TENANTS.index(one) for one in flag.exempt_tenants]))
        if flag.exempt_until is not None:
            parts.append(self.day < days(flag.exempt_until))
        if flag.authorization_required:
            parts.append(authorized)
        return z3.And(parts)

    def contradiction(self, claim: PolicyClaim, flags: FlagSet) -> z3.BoolRef:
        # Whoever asks may have an authorisation, or none.
        authorized = z3.Bool("authorized")
        halted = z3.Or([self.binds(flag, authorized) for flag in flags.flags if flag.effect == "halt"])
        restricts = [flag for flag in flags.flags if flag.effect == "restrict"]
        enough = z3.BoolVal(False)
        if claim.reviewers:
            enough = z3.Or(
                [self.binds(flag, authorized) for flag in restricts if flag.human_review >= claim.reviewers]
            )
        elif claim.similarity is not None:
            enough = z3.Or(
                [
                    self.binds(flag, authorized)
                    for flag in restricts
                    if (flag.min_similarity or 0) >= claim.similarity
                ]
            )
        wrong = z3.And(z3.Not(halted), z3.Not(enough)) if claim.verb == "deny" else halted
        scope = [self.basis, wrong]
        if claim.authorization:
            scope.append(z3.Not(authorized))
        if claim.audit:
            scope.append(z3.Not(self.audited))
        if claim.sector != ANY:
            scope.append(self.sector == self.sectors.index(claim.sector))
        if claim.action != ANY:
            scope.append(self.action == self.actions.index(claim.action))
        if claim.place != ANY:
            scope.append(
                self.among(self.place, [n for n, one in enumerate(PLACES) if within(one, claim.place)])
            )
        if claim.tenants:
            scope.append(self.among(self.tenant, [TENANTS.index(one) for one in claim.tenants]))
        if claim.purposes:
            scope.append(self.among(self.purpose, [PURPOSES.index(one) for one in claim.purposes]))
        if claim.unless:
            scope.append(z3.Not(self.among(self.purpose, [PURPOSES.index(one) for one in claim.unless])))
        if claim.since is not None:
            scope.append(self.day >= days(claim.since))
        if claim.until is not None:
            scope.append(self.day < days(claim.until))
        return z3.And(scope)


def days(moment: datetime) -> int:
    return (moment - s.EPOCH).days


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(s.MANY, max_examples=500)
@given(documents(), claims())
def test_a_proof_agrees_with_a_solver(document, claim) -> None:
    flags = parse(document)
    solver = z3.Solver()
    solver.add(Question().contradiction(claim, flags))
    assert prove(claim, flags).holds == (solver.check() == z3.unsat)


# -- regions


def holds_place(name: str, place: str, mentioned: set[str]) -> bool:
    """Return whether a region's word for places holds a place, given all places that the documents mention."""
    if name == "anywhere":
        return True
    whole, _, rest = name.partition(" as a whole")
    if not rest and name.endswith(" as a whole"):
        return same_place(place, whole)
    if name == "anywhere else":
        return not any(overlap(place, one) for one in mentioned) and place not in UNIONS
    if name.startswith("elsewhere in "):
        whole = name.removeprefix("elsewhere in ")
        around = [one for one in mentioned if within(one, whole) and not same_place(one, whole)]
        return (
            within(place, whole)
            and not same_place(place, whole)
            and not any(overlap(place, one) for one in around)
        )
    return within(place, name)


def in_places(names: tuple[str, ...], place: str, mentioned: set[str]) -> bool:
    if names[0] == "anywhere but":
        return not in_places(names[1:], place, mentioned)
    return any(holds_place(name, place, mentioned) for name in names)


def holds(region: Region, request_: Request, day: datetime, mentioned: set[str]) -> bool:
    tenant = request_.tenant
    assert tenant is not None
    return (
        tenant.sector in region.sectors
        and request_.action in region.actions
        and in_places(region.places, tenant.jurisdiction, mentioned)
        and (tenant.id in region.tenants.named) != region.tenants.all_but
        and (request_.purpose in region.purposes.named) != region.purposes.all_but
        and (not region.since or datetime.fromisoformat(region.since) <= day)
        and (not region.until or day < datetime.fromisoformat(region.until))
    )


@st.composite
def questions(draw: st.DrawFn) -> tuple[Request, datetime]:
    who = Tenant(
        id=draw(st.sampled_from(TENANTS)),
        sector=draw(st.sampled_from(SECTORS_TRIED)),
        jurisdiction=draw(st.sampled_from(PLACES)),
        actions=ACTIONS_TRIED,
        purposes=PURPOSES,
    )
    action, purpose = draw(st.sampled_from(ACTIONS_TRIED)), draw(st.sampled_from(PURPOSES))
    return Request(tenant=who, tenant_id=who.id, action=action, purpose=purpose), s.day(
        draw(st.integers(-2, 22))
    )


def mentions(*documents: dict[str, Any]) -> set[str]:
    """Return all places that cut a class: those of the flags, and what they consist of."""
    named = {
        place
        for document in documents
        for flag in document.values()
        for place in flag["jurisdictions"]
        if place != "all"
    }
    return {line[-1] for place in named for line in lines(place)} | named - UNIONS.keys()


def terms(request_: Request, flags: FlagSet, day: datetime) -> tuple[float, int, bool, bool]:
    """Return the terms of a permit: whether it takes an audit shows without one."""
    decision = decide(request_, flags, day)
    unaudited = decide(structs.replace(request_, audit=None), flags, day)
    return (
        decision.min_similarity or 0.0,
        decision.human_review,
        decision.authorization is not None,
        not unaudited.permitted,
    )


@settings(s.MANY, max_examples=100)
@given(documents(), documents(), st.lists(questions(), min_size=20, max_size=40))
def test_the_difference_of_two_documents_is_exact(old, new, asked) -> None:
    before, after, mentioned = parse(old), parse(new), mentions(old, new)
    found = difference(before, after)
    for request_, day in asked:
        asked_ = structs.replace(request_, authorization=authorized(request_), audit=audited(day))
        was, becomes = (decide(asked_, flags, day) for flags in (before, after))
        kinds = {region.kind for region in found if holds(region, request_, day, mentioned)}
        expected = set()
        if becomes.permitted and not was.permitted:
            expected = {RegionKind.NEWLY_PERMITTED}
        elif was.permitted and not becomes.permitted:
            expected = {RegionKind.NEWLY_DENIED}
        elif was.permitted:
            pairs = list(zip(terms(asked_, before, day), terms(asked_, after, day), strict=True))
            expected |= {RegionKind.LESS_RESTRICTED} if any(a > b for a, b in pairs) else set()
            expected |= {RegionKind.MORE_RESTRICTED} if any(a < b for a, b in pairs) else set()
        assert kinds == expected


@settings(s.MANY, max_examples=100)
@given(documents(), st.lists(questions(), min_size=20, max_size=40))
def test_who_may_is_exact(document, asked) -> None:
    flags, mentioned = parse(document), mentions(document)
    found = who_may(parse_claim("permit any any in any"), flags)
    for request_, day in asked:
        asked_ = structs.replace(request_, authorization=authorized(request_), audit=audited(day))
        decision = decide(asked_, flags, day)
        there = [region for region in found if holds(region, request_, day, mentioned)]
        assert len(there) == decision.permitted
        for region in there:
            assert (region.similarity or 0.0) <= (decision.min_similarity or 0.0)
            assert region.reviewers <= decision.human_review
            assert region.authorization == (decision.authorization is not None)
            assert region.audit <= terms(asked_, flags, day)[3]


@settings(s.MANY, max_examples=80)
@given(documents(), st.integers(-1, 21), st.lists(questions(), min_size=10, max_size=20))
def test_what_changes_on_a_day_is_exact(document, number, asked) -> None:
    flags, mentioned = parse(document), mentions(document)
    found = changes_on(s.day(number), flags)
    for plain, _ in asked:
        request_ = structs.replace(
            plain, authorization=authorized(plain), audit=audited(s.day(number) - timedelta(days=1))
        )
        was = decide(request_, flags, s.day(number) - timedelta(microseconds=1))
        request_ = structs.replace(request_, audit=audited(s.day(number)))
        becomes = decide(request_, flags, s.day(number + 1) - timedelta(microseconds=1))
        kinds = {region.kind for region in found if holds(region, request_, s.day(number), mentioned)}
        assert (RegionKind.NEWLY_PERMITTED in kinds) == (becomes.permitted and not was.permitted)
        assert (RegionKind.NEWLY_DENIED in kinds) == (was.permitted and not becomes.permitted)


# -- known documents

NOW = moment("2026-11-27")
HALT = parse(new_deployment())
SAFETY, MICROSOFT, EU = (
    parse(of_presets([name])) for name in ("rekognition-public-safety", "microsoft-2020", "eu-ai-act-2025")
)
PROMISE = "deny law_enforcement search in US unless missing_children, human_trafficking"


def claim(text: str) -> PolicyClaim:
    return parse_claim(text, since=NOW)


@pytest.mark.parametrize(
    ("flags", "text", "holds"),
    [
        (HALT, PROMISE, True),
        (HALT, "deny law_enforcement search in US", False),
        (HALT, "deny law_enforcement any in any unless missing_children, human_trafficking", True),
        (HALT, "deny law_enforcement any in PR by springfield-police", True),
        (HALT, "deny law_enforcement any in any by thorn", False),
        (HALT, "deny law_enforcement any in any by thorn for investigation", True),
        (HALT, "deny commercial search in US", False),
        (HALT, "permit commercial any in any", True),
        (HALT, "permit law_enforcement search in US by thorn, icmec for missing_children", True),
        (HALT, "permit law_enforcement search in US by thorn, acme for missing_children", False),
        (HALT, "deny any search in any without review", False),
        (
            SAFETY,
            "deny law_enforcement search in any without review",
            True,
        ),
        (
            SAFETY,
            "deny law_enforcement search in any without 2 reviewers",
            False,
        ),
        (
            SAFETY,
            "deny law_enforcement search in any without similarity 99",
            False,
        ),
        (
            SAFETY,
            "deny law_enforcement search in any unless missing_children, missing_persons without similarity 99",
            True,
        ),
        (MICROSOFT, "deny law_enforcement any in GU", True),
        (MICROSOFT, "deny law_enforcement any in any", False),
        (
            EU,
            "deny education analyze in EU unless medical_reasons, safety_reasons",
            True,
        ),
        (
            EU,
            "deny education analyze in FR unless medical_reasons, safety_reasons",
            False,
        ),
        (
            EU,
            "deny education analyze in FR-971 unless medical_reasons, safety_reasons",
            True,
        ),
        (parse({}), "permit any any in any", True),
        (parse({}), "deny any any in any", False),
    ],
)
def test_what_known_documents_permit(flags: FlagSet, text: str, holds: bool) -> None:
    proof = prove(claim(text), flags)
    assert proof.holds is holds
    if proof.counterexample is not None:
        check_counterexample(proof.counterexample, claim(text))


def test_the_counterexample_is_the_smallest_and_in_words() -> None:
    found = prove(claim("deny law_enforcement search in US"), HALT).counterexample
    assert found is not None
    assert (found.tenant, found.place, found.purpose) == ("icmec", "US", "human_trafficking")
    sentences = words.counterexample(found)
    assert sentences[0] == (
        "icmec or marinus-analytics or thorn of the sector law enforcement, registered in US, may search for "
        "human trafficking or missing children from 2026-11-27 on."
    )
    france = parse(of_presets(["eu-ai-act-2025"]))
    missed = prove(
        claim("deny education analyze in FR unless medical_reasons, safety_reasons"), france
    ).counterexample
    assert missed is not None
    assert missed.place == "BL"
    ending = parse(hosted(a=value(ends="2027-01-01T00:00:00Z")))
    later = prove(claim("deny military search in DE"), ending).counterexample
    assert later is not None
    assert words.counterexample(later)[0] == (
        "Any tenant of the sector military, registered in DE, may search for any purpose from 2027-01-01 on."
    )


def test_what_changes_on_the_day_on_which_a_moratorium_ends() -> None:
    flags = parse(hosted(a=value(ends="2027-01-01T00:00:00Z", jurisdictions=["US-CA"], actions=["search"])))
    assert changes_on(moment("2026-12-31"), flags) == []
    assert changes_on(moment("2027-01-02"), flags) == []
    found = changes_on(moment("2027-01-01"), flags)
    assert {region.kind for region in found} == {RegionKind.NEWLY_PERMITTED}
    assert {region.actions for region in found} == {("search", "template_search")}
    assert {place for region in found for place in region.places} == {"US as a whole", "US-CA"}
    said = "search, template search by every sector in US as a whole, US-CA: any tenant, for any purpose"
    assert words.region(found[0]) == f"{said} from 2027-01-01 until 2027-01-02"


@pytest.mark.parametrize("found", presets(), ids=lambda found: found.id)
def test_no_document_differs_from_itself(found) -> None:
    flags = parse(of_presets([found.id]))
    assert difference(flags, flags) == []
    tighter = (RegionKind.NEWLY_DENIED, RegionKind.MORE_RESTRICTED)
    assert all(region.kind in tighter for region in difference(parse({}), flags))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "deny",
        "deny police search in US",
        "deny law_enforcement serch in US",
        "deny law_enforcement search in USA",
        "deny law_enforcement search in US-ZZ",
        "deny law_enforcement search US",
        "deny law_enforcement search in US unless",
        "deny law_enforcement search in US unless Missing Children",
        "deny law_enforcement search in US unless any",
        "deny law_enforcement search in US for fun for games",
        "deny law_enforcement search in US unless fun for games",
        "deny law_enforcement search in US without shame",
        "deny law_enforcement search in US without 11 reviewers",
        "deny law_enforcement search in US without similarity 101",
        "permit law_enforcement search in US without review",
        "allow law_enforcement search in US",
        "deny law_enforcement search in US by THORN",
        "deny all all in all",
    ],
)
def test_what_is_no_claim(text: str) -> None:
    with pytest.raises(ClaimError, match="A claim is: deny"):
        parse_claim(text)


def test_a_claim_that_ends_before_it_begins_is_none() -> None:
    with pytest.raises(ClaimError, match="ends before"):
        parse_claim("deny any any in any", since=NOW, until=NOW)


@given(claims())
def test_a_claim_reads_as_it_is_written(given) -> None:
    assert parse_claim(str(given), since=given.since, until=given.until) == given


# -- guardrails


def rails(text: str, **more: str) -> Guardrails:
    written = {"claim": text, "reason": "Because.", "source": "A law", **more}
    return parse_guardrails({"version": "1", "guardrails": {"rail": written}})


@settings(s.MANY, max_examples=300)
@given(documents(), claims(), claims(), st.integers(0, 12))
def test_what_a_stronger_claim_refuses_a_weaker_one_refuses(document, one, other, number) -> None:
    flags = parse(document)
    if implies(one, other) and prove(one, flags).holds:
        assert prove(other, flags).holds


REVIEW = "deny law_enforcement search in any without review"


def test_a_guardrail_holds_whoever_approves() -> None:
    lifted, reviewed = hosted(), of_presets(["rekognition-public-safety"])

    def refused(document: dict[str, Any], guardrails: Guardrails) -> str:
        findings = check(document, as_of=NOW, guardrails=guardrails)
        return " ".join(finding.message for finding in findings)

    assert refused(lifted, rails(PROMISE)).startswith(
        "this breaks the guardrail rail (deny law_enforcement search"
    )
    assert "may search for any purpose but human trafficking or missing children" in refused(
        lifted, rails(PROMISE)
    )
    assert "guardrail" in refused(lifted, rails(REVIEW))
    assert refused(reviewed, rails(REVIEW)) == ""
    assert refused(new_deployment(), rails(PROMISE)) == ""
    assert "guardrail" in refused(new_deployment(), rails(REVIEW))


def test_a_guardrail_speaks_of_its_own_time() -> None:
    until_2027 = hosted(a=value(ends="2027-01-01T00:00:00Z"))
    for starts, ends, held in (
        ("", "", False),
        ("2020-01-01T00:00:00Z", "2026-12-01T00:00:00Z", True),
        ("2020-01-01T00:00:00Z", "2020-02-01T00:00:00Z", True),
        ("2026-12-31T00:00:00Z", "2027-01-02T00:00:00Z", False),
        ("2027-01-01T00:00:00Z", "", False),
    ):
        window = {name: text for name, text in (("starts", starts), ("ends", ends)) if text}
        assert (not violations(rails("deny any any in any", **window), parse(until_2027), NOW)) is held
