"""The laws that hold for every document, request and moment."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abeyance.moratorium.authorization import Authorization, AuthorizationUse
from abeyance.moratorium.changes import ChangeKind, classify
from abeyance.moratorium.decide import Clause, Decision, Request, decide, rebuild
from abeyance.moratorium.document import FlagSet, instant, parse
from abeyance.moratorium.errors import FlagsError
from abeyance.moratorium.tenants import Tenant

from . import strategies as s
from .conftest import value


def covering(tenant_id: str, purpose: str) -> AuthorizationUse:
    """Return a used authorisation that covers a tenant and a purpose everywhere in the United States, at all times."""
    terms = Authorization(
        tenant=tenant_id,
        number="26-1",
        issuer="A court",
        purposes=(purpose,),
        place="US",
        starts="1999-01-01T00:00:00Z",
        ends="2099-01-01T00:00:00Z",
        searches=1,
    )
    return AuthorizationUse(state="used", search="s", number="26-1", terms=terms)


def strictness(decision: Decision) -> tuple[float, float]:
    """Return how much a decision takes away: similarity and reviewers, and all of both for a denial."""
    if not decision.permitted:
        return math.inf, math.inf
    similarity = -1.0 if decision.min_similarity is None else decision.min_similarity
    return similarity, float(decision.human_review)


def at_least_as_strict(one: Decision, other: Decision) -> bool:
    return all(a >= b for a, b in zip(strictness(one), strictness(other), strict=True))


@s.MANY
@given(s.value_documents(), s.values(), s.requests(), s.moments)
def test_no_flag_added_ever_allows_more(document, flag, request_, moment) -> None:
    before = decide(request_, parse(document), moment)
    after = decide(request_, parse(document | {"added": flag}), moment)
    assert at_least_as_strict(after, before)


@s.MANY
@given(s.value_documents(), s.requests(), s.moments)
def test_a_document_decides_as_the_strictest_of_its_flags_alone(document, request_, moment) -> None:
    together = strictness(decide(request_, parse(document), moment))
    alone = [strictness(decide(request_, parse({key: flag}), moment)) for key, flag in document.items()]
    expected = tuple(max(column) for column in zip((-1.0, 0.0), *alone, strict=True))
    assert together == expected


@s.MANY
@given(s.value_documents(), s.values(effects=("halt",)), s.requests(), s.moments)
def test_no_exemption_allows_what_another_halt_forbids(document, halt, request_, moment) -> None:
    bare = {
        name: attribute
        for name, attribute in halt.items()
        if not name.startswith(("exempt", "authorization", "audit"))
    }
    if decide(request_, parse({"halt": bare}), moment).permitted:
        return
    exempting = {
        key: flag | {"exempt_purposes": list(s.PURPOSES)} if flag["enabled"] else flag
        for key, flag in document.items()
    }
    exempting = {
        key: {n: a for n, a in flag.items() if n not in ("exempt_tenants", "exempt_until")}
        for key, flag in exempting.items()
    }
    decision = decide(request_, parse(exempting | {"halt": bare}), moment)
    assert not decision.permitted
    assert any(part.key == "halt" for part in decision.flags)


@s.MANY
@given(s.value_documents(), s.requests(), s.moments, st.integers(-400, 4000))
def test_shifting_all_times_shifts_the_answer(document, request_, moment, hours) -> None:
    shift = timedelta(hours=hours)
    request_ = msgspec.structs.replace(request_, authorization=None, audit=None)

    def shifted(flag: dict[str, Any]) -> dict[str, Any]:
        return {
            name: s.text(instant(attribute) + shift)
            if name in ("starts", "ends", "exempt_until")
            else attribute
            for name, attribute in flag.items()
        }

    here = decide(request_, parse(document), moment)
    there = decide(request_, parse({key: shifted(flag) for key, flag in document.items()}), moment + shift)
    assert (here.outcome, here.clause, strictness(here)) == (there.outcome, there.clause, strictness(there))
    assert [(part.key, part.clause) for part in here.flags] == [
        (part.key, part.clause) for part in there.flags
    ]


@s.MANY
@given(s.value_documents(), s.requests(), s.moments, st.integers(-14 * 60, 14 * 60))
def test_a_decision_depends_on_its_arguments_and_on_the_moment_not_its_spelling(
    document, request_, moment, minutes
) -> None:
    flags = parse(document)
    elsewhere = moment.astimezone(timezone(timedelta(minutes=minutes)))
    first = decide(request_, flags, moment)
    assert decide(request_, flags, moment) == first
    assert decide(request_, parse(json.dumps(document)), moment) == first
    assert decide(request_, parse(dict(reversed(document.items()))), elsewhere) == first
    assert decide(request_, document, moment) == first


def test_nothing_but_the_arguments_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins
    import os
    import time

    flags = parse({"a": value(sectors=["law_enforcement"])})
    request_ = Request(
        tenant=Tenant(
            id="alpha",
            sector="commercial",
            jurisdiction="US",
            actions=("search",),
            purposes=("access_control",),
        ),
        tenant_id="alpha",
        action="search",
        purpose="access_control",
    )

    def forbidden(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("read the world")

    monkeypatch.setattr(time, "time", forbidden)
    monkeypatch.setattr(os, "getenv", forbidden)
    monkeypatch.setattr(builtins, "open", forbidden)
    assert decide(request_, flags, datetime(2024, 1, 1, tzinfo=UTC)).permitted


@s.MANY
@given(s.anything, s.anything, s.anything)
def test_decide_is_total_and_denies_what_is_not_a_question(request_, flags, moment) -> None:
    decision = decide(request_, flags, moment)
    assert not decision.permitted
    assert decision.fault
    assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision) == decision


REQUEST_FIELDS = (
    "tenant",
    "tenant_id",
    "action",
    "purpose",
    "jurisdiction",
    "collection",
    "authorization",
    "audit",
)


@s.MANY
@given(s.requests(), st.sampled_from(REQUEST_FIELDS), s.anything)
def test_an_ill_typed_request_is_denied(request_, name, junk) -> None:
    if (junk is None and name in ("jurisdiction", "authorization", "audit")) or (
        name == "collection" and isinstance(junk, str)
    ):
        return
    decision = decide(
        msgspec.structs.replace(request_, **{name: junk}), parse({}), datetime(2020, 1, 1, tzinfo=UTC)
    )
    assert not decision.permitted


@s.MANY
@given(s.values(), st.data())
def test_a_flag_with_a_missing_extra_or_ill_typed_attribute_denies_everything(flag, data) -> None:
    required = (
        "enabled effect actions sectors jurisdictions starts on_expiry reason source".split()  # noqa: SIM905
    )
    damage = data.draw(st.sampled_from(["missing", "extra", "ill-typed"]))
    damaged = dict(flag)
    if damage == "missing":
        del damaged[data.draw(st.sampled_from(required))]
    elif damage == "extra":
        damaged[data.draw(st.sampled_from(["until", "_variants", "Effect", "enable"]))] = "x"
    else:
        name = data.draw(st.sampled_from(sorted(flag)))
        junk = data.draw(s.anything.filter(lambda thing: not _plausible(name, thing)))
        damaged[name] = junk
    who = Tenant(id="alpha", sector="commercial", jurisdiction="DE", actions=s.ACTIONS, purposes=s.PURPOSES)
    request_ = Request(tenant=who, tenant_id="alpha", action="detect", purpose="access_control")
    decision = decide(request_, {"damaged": damaged}, datetime(1999, 1, 1, tzinfo=UTC))
    assert not decision.permitted
    assert decision.fault == "flags_unreadable"


_NUMBERS = (
    "authorization_due_within_hours",
    "audit_max_age_days",
    "audit_similarity",
    "audit_max_fmr",
    "audit_max_fmr_ratio",
    "audit_min_accuracy",
)


def _plausible(name: str, thing: object) -> bool:
    """Return whether junk happens to be a value that the attribute may have."""
    if name == "enabled":
        return isinstance(thing, bool)
    if name in ("reason", "source"):
        return isinstance(thing, str) and bool(thing)
    if name == "authorization_required":
        return isinstance(thing, bool)
    if name in ("min_similarity", "human_review") or name in _NUMBERS:
        return isinstance(thing, int | float) and not isinstance(thing, bool)
    return False


@s.MANY
@given(s.value_documents(), s.requests(), s.moments)
def test_only_what_is_registered_is_permitted(document, request_, moment) -> None:
    flags = parse(document)
    unknown = msgspec.structs.replace(request_, tenant=None)
    assert decide(unknown, flags, moment).clause is Clause.UNKNOWN_TENANT
    for change in (
        {"status": "suspended"},
        {"actions": tuple(a for a in s.ACTIONS if a != request_.action)},
        {"purposes": tuple(p for p in s.PURPOSES if p != request_.purpose)},
    ):
        changed = msgspec.structs.replace(request_.tenant, **change)
        assert not decide(msgspec.structs.replace(request_, tenant=changed), flags, moment).permitted


@s.MANY
@given(s.value_documents(), s.requests(), s.moments)
def test_a_decision_carries_enough_to_be_made_again(document, request_, moment) -> None:
    flags = parse(document)
    first = decide(request_, flags, moment)
    recorded = msgspec.json.decode(msgspec.json.encode(first), type=Decision)
    assert decide(rebuild(recorded), flags, datetime.fromisoformat(recorded.as_of)) == first


@s.MANY
@given(s.value_documents(), s.requests(), s.moments)
def test_a_denial_names_a_halt_that_is_in_force_and_a_permission_names_none(
    document, request_, moment
) -> None:
    decision = decide(request_, parse(document), moment)
    halting = [part for part in decision.flags if part.clause in ("halts", "holds", "needs_authorization")]
    assert bool(halting) is not decision.permitted
    for part in decision.flags:
        flag = document[part.key]
        assert flag["enabled"]
        assert instant(flag["starts"]) <= moment
        past = "ends" in flag and instant(flag["ends"]) <= moment
        assert not past or flag["on_expiry"] == "hold"


@s.MANY
@given(s.value_documents(), s.value_documents(), st.lists(st.tuples(s.requests(), s.moments), max_size=30))
def test_what_is_called_no_loosening_loosens_nothing(old, new, questions) -> None:
    before, after = parse(old), parse(new)
    for since in (None, s.day(5)):
        kind = classify(before, after, since=since).kind
        if kind is ChangeKind.LOOSENING:
            continue
        for request_, moment in questions:
            if since is None or moment >= since:
                assert at_least_as_strict(decide(request_, after, moment), decide(request_, before, moment))


some_places = st.one_of(
    st.just(["all"]), st.lists(st.sampled_from(s.PLACES), min_size=1, max_size=3, unique=True)
)
EVERYBODY = [
    Tenant(id=name, sector="commercial", jurisdiction=place, actions=("search",), purposes=s.PURPOSES)
    for name in s.TENANTS
    for place in s.PLACES
]
#: In an emergency, asked on a day.
LATE = AuthorizationUse(state="late", search="s", since=s.text(s.day(3)))
EVERYTHING = [
    Request(tenant=who, tenant_id=who.id, action="search", purpose=purpose, authorization=use)
    for who in EVERYBODY
    for purpose in s.PURPOSES
    for use in (None, covering(who.id, purpose), LATE)
]
#: Attributes in whose change a wrong classification would hide; a flag that binds no request would hide it too.
EDITS = {
    "jurisdictions": some_places,
    "starts": s.moments.map(s.text),
    "ends": s.moments.map(s.text),
    "on_expiry": st.sampled_from(["lift", "hold"]),
    "exempt_tenants": st.lists(st.sampled_from(s.TENANTS), min_size=1, max_size=3, unique=True),
    "exempt_purposes": st.lists(st.sampled_from(s.PURPOSES), min_size=1, max_size=3, unique=True),
    "exempt_until": s.moments.map(s.text),
    "min_similarity": st.sampled_from([80, 90, 99]),
    "human_review": st.integers(1, 3),
    "authorization_required": st.booleans(),
    "audit_max_age_days": st.integers(1, 10),
    "audit_signers": st.lists(st.sampled_from(s.SIGNERS), min_size=1, unique=True),
    "audit_similarity": st.sampled_from([80, 99]),
    "audit_max_fmr": st.sampled_from([0.005, 0.01, 0.02]),
    "audit_max_fmr_ratio": st.sampled_from([2, 3, 4]),
    "audit_min_accuracy": st.sampled_from([0.8, 0.9, 0.95]),
    "authorization_due_within_hours": st.sampled_from([1, 30, 100]),
}


@settings(s.MANY, max_examples=150)
@given(s.values(), st.sampled_from(sorted(EDITS)), st.booleans(), st.data())
def test_an_edit_is_classified_soundly_for_every_request_there_is(flag, name, take_out, data) -> None:
    old = flag | {"actions": ["all"], "sectors": ["all"]}
    new = {key: attribute for key, attribute in old.items() if key != name}
    if not take_out:
        new[name] = data.draw(EDITS[name])
    try:
        before, after = parse({"a": old}), parse({"a": new})
    except FlagsError:
        return  # an edit of one attribute may contradict another
    kind = classify(before, after).kind
    if kind is ChangeKind.LOOSENING:
        return
    audit = data.draw(s.audits())
    asked = [msgspec.structs.replace(one, audit=audit) for one in EVERYTHING]
    for number in range(0, 22):
        for request_ in asked:
            was, becomes = (decide(request_, flags, s.day(number)) for flags in (before, after))
            assert at_least_as_strict(becomes, was)
            if kind is ChangeKind.NEUTRAL:
                assert at_least_as_strict(was, becomes)


@s.MANY
@given(s.value_documents())
def test_classification_is_reflexive_and_adding_tightens(document) -> None:
    flags = parse(document)
    assert classify(flags, flags).kind is ChangeKind.NEUTRAL
    more = parse(document | {"more": value()})
    assert classify(flags, more).kind in (ChangeKind.TIGHTENING, ChangeKind.NEUTRAL)
    assert isinstance(more, FlagSet)


def test_the_ends_of_an_exemption_and_of_a_flag_are_not_in_it() -> None:
    flag = value(
        exempt_purposes=["access_control"],
        exempt_until="2020-02-01T00:00:00Z",
        ends="2020-03-01T00:00:00Z",
        starts="2020-01-01T00:00:00Z",
    )
    who = EVERYBODY[0]
    request_ = Request(tenant=who, tenant_id=who.id, action="search", purpose="access_control")
    tick = timedelta(microseconds=1)
    for edge, before, after in (
        ("2020-01-01T00:00:00Z", Clause.PERMITTED, Clause.EXEMPTED),
        ("2020-02-01T00:00:00Z", Clause.EXEMPTED, Clause.HALTED),
        ("2020-03-01T00:00:00Z", Clause.HALTED, Clause.PERMITTED),
    ):
        assert decide(request_, {"a": flag}, instant(edge) - tick).clause is before
        assert decide(request_, {"a": flag}, instant(edge)).clause is after


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ({"jurisdictions": ["US-CA"]}, {"jurisdictions": ["US"]}, ChangeKind.TIGHTENING),
        ({"jurisdictions": ["US"]}, {"jurisdictions": ["US-CA"]}, ChangeKind.LOOSENING),
        ({"jurisdictions": ["US-CA", "DE"]}, {"jurisdictions": ["US"]}, ChangeKind.LOOSENING),
        (
            {"exempt_purposes": ["a1"], "exempt_tenants": ["alpha"]},
            {"exempt_purposes": ["a1"]},
            ChangeKind.LOOSENING,
        ),
        (
            {"exempt_purposes": ["a1"]},
            {"exempt_purposes": ["a1"], "exempt_tenants": ["alpha"]},
            ChangeKind.TIGHTENING,
        ),
        ({"exempt_purposes": ["a1"]}, {"exempt_purposes": ["a1"], "reason": "Because."}, ChangeKind.NEUTRAL),
        (
            {"effect": "restrict", "min_similarity": 90, "human_review": 2},
            {"effect": "restrict", "min_similarity": 99, "human_review": 1},
            ChangeKind.LOOSENING,
        ),
        (
            {"effect": "restrict", "min_similarity": 90},
            {"effect": "restrict", "min_similarity": 90, "human_review": 1},
            ChangeKind.TIGHTENING,
        ),
        ({"effect": "restrict", "human_review": 3}, {}, ChangeKind.TIGHTENING),
        ({}, {"effect": "restrict", "min_similarity": 100, "human_review": 10}, ChangeKind.LOOSENING),
        (
            {"ends": "2021-01-01T00:00:00Z"},
            {"ends": "2021-01-01T00:00:00Z", "on_expiry": "hold"},
            ChangeKind.TIGHTENING,
        ),
        ({"on_expiry": "hold"}, {"on_expiry": "lift"}, ChangeKind.NEUTRAL),
    ],
)
def test_what_kind_of_change_it_is(old: dict[str, Any], new: dict[str, Any], kind: ChangeKind) -> None:
    assert classify(parse({"a": value(**old)}), parse({"a": value(**new)})).kind is kind


def test_a_flag_by_another_name_keeps_what_it_forbids() -> None:
    change = classify(parse({"a": value()}), parse({"b": value()}))
    assert change.kind is ChangeKind.NEUTRAL
    assert [(entry.key, entry.what) for entry in change.flags] == [("a", "removed"), ("b", "added")]
