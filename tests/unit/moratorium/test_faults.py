"""The fault matrix of the guard: whatever fails, nobody is permitted who should not be.

Each row breaks one thing in a world in which the request would otherwise be permitted (or, for the rows that
say so, decided in a known way). Faults of the pipeline around the guard are tested with the pipeline.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from tests.fakes import MemoryTable
from tests.tables import registry_of

from abeyance.aws.table import Put
from abeyance.moratorium.decide import Clause, Decision
from abeyance.moratorium.document import parse
from abeyance.moratorium.errors import CALLER_FAULTS, Fault, FlagsError, PrincipalAmbiguous, TenantUnreadable
from abeyance.moratorium.guard import Guard
from abeyance.moratorium.source import AppConfigSource, Fetched, FileSource, Snapshot
from abeyance.moratorium.tenants import Tenant, TenantTable

from .conftest import tenant, value

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FINE = json.dumps({"elsewhere": value(jurisdictions=["DE"])}).encode()
ACME = tenant("acme", "commercial", "US-WA", principals=("arn:aws:iam::123456789012:role/Acme",))


@dataclass
class World:
    """Everything that a decision depends on, in order; each row of the matrix breaks one part."""

    answers: list[Any] = field(default_factory=lambda: [Fetched(raw=FINE)])
    registry: Any = field(default_factory=lambda: registry_of(ACME))
    now: datetime = NOW
    tick: float = 0.0
    source: Any = None
    clock: Any = None
    tenant: Any = "acme"
    action: Any = "search"
    purpose: Any = "access_control"
    jurisdiction: Any = None
    #: Seconds that pass between a first decision, in order, and the one that is looked at.
    later: float = 0.0

    def fetch(self) -> Fetched:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            answer = answer(self)
        assert isinstance(answer, Fetched)
        return answer

    def decide(self) -> Decision:
        polled = AppConfigSource(
            self.fetch,
            poll_interval=15,
            max_age=300,
            clock=lambda: self.now,
            monotonic=lambda: self.tick,
        )
        guard = Guard(self.source or polled, self.registry, self.clock or (lambda: self.now))
        if self.later:
            assert guard.decide("acme", "search", "access_control").permitted
            self.now += timedelta(seconds=self.later)
            self.tick += self.later
        return guard.decide(self.tenant, self.action, self.purpose, jurisdiction=self.jurisdiction)


class Broken:
    """A registry that fails in one way."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def get(self, _tenant_id: str) -> Tenant | None:
        raise self.error

    by_principal = get


