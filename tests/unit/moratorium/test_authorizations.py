"""Authorisations: what a decision makes of one, and their use, once for each request and never beyond their number."""

from __future__ import annotations

import contextlib
import threading
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec import structs
from tests.fakes import MemoryTable

from abeyance.aws.table import Conflict, Operation
from abeyance.moratorium.authorization import (
    LATE,
    Authorization,
    AuthorizationRefusal,
    AuthorizationUse,
    Search,
)
from abeyance.moratorium.authorization_store import AuthorizationTable
from abeyance.moratorium.authorization_uses import UseTable
from abeyance.moratorium.changes import ChangeKind, classify
from abeyance.moratorium.decide import Clause, Decision, Request, decide, rebuild
from abeyance.moratorium.document import parse
from abeyance.moratorium.errors import Fault, FlagsError
from abeyance.moratorium.guard import Guard
from abeyance.moratorium.source import Snapshot

from .conftest import hosted, moment, tenant, value

NOW = moment("2027-03-01T12:00:00")
POLICE = tenant("springfield-police", jurisdiction="US-IL")
ORDER = Authorization(
    tenant="springfield-police",
    number="26-CR-1234/2",
    issuer="Circuit Court of Sangamon County",
    purposes=("missing_children",),
    place="US",
    starts="2027-01-01T00:00:00Z",
    ends="2027-06-01T00:00:00Z",
    searches=2,
)
FLAG = value(exempt_purposes=["missing_children"], authorization_required=True)
LATE_FLAG = {**FLAG, "authorization_due_within_hours": 48}


def order(**changes: Any) -> Authorization:
    return structs.replace(ORDER, **changes)


def used(terms: Authorization = ORDER, **changes: Any) -> AuthorizationUse:
    return structs.replace(
        AuthorizationUse(state="used", search="s1", number=terms.number, terms=terms), **changes
    )


def asked(use: AuthorizationUse | None, flag: dict[str, Any] = FLAG, **changes: Any) -> Decision:
    request = Request(
        tenant=POLICE, tenant_id=POLICE.id, action="search", purpose="missing_children", authorization=use
    )
    decision = decide(structs.replace(request, **changes), parse({"halt": flag}), NOW)
    assert not decision.fault
    recorded = msgspec.json.decode(msgspec.json.encode(decision), type=Decision)
    assert decide(rebuild(recorded), parse({"halt": flag}), NOW) == decision
    return decision


# -- the decision


def test_an_exemption_that_requires_an_authorisation_lets_nobody_through_without_one() -> None:
    decision = asked(None)
    assert (decision.outcome, decision.clause) == ("deny", Clause.AUTHORIZATION_REQUIRED)
    assert decision.flags[0].clause == "needs_authorization"
    assert "needs an authorisation" in decision.reason


def test_a_used_authorisation_permits_and_is_named() -> None:
    decision = asked(used())
    assert (decision.outcome, decision.clause) == ("permit", Clause.AUTHORIZED)
    assert decision.authorization is not None
    assert decision.authorization.number == "26-CR-1234/2"
    assert "26-CR-1234/2" in decision.reason


@pytest.mark.parametrize(
    "use",
    [
        used(order(tenant="shelbyville-police")),
        used(order(purposes=("investigation",))),
        used(order(place="US-CA")),
        used(order(collection="suspects")),
        used(order(ends="2027-03-01T12:00:00Z")),
        used(order(starts="2027-03-01T12:00:01Z")),
        used(number="26-CR-9999"),
        used(terms=ORDER, state="refused", refused=AuthorizationRefusal.USED_UP),
        AuthorizationUse(state="used", search="s1", number="26-CR-1234/2"),
        AuthorizationUse(state="late", search="s1", since="2027-03-01T11:00:00Z"),
    ],
)
def test_what_does_not_cover_the_request_now_denies(use: AuthorizationUse) -> None:
    decision = asked(use)
    assert (decision.outcome, decision.clause) == ("deny", Clause.AUTHORIZATION_REQUIRED)


def test_a_scope_of_one_collection_covers_that_one() -> None:
    use = used(order(collection="suspects"))
    assert asked(use, collection="suspects").clause is Clause.AUTHORIZED
    assert asked(use, collection="staff").clause is Clause.AUTHORIZATION_REQUIRED


def test_the_place_that_a_request_names_is_the_one_that_is_covered() -> None:
    wide = tenant("springfield-police", jurisdiction="US")
    use = used(order(place="US-IL"))
    assert asked(use, tenant=wide).clause is Clause.AUTHORIZATION_REQUIRED
    assert asked(use, tenant=wide, jurisdiction="US-IL").clause is Clause.AUTHORIZED


