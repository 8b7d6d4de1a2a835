"""Changes through the function of the change service: one tightens, two loosen, and nobody alone is two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec import structs
from tests.office import CONSOLE, Office, offices, user

from abeyance.moratorium.document import parse
from abeyance.moratorium.errors import FlagsError, MoratoriumError
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.proposals import APPROVED_S, OPEN_S
from abeyance.moratorium.subjects import (
    BrakeChange,
    ChangeRefused,
    FlagsChange,
    LinkChange,
    TenantChange,
    UnlinkChange,
)
from abeyance.moratorium.tenants import Tenant

from .conftest import hosted, value

HALT = new_deployment()
LOOSER = hosted(**{"police_halt": {**HALT["values"]["police_halt"], "sectors": ["law_enforcement"]}})
TIGHTER = hosted(**HALT["values"], more=value(effect="restrict", human_review=2))
ACME = Tenant(
    id="acme",
    sector="commercial",
    jurisdiction="US",
    actions=("search",),
    purposes=("access_control",),
    principals=("acme",),
)


@pytest.fixture(scope="module")
def make() -> Iterator[Callable[..., Office]]:
    with offices() as made:
        yield made


@pytest.fixture
def office(make: Callable[..., Office]) -> Office:
    return make()


def digest(document: dict[str, Any]) -> str:
    return parse(document).digest


def test_a_new_deployment_starts_with_the_halt(office: Office) -> None:
    assert office.effective().digest == digest(HALT)
    assert office.appconfig.served() == (HALT,)
    assert office.types() == ["moratorium.adopted"] * 2


def test_one_tightens_at_once(office: Office) -> None:
    made = office.person("alice").submit(FlagsChange(TIGHTER), note="as ordered")
    assert (made.state, made.kind, made.approvers) == ("applied", "tightening", ())
    assert office.effective().digest == digest(TIGHTER)
    kind, body = office.ledger()[-1]
    assert kind == "moratorium.tightened"
    assert body["proposer"] == {"principal": user("alice"), "person": "alice"}


def test_two_loosen(office: Office) -> None:
    proposal = office.person("alice").submit(FlagsChange(LOOSER))
    assert proposal.state == "proposed"
    assert office.effective().digest == digest(HALT)
    done = office.person("bob").approve(proposal.id, proposal.digest)
    assert done.state == "applied"
    office.settle()
    assert office.effective().digest == digest(LOOSER)
    assert office.types()[2:] == ["moratorium.proposed", "moratorium.approved", "moratorium.applied"]


def test_nobody_approves_their_own_proposal(office: Office) -> None:
    proposal = office.person("alice").submit(FlagsChange(LOOSER))
    with pytest.raises(ChangeRefused, match="their own"):
        office.person("alice").approve(proposal.id, proposal.digest)
    assert office.types()[-1] == "moratorium.refused"


def test_two_principals_of_one_person_are_one_person(office: Office) -> None:
    office.agree(LinkOf("alice", "alice-two"))
    proposal = office.person("alice").submit(FlagsChange(LOOSER))
    with pytest.raises(ChangeRefused, match="their own"):
        office.person("alice-two").approve(proposal.id, proposal.digest)


def LinkOf(person: str, name: str) -> LinkChange:  # noqa: N802 - reads like the change that it makes
    return LinkChange(user(name), person)


def test_who_is_linked_to_nobody_agrees_to_nothing(office: Office) -> None:
    with pytest.raises(ChangeRefused, match="not linked"):
        office.person("mallory").submit(FlagsChange(LOOSER))
    proposal = office.person("alice").submit(FlagsChange(LOOSER))
    with pytest.raises(ChangeRefused, match="not linked"):
        office.person("mallory").approve(proposal.id, proposal.digest)
    assert office.person("mallory").submit(FlagsChange(TIGHTER)).state == "applied"


def test_linking_takes_two_and_unlinking_one(office: Office) -> None:
    made = office.person("alice").submit(LinkOf("mallory", "mallory"))
    assert made.state == "proposed"
    assert office.person("bob").approve(made.id, made.digest).state == "applied"
    assert office.person("alice").people()[user("mallory")] == "mallory"
    assert office.person("carol").submit(UnlinkChange(user("mallory"))).state == "applied"
    assert user("mallory") not in office.person("alice").people()


def test_the_last_two_people_are_not_unlinked_by_one(office: Office) -> None:
    for name in ("carol", "clara", "dora"):
        office.person("alice").submit(UnlinkChange(user(name)))
    assert office.person("alice").submit(UnlinkChange(user("bob"))).state == "proposed"


def test_an_unlinked_proposer_counts_no_more(office: Office) -> None:
    proposal = office.person("alice").submit(FlagsChange(LOOSER))
    office.person("carol").submit(UnlinkChange(user("alice")))
    with pytest.raises(ChangeRefused, match="linked to somebody else"):
        office.person("bob").approve(proposal.id, proposal.digest)


def test_an_approval_is_for_exactly_the_proposed_change(office: Office) -> None:
    proposal = office.person("alice").submit(FlagsChange(LOOSER))
    for wrong in ("", "0" * 64, proposal.digest[:-1], digest(LOOSER)):
        with pytest.raises(ChangeRefused, match="digest"):
            office.person("bob").approve(proposal.id, wrong)
    assert office.effective().digest == digest(HALT)


def test_an_approval_is_on_what_was_in_force(office: Office) -> None:
    proposal = office.person("alice").submit(FlagsChange(LOOSER))
    office.person("alice").submit(FlagsChange(TIGHTER))
    with pytest.raises(ChangeRefused, match="propose again"):
        office.person("bob").approve(proposal.id, proposal.digest)
    office.settle()
    office.agree(FlagsChange(HALT))
    office.settle()
    # The same text is in force as when it was proposed, and it is another version.
    with pytest.raises(ChangeRefused, match="propose again"):
        office.person("bob").approve(proposal.id, proposal.digest)


def test_an_approval_is_used_once(office: Office) -> None:
    proposal = office.agree(FlagsChange(LOOSER))
    office.settle()
    office.person("alice").submit(FlagsChange(HALT))
    for act in (
        lambda: office.person("alice").retry(proposal.id),
        lambda: office.person("bob").approve(proposal.id, proposal.digest),
        lambda: office.person("alice").withdraw(proposal.id),
    ):
        with pytest.raises(ChangeRefused):
            act()
    office.settle()
    assert office.effective().digest == digest(HALT)


@pytest.mark.parametrize("waits", [OPEN_S, OPEN_S + 1, 365 * 86_400])
def test_a_proposal_expires(office: Office, waits: int) -> None:
    proposal = office.person("alice").submit(FlagsChange(LOOSER))
    office.clock.advance(waits)
    with pytest.raises(ChangeRefused, match="expired"):
        office.person("bob").approve(proposal.id, proposal.digest)


def test_a_withdrawn_proposal_is_closed(office: Office) -> None:
    proposal = office.person("alice").submit(FlagsChange(LOOSER))
    assert office.person("carol").withdraw(proposal.id).state == "withdrawn"
    with pytest.raises(ChangeRefused, match="withdrawn"):
        office.person("bob").approve(proposal.id, proposal.digest)


class Broken:
    """A fault that ends each deployment."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.before = office.appconfig.validate

    def __enter__(self) -> None:
        def refuse(event: Any) -> None:
            raise RuntimeError

        self.office.appconfig.validate = refuse

    def __exit__(self, *_: object) -> None:
        self.office.appconfig.validate = self.before


