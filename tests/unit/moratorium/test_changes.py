"""Classification of registrations, people and guardrails: nothing called a tightening permits anything more."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abeyance.moratorium.changes import (
    ChangeKind,
    classify,
    classify_guardrails,
    classify_links,
    classify_registration,
)
from abeyance.moratorium.claims import implies, parse_claim
from abeyance.moratorium.decide import Request, decide
from abeyance.moratorium.document import FlagSet, parse
from abeyance.moratorium.guardrails import GuardrailError, Guardrails, parse_guardrails
from abeyance.moratorium.presets import document as of_presets
from abeyance.moratorium.presets import new_deployment, presets
from abeyance.moratorium.tenants import Tenant

from . import strategies as s
from .conftest import tenant
from .test_laws import at_least_as_strict

PRINCIPALS = ("alpha-key", "arn:aws:iam::123456789012:role/Alpha")
PLACES = (*s.PLACES, "PR", "US-PR", "FR", "GP", "EU")


def subsets(words: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(words), max_size=3, unique=True).map(tuple)


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "sector": st.sampled_from(s.SECTORS),
    "jurisdiction": st.sampled_from(PLACES),
    "actions": subsets(s.ACTIONS),
    "purposes": subsets(s.PURPOSES),
    "principals": subsets(PRINCIPALS),
    "status": st.sampled_from(["active", "suspended"]),
}
registrations = st.builds(lambda **fields: Tenant(id="alpha", **fields), **FIELDS)


@st.composite
def edits(draw: st.DrawFn) -> tuple[Tenant | None, Tenant | None]:
    """Two registrations of one tenant that differ in a few fields, or not at all, or of which one is missing."""
    old = draw(registrations)
    names = draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=2, unique=True))
    new = msgspec.structs.replace(old, **{name: draw(FIELDS[name]) for name in names})
    return draw(st.sampled_from([(old, new), (old, new), (old, new), (None, new), (old, None)]))


def answers(registered: Tenant | None, flags: FlagSet, day: int) -> list[Any]:
    """Decide everything that may be asked by the tenant's name and by each principal."""
    decisions = []
    for caller, action, purpose, place in itertools.product(
        ("alpha", *PRINCIPALS), s.ACTIONS, s.PURPOSES, (None, "US-CA", "DE", "PR", "FR-GP", "FR")
    ):
        found = registered
        if caller in PRINCIPALS and (found is None or caller not in found.principals):
            found = None
        request = Request(tenant=found, tenant_id="alpha", action=action, purpose=purpose, jurisdiction=place)
        decisions.append(decide(request, flags, s.day(day)))
    return decisions


@settings(s.MANY, max_examples=250)
@given(edits(), s.value_documents(), st.integers(0, 21))
def test_a_change_of_a_registration_that_is_no_loosening_permits_nothing_more(edit, values, day) -> None:
    old, new = edit
    change = classify_registration(old, new)
    assert change.people == (2 if change.kind is ChangeKind.LOOSENING else 1)
    if change.kind is ChangeKind.LOOSENING:
        return
    flags = parse(values)
    for was, becomes in zip(answers(old, flags, day), answers(new, flags, day), strict=True):
        assert at_least_as_strict(becomes, was)
        assert change.kind is ChangeKind.TIGHTENING or at_least_as_strict(was, becomes)


LOOSER, TIGHTER, SAME = ChangeKind.LOOSENING, ChangeKind.TIGHTENING, ChangeKind.NEUTRAL


@pytest.mark.parametrize(
    ("edit", "kind"),
    [
        ({}, SAME),
        ({"status": "suspended"}, TIGHTER),
        ({"sector": "commercial"}, LOOSER),
        ({"sector": "military"}, LOOSER),
        ({"jurisdiction": "US"}, LOOSER),
        ({"jurisdiction": "US-IL-CHICAGO"}, LOOSER),
        ({"jurisdiction": "DE"}, LOOSER),
        ({"purposes": ("investigation",)}, TIGHTER),
        ({"purposes": ("investigation", "fun")}, LOOSER),
        ({"actions": ()}, TIGHTER),
        ({"principals": ("other",)}, LOOSER),
        ({"principals": ()}, TIGHTER),
        ({"principals": (), "status": "suspended", "purposes": ()}, TIGHTER),
        ({"status": "suspended", "sector": "commercial"}, LOOSER),
    ],
    ids=str,
)
def test_what_kind_of_change_of_a_registration_it_is(edit: dict[str, Any], kind: ChangeKind) -> None:
    old = tenant(principals=("police",))
    new = msgspec.structs.replace(old, **edit)
    assert classify_registration(old, new).kind is kind
    assert classify_registration(new, old).kind is (LOOSER if kind is TIGHTER else kind)


