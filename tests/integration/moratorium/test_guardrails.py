"""Guardrails through the function of the change service: three change them, and nothing that loosens breaks one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from hashlib import sha256
from typing import Any

import pytest
from tests.office import Office, offices, user

from abeyance.aws.dynamodb import DynamoTable
from abeyance.aws.table import Delete, Update
from abeyance.ledger.documents import DOCUMENT, GUARDRAILS_DOCUMENT
from abeyance.ledger.entry import blob_key
from abeyance.moratorium.document import FlagSet, parse
from abeyance.moratorium.guardrail_store import broken_by
from abeyance.moratorium.guardrails import parse_guardrails
from abeyance.moratorium.inforce import pack
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.subjects import (
    BrakeChange,
    ChangeRefused,
    FlagsChange,
    GuardrailsChange,
    TenantChange,
    UnlinkChange,
)
from abeyance.moratorium.tenants import Tenant

from .conftest import hosted, value

HALT = new_deployment()
NO_POLICE_SEARCH = "deny law_enforcement search in US unless missing_children, human_trafficking"
REVIEWED = "deny law_enforcement search in any without review"
#: Breaks the first of them, and not by a flag of its own.
NOTHING = hosted()
#: Loosens the halt, and breaks neither.
POLICE_ONLY = hosted(**{"police_halt": {**HALT["values"]["police_halt"], "sectors": ["law_enforcement"]}})
ACME = Tenant(
    id="acme", sector="commercial", jurisdiction="US", actions=("search",), purposes=("access_control",)
)


def guardrails(**claims: Any) -> dict[str, Any]:
    """A document of guardrails."""
    return {
        "version": "1",
        "guardrails": {
            key: {"reason": "R.", "source": "S", **(claim if isinstance(claim, dict) else {"claim": claim})}
            for key, claim in claims.items()
        },
    }


GUARDED = GuardrailsChange(guardrails(no_police_search=NO_POLICE_SEARCH))


@pytest.fixture(scope="module")
def make() -> Iterator[Callable[..., Office]]:
    with offices() as made:
        yield made


@pytest.fixture
def office(make: Callable[..., Office]) -> Office:
    return make()


@pytest.fixture
def guarded(office: Office) -> Office:
    office.agree(GUARDED)
    return office


def deployed(office: Office) -> Any:
    return office.person("alice").state()["guardrails"]


def table_of(office: Office) -> DynamoTable:
    """The change service's own table, for whoever gets past the service."""
    return DynamoTable(office.aws.client("dynamodb"), office.settings.proposals_table)


def tamper(office: Office, pk: str, sk: str, **attributes: Any) -> None:
    """Change attributes of an item past the service; without any, delete it."""
    table, key = table_of(office), (pk, sk)
    table.transact([Update(key, set=attributes) if attributes else Delete(key)])


def test_a_new_deployment_has_none(office: Office) -> None:
    assert deployed(office) == {
        "generation": 0,
        "digest": deployed(office)["digest"],
        "drift": False,
        "document": guardrails(),
    }


def test_three_people_change_them(office: Office) -> None:
    made = office.person("alice").submit(GUARDED)
    assert (made.state, made.people, made.missing) == ("proposed", 3, 2)
    half = office.person("bob").approve(made.id, made.digest)
    assert (half.state, half.missing) == ("proposed", 1)
    assert deployed(office)["generation"] == 0
    done = office.person("carol").approve(made.id, made.digest)
    assert (done.state, [one.person for one in done.approvers]) == ("applied", ["bob", "carol"])
    assert deployed(office)["document"] == GUARDED.document
    assert office.types()[2:] == ["moratorium.proposed", *["moratorium.approved"] * 2, "moratorium.applied"]
    assert [one["person"] for one in office.ledger()[-1][1]["approvers"]] == ["bob", "carol"]


@pytest.mark.parametrize(
    "document",
    [
        guardrails(),
        guardrails(no_police_search=f"{NO_POLICE_SEARCH} without review"),
        guardrails(no_police_search={"claim": NO_POLICE_SEARCH, "ends": "2030-01-01T00:00:00Z"}),
        guardrails(no_police_search=f"{NO_POLICE_SEARCH}, criminal_investigation"),
        guardrails(
            no_police_search=NO_POLICE_SEARCH, another="deny law_enforcement index in US for crime_lab"
        ),
        guardrails(no_police_search={"claim": NO_POLICE_SEARCH, "reason": "Another."}),
        guardrails(renamed=NO_POLICE_SEARCH),
    ],
)
def test_any_change_of_them_takes_three(guarded: Office, document: dict[str, Any]) -> None:
    made = guarded.person("alice").submit(GuardrailsChange(document))
    assert (made.state, made.people) == ("proposed", 3)
    assert guarded.person("bob").approve(made.id, made.digest).state == "proposed"
    assert deployed(guarded)["document"] == GUARDED.document


