"""Halts that are bound to an audit: what lifts them, and until when."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec import structs

from abeyance.moratorium.audits import AuditFacts, AuditRates, AuditUse
from abeyance.moratorium.changes import ChangeKind, classify
from abeyance.moratorium.claims import PolicyClaim, parse_claim
from abeyance.moratorium.decide import Clause, Decision, Request, decide, rebuild
from abeyance.moratorium.document import parse
from abeyance.moratorium.errors import FlagsError
from abeyance.moratorium.proofs import prove, who_may

from .conftest import hosted, moment, tenant, value

NOW = moment("2027-03-01T12:00:00")
LAB, OTHER = (f"{name}+00000000+{'A' * 44}" for name in ("lab.example", "other.example"))
RATES = AuditRates(similarity=99.0, fmr=1e-4, fmr_ratio=2.5, accuracy=0.97)
FACTS = AuditFacts(
    digest="0" * 64, model="sface@1", measured="2027-01-01T00:00:00Z", signers=(LAB,), rates=(RATES,)
)
FLAG = value(
    audit_max_age_days=90,
    audit_signers=[LAB],
    audit_similarity=99,
    audit_max_fmr=1e-4,
    audit_max_fmr_ratio=3,
    audit_min_accuracy=0.95,
)
WHO = tenant("acme", sector="commercial", jurisdiction="US")


def asked(use: AuditUse | None, flags: dict[str, Any] | None = None, when: Any = NOW) -> Decision:
    request = Request(tenant=WHO, tenant_id=WHO.id, action="search", purpose="investigation", audit=use)
    compiled = parse(flags or {"bias": FLAG})
    decision = decide(request, compiled, when)
    assert not decision.fault
    recorded = msgspec.json.decode(msgspec.json.encode(decision), type=Decision)
    assert decide(rebuild(recorded), compiled, when) == decision
    return decision


def use(model: str = "sface@1", rates: dict[str, Any] | None = None, **changes: Any) -> AuditUse:
    facts = structs.replace(FACTS, **changes)
    if rates is not None:
        facts = structs.replace(facts, rates=(structs.replace(RATES, **rates),))
    return AuditUse(model=model, facts=facts)


def test_an_audit_within_bounds_lifts_the_halt_and_is_named() -> None:
    decision = asked(use())
    assert (decision.outcome, decision.clause) == ("permit", Clause.AUDITED)
    assert decision.flags[0].clause == "audited"
    assert decision.audit is not None
    assert decision.audit.facts is not None
    assert decision.audit.facts.digest == FACTS.digest


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (None, "no audit"),
        (AuditUse(model="sface@1"), "no audit"),
        (AuditUse(model="", facts=FACTS), "no audit"),
        (use(model="sface@2"), "no audit"),
        (use(signers=()), "not signed"),
        (use(signers=(OTHER,)), "not signed"),
        (use(measured="2026-11-01T00:00:00Z"), "older"),
        (use(measured="2026-12-01T12:00:00Z"), "older"),
        (use(measured="2027-03-01T12:00:01Z"), "older"),
        (use(rates={"similarity": 80.0}), "similarity"),
        (use(rates={"fmr": 1.1e-4}), "false-match"),
        (use(rates={"fmr": None}), "not measured"),
        (use(rates={"fmr_ratio": 3.01}), "ratio"),
        (use(rates={"fmr_ratio": None}), "not measured"),
        (use(rates={"accuracy": 0.949}), "accuracy"),
        (use(rates={"accuracy": None}), "not measured"),
    ],
)
def test_a_missing_stale_unsigned_or_worse_audit_is_a_halt(found: AuditUse | None, why: str) -> None:
    decision = asked(found)
    assert (decision.outcome, decision.clause) == ("deny", Clause.HALTED)
    assert why in decision.reason
    assert decision.audit is not None


def test_its_age_ends_at_the_moment() -> None:
    last = moment("2027-01-01") + timedelta(days=90)
    assert asked(use(), when=last - timedelta(microseconds=1)).permitted
    assert not asked(use(), when=last).permitted


def test_another_halt_and_a_restriction_stay() -> None:
    assert asked(use(), {"bias": FLAG, "other": value()}).clause is Clause.HALTED
    restricted = asked(use(), {"bias": FLAG, "review": value(effect="restrict", human_review=2)})
    assert (restricted.clause, restricted.human_review) == (Clause.RESTRICTED, 2)


def test_where_no_flag_asks_a_decision_names_no_audit() -> None:
    assert asked(use(), {"other": value(sectors=["education"])}).audit is None


@pytest.mark.parametrize(
    "changes",
    [
        {"audit_max_age_days": None},
        {"audit_signers": None},
        {"audit_similarity": None},
        {"audit_signers": ["lab.example"]},
        {"audit_max_fmr_ratio": 0.5},
        {"effect": "restrict", "human_review": 1},
    ],
)
def test_a_flag_that_says_nothing_clear_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(FlagsError):
        parse(hosted(a=value(**{**FLAG, **changes})))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"audit_max_age_days": 91}, ChangeKind.LOOSENING),
        ({"audit_max_age_days": 89}, ChangeKind.TIGHTENING),
        ({"audit_signers": [LAB, OTHER]}, ChangeKind.LOOSENING),
        ({"audit_max_fmr": None}, ChangeKind.LOOSENING),
        ({"audit_max_fmr": 1e-5}, ChangeKind.TIGHTENING),
        ({"audit_max_fmr_ratio": 4}, ChangeKind.LOOSENING),
        ({"audit_min_accuracy": 0.9}, ChangeKind.LOOSENING),
        ({"audit_min_accuracy": 0.96}, ChangeKind.TIGHTENING),
        ({"audit_similarity": 80}, ChangeKind.LOOSENING),
    ],
)
def test_which_changes_of_bounds_loosen(changes: dict[str, Any], kind: ChangeKind) -> None:
    new = value(**{**FLAG, **changes})
    assert classify(parse({"a": FLAG}), parse({"a": new})).kind is kind


def test_binding_a_halt_to_an_audit_loosens_and_unbinding_tightens() -> None:
    assert classify(parse({"a": value()}), parse({"a": FLAG})).kind is ChangeKind.LOOSENING
    assert classify(parse({"a": FLAG}), parse({"a": value()})).kind is ChangeKind.TIGHTENING


def test_proofs_say_what_an_audit_could_ever_lift() -> None:
    flags = parse({"bias": FLAG})

    def claim(text: str) -> PolicyClaim:
        return parse_claim(text, since=NOW)

    assert not prove(claim("deny commercial search in US"), flags).holds
    assert prove(claim("deny commercial search in US without audit"), flags).holds
    assert not prove(claim("permit commercial search in US"), flags).holds
    assert all(region.audit for region in who_may(claim("permit any any in any"), flags))