def test_another_halt_denies_whatever_authorisation_there_is() -> None:
    request = Request(
        tenant=POLICE, tenant_id=POLICE.id, action="search", purpose="missing_children", authorization=used()
    )
    decision = decide(request, parse({"a": FLAG, "b": value()}), NOW)
    assert decision.clause is Clause.HALTED


@pytest.mark.parametrize(
    ("since", "clause"),
    [
        ("2027-03-01T12:00:00Z", Clause.AUTHORIZATION_DUE),
        ("2027-02-27T12:00:01Z", Clause.AUTHORIZATION_DUE),
        ("2027-02-27T12:00:00Z", Clause.AUTHORIZATION_REQUIRED),
    ],
)
def test_a_late_one_is_due_within_the_hours_of_the_flag(since: str, clause: Clause) -> None:
    decision = asked(AuthorizationUse(state="late", search="s1", since=since), LATE_FLAG)
    assert decision.clause is clause
    assert decision.authorization is not None
    if clause is Clause.AUTHORIZATION_DUE:
        assert decision.permitted
        assert moment(decision.authorization.due.removesuffix("Z")) == moment(
            since.removesuffix("Z")
        ) + timedelta(hours=48)


def test_the_shortest_time_of_all_flags_counts() -> None:
    use = AuthorizationUse(state="late", search="s1", since="2027-03-01T00:00:00Z")
    request = Request(
        tenant=POLICE, tenant_id=POLICE.id, action="search", purpose="missing_children", authorization=use
    )
    short = {**FLAG, "authorization_due_within_hours": 13}
    decision = decide(request, parse({"a": LATE_FLAG, "b": short}), NOW)
    assert decision.authorization is not None
    assert decision.authorization.due == "2027-03-01T13:00:00Z"
    assert not decide(request, parse({"a": LATE_FLAG, "b": FLAG}), NOW).permitted


@pytest.mark.parametrize(
    "flag",
    [
        {"authorization_required": True},
        {"exempt_purposes": ["missing_children"], "authorization_due_within_hours": 4},
        {
            "exempt_purposes": ["missing_children"],
            "authorization_required": False,
            "authorization_due_within_hours": 4,
        },
        {
            "effect": "restrict",
            "human_review": 1,
            "exempt_purposes": ["missing_children"],
            "authorization_required": True,
        },
        {
            "exempt_purposes": ["missing_children"],
            "authorization_required": True,
            "authorization_due_within_hours": 169,
        },
    ],
)
def test_a_flag_that_contradicts_itself_is_refused(flag: dict[str, Any]) -> None:
    with pytest.raises(FlagsError):
        parse(hosted(a=value(**flag)))


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (FLAG, {**FLAG, "authorization_required": False}, ChangeKind.LOOSENING),
        ({**FLAG, "authorization_required": False}, FLAG, ChangeKind.TIGHTENING),
        (FLAG, LATE_FLAG, ChangeKind.LOOSENING),
        (LATE_FLAG, {**LATE_FLAG, "authorization_due_within_hours": 24}, ChangeKind.TIGHTENING),
        (LATE_FLAG, {**LATE_FLAG, "authorization_due_within_hours": 49}, ChangeKind.LOOSENING),
        (value(), FLAG, ChangeKind.LOOSENING),
    ],
)
def test_which_changes_loosen(old: dict[str, Any], new: dict[str, Any], kind: ChangeKind) -> None:
    assert classify(parse({"a": old}), parse({"a": new})).kind is kind


@pytest.mark.parametrize(
    "changes",
    [
        {"number": "late"},
        {"number": "26 CR"},
        {"number": ""},
        {"place": "Illinois"},
        {"ends": "2027-01-01T00:00:00Z"},
        {"ends": "tomorrow"},
        {"searches": 0},
        {"purposes": ()},
        {"tenant": "Springfield"},
    ],
)
def test_an_authorisation_that_says_nothing_clear_is_refused(changes: dict[str, Any]) -> None:
    written = {**msgspec.to_builtins(ORDER), **changes}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(written, Authorization)


# -- the store