def test_two_codes_of_a_place_are_no_change() -> None:
    assert classify_registration(tenant(jurisdiction="PR"), tenant(jurisdiction="US-PR")).kind is SAME


def test_every_attribute_of_a_registration_has_a_rule_or_loosens() -> None:
    old = tenant(principals=("police",), buckets=("doors/in/",), uploads=("doors/in/=index:staff",))
    other = {"sector": "military", "jurisdiction": "DE", "status": "suspended", "buckets": ("doors/",)}
    for name in Tenant.__struct_fields__[1:]:
        was = getattr(old, name)
        becomes = other.get(name, (*was, "detective") if name == "principals" else ())
        change = classify_registration(old, msgspec.structs.replace(old, **{name: becomes}))
        assert [part.name for part in change.attributes] == [name]
        assert change.kind is not SAME


def test_another_place_in_s3_loosens_and_one_less_tightens() -> None:
    old = tenant(buckets=("doors/in/", "gates"))
    for places, kind in (
        (("doors/in/", "gates", "halls"), LOOSER),
        (("doors/in/",), TIGHTER),
        ((), TIGHTER),
        (("doors", "gates"), LOOSER),
        (("halls",), LOOSER),
    ):
        assert classify_registration(old, msgspec.structs.replace(old, buckets=places)).kind is kind


def test_another_rule_for_uploads_loosens_and_one_less_tightens() -> None:
    old = tenant(buckets=("doors",), uploads=("doors/in/=index:staff", "doors/out/=search:staff"))
    for rules, kind in (
        (("doors/in/=index:staff", "doors/out/=search:staff", "doors/up/=analyze:staff"), LOOSER),
        (("doors/in/=index:staff",), TIGHTER),
        ((), TIGHTER),
        (("doors/in/=search:staff",), LOOSER),
        (("doors/in/=index:staff:access_control", "doors/out/=search:staff"), LOOSER),
    ):
        assert classify_registration(old, msgspec.structs.replace(old, uploads=rules)).kind is kind


@pytest.mark.parametrize("name", ["thorn", "icmec", "marinus-analytics", "anybody"])
@pytest.mark.parametrize("status", ["active", "suspended"])
def test_registering_takes_two_also_under_a_name_that_an_exemption_mentions(name: str, status: str) -> None:
    newcomer = tenant(name, "commercial", status=status)
    change = classify_registration(None, newcomer)
    assert (change.kind, change.people) == (LOOSER, 2)
    assert classify_registration(newcomer, None).kind is TIGHTER


def test_registrations_of_two_tenants_are_not_compared() -> None:
    with pytest.raises(ValueError, match="two tenants"):
        classify_registration(tenant("alpha"), tenant("beta"))


@pytest.mark.parametrize("found", presets(), ids=lambda found: found.id)
def test_a_preset_over_live_flags_is_a_change_like_any_other(found) -> None:
    live = parse(of_presets([found.id, "police-halt"] if found.id != "police-halt" else ["police-halt"]))
    back = classify(live, parse(new_deployment()))
    covered = found.id in ("police-halt", "amazon-police-2020", "amazon-police-2021")
    assert back.kind is (SAME if covered else LOOSER)
    assert classify(parse(new_deployment()), live).kind in (SAME, TIGHTER)


# -- people

NAMES = ("a", "b", "c", "d")
links = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["ada", "bob", "eve"]))


