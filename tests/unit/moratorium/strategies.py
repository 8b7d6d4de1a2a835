"""Hypothesis strategies: small worlds in which tenants, places, purposes and moments meet often."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from abeyance.moratorium.audits import AuditFacts, AuditRates, AuditUse
from abeyance.moratorium.authorization import Authorization, AuthorizationRefusal, AuthorizationUse
from abeyance.moratorium.decide import Request
from abeyance.moratorium.tenants import Tenant

#: For laws; machines under load are slow without being wrong.
MANY = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PLACES = ("US", "US-CA", "US-CA-OAKLAND", "US-CA-SAN_FRANCISCO", "US-OR", "DE")
SECTORS = ("law_enforcement", "city_department", "commercial")
ACTIONS = ("detect", "search", "index")
PURPOSES = ("missing_children", "investigation", "access_control")
TENANTS = ("alpha", "beta", "gamma")
#: Public keys, of no private ones.
SIGNERS = tuple(f"{name}+{number:08x}+{'A' * 44}" for number, name in enumerate(("lab", "bureau")))
EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
#: Moments come from few whole days, so that boundaries are hit exactly.
DAYS = st.integers(0, 12)


def day(number: int) -> datetime:
    return EPOCH + timedelta(days=number)


def text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def some(words: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.one_of(st.just(["all"]), st.lists(st.sampled_from(words), min_size=1, max_size=2, unique=True))


@st.composite
def values(draw: st.DrawFn, effects: tuple[str, ...] = ("halt", "restrict")) -> dict[str, Any]:
    """The value of an enabled flag."""
    starts = draw(DAYS)
    flag: dict[str, Any] = {
        "enabled": True,
        "effect": draw(st.sampled_from(effects)),
        "actions": draw(some(ACTIONS)),
        "sectors": draw(some(SECTORS)),
        "jurisdictions": draw(some(PLACES)),
        "starts": text(day(starts)),
        "on_expiry": draw(st.sampled_from(["lift", "hold"])),
        "reason": "Because.",
        "source": "A law",
    }
    if draw(st.booleans()):
        flag["ends"] = text(day(starts + draw(st.integers(1, 8))))
    if draw(st.booleans()):
        flag["exempt_purposes"] = draw(
            st.lists(st.sampled_from(PURPOSES), min_size=1, max_size=2, unique=True)
        )
        if draw(st.booleans()):
            flag["exempt_tenants"] = draw(
                st.lists(st.sampled_from(TENANTS), min_size=1, max_size=2, unique=True)
            )
        if draw(st.booleans()):
            flag["exempt_until"] = text(day(draw(DAYS)))
        if flag["effect"] == "halt" and draw(st.booleans()):
            flag["authorization_required"] = True
            if draw(st.booleans()):
                flag["authorization_due_within_hours"] = draw(st.sampled_from([1, 24, 100]))
    if flag["effect"] == "halt" and draw(st.integers(0, 3)) == 0:
        flag["audit_max_age_days"] = draw(st.integers(1, 10))
        flag["audit_signers"] = draw(st.lists(st.sampled_from(SIGNERS), min_size=1, unique=True))
        flag["audit_similarity"] = draw(st.sampled_from([80, 99]))
        for name, bound in (("max_fmr", 0.01), ("max_fmr_ratio", 3), ("min_accuracy", 0.9)):
            if draw(st.booleans()):
                flag[f"audit_{name}"] = bound
    if flag["effect"] == "restrict":
        terms = draw(st.integers(1, 3))
        if terms & 1:
            flag["min_similarity"] = draw(st.sampled_from([80, 90, 99.5]))
        if terms & 2:
            flag["human_review"] = draw(st.integers(1, 3))
    return flag


KEYS = st.sampled_from(["a", "b", "c", "d", "e"])


def value_documents(max_size: int = 4) -> st.SearchStrategy[dict[str, Any]]:
    """Documents as the data plane hands them out; some flags are disabled."""
    return st.dictionaries(
        KEYS, st.one_of(values(), values(), st.just({"enabled": False})), max_size=max_size
    )


@st.composite
def tenants(draw: st.DrawFn) -> Tenant:
    return Tenant(
        id=draw(st.sampled_from(TENANTS)),
        sector=draw(st.sampled_from(SECTORS)),
        jurisdiction=draw(st.sampled_from(PLACES)),
        actions=ACTIONS,
        purposes=PURPOSES,
    )


@st.composite
def audits(draw: st.DrawFn) -> AuditUse | None:
    """The latest audit of the deployed model, which may or may not be within bounds."""
    kind = draw(st.sampled_from(["unknown", "none", "some", "some", "some"]))
    if kind == "unknown":
        return None
    if kind == "none":
        return AuditUse(model="m@1")
    rates = AuditRates(
        similarity=draw(st.sampled_from([80.0, 99.0])),
        fmr=draw(st.sampled_from([None, 0.001, 0.01, 0.02])),
        fmr_ratio=draw(st.sampled_from([None, 1.0, 3.0, 4.0])),
        accuracy=draw(st.sampled_from([None, 0.8, 0.9, 1.0])),
    )
    facts = AuditFacts(
        digest="d",
        model=draw(st.sampled_from(["m@1", "m@1", "m@1", "m@2"])),
        measured=text(day(draw(DAYS))),
        signers=tuple(draw(st.lists(st.sampled_from(SIGNERS), unique=True))),
        rates=(rates,),
    )
    return AuditUse(model="m@1", facts=facts)


@st.composite
def uses(draw: st.DrawFn) -> AuthorizationUse | None:
    """What a request uses, which may or may not cover it."""
    kind = draw(st.sampled_from(["none", "used", "used", "late", "refused"]))
    if kind == "none":
        return None
    if kind == "late":
        return AuthorizationUse(state="late", search="s", since=text(day(draw(DAYS))))
    if kind == "refused":
        return AuthorizationUse(
            state="refused", search="s", refused=draw(st.sampled_from(list(AuthorizationRefusal)))
        )
    starts = draw(DAYS)
    terms = Authorization(
        tenant=draw(st.sampled_from(TENANTS)),
        number="26-1",
        issuer="A court",
        purposes=tuple(draw(st.lists(st.sampled_from(PURPOSES), min_size=1, unique=True))),
        place=draw(st.sampled_from(PLACES)),
        starts=text(day(starts)),
        ends=text(day(starts + draw(st.integers(1, 12)))),
        searches=1,
    )
    return AuthorizationUse(state="used", search="s", number="26-1", terms=terms)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Well-formed requests of registered tenants, some of which use an authorisation."""
    who = draw(tenants())
    return Request(
        tenant=who,
        tenant_id=who.id,
        action=draw(st.sampled_from(ACTIONS)),
        purpose=draw(st.sampled_from(PURPOSES)),
        authorization=draw(uses()),
        audit=draw(audits()),
    )


moments = DAYS.map(day)
#: Anything at all, for totality.
anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.binary(max_size=8),
        st.datetimes(),
        st.just(object()),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