def test_one_that_the_flags_in_force_break_is_refused_with_a_decision(office: Office) -> None:
    with pytest.raises(ChangeRefused) as refused:
        office.person("alice").submit(GuardrailsChange(guardrails(none="deny commercial search in any")))
    assert "breaks the guardrail none (deny commercial search in any)" in str(refused.value)
    assert "of the sector commercial" in str(refused.value)
    assert "For example:" in str(refused.value)
    assert office.types()[-1] == "moratorium.refused"


@pytest.mark.parametrize("wrong", [{}, {"version": "1"}, guardrails(Bad="deny"), guardrails(a="deny x y")])
def test_what_cannot_be_read_is_refused(office: Office, wrong: dict[str, Any]) -> None:
    with pytest.raises(ChangeRefused):
        office.person("alice").submit(GuardrailsChange(wrong))
    assert office.types()[-1] == "moratorium.refused"


def test_the_last_three_people_are_not_unlinked_by_one(guarded: Office) -> None:
    for name in ("clara", "dora"):
        assert guarded.person("alice").submit(UnlinkChange(user(name))).state == "applied"
    made = guarded.person("alice").submit(UnlinkChange(user("carol")))
    assert (made.state, made.people) == ("proposed", 3)


def test_no_document_that_breaks_one_comes_into_force_whoever_approves(guarded: Office) -> None:
    with pytest.raises(ChangeRefused, match="whoever approves it"):
        guarded.person("alice").submit(FlagsChange(NOTHING))
    assert guarded.agree(FlagsChange(POLICE_ONLY)).state == "applied"
    guarded.settle()
    assert guarded.effective().digest == parse(POLICE_ONLY).digest


def test_one_that_comes_between_counts(office: Office) -> None:
    """The flags were proposed before the guardrail, and one person has yet to approve them."""
    made = office.person("alice").submit(FlagsChange(NOTHING))
    office.agree(GUARDED)
    with pytest.raises(ChangeRefused, match="whoever approves it"):
        office.person("bob").approve(made.id, made.digest)
    assert office.effective().digest == parse(HALT).digest


def test_flags_that_come_between_count(office: Office) -> None:
    made = office.person("alice").submit(GUARDED)
    office.person("bob").approve(made.id, made.digest)
    office.agree(FlagsChange(NOTHING))
    with pytest.raises(ChangeRefused, match="breaks the guardrail"):
        office.person("carol").approve(made.id, made.digest)
    assert deployed(office)["generation"] == 0


def test_a_document_that_was_approved_and_not_deployed_counts(office: Office) -> None:
    made = office.person("alice").submit(FlagsChange(NOTHING))
    validate, office.appconfig.validate = office.appconfig.validate, lambda event: 1 / 0
    assert office.ask(user("bob"), do="approve", id=made.id, digest=made.digest)[0] == 503
    office.appconfig.validate = validate
    with pytest.raises(ChangeRefused, match="breaks the guardrail"):
        office.person("alice").submit(GUARDED)


@pytest.mark.parametrize("flags_first", [True, False])
def test_of_a_guardrail_and_flags_that_break_it_one_comes_into_force(
    office: Office, flags_first: bool
) -> None:
    """Each was judged while the other was not in force; one of the two transactions fails."""
    flags = office.person("alice").submit(FlagsChange(NOTHING))
    rails = office.person("alice").submit(GUARDED)
    office.person("bob").approve(rails.id, rails.digest)
    first, second = (flags, rails) if flags_first else (rails, flags)
    table = office.aws.dynamodb
    transact, approvers, states = table.transact_write_items, ["carol"], []

    def meanwhile(**request: Any) -> Any:
        """Before the transaction that makes the first one, the second is made whole."""
        if approvers and len(request["TransactItems"]) > 2:
            states.append(office.person(approvers.pop()).approve(second.id, second.digest).state)
        return transact(**request)

    table.transact_write_items = meanwhile
    try:
        with pytest.raises(ChangeRefused, match="propose again"):
            office.person("dora").approve(first.id, first.digest)
    finally:
        del table.transact_write_items
    assert states == ["applied"]
    assert deployed(office)["generation"] == (1 if second is rails else 0)
    office.settle()
    assert office.effective().digest == parse(HALT if second is rails else NOTHING).digest