def approved_and_failed(office: Office) -> Any:
    proposal = office.person("alice").submit(FlagsChange(LOOSER))
    with Broken(office), pytest.raises(MoratoriumError, match="retry"):
        office.person("bob").approve(proposal.id, proposal.digest)
    assert office.effective().digest == digest(HALT)
    return proposal


def test_a_failed_publish_is_retried_by_one(office: Office) -> None:
    proposal = approved_and_failed(office)
    assert office.person("carol").retry(proposal.id).state == "applied"
    office.settle()
    assert office.effective().digest == digest(LOOSER)
    with pytest.raises(ChangeRefused):
        office.person("carol").retry(proposal.id)


def test_a_failed_publish_is_not_retried_after_something_came_between(office: Office) -> None:
    proposal = approved_and_failed(office)
    office.person("alice").submit(FlagsChange(TIGHTER))
    with pytest.raises(ChangeRefused, match="in force"):
        office.person("bob").retry(proposal.id)
    office.settle()
    assert office.effective().digest == digest(TIGHTER)


def test_a_failed_publish_expires(office: Office) -> None:
    proposal = approved_and_failed(office)
    office.clock.advance(APPROVED_S)
    with pytest.raises(ChangeRefused, match="expired"):
        office.person("bob").retry(proposal.id)
    office.watch()
    assert office.person("bob").get(proposal.id).state == "withdrawn"
    office.settle()
    assert office.effective().digest == digest(HALT)


