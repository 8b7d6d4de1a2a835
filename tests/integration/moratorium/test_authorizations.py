"""Authorisations through the change service: two people register one, one revokes it, and stages use it at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import pytest
from msgspec import structs
from tests.office import Office, offices, user
from typer.testing import CliRunner

from abeyance.cli import _context, authorizations
from abeyance.deployment import build
from abeyance.moratorium.authorization import Authorization, Search
from abeyance.moratorium.authorization_uses import USED
from abeyance.moratorium.decide import Clause, Decision
from abeyance.moratorium.guardrails import parse_guardrails
from abeyance.moratorium.subjects import (
    AuthorizationChange,
    ChangeRefused,
    FlagsChange,
    GuardrailsChange,
    RevocationChange,
    TenantChange,
)
from abeyance.moratorium.tenants import Tenant

from .conftest import hosted, value

POLICE = Tenant(
    id="springfield-police",
    sector="law_enforcement",
    jurisdiction="US-IL",
    actions=("search",),
    purposes=("missing_children",),
    principals=("springfield-police",),
)
#: Virtual time begins in 2026.
ORDER = Authorization(
    tenant="springfield-police",
    number="26-CR-1234",
    issuer="Circuit Court",
    purposes=("missing_children",),
    place="US",
    starts="2020-01-01T00:00:00Z",
    ends="2099-01-01T00:00:00Z",
    searches=1,
)
FLAG = value(exempt_purposes=["missing_children"], authorization_required=True)


@pytest.fixture(scope="module")
def make() -> Iterator[Callable[..., Office]]:
    with offices() as made:
        yield made


@pytest.fixture
def office(make: Callable[..., Office]) -> Office:
    office = make()
    office.agree(TenantChange(POLICE))
    office.agree(FlagsChange(hosted(ordered=FLAG)))
    office.settle()
    return office


def decide(office: Office, search: str = "s1") -> Decision:
    guard = build.build_guard(office.settings, office.aws.client)
    return guard.decide(POLICE.id, "search", "missing_children", Search(id=search))


def test_two_people_register_one_and_stages_use_it(office: Office) -> None:
    assert decide(office).clause is Clause.AUTHORIZATION_REQUIRED
    made = office.person("alice").submit(AuthorizationChange(ORDER))
    assert (made.state, made.kind, made.people) == ("proposed", "loosening", 2)
    with pytest.raises(ChangeRefused):
        office.person("alice").approve(made.id, made.digest)
    assert decide(office).clause is Clause.AUTHORIZATION_REQUIRED
    assert office.person("bob").approve(made.id, made.digest).state == "applied"
    decision = decide(office)
    assert decision.clause is Clause.AUTHORIZED
    assert decision.authorization is not None
    assert decision.authorization.terms == ORDER
    assert decide(office, "s2").clause is Clause.AUTHORIZATION_REQUIRED
    (registered,) = office.person("carol").authorizations()
    assert (registered.authorization, registered.used, registered.revoked) == (ORDER, 1, False)
    office.watch()
    office.watch()
    applied = next(
        body for kind, body in office.ledger() if kind == "moratorium.applied" and body["proposal"] == made.id
    )
    assert msgspec.convert(applied["change"]["authorization"], Authorization) == ORDER
    assert [body for kind, body in office.ledger() if kind == USED] == [
        {
            "authorization": "26-CR-1234",
            "search": "s1",
            "tenant": POLICE.id,
            "purpose": "missing_children",
            "late": False,
        }
    ]


def test_the_command_lists_them(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.agree(AuthorizationChange(ORDER))
    monkeypatch.setattr(_context, "changes", lambda: office.person("carol"))
    monkeypatch.setattr(authorizations.console, "width", 200)
    listed = CliRunner().invoke(authorizations.app, ["list"])
    assert listed.exit_code == 0
    (row,) = [line.split("│")[1:-1] for line in listed.stdout.splitlines() if POLICE.id in line]
    assert [cell.strip() for cell in row] == [
        *(POLICE.id, "26-CR-1234", "Circuit Court", "active", "0 of 1"),
        *("missing_children", "US", "", "2099-01-01T00:00:00Z"),
    ]


def test_one_person_revokes_it_at_once(office: Office) -> None:
    office.agree(AuthorizationChange(ORDER))
    assert decide(office).clause is Clause.AUTHORIZED
    made = office.person("carol").submit(RevocationChange(POLICE.id, ORDER.number))
    assert (made.state, made.kind) == ("applied", "tightening")
    refused = decide(office)
    assert (refused.clause, refused.authorization and refused.authorization.refused) == (
        Clause.AUTHORIZATION_REQUIRED,
        "revoked",
    )
    with pytest.raises(ChangeRefused, match="in force"):
        office.person("carol").submit(RevocationChange(POLICE.id, ORDER.number))
    with pytest.raises(ChangeRefused, match="never changes"):
        office.person("alice").submit(AuthorizationChange(structs.replace(ORDER, searches=9)))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"tenant": "shelbyville-police"}, "no tenant"),
        ({"ends": "2020-02-01T00:00:00Z"}, "has ended"),
    ],
)
def test_what_nobody_could_use_is_refused(office: Office, changes: dict[str, str], why: str) -> None:
    with pytest.raises(ChangeRefused, match=why):
        office.person("alice").submit(AuthorizationChange(structs.replace(ORDER, **changes)))


def test_malformed_ones_are_no_change(office: Office) -> None:
    written = {**msgspec.to_builtins(ORDER), "number": "late"}
    change = {"subject": "authorization", "authorization": written}
    status, answer = office.ask(user("alice"), do="submit", change=change)
    assert (status, answer["error"]) == (409, "ChangeRefused")


def test_a_guardrail_can_demand_authorisations(office: Office) -> None:
    rails = {
        "version": "1",
        "guardrails": {
            "orders": {
                "claim": "deny law_enforcement search in any without authorization",
                "reason": "A court decides.",
                "source": "Council order 13",
            }
        },
    }
    parse_guardrails(rails)
    office.agree(GuardrailsChange(rails))
    looser = hosted(ordered={**FLAG, "authorization_required": False})
    with pytest.raises(ChangeRefused, match="orders"):
        office.person("alice").submit(FlagsChange(looser))
    tighter = hosted(ordered=FLAG, more=value(sectors=["commercial"]))
    assert office.person("alice").submit(FlagsChange(tighter)).state == "applied"