class Answering:
    """A registry that answers anything with one thing."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def get(self, _tenant_id: str) -> Any:
        return self.answer

    by_principal = get


class Fixed:
    """A source that hands out one thing."""

    def __init__(self, snapshot: Any) -> None:
        self.snapshot = snapshot

    def current(self) -> Any:
        if isinstance(self.snapshot, BaseException):
            raise self.snapshot
        return self.snapshot


class BadZone(tzinfo):
    def utcoffset(self, _moment: datetime | None) -> timedelta:
        raise RuntimeError("no zone today")


def raising(error: BaseException) -> Callable[..., Any]:
    def call(*_: Any) -> Any:
        raise error

    return call


def slow(seconds: float) -> Callable[[World], Fetched]:
    def answer(world: World) -> Fetched:
        world.now += timedelta(seconds=seconds)
        world.tick += seconds
        return Fetched(raw=FINE)

    return answer


def document(**flags: Any) -> bytes:
    return json.dumps(flags).encode()


def snapshot(fetched_at: Any = NOW, flags: Any = None) -> Snapshot:
    return Snapshot(
        flags=parse({}) if flags is None else flags, version="1", fetched_at=fetched_at, raw=b"{}"
    )


def throttled() -> Exception:
    from botocore.exceptions import ClientError

    return ClientError({"Error": {"Code": "ProvisionedThroughputExceededException"}}, "GetItem")


def flags_fault(code: Fault, world: World) -> tuple[World, Clause, str]:
    return world, Clause.FAULT, code.value


UNAVAILABLE, STALE, UNREADABLE = Fault.FLAGS_UNAVAILABLE, Fault.FLAGS_STALE, Fault.FLAGS_UNREADABLE
GOOD = Fetched(raw=FINE)
HALT_ALL = document(all_of_it=value())

MATRIX: dict[str, tuple[World, Clause, str]] = {
    # AppConfig
    "AppConfig down": flags_fault(UNAVAILABLE, World(answers=[ConnectionError()])),
    "AppConfig times out": flags_fault(UNAVAILABLE, World(answers=[TimeoutError()])),
    "AppConfig throttles": flags_fault(UNAVAILABLE, World(answers=[throttled()])),
    "AppConfig out of memory": flags_fault(UNAVAILABLE, World(answers=[MemoryError()])),
    "AppConfig slower than the limit": flags_fault(STALE, World(answers=[slow(301)])),
    "AppConfig says nothing new at once": flags_fault(UNAVAILABLE, World(answers=[Fetched(raw=None)])),
    "AppConfig down since longer than the limit": flags_fault(
        STALE, World(answers=[GOOD, ConnectionError()], later=301)
    ),
    "AppConfig's clock is an hour ahead": flags_fault(
        Fault.CLOCK_SKEW, World(answers=[Fetched(raw=FINE, service_time=NOW + timedelta(hours=1))])
    ),
    "AppConfig's clock is an hour behind": flags_fault(
        Fault.CLOCK_SKEW, World(answers=[Fetched(raw=FINE, service_time=NOW - timedelta(hours=1))])
    ),
    # documents
    "empty document": flags_fault(Fault.FLAGS_EMPTY, World(answers=[Fetched(raw=b"")])),
    "blank document": flags_fault(Fault.FLAGS_EMPTY, World(answers=[Fetched(raw=b" \n")])),
    "truncated document": flags_fault(UNREADABLE, World(answers=[Fetched(raw=FINE[:-1])])),
    "document cut to an inner value": flags_fault(UNREADABLE, World(answers=[Fetched(raw=b'"halt"')])),
    "document of another encoding": flags_fault(
        UNREADABLE, World(answers=[Fetched(raw=FINE.decode().encode("utf-16"))])
    ),
    "HTML instead of a document": flags_fault(UNREADABLE, World(answers=[Fetched(raw=b"<html>502</html>")])),
    "document too large": flags_fault(
        Fault.FLAGS_TOO_LARGE, World(answers=[Fetched(raw=FINE + b" " * (1 << 20))])
    ),
    "wrong schema version": flags_fault(
        Fault.FLAGS_SCHEMA_VERSION,
        World(answers=[Fetched(raw=b'{"version": "2", "flags": {}, "values": {}}')]),
    ),
    "hosted document without values": flags_fault(
        UNREADABLE, World(answers=[Fetched(raw=b'{"version": "1", "flags": {}}')])
    ),
    "flag without an attribute": flags_fault(
        UNREADABLE, World(answers=[Fetched(raw=document(a=value(effect=None)))])
    ),
    "flag with an attribute too many": flags_fault(
        UNREADABLE, World(answers=[Fetched(raw=document(a=value(until="2030-01-01T00:00:00Z")))])
    ),
    "flag with an ill-typed attribute": flags_fault(
        UNREADABLE, World(answers=[Fetched(raw=document(a=value(starts=0)))])
    ),
    "flag for a sector that does not exist": flags_fault(
        UNREADABLE, World(answers=[Fetched(raw=document(a=value(sectors=["polise"])))])
    ),
    "flag written twice": flags_fault(
        UNREADABLE,
        World(answers=[Fetched(raw=b'{"a": %s, "a": {"enabled": false}}' % json.dumps(value()).encode())]),
    ),
    "unreadable document after a readable one": flags_fault(
        UNREADABLE, World(answers=[GOOD, Fetched(raw=b"{")], later=15)
    ),
    "no flags at all, readable": (World(answers=[Fetched(raw=b"{}")]), Clause.PERMITTED, ""),
    # the source itself
    "source raises what it never should": flags_fault(UNAVAILABLE, World(source=Fixed(KeyError("x")))),
    "source raises with a code": flags_fault(STALE, World(source=Fixed(FlagsError(STALE, "old")))),
    "source hands out nothing": flags_fault(Fault.INTERNAL, World(source=Fixed(None))),
    "source hands out a snapshot without flags": flags_fault(
        UNREADABLE, World(source=Fixed(snapshot(flags=17)))
    ),
    "source hands out old flags as new": flags_fault(
        STALE, World(source=Fixed(snapshot(NOW - timedelta(seconds=301))))
    ),
    "source hands out flags of the future": flags_fault(
        Fault.CLOCK_SKEW, World(source=Fixed(snapshot(NOW + timedelta(minutes=5))))
    ),
    "source hands out flags of no time zone": flags_fault(
        Fault.INTERNAL,
        World(source=Fixed(snapshot(datetime(2026, 1, 1)))),  # noqa: DTZ001
    ),
    "flags file gone": flags_fault(UNAVAILABLE, World(source=FileSource(Path("/nonexistent/flags.json")))),
    "flags file is a directory": flags_fault(UNAVAILABLE, World(source=FileSource(Path("/")))),
    # the flags change while a request is on its way
    "halted between two stages": (
        World(answers=[GOOD, Fetched(raw=HALT_ALL)], later=15),
        Clause.HALTED,
        "",
    ),
    "halted, not yet polled": (
        World(answers=[GOOD, Fetched(raw=HALT_ALL)], later=14),
        Clause.PERMITTED,
        "",
    ),
    "halted before the first look": (World(answers=[Fetched(raw=HALT_ALL)]), Clause.HALTED, ""),
    "AppConfig down for less than the limit": (
        World(answers=[GOOD, ConnectionError()], later=299),
        Clause.PERMITTED,
        "",
    ),
    "a moratorium begins while AppConfig is down": (
        World(
            answers=[Fetched(raw=document(a=value(starts="2026-01-01T00:01:00Z"))), ConnectionError()],
            later=60,
        ),
        Clause.HALTED,
        "",
    ),
    # tenants
    "tenant table down": (World(registry=Broken(ConnectionError())), Clause.FAULT, Fault.TENANTS_UNAVAILABLE),
    "tenant table throttled": (World(registry=Broken(throttled())), Clause.FAULT, Fault.TENANTS_UNAVAILABLE),
    "tenant unreadable": (World(registry=Broken(TenantUnreadable())), Clause.FAULT, Fault.TENANT_UNREADABLE),
    "principal of two tenants": (
        World(registry=Broken(PrincipalAmbiguous())),
        Clause.FAULT,
        Fault.PRINCIPAL_AMBIGUOUS,
    ),
    "tenant unknown": (World(tenant="nobody"), Clause.UNKNOWN_TENANT, ""),
    "tenant of another name": (
        World(registry=Answering(tenant("other", "commercial"))),
        Clause.FAULT,
        Fault.TENANT_UNREADABLE,
    ),
    "registry answers with a dictionary": (
        World(registry=Answering({"id": "acme", "actions": "search"})),
        Clause.FAULT,
        Fault.TENANT_UNREADABLE,
    ),
    "tenant suspended": (
        World(registry=registry_of(tenant("acme", "commercial", status="suspended"))),
        Clause.SUSPENDED_TENANT,
        "",
    ),
    "tenant registered for nothing": (
        World(registry=registry_of(tenant("acme", "commercial", actions=(), purposes=()))),
        Clause.ACTION_NOT_REGISTERED,
        "",
    ),
    # the request
    "tenant id is a path": (World(tenant="../acme"), Clause.FAULT, Fault.REQUEST_MALFORMED),
    "tenant id is empty": (World(tenant=""), Clause.FAULT, Fault.REQUEST_MALFORMED),
    "tenant id is a list": (World(tenant=["acme"]), Clause.FAULT, Fault.REQUEST_MALFORMED),
    "action unknown": (World(action="fly"), Clause.FAULT, Fault.REQUEST_MALFORMED),
    "action is all": (World(action="all"), Clause.FAULT, Fault.REQUEST_MALFORMED),
    "action missing": (World(action=None), Clause.FAULT, Fault.REQUEST_MALFORMED),
    "purpose missing": (World(purpose=None), Clause.FAULT, Fault.REQUEST_MALFORMED),
    "purpose empty": (World(purpose=""), Clause.FAULT, Fault.REQUEST_MALFORMED),
    "purpose not registered": (World(purpose="fun"), Clause.PURPOSE_NOT_REGISTERED, ""),
    "place outside the registration": (World(jurisdiction="US-OR"), Clause.PLACE_NOT_REGISTERED, ""),
    "place that does not exist": (World(jurisdiction="US-ZZ"), Clause.FAULT, Fault.REQUEST_MALFORMED),
    # the clock
    "no clock": (World(clock=raising(OSError())), Clause.FAULT, Fault.CLOCK_UNAVAILABLE),
    "clock without a zone": (
        World(clock=lambda: datetime(2026, 1, 1), source=Fixed(snapshot())),  # noqa: DTZ001
        Clause.FAULT,
        Fault.INTERNAL,
    ),
    "clock that says nothing": (World(clock=lambda: None), Clause.FAULT, Fault.INTERNAL),
    "clock at the end of time": (
        World(clock=lambda: datetime.max.replace(tzinfo=UTC)),
        Clause.FAULT,
        Fault.FLAGS_STALE,
    ),
    "clock of a broken zone": (
        World(clock=lambda: datetime(2026, 1, 1, tzinfo=BadZone())),
        Clause.FAULT,
        Fault.INTERNAL,
    ),
    "clock runs back an hour": flags_fault(
        Fault.CLOCK_SKEW, World(answers=[GOOD, ConnectionError()], later=-3600)
    ),
}


def test_the_matrix_is_large_enough() -> None:
    assert len(MATRIX) >= 60


@pytest.mark.parametrize(("world", "clause", "fault"), MATRIX.values(), ids=MATRIX.keys())
def test_fault(world: World, clause: Clause, fault: str) -> None:
    decision = world.decide()
    assert (decision.clause, decision.fault) == (clause, str(fault))
    assert decision.permitted is (clause is Clause.PERMITTED)
    assert decision.reason
    if decision.fault:
        # A denial for want of a decision must not carry terms under which it could pass for another.
        assert (decision.flags, decision.min_similarity, decision.human_review) == ((), None, 0)


def test_a_world_in_order_permits() -> None:
    decision = World().decide()
    assert decision.permitted
    assert (decision.tenant, decision.sector, decision.as_of) == (
        "acme",
        "commercial",
        "2026-01-01T00:00:00Z",
    )


def test_a_suspension_holds_from_the_next_decision() -> None:
    world = World()
    assert world.decide().permitted
    assert world.registry.put(structs.replace(ACME, status="suspended"), 1)
    assert world.decide().clause is Clause.SUSPENDED_TENANT
    assert world.registry.put(ACME, 2)
    assert world.decide().permitted


def test_decides_for_principals() -> None:
    guard = Guard(Fixed(snapshot()), registry_of(ACME), lambda: NOW)
    session = "arn:aws:sts::123456789012:assumed-role/Acme/anybody"
    decision = guard.decide_for(session, "search", "access_control")
    assert (decision.permitted, decision.tenant) == (True, "acme")
    for stranger in ("arn:aws:sts::123456789012:assumed-role/Other/anybody", "AKIAEXAMPLE"):
        assert guard.decide_for(stranger, "search", "access_control").clause is Clause.UNKNOWN_TENANT
    for nonsense in ("", "arn:aws:s3:::bucket", "two words"):
        assert guard.decide_for(nonsense, "search", "access_control").clause is Clause.UNKNOWN_TENANT


def test_a_fault_repeats_nothing_that_is_not_well_formed() -> None:
    world = World(tenant="Jane Doe <jane@example.org>", purpose="find Jane Doe", action="DROP TABLE")
    decision = world.decide()
    assert "Jane" not in repr(decision)
    assert "DROP" not in repr(decision)


anything = st.one_of(st.text(max_size=70), st.sampled_from(["Not A Purpose", "", "acme", "US", "search"]))


@settings(max_examples=300, deadline=None)
@given(anything, anything, st.none() | anything, anything)
def test_callers_cause_no_fault_but_those_that_ring_no_alarm(
    tenant_id: str, purpose: str, place: str | None, principal: str
) -> None:
    guard = Guard(Fixed(snapshot()), registry_of(ACME), lambda: NOW)
    for action in ("search", purpose):
        for decision in (
            guard.decide(tenant_id, action, purpose, jurisdiction=place),
            guard.decide_for(principal, action, purpose, jurisdiction=place),
        ):
            assert decision.fault in {"", *CALLER_FAULTS}


def test_the_moment_is_taken_before_the_flags_are_read() -> None:
    """A halt comes into force while a slow source answers; no permit is dated later than it."""
    now = NOW
    halted_at = NOW + timedelta(seconds=3)

    class Slow:
        def current(self) -> Snapshot:
            nonlocal now
            asked, now = now, now + timedelta(seconds=5)
            return snapshot(asked, parse(HALT_ALL) if asked >= halted_at else parse({}))

    guard = Guard(Slow(), registry_of(ACME), lambda: now)
    for _ in range(3):
        decision = guard.decide("acme", "search", "access_control")
        assert decision.permitted == (datetime.fromisoformat(decision.as_of) < halted_at)


def test_each_message_of_a_batch_is_decided_at_its_own_moment_with_the_flags_of_that_moment() -> None:
    now, flags = NOW, parse({})

    class Changing:
        def current(self) -> Snapshot:
            return snapshot(now, flags)

    decide = Guard(Changing(), registry_of(ACME), lambda: now).for_batch().decide
    assert decide("acme", "search", "access_control").permitted
    now, flags = NOW + timedelta(seconds=1), parse(HALT_ALL)
    decision = decide("acme", "search", "access_control")
    assert (decision.clause, decision.as_of) == (Clause.HALTED, "2026-01-01T00:00:01Z")


def test_a_batch_reads_a_registration_again_after_the_poll_interval() -> None:
    now, reads, registry = NOW, 0, registry_of(ACME)

    class Counting:
        def get(self, tenant_id: str) -> Tenant | None:
            nonlocal reads
            reads += 1
            return registry.get(tenant_id)

        by_principal = get

    class Fresh:
        def current(self) -> Snapshot:
            return snapshot(now)

    guard = Guard(Fresh(), Counting(), lambda: now)
    decide = guard.for_batch().decide
    for seconds, clause, expected in (
        (0, Clause.PERMITTED, 1),
        (14, Clause.PERMITTED, 1),
        (15, Clause.SUSPENDED_TENANT, 2),
        (-1, Clause.SUSPENDED_TENANT, 3),
    ):
        now = NOW + timedelta(seconds=seconds)
        assert (decide("acme", "search", "access_control").clause, reads) == (clause, expected)
        registry.put(structs.replace(ACME, status="suspended"), registry.read("acme")[1])
    guard.for_batch().decide("acme", "search", "access_control")
    assert reads == 4


def test_a_registration_that_was_read_along_serves_as_long_as_one_that_was_read() -> None:
    now, registry, uploads = NOW, registry_of(ACME), MemoryTable()
    guard = Guard(Fixed(snapshot()), registry, lambda: now).for_batch()
    uploads.get_many([], along=guard.read_along({"acme", "unknown", "no tenant id"}))
    registry.put(structs.replace(ACME, status="suspended"), registry.read("acme")[1])
    assert guard.decide("acme", "search", "access_control").clause == Clause.PERMITTED
    assert guard.decide("unknown", "search", "access_control").clause == Clause.UNKNOWN_TENANT
    now = NOW + timedelta(seconds=15)
    assert guard.decide("acme", "search", "access_control").clause == Clause.SUSPENDED_TENANT


def test_a_registration_that_was_not_read_along_is_read_and_an_unreadable_one_denies() -> None:
    table = MemoryTable()
    registry = TenantTable(table)
    registry.add(ACME)
    guard = Guard(Fixed(snapshot()), registry, lambda: NOW).for_batch()
    assert guard.read_along({"acme"})  # and nobody reads it
    assert guard.decide("acme", "search", "access_control").permitted
    item = table.get(("acme", "registration")) or {}
    table.transact([Put({**item, "sector": "nonsense"})])
    guard = Guard(Fixed(snapshot()), registry, lambda: NOW).for_batch()
    MemoryTable().get_many([], along=guard.read_along({"acme"}))
    assert guard.decide("acme", "search", "access_control").fault == Fault.TENANT_UNREADABLE
    # A guard of no batch keeps nothing.
    assert Guard(Fixed(snapshot()), registry, lambda: NOW).read_along({"acme"}) == []


def test_a_batch_asks_a_table_that_is_down_once() -> None:
    asked: list[str] = []

    class Down:
        def get(self, tenant_id: str) -> Tenant | None:
            asked.append(tenant_id)
            raise ConnectionError

        by_principal = get

    decide = Guard(Fixed(snapshot()), Down(), lambda: NOW).for_batch().decide
    for _ in range(50):
        assert decide("acme", "search", "access_control").fault == Fault.TENANTS_UNAVAILABLE
    assert asked == ["acme"]


def test_a_clock_that_runs_back_during_a_decision_is_no_clock() -> None:
    readings = iter([NOW + timedelta(minutes=5), NOW])
    guard = Guard(Fixed(snapshot()), registry_of(ACME), lambda: next(readings))
    assert guard.decide("acme", "search", "access_control").fault == Fault.CLOCK_SKEW