@settings(s.MANY, max_examples=400)
@given(links, links)
def test_a_change_of_people_that_is_no_loosening_lets_nobody_more_agree(old, new) -> None:
    change = classify_links(old, new)
    agreeing = [
        {(one, other) for one in linked for other in linked if linked[one] != linked[other]}
        for linked in (old, new)
    ]
    looser = not new.keys() <= old.keys() or not agreeing[1] <= agreeing[0]
    tighter = not old.keys() <= new.keys() or not agreeing[0] <= agreeing[1]
    assert (change.kind is LOOSER) == looser
    assert (change.kind is SAME) == (not looser and not tighter)
    assert change.people == (2 if looser else 1)


# -- guardrails


def guardrails(*claims: str, **more: str) -> Guardrails:
    return parse_guardrails(
        {
            "version": "1",
            "guardrails": {
                f"g{number}": {"claim": claim, "reason": "Because.", "source": "A law", **more}
                for number, claim in enumerate(claims)
            },
        }
    )


POLICE = "deny law_enforcement search in US without review"


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ([POLICE], [POLICE], SAME),
        ([], [POLICE], TIGHTER),
        ([POLICE], [], LOOSER),
        ([POLICE], ["deny law_enforcement search in any without review"], TIGHTER),
        ([POLICE], ["deny law_enforcement search in US-CA without review"], LOOSER),
        ([POLICE], ["deny law_enforcement search in US without 2 reviewers"], TIGHTER),
        ([POLICE], ["deny law_enforcement search in US"], TIGHTER),
        ([POLICE], ["deny law_enforcement search in US unless missing_children without review"], LOOSER),
        ([POLICE], ["deny any any in PR without review", POLICE], TIGHTER),
        (["deny any search in PR"], ["deny any search in US-PR"], SAME),
    ],
)
def test_every_change_of_guardrails_takes_three(old: list[str], new: list[str], kind: ChangeKind) -> None:
    change = classify_guardrails(guardrails(*old), guardrails(*new))
    assert change.kind is kind
    assert change.people == (1 if old == new else 3)


def test_a_guardrail_that_ends_earlier_is_looser() -> None:
    forever, shorter = guardrails(POLICE), guardrails(POLICE, ends="2030-01-01T00:00:00Z")
    assert classify_guardrails(forever, shorter).kind is LOOSER
    assert classify_guardrails(shorter, forever).kind is TIGHTER


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"version": "2", "guardrails": {}},
        {"version": "1", "guardrails": {"a": {"claim": POLICE, "reason": "x"}}},
        {"version": "1", "guardrails": {"A": {"claim": POLICE, "reason": "x", "source": "y"}}},
        {"version": "1", "guardrails": {"a": {"claim": "deny police", "reason": "x", "source": "y"}}},
        {"version": "1", "guardrails": {"a": {"claim": POLICE, "reason": "x", "source": "y", "more": 1}}},
        {
            "version": "1",
            "guardrails": {"a": {"claim": POLICE, "reason": "x", "source": "y", "starts": "now"}},
        },
    ],
    ids=str,
)
def test_guardrails_are_read_strictly(document: dict[str, Any]) -> None:
    with pytest.raises(GuardrailError):
        parse_guardrails(document)


@pytest.mark.parametrize(
    ("stronger", "weaker", "follows"),
    [
        ("deny any any in any", "deny law_enforcement search in US-CA for fun", True),
        ("deny any any in any", "deny law_enforcement search in any without review", True),
        ("deny any search in any without review", "deny any search in any", False),
        ("deny any any in any unless fun", "deny any any in any for investigation", True),
        ("deny any any in any unless fun", "deny any any in any for investigation, fun", False),
        ("deny any any in any unless fun", "deny any any in any for investigation, fun unless fun", True),
        ("deny any any in any by thorn", "deny any any in any", False),
        ("deny any any in any", "deny any any in any by thorn", True),
        ("deny any any in EU", "deny any any in GP", True),
        ("deny any any in EU", "deny any any in NC", False),
        ("permit any any in any", "permit personal detect in US", True),
        ("permit any any in any", "deny personal detect in US", False),
        (
            "deny any search in any without similarity 99",
            "deny any search in any without similarity 90",
            True,
        ),
        ("deny any search in any without similarity 90", "deny any search in any without review", False),
    ],
)
def test_one_claim_follows_from_another(stronger: str, weaker: str, follows: bool) -> None:
    assert implies(parse_claim(stronger), parse_claim(weaker)) is follows