@pytest.mark.parametrize("claim", ["permit nonprofit search in US", NO_POLICE_SEARCH])
def test_what_tightens_is_never_held_up(office: Office, claim: str) -> None:
    office.agree(GuardrailsChange(guardrails(one=claim)))
    everything = hosted(**HALT["values"], all=value())
    assert office.person("bob").submit(BrakeChange(hosted(all=value()))).state == "applied"
    assert office.person("alice").submit(FlagsChange(everything)).state == "applied"
    # A broken claim that permits does not hold the brake on.
    assert office.agree(BrakeChange(hosted())).state == "applied"
    assert office.agree(TenantChange(ACME)).state == "applied"


def test_the_brake_and_tenants_wait_while_the_flags_break_one(guarded: Office) -> None:
    """Flags that nobody checked: somebody wrote them into the record."""
    guarded.person("alice").submit(BrakeChange(hosted(all=value())))
    tamper(guarded, "in-force", "flags", document=pack(NOTHING))
    # With the brake on, nobody is permitted what the guardrail denies.
    assert guarded.person("alice").submit(TenantChange(ACME)).state == "proposed"
    with pytest.raises(ChangeRefused, match="breaks the guardrail"):
        guarded.person("alice").submit(BrakeChange(hosted()))
    tamper(guarded, "in-force", "brake", document=pack(hosted()))
    with pytest.raises(ChangeRefused, match="breaks the guardrail"):
        guarded.person("alice").submit(TenantChange(ACME))


def test_a_first_deployment_that_breaks_one_is_halted(guarded: Office) -> None:
    """The record of the flags is gone, and AppConfig hands out what nobody agreed to."""
    guarded.appconfig.deploy_past_everybody(NOTHING)
    tamper(guarded, "in-force", "flags")
    guarded.watch()
    assert [flag.key for flag in guarded.effective().flags if flag.key.endswith("guardrails")]
    assert "moratorium.drift" in guarded.types()
    guarded.settle()
    assert [flag.key for flag in guarded.effective().flags] == ["guardrails"]


# -- On the ledger


class LogAlone:
    """What an auditor has: the entries, and the texts beside them."""

    def __init__(self, office: Office) -> None:
        self.entries = office.recorded()
        self.stored = office.aws.s3.buckets[office.settings.ledger_bucket]

    def text(self, digest: str) -> Any:
        data = self.stored[blob_key(digest)].body
        assert sha256(data).hexdigest() == digest
        return json.loads(data)

    def flags(self, digest: str) -> FlagSet:
        (name,) = {
            body["document"] for kind, body in self.entries if kind == DOCUMENT and body["flags"] == digest
        }
        return parse(self.text(name))

    def broken(self, refused: dict[str, Any]) -> str:
        """Find again what a refusal says."""
        decided = []
        for digests in refused["decided"]:
            flags = self.flags(digests["flags"])
            if "brake" in digests:
                flags = flags.joined([("brake:", self.flags(digests["brake"]))])
            decided.append(flags)
        rails = parse_guardrails(self.text(refused["guardrails"]))
        return broken_by(rails, decided, datetime.fromisoformat(refused["as_of"]), *refused["verbs"])


@pytest.mark.parametrize(
    "change", [FlagsChange(NOTHING), GuardrailsChange(guardrails(reviewed="deny any search in any"))]
)
def test_a_refusal_is_found_again_from_the_log_alone(guarded: Office, change: Any) -> None:
    with pytest.raises(ChangeRefused) as refused:
        guarded.person("alice").submit(change)
    log = LogAlone(guarded)
    kind, body = log.entries[-1]
    assert (kind, body["error"]) == ("moratorium.refused", "GuardrailBroken")
    assert body["because"] == str(refused.value)[:500]
    assert log.broken(body)[:500] == body["because"]
    assert log.text(body["document"]) == change.document


def test_guardrails_are_on_the_ledger_before_they_hold_and_once(guarded: Office) -> None:
    guarded.wait(600)
    kinds = [kind for kind, _ in guarded.recorded()]
    assert kinds.count(GUARDRAILS_DOCUMENT) == 1
    assert kinds.index(GUARDRAILS_DOCUMENT) < kinds.index("moratorium.applied")
    log = LogAlone(guarded)
    (body,) = [body for kind, body in log.entries if kind == GUARDRAILS_DOCUMENT]
    assert log.text(body["document"]) == GUARDED.document
    assert body["document"] == deployed(guarded)["digest"]


def test_guardrails_hold_though_the_ledger_has_no_room_for_them_and_come_onto_it_later(
    office: Office,
) -> None:
    bucket = office.aws.s3.buckets.pop(office.settings.ledger_bucket)
    office.agree(GUARDED)
    assert deployed(office)["document"] == GUARDED.document
    assert GUARDRAILS_DOCUMENT not in [kind for kind, _ in office.recorded()]
    office.aws.s3.buckets[office.settings.ledger_bucket] = bucket
    office.watch()
    assert [kind for kind, _ in office.recorded()].count(GUARDRAILS_DOCUMENT) == 1