def test_a_failed_publish_is_withdrawn(office: Office) -> None:
    proposal = approved_and_failed(office)
    assert office.person("carol").withdraw(proposal.id).state == "withdrawn"
    with pytest.raises(ChangeRefused):
        office.person("bob").retry(proposal.id)
    office.settle()
    assert office.effective().digest == digest(HALT)


def test_a_loosening_that_alarms_roll_back_is_over(office: Office) -> None:
    proposal = office.agree(FlagsChange(LOOSER))
    office.wait(400)
    office.appconfig.alarm = True
    office.wait(60)
    office.appconfig.alarm = False
    assert office.types()[-1] == "moratorium.rolled_back"
    with pytest.raises(ChangeRefused):
        office.person("bob").retry(proposal.id)
    office.settle()
    assert office.effective().digest == digest(HALT)


def test_what_tightens_must_not_loosen_what_is_on_its_way_back(office: Office) -> None:
    """While a loosening rolls out, the tighter document still holds for some: nobody alone takes it from them."""
    office.agree(FlagsChange(LOOSER))
    office.wait(400)
    between = hosted(**LOOSER["values"], more=value(effect="restrict", human_review=2))
    assert office.person("alice").submit(FlagsChange(TIGHTER)).state == "applied"
    office.settle()
    office.agree(FlagsChange(LOOSER))
    office.wait(400)
    with pytest.raises(ChangeRefused, match="rolled out"):
        office.person("alice").submit(FlagsChange(between))


def test_a_tightening_stops_a_rollout(office: Office) -> None:
    office.agree(FlagsChange(LOOSER))
    office.wait(400)
    office.person("alice").submit(FlagsChange(TIGHTER))
    assert office.appconfig.served() == (TIGHTER,)


def test_a_tightening_stops_what_bakes(office: Office) -> None:
    office.agree(FlagsChange(LOOSER))
    office.wait(1900)
    assert office.appconfig.state() == "BAKING"
    office.person("alice").submit(FlagsChange(TIGHTER))
    assert office.appconfig.served() == (TIGHTER,)


def test_the_brake_holds_beside_the_flags(office: Office) -> None:
    document = hosted(everybody=value())
    assert office.person("dora").submit(BrakeChange(document)).state == "applied"
    effective = office.effective()
    assert effective.digest == digest(HALT)
    assert effective.brake == digest(document)
    assert "brake:everybody" in {flag.key for flag in effective.flags}
    assert office.person("dora").submit(BrakeChange(hosted())).state == "proposed"
    office.agree(BrakeChange(hosted()))
    assert office.effective().brake == digest(hosted())


def test_nothing_waits_for_the_ledger_to_tighten(office: Office) -> None:
    send = office.aws.sqs.send_message

    def down(**_: Any) -> Any:
        raise ConnectionError

    office.aws.sqs.send_message = down  # type: ignore[method-assign]
    with pytest.raises(MoratoriumError, match="recorded"):
        office.person("alice").submit(FlagsChange(LOOSER))
    office.person("alice").submit(FlagsChange(TIGHTER))
    office.person("alice").submit(BrakeChange(hosted(everybody=value())))
    assert office.effective().digest == digest(TIGHTER)
    before = len(office.types())
    office.aws.sqs.send_message = send  # type: ignore[method-assign]
    office.watch()
    assert office.types()[before:] == ["moratorium.refused", "moratorium.tightened", "moratorium.tightened"]