class Counting(MemoryTable):
    """A table whose calls can fail before or after they take effect."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: list[str] = []

    def transact(self, operations: Any) -> None:
        how = self.fails.pop(0) if self.fails else ""
        if how == "before":
            raise ConnectionError
        super().transact(operations)
        if how == "after":
            raise TimeoutError


def store(*orders: Authorization, table: MemoryTable | None = None) -> tuple[AuthorizationTable, MemoryTable]:
    table = table or MemoryTable()
    made = AuthorizationTable(table, UseTable(table), pause=lambda _: None)
    for number, one in enumerate(orders):
        table.transact([made.register(one, NOW - timedelta(days=10 - number))])
    return made, table


def claim(authorizations: AuthorizationTable, search: str = "s1", **changes: Any) -> AuthorizationUse:
    due = changes.pop("due", None)
    asked_for = structs.replace(Search(id=search, collection="missing"), **changes)
    return authorizations.claim("springfield-police", "missing_children", "US-IL", asked_for, due, NOW)


def counted(authorizations: AuthorizationTable, number: str = ORDER.number) -> int:
    return next(one.used for one in authorizations.all() if one.authorization.number == number)


def test_each_search_uses_one_and_a_redelivery_the_same() -> None:
    authorizations, _ = store(ORDER)
    assert claim(authorizations) == claim(authorizations) == used()
    assert counted(authorizations) == 1
    assert claim(authorizations, "s2").state == "used"
    refused = claim(authorizations, "s3")
    assert (refused.state, refused.refused) == ("refused", AuthorizationRefusal.NONE_APPLIES)
    assert claim(authorizations, "s3", named=ORDER.number).refused == AuthorizationRefusal.USED_UP
    assert counted(authorizations) == 2
    assert sorted(use.search for use in authorizations.uses.all()) == ["s1", "s2"]


def test_of_many_that_race_for_the_last_ones_only_as_many_get_one_as_there_are() -> None:
    authorizations, _ = store(order(searches=3))
    found: list[str] = []

    def race(number: int) -> None:
        found.append(claim(authorizations, f"s{number}").state)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["refused"] * 9 + ["used"] * 3
    assert counted(authorizations) == 3


@pytest.mark.parametrize("fails", [["before"], ["after"], ["after", "before"], ["before", "after", "before"]])
def test_a_call_that_fails_consumes_once(fails: list[str]) -> None:
    table = Counting()
    authorizations, _ = store(ORDER, table=table)
    table.fails = fails
    assert claim(authorizations).state == "used"
    assert counted(authorizations) == 1


def test_a_table_that_stays_away_is_an_error_and_a_denial() -> None:
    table = Counting()
    authorizations, _ = store(ORDER, table=table)
    table.fails = ["before"] * 9
    with pytest.raises(ConnectionError):
        claim(authorizations)

    class Source:
        def current(self) -> Snapshot:
            return Snapshot(flags=parse({"a": FLAG}), version="1", fetched_at=NOW, raw=b"")

    class Registry:
        def get(self, tenant_id: str, /) -> Any:
            return POLICE

        by_principal = get

    guard = Guard(Source(), Registry(), lambda: NOW, authorizations=authorizations)
    table.fails = ["before"] * 9
    search = Search(id="s1")
    decision = guard.decide(POLICE.id, "search", "missing_children", search)
    assert (decision.outcome, decision.fault) == ("deny", Fault.AUTHORIZATIONS_UNAVAILABLE)
    table.fails = []
    assert guard.decide(POLICE.id, "search", "missing_children", search).clause is Clause.AUTHORIZED
    # Nothing that is halted anyway, and nothing that asks without a search, uses one.
    assert guard.decide(POLICE.id, "search", "investigation", search).clause is Clause.HALTED
    assert guard.decide(POLICE.id, "search", "missing_children").clause is Clause.AUTHORIZATION_REQUIRED
    assert counted(authorizations) == 1


def test_without_a_name_the_only_one_that_applies_is_taken() -> None:
    elsewhere = order(number="26-CR-1", place="US-CA")
    over = order(number="26-CR-2", ends="2027-02-01T00:00:00Z")
    used_up = order(number="26-CR-3", searches=1)
    authorizations, _ = store(elsewhere, over, used_up)
    assert claim(authorizations, "s0").number == "26-CR-3"
    assert claim(authorizations).refused == AuthorizationRefusal.NONE_APPLIES
    authorizations, table = store(elsewhere, over, ORDER)
    assert claim(authorizations).number == ORDER.number
    table.transact([authorizations.register(order(number="26-CR-4"), NOW)])
    assert claim(authorizations, "s2").refused == AuthorizationRefusal.SEVERAL_APPLY
    assert claim(authorizations, "s2", named="26-CR-4").number == "26-CR-4"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"number": "26-CR-2"}, AuthorizationRefusal.UNKNOWN),
        ({"collection": "suspects"}, AuthorizationRefusal.OUT_OF_SCOPE),
        ({"purposes": ("investigation",)}, AuthorizationRefusal.OUT_OF_SCOPE),
        ({"place": "US-CA"}, AuthorizationRefusal.OUT_OF_SCOPE),
        ({"ends": "2027-03-01T12:00:00Z"}, AuthorizationRefusal.NOT_VALID),
        ({"starts": "2027-03-01T12:00:01Z"}, AuthorizationRefusal.NOT_VALID),
    ],
)
def test_one_that_is_named_and_cannot_be_used_says_why(
    change: dict[str, Any], why: AuthorizationRefusal
) -> None:
    authorizations, _ = store(order(**change))
    refused = claim(authorizations, named=ORDER.number)
    assert (refused.state, refused.refused, refused.number) == ("refused", why, ORDER.number)
    assert list(authorizations.uses.all()) == []


def test_one_that_is_revoked_is_used_by_nobody_also_not_by_who_has_used_it() -> None:
    authorizations, table = store(ORDER)
    assert claim(authorizations).state == "used"
    table.transact([authorizations.revoke(ORDER.tenant, ORDER.number)])
    assert claim(authorizations).refused == AuthorizationRefusal.REVOKED
    assert claim(authorizations, "s2", named=ORDER.number).refused == AuthorizationRefusal.REVOKED
    with pytest.raises(Conflict):
        table.transact([authorizations.revoke(ORDER.tenant, ORDER.number)])


def test_one_that_is_revoked_at_this_moment_is_not_used() -> None:
    class Revoking(MemoryTable):
        def transact(self, operations: Any) -> None:
            if len(operations) > 1:
                with_revocation: list[Operation] = [AuthorizationTable.revoke(ORDER.tenant, ORDER.number)]
                with contextlib.suppress(Conflict):
                    super().transact(with_revocation)
            super().transact(operations)

    authorizations, _ = store(ORDER, table=Revoking())
    assert claim(authorizations).refused == AuthorizationRefusal.REVOKED


def test_a_unit_that_only_looks_takes_none() -> None:
    authorizations, table = store(ORDER)
    looking = AuthorizationTable(table, UseTable(table), consumes=False, pause=lambda _: None)
    assert claim(looking).state == "refused"
    claim(authorizations)
    assert claim(looking) == used()
    assert counted(authorizations) == 1


# -- those that follow


DUE = NOW + timedelta(hours=48)


def late(authorizations: AuthorizationTable, search: str = "s1") -> AuthorizationUse:
    return claim(authorizations, search, named=LATE, may_be_late=True, due=DUE)


def test_a_late_one_gets_the_first_that_arrives_in_time() -> None:
    authorizations, table = store()
    assert late(authorizations) == late(authorizations)
    assert late(authorizations).state == "late"
    (waiting,) = authorizations.uses.late()
    assert authorizations.settle(waiting, NOW + timedelta(hours=1)) == "late"
    table.transact([authorizations.register(ORDER, NOW + timedelta(hours=47))])
    assert authorizations.settle(waiting, NOW + timedelta(hours=47)) == "used"
    assert authorizations.settle(waiting, NOW + timedelta(hours=49)) == "used"
    assert authorizations.uses.late() == []
    assert counted(authorizations) == 1
    assert late(authorizations) == used()
    (use,) = authorizations.uses.new()
    assert (use.number, use.late, use.entry) == (ORDER.number, True, "authorized:s1")
    authorizations.uses.recorded(use)
    assert authorizations.uses.new() == []


def test_one_that_arrived_in_time_counts_though_it_is_settled_after_it() -> None:
    authorizations, table = store()
    late(authorizations)
    table.transact([authorizations.register(ORDER, DUE - timedelta(seconds=1))])
    (waiting,) = authorizations.uses.late()
    assert authorizations.settle(waiting, DUE + timedelta(hours=3)) == "used"


def test_one_that_arrives_too_late_or_covers_something_else_lets_it_lapse() -> None:
    authorizations, table = store(order(number="26-CR-5", place="US-CA"))
    late(authorizations)
    (waiting,) = authorizations.uses.late()
    table.transact([authorizations.register(ORDER, DUE)])
    assert authorizations.settle(waiting, DUE - timedelta(seconds=1)) == "late"
    assert authorizations.settle(waiting, DUE) == "lapsed"
    assert authorizations.settle(waiting, DUE) == "lapsed"
    assert late(authorizations).refused == AuthorizationRefusal.OVERDUE
    assert counted(authorizations) == 0
    assert authorizations.uses.late() == [waiting]
    authorizations.uses.close(waiting)
    assert authorizations.uses.late() == []


def test_two_late_ones_share_no_last_one() -> None:
    authorizations, table = store()
    late(authorizations, "s1")
    late(authorizations, "s2")
    table.transact([authorizations.register(order(searches=1), NOW + timedelta(hours=1))])
    states = [
        authorizations.settle(waiting, NOW + timedelta(hours=2)) for waiting in authorizations.uses.late()
    ]
    assert states == ["used", "late"]
    assert counted(authorizations) == 1


def test_who_says_late_takes_one_that_there_is() -> None:
    authorizations, _ = store(ORDER, order(number="26-CR-7"))
    assert late(authorizations).number == ORDER.number


@pytest.mark.parametrize("changes", [{"may_be_late": True}, {"due": DUE}])
def test_neither_the_flag_nor_the_way_of_asking_alone_lets_it_be_late(changes: dict[str, Any]) -> None:
    authorizations, _ = store()
    assert claim(authorizations, named=LATE, **changes).refused == AuthorizationRefusal.NO_LATE
