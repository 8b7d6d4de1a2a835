"""Attacks of insiders on guardrails: fewer than three people, and writing past the change service. All of them fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.moratorium.conftest import hosted, value
from tests.integration.moratorium.test_guardrails import (
    ACME,
    GUARDED,
    NO_POLICE_SEARCH,
    NOTHING,
    POLICE_ONLY,
    REVIEWED,
    deployed,
    guardrails,
    table_of,
    tamper,
)
from tests.office import Office, offices, user

from abeyance.aws.table import Put
from abeyance.moratorium.inforce import pack
from abeyance.moratorium.subjects import (
    BrakeChange,
    ChangeRefused,
    FlagsChange,
    GuardrailsChange,
    LinkChange,
    TenantChange,
    UnlinkChange,
)


@pytest.fixture
def guarded() -> Iterator[Office]:
    with offices() as make:
        office = make()
        office.agree(GUARDED)
        yield office


def gone(office: Office) -> None:
    tamper(office, "guardrails", "deployed")


def emptied(office: Office) -> None:
    tamper(office, "guardrails", "deployed", document=pack(guardrails()))


def put_back(office: Office) -> None:
    office.agree(GuardrailsChange(guardrails()))
    old = table_of(office).get(("guardrails", "000001"))
    assert old is not None
    table_of(office).transact([Put({**old, "sk": "deployed"})])


def without_history(office: Office) -> None:
    tamper(office, "guardrails", "000001")


def garbled(office: Office) -> None:
    for name in ("deployed", "000001"):
        tamper(office, "guardrails", name, document=b"x")


@pytest.mark.parametrize("attack", [gone, emptied, put_back, without_history, garbled])
def test_guardrails_that_were_written_past_the_service(guarded: Office, attack: Any) -> None:
    """Nothing is loosened, everything can be tightened, the ledger has it once, and three people mend it."""
    attack(guarded)
    for _ in range(3):
        guarded.watch()
    assert guarded.types().count("moratorium.drift") == 1
    assert deployed(guarded)["drift"] is True
    for change in (FlagsChange(POLICE_ONLY), FlagsChange(NOTHING), BrakeChange(hosted()), TenantChange(ACME)):
        if isinstance(change, BrakeChange):
            guarded.person("alice").submit(BrakeChange(hosted(all=value())))
        with pytest.raises(ChangeRefused, match="drift"):
            guarded.person("alice").submit(change)
    made = guarded.person("alice").submit(GUARDED)
    assert made.people == 3
    guarded.person("bob").approve(made.id, made.digest)
    assert guarded.person("carol").approve(made.id, made.digest).state == "applied"
    assert deployed(guarded)["drift"] is False
    assert guarded.agree(TenantChange(ACME)).state == "applied"
    gone(guarded)
    guarded.watch()
    assert guarded.types().count("moratorium.drift") == 2


# -- people who are fewer than three


def by_two(office: Office, made: Any) -> None:
    office.person("bob").approve(made.id, made.digest)
    office.person("bob").approve(made.id, made.digest)


def by_the_proposer_at_the_end(office: Office, made: Any) -> None:
    office.person("bob").approve(made.id, made.digest)
    office.person("alice").approve(made.id, made.digest)


def by_two_names_of_the_proposer(office: Office, made: Any) -> None:
    office.person("bob").approve(made.id, made.digest)
    office.person("alice-2").approve(made.id, made.digest)


def by_two_names_of_an_approver(office: Office, made: Any) -> None:
    office.person("bob").approve(made.id, made.digest)
    office.person("bob-2").approve(made.id, made.digest)


def by_somebody_whom_nobody_knows(office: Office, made: Any) -> None:
    office.person("bob").approve(made.id, made.digest)
    office.person("mallory").approve(made.id, made.digest)


def by_an_approver_who_was_unlinked(office: Office, made: Any) -> None:
    office.person("bob").approve(made.id, made.digest)
    office.person("dora").submit(UnlinkChange(user("bob")))
    office.person("carol").approve(made.id, made.digest)


def by_an_approver_who_became_another(office: Office, made: Any) -> None:
    """Bob agrees, is linked under another name, and agrees again under his old one."""
    office.person("bob").approve(made.id, made.digest)
    office.person("dora").submit(UnlinkChange(user("bob")))
    office.agree(LinkChange(user("bob"), "robert"), by=("carol", "dora", "clara"))
    office.person("bob-2").approve(made.id, made.digest)


def by_a_third_whom_two_have_linked(office: Office, made: Any) -> None:
    """While there are guardrails, a new person takes three: otherwise two could make the third."""
    link = office.person("alice").submit(LinkChange(user("mallory"), "mallory"))
    assert office.person("bob").approve(link.id, link.digest).state == "proposed"
    office.person("bob").approve(made.id, made.digest)
    office.person("mallory").approve(made.id, made.digest)


def with_the_digest_of_another(office: Office, made: Any) -> None:
    office.person("bob").approve(made.id, made.digest)
    other = office.person("alice").submit(GuardrailsChange(guardrails(other=REVIEWED)))
    office.person("carol").approve(made.id, other.digest)


def after_a_withdrawal(office: Office, made: Any) -> None:
    office.person("bob").approve(made.id, made.digest)
    office.person("dora").withdraw(made.id)
    office.person("carol").approve(made.id, made.digest)


def after_another_change(office: Office, made: Any) -> None:
    """An agreement is for one generation: the same text again is another."""
    office.person("bob").approve(made.id, made.digest)
    for document in (guardrails(no_police_search=NO_POLICE_SEARCH, more=REVIEWED), GUARDED.document):
        office.agree(GuardrailsChange(document), by=("alice", "bob", "dora"))
    office.person("carol").approve(made.id, made.digest)


def by_replaying_what_was_used(office: Office, made: Any) -> None:
    for name in ("bob", "carol"):
        office.person(name).approve(made.id, made.digest)
    office.agree(GUARDED)
    office.person("dora").approve(made.id, made.digest)


def by_retrying_what_was_used(office: Office, made: Any) -> None:
    for name in ("bob", "carol"):
        office.person(name).approve(made.id, made.digest)
    office.agree(GUARDED)
    office.person("dora").retry(made.id)


def by_retrying_before_the_third(office: Office, made: Any) -> None:
    office.person("bob").approve(made.id, made.digest)
    office.person("alice").retry(made.id)


def too_late(office: Office, made: Any) -> None:
    office.person("bob").approve(made.id, made.digest)
    office.clock.advance(14 * 86_400)
    office.person("carol").approve(made.id, made.digest)


ATTACKS = [
    by_two,
    by_the_proposer_at_the_end,
    by_two_names_of_the_proposer,
    by_two_names_of_an_approver,
    by_somebody_whom_nobody_knows,
    by_an_approver_who_was_unlinked,
    by_an_approver_who_became_another,
    by_a_third_whom_two_have_linked,
    with_the_digest_of_another,
    after_a_withdrawal,
    after_another_change,
    by_replaying_what_was_used,
    by_retrying_what_was_used,
    by_retrying_before_the_third,
    too_late,
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_guardrails_are_not_lifted_by_fewer_than_three(guarded: Office, attack: Any) -> None:
    for name in ("alice", "bob"):
        guarded.agree(LinkChange(user(f"{name}-2"), name))
    made = guarded.person("alice").submit(GuardrailsChange(guardrails()))
    with pytest.raises(ChangeRefused):
        attack(guarded, made)
    assert guarded.types()[-1] == "moratorium.refused"
    assert deployed(guarded)["document"] == GUARDED.document
    with pytest.raises(ChangeRefused, match="whoever approves it"):
        guarded.person("alice").submit(FlagsChange(NOTHING))