def test_drift_is_found_and_the_tighter_of_both_holds(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    office.appconfig.deploy_past_everybody(hosted())
    effective = office.effective()
    assert effective.drift == digest(HALT)
    assert {flag.key for flag in effective.flags} == {"agreed:police_halt"}
    office.watch()
    kind, body = office.ledger()[-1]
    assert (kind, body["foreign"]) == ("moratorium.drift", digest(hosted()))
    # What the alarm counts.
    assert caplog.messages.count("drift") == 1
    with pytest.raises(ChangeRefused, match="drift"):
        office.person("alice").submit(FlagsChange(LOOSER))
    assert office.person("alice").submit(FlagsChange(HALT)).state == "applied"
    office.wait(180)
    assert office.effective().drift == ""
    assert office.types()[-1] == "moratorium.drift_ended"


def test_a_tighter_drift_is_not_ended_by_one(office: Office) -> None:
    office.appconfig.deploy_past_everybody(TIGHTER)
    office.watch()
    assert office.effective().drift == digest(HALT)
    with pytest.raises(ChangeRefused, match="drift"):
        office.person("alice").submit(FlagsChange(HALT))


def test_a_tightening_that_is_reverted_holds(office: Office) -> None:
    office.person("alice").submit(FlagsChange(TIGHTER))
    office.settle()
    office.appconfig.stop_deployment(
        ApplicationId="app0001", EnvironmentId="liv0000", DeploymentNumber=2, AllowRevert=True
    )
    assert office.appconfig.served() == (HALT,)
    effective = office.effective()
    assert effective.drift == digest(TIGHTER)
    assert "agreed:more" in {flag.key for flag in effective.flags}
    office.watch()
    assert office.types()[-1] == "moratorium.drift"


def test_registrations_take_two_and_a_suspension_one(office: Office) -> None:
    assert office.person("alice").submit(TenantChange(ACME)).state == "proposed"
    assert office.person("alice").tenants() == []
    office.agree(TenantChange(ACME))
    suspended = structs.replace(ACME, status="suspended")
    assert office.person("alice").submit(TenantChange(suspended)).state == "applied"
    assert office.person("alice").submit(TenantChange(ACME)).state == "proposed"
    assert office.person("alice").tenants() == [suspended]
    office.agree(TenantChange(ACME))
    assert office.person("alice").tenants() == [ACME]


def test_a_resumption_is_of_one_suspension(office: Office) -> None:
    office.agree(TenantChange(ACME))
    suspended = structs.replace(ACME, status="suspended")
    office.person("alice").submit(TenantChange(suspended))
    resume = office.person("alice").submit(TenantChange(ACME))
    office.agree(TenantChange(ACME), by=("carol", "bob"))
    office.person("alice").submit(TenantChange(suspended))
    with pytest.raises(ChangeRefused, match="propose again"):
        office.person("bob").approve(resume.id, resume.digest)


def test_a_principal_is_one_tenants(office: Office) -> None:
    office.agree(TenantChange(ACME))
    other = structs.replace(ACME, id="other")
    proposal = office.person("alice").submit(TenantChange(other))
    with pytest.raises(ChangeRefused, match="another tenant"):
        office.person("bob").approve(proposal.id, proposal.digest)


def test_only_the_deployed_document_passes_the_validator(office: Office) -> None:
    office.agree(FlagsChange(LOOSER))
    office.settle()
    office.person("alice").submit(FlagsChange(HALT))
    office.settle()
    client = office.appconfig
    for version in range(1, 3):
        with pytest.raises(client.exceptions.BadRequestException):
            client.start_deployment(
                ApplicationId="app0001",
                EnvironmentId="liv0000",
                ConfigurationProfileId="mor0000",
                ConfigurationVersion="2",
                DeploymentStrategyId="abe0000",
            )
        assert version
    assert office.effective().digest == digest(HALT)


def test_the_consoles_word_counts_for_nothing(office: Office) -> None:
    status, answer = office.ask(CONSOLE, do="submit", change={"subject": "flags", "document": TIGHTER})
    assert (status, answer["error"]) == (403, "NotAPerson")
    assert office.types()[-1] == "moratorium.refused"
    assert office.ask(CONSOLE, do="state")[0] == 200
    assert office.ask("", do="state")[0] == 403


@pytest.mark.parametrize("waits", [0, 400, 7400])
def test_an_old_deployment_starts_with_what_was_in_force(office: Office, waits: int) -> None:
    """The flow is destroyed and deployed again: AppConfig is empty, the record is not."""
    office.person("dora").submit(BrakeChange(hosted(everybody=value())))
    office.person("alice").submit(FlagsChange(TIGHTER))
    office.settle()
    office.agree(FlagsChange(HALT))
    office.wait(waits)
    office.appconfig.make_anew()
    with pytest.raises(FlagsError):
        office.effective()
    office.watch()
    office.watch()
    # A loosening that was on its way is over.
    assert office.effective().digest == digest(HALT if waits == 7400 else TIGHTER)
    assert office.effective().brake == digest(hosted(everybody=value()))
    office.settle()
    assert office.person("alice").submit(FlagsChange(LOOSER)).state == "proposed"
