"""Attacks of insiders on the change service: each fails, and each is on the ledger. The matrix is docs/threat-model.md.

An attack is tried through the function's own handler, with the events that API Gateway makes, or past it on AppConfig
as an account administrator could. What counts afterwards is what a stage decides by, not what an answer says.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from msgspec import structs, to_builtins
from tests.integration.moratorium.conftest import hosted, value
from tests.office import ACCOUNT, CONSOLE, Office, offices, user

from abeyance.moratorium.callers import TOKEN_HEADER
from abeyance.moratorium.changes import ChangeKind, classify
from abeyance.moratorium.document import parse
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
from abeyance.moratorium.tokens import MadeUpTokens

HALT = new_deployment()
NOTHING = hosted()
TIGHTER = hosted(**HALT["values"], more=value(effect="restrict", human_review=2))
POLICE = Tenant(
    id="springfield-police",
    sector="law_enforcement",
    jurisdiction="US-IL",
    actions=("search",),
    purposes=("criminal_investigation",),
    principals=(f"arn:aws:iam::{ACCOUNT}:role/police",),
)
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def office() -> Iterator[Office]:
    with offices() as make:
        made = make()
        made.agree(TenantChange(POLICE))
        made.agree(BrakeChange(hosted(brake=value(sectors=["military"]))))
        yield made


def refused(office: Office) -> list[str]:
    return [kind for kind in office.types() if kind == "moratorium.refused"]


def permits(office: Office) -> list[str]:
    """What no attack may change: the flags that a stage decides by, the tenants, and who is whom."""
    effective = office.effective()
    looser = classify(parse(HALT), effective).kind is ChangeKind.LOOSENING
    braked = any(flag.key.endswith("brake") for flag in effective.flags)
    tenants = [to_builtins(tenant) for tenant in office.tenants().all()]
    return [str(looser), str(braked), json.dumps([tenants, office.person("alice").people()], sort_keys=True)]


# -- to be somebody else

SUBMIT: dict[str, Any] = {"do": "submit", "change": {"subject": "flags", "document": TIGHTER}, "wait": True}


def now_s() -> int:
    """The moment now, by the clock of PyJWT, which no test sets."""
    return int(datetime.now(UTC).timestamp())


def token(**claims: Any) -> str:
    now = now_s()
    body = {"sub": "bob@local", "roles": ["policy_officer"], "iss": "made-up", "exp": now + 600, **claims}
    return jwt.encode({name: one for name, one in body.items() if one is not None}, "key", algorithm="HS256")


CALLERS = {
    "nobody signs": ("", {}),
    "the console signs for itself": (CONSOLE, {}),
    "the root user": (f"arn:aws:iam::{ACCOUNT}:root", {}),
    "a role of a function": (f"arn:aws:sts::{ACCOUNT}:assumed-role/abeyance-flags-x/abeyance-flags", {}),
    "a role that names nobody": (f"arn:aws:sts::{ACCOUNT}:assumed-role/Admin/bob", {}),
    "a role with a name like that of people": (f"arn:aws:sts::{ACCOUNT}:assumed-role/Officers2/bob", {}),
    "a role in upper case": (f"arn:aws:sts::{ACCOUNT}:assumed-role/OFFICERS/bob", {}),
    "a role without a session": (f"arn:aws:sts::{ACCOUNT}:assumed-role/Officers", {}),
    "the role itself": (f"arn:aws:iam::{ACCOUNT}:role/Officers", {}),
    "a federated user": (f"arn:aws:sts::{ACCOUNT}:federated-user/bob", {}),
    "a name instead of an ARN": ("bob", {}),
    "an ARN with something before it": (f"x{user('bob')}", {}),
    "a token where none is accepted": (user("alice"), {TOKEN_HEADER: "e30.e30.e30"}),
    "a token in another spelling of the header": (user("alice"), {"X-ABEYANCE-TOKEN": "e30.e30.e30"}),
    "an empty token": (user("alice"), {TOKEN_HEADER: ""}),
}


@pytest.mark.parametrize("name", CALLERS)
def test_a_caller_who_is_nobody(office: Office, name: str) -> None:
    before, count = permits(office), len(refused(office))
    signer, headers = CALLERS[name]
    status, _ = office.ask(signer, headers, **SUBMIT)
    assert status == 403
    assert (permits(office), len(refused(office))) == (before, count + 1)
    assert office.person("alice").all()[2:] == []


TOKENS: dict[str, Callable[[], str]] = {
    "no token at all": lambda: "bob@local",
    "unsigned": lambda: jwt.encode({"sub": "bob@local", "roles": ["policy_officer"]}, "", algorithm="none"),
    "signed by somebody else": lambda: jwt.encode(
        {"sub": "bob@local", "roles": ["policy_officer"], "iss": "made-up", "exp": now_s() + 600},
        "another key",
        algorithm="HS256",
    ),
    "signed by a private key": lambda: jwt.encode(
        {"sub": "bob@local", "roles": ["policy_officer"], "iss": "made-up", "exp": now_s() + 600},
        KEY,
        algorithm="RS256",
    ),
    "over": lambda: token(exp=now_s() - 600),
    "without an end": lambda: token(exp=None),
    "of another issuer": lambda: token(iss="https://evil.example"),
    "without an issuer": lambda: token(iss=None),
    "without a subject": lambda: token(sub=None),
    "without the role": lambda: token(roles=["auditor", "reviewer"]),
    "with the role in another claim": lambda: token(roles=None, scope="policy_officer"),
}


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_that_is_not_the_users(name: str) -> None:
    with offices() as make:
        office = make(sign_in="made-up:key")
        status, _ = office.ask("alice", {TOKEN_HEADER: TOKENS[name]()}, **SUBMIT)
        assert status == 403
        assert office.types()[-1] == "moratorium.refused"
        good = MadeUpTokens("key").make("bob@local", ("policy_officer",), now_s())
        # Nor does the signature of whoever passes a good token on count: bob is linked to nobody here.
        assert office.ask("alice", {TOKEN_HEADER: good}, **SUBMIT)[0] == 409


BODIES: dict[str, dict[str, Any]] = {
    "a principal": {"principal": user("bob")},
    "a person": {"person": "bob"},
    "an approver": {"approver": {"principal": user("bob"), "person": "bob"}},
    "a state": {"state": "approved"},
    "a kind": {"kind": "tightening"},
    "a base": {"base": "0"},
}


@pytest.mark.parametrize("name", BODIES)
def test_a_request_that_names_what_the_service_knows(office: Office, name: str) -> None:
    before = permits(office)
    change = {"subject": "flags", "document": NOTHING}
    assert office.ask(user("alice"), do="submit", change=change, **BODIES[name])[0] == 400
    assert office.ask(user("alice"), do="submit", change={**change, **BODIES[name]})[0] == 409
    assert office.types()[-2:] == ["moratorium.refused"] * 2
    assert permits(office) == before


# -- to be two, or to use an agreement for something else


def twice_by_one(office: Office) -> None:
    made = office.person("alice").submit(FlagsChange(NOTHING))
    office.person("alice").approve(made.id, made.digest)


def by_a_second_principal(office: Office) -> None:
    office.agree(LinkChange(user("alice-2"), "alice"))
    made = office.person("alice").submit(FlagsChange(NOTHING))
    office.person("alice-2").approve(made.id, made.digest)


def by_a_principal_of_nobody(office: Office) -> None:
    made = office.person("alice").submit(FlagsChange(NOTHING))
    office.person("mallory").approve(made.id, made.digest)


def by_linking_oneself(office: Office) -> None:
    made = office.person("alice").submit(LinkChange(user("mallory"), "mallory"))
    office.person("alice").approve(made.id, made.digest)


def by_the_principal_that_is_to_be_linked(office: Office) -> None:
    made = office.person("alice").submit(LinkChange(user("mallory"), "mallory"))
    office.person("mallory").approve(made.id, made.digest)


def by_taking_over_a_principal(office: Office) -> None:
    office.person("alice").submit(LinkChange(user("bob"), "alice"))


def by_becoming_another_after_proposing(office: Office) -> None:
    made = office.person("alice").submit(FlagsChange(NOTHING))
    office.person("carol").submit(UnlinkChange(user("alice")))
    office.agree(LinkChange(user("alice"), "zoe"), by=("carol", "dora"))
    office.agree(LinkChange(user("alice-2"), "alice"), by=("carol", "dora"))
    office.person("alice-2").approve(made.id, made.digest)


def with_the_digest_of_the_document(office: Office) -> None:
    made = office.person("alice").submit(FlagsChange(NOTHING))
    office.person("bob").approve(made.id, parse(NOTHING).digest)


def with_the_digest_of_another_proposal(office: Office) -> None:
    mild = office.person("alice").submit(FlagsChange(TIGHTER), wait=True)
    wild = office.person("alice").submit(FlagsChange(NOTHING))
    office.person("bob").approve(wild.id, mild.digest)


def with_an_exchanged_document(office: Office) -> None:
    """The table's policy denies this; the service does not rely on it."""
    mild = office.person("alice").submit(FlagsChange(TIGHTER), wait=True)
    wild = office.person("alice").submit(FlagsChange(NOTHING))
    table = office.aws.dynamodb.tables[office.settings.proposals_table]
    stored = table.items[f"proposal#{mild.id}"]["proposal"]
    stored["body"] = table.items[f"proposal#{wild.id}"]["proposal"]["body"]
    office.person("bob").approve(mild.id, mild.digest)


def after_a_withdrawal(office: Office) -> None:
    made = office.person("alice").submit(FlagsChange(NOTHING))
    office.person("carol").withdraw(made.id)
    office.person("bob").approve(made.id, made.digest)


def after_its_time(office: Office) -> None:
    made = office.person("alice").submit(FlagsChange(NOTHING))
    office.clock.advance(OPEN_S)
    office.person("bob").approve(made.id, made.digest)


def after_a_year(office: Office) -> None:
    made = office.person("alice").submit(FlagsChange(NOTHING))
    office.clock.advance(366 * 86_400)
    office.person("bob").approve(made.id, made.digest)


def after_a_tightening(office: Office) -> None:
    made = office.person("alice").submit(FlagsChange(NOTHING))
    office.person("carol").submit(FlagsChange(TIGHTER))
    office.person("bob").approve(made.id, made.digest)


def after_the_same_text_is_in_force_again(office: Office) -> None:
    made = office.person("alice").submit(FlagsChange(NOTHING))
    office.person("carol").submit(FlagsChange(TIGHTER))
    office.settle()
    office.agree(FlagsChange(HALT), by=("carol", "dora"))
    office.settle()
    office.person("bob").approve(made.id, made.digest)


def lifted_and_halted(office: Office) -> Any:
    made = office.agree(FlagsChange(NOTHING))
    office.settle()
    office.person("carol").submit(FlagsChange(HALT))
    office.settle()
    return made


def by_retrying_what_was_used(office: Office) -> None:
    office.person("alice").retry(lifted_and_halted(office).id)


def by_approving_what_was_used(office: Office) -> None:
    made = lifted_and_halted(office)
    office.person("dora").approve(made.id, made.digest)


def by_withdrawing_what_tightened_since(office: Office) -> None:
    office.person("alice").withdraw(lifted_and_halted(office).id)


def failed(office: Office) -> Any:
    made = office.person("alice").submit(FlagsChange(NOTHING))
    validate = office.appconfig.validate

    def refuse(event: Any) -> None:
        raise RuntimeError

    office.appconfig.validate = refuse
    office.ask(user("bob"), do="approve", id=made.id, digest=made.digest)
    office.appconfig.validate = validate
    return made


def by_retrying_after_something_came_between(office: Office) -> None:
    made = failed(office)
    office.person("carol").submit(FlagsChange(TIGHTER))
    office.person("alice").retry(made.id)


def by_retrying_a_day_later(office: Office) -> None:
    made = failed(office)
    office.clock.advance(APPROVED_S)
    office.person("alice").retry(made.id)


def by_tightening_a_little_and_loosening_the_rest(office: Office) -> None:
    mixed = hosted(more=value(sectors=["military"]))
    assert office.person("alice").submit(FlagsChange(mixed)).state == "proposed"
    raise ChangeRefused("proposed, not made")


def by_exempting_a_purpose(office: Office) -> None:
    document = copy.deepcopy(HALT)
    document["values"]["police_halt"]["exempt_purposes"].append("criminal_investigation")
    assert office.person("alice").submit(FlagsChange(document)).state == "proposed"
    raise ChangeRefused("proposed, not made")


def by_ending_the_halt_later_today(office: Office) -> None:
    document = copy.deepcopy(HALT)
    document["values"]["police_halt"] |= {"ends": "2026-06-01T00:00:00Z", "on_expiry": "lift"}
    assert office.person("alice").submit(FlagsChange(document)).state == "proposed"
    raise ChangeRefused("proposed, not made")


def by_taking_off_the_brake(office: Office) -> None:
    assert office.person("alice").submit(BrakeChange(hosted())).state == "proposed"
    raise ChangeRefused("proposed, not made")


def by_taking_off_the_brake_with_an_approval_of_flags(office: Office) -> None:
    flags = office.person("alice").submit(FlagsChange(NOTHING))
    brake = office.person("alice").submit(BrakeChange(hosted()))
    office.person("bob").approve(brake.id, flags.digest)


def by_a_document_that_is_none(office: Office) -> None:
    office.person("alice").submit(FlagsChange({"version": "1", "flags": {}, "values": {"a": {}}}))


def by_unlinking_everybody(office: Office) -> None:
    for name in ("carol", "clara", "dora"):
        made = office.person("alice").submit(UnlinkChange(user(name)))
        assert made.state == "applied"
        office.agree(LinkChange(user(name), name))
    office.settle()
    raise ChangeRefused("nobody is two by it")


AGREEMENTS = (
    twice_by_one,
    by_a_second_principal,
    by_a_principal_of_nobody,
    by_linking_oneself,
    by_the_principal_that_is_to_be_linked,
    by_taking_over_a_principal,
    with_the_digest_of_the_document,
    with_the_digest_of_another_proposal,
    with_an_exchanged_document,
    after_a_withdrawal,
    after_its_time,
    after_a_year,
    after_a_tightening,
    after_the_same_text_is_in_force_again,
    by_retrying_what_was_used,
    by_approving_what_was_used,
    by_withdrawing_what_tightened_since,
    by_retrying_after_something_came_between,
    by_retrying_a_day_later,
    by_tightening_a_little_and_loosening_the_rest,
    by_exempting_a_purpose,
    by_ending_the_halt_later_today,
    by_taking_off_the_brake,
    by_taking_off_the_brake_with_an_approval_of_flags,
    by_a_document_that_is_none,
)


@pytest.mark.parametrize("attack", AGREEMENTS, ids=lambda attack: attack.__name__)
def test_an_agreement_that_was_not_given(office: Office, attack: Callable[[Office], None]) -> None:
    before = permits(office)
    with pytest.raises(ChangeRefused):
        attack(office)
    assert {"moratorium.refused", "moratorium.proposed"} & set(office.types()[4:])
    office.settle()
    after = permits(office)
    assert after[:2] == before[:2]
    assert json.loads(after[2])[0] == json.loads(before[2])[0]


@pytest.mark.parametrize("attack", [by_becoming_another_after_proposing, by_unlinking_everybody])
def test_people_who_are_exchanged(office: Office, attack: Callable[[Office], None]) -> None:
    with pytest.raises(ChangeRefused):
        attack(office)
    office.settle()
    assert permits(office)[0] == "False"


# -- the registry

REGISTRATIONS: dict[str, Tenant] = {
    "the police as a company": structs.replace(
        POLICE, id="springfield-pd", sector="commercial", principals=("pd",)
    ),
    "a name that an exemption mentions": structs.replace(POLICE, id="thorn", principals=("thorn",)),
    "another sector": structs.replace(POLICE, sector="commercial"),
    "another place": structs.replace(POLICE, jurisdiction="DE"),
    "another purpose": structs.replace(POLICE, purposes=("criminal_investigation", "missing_children")),
    "another action": structs.replace(POLICE, actions=("search", "template_export")),
    "another principal": structs.replace(POLICE, principals=(*POLICE.principals, "mallory")),
    "less and more": structs.replace(POLICE, purposes=("missing_children",)),
}


@pytest.mark.parametrize("name", REGISTRATIONS)
def test_a_registration_by_one(office: Office, name: str) -> None:
    before = permits(office)
    made = office.person("alice").submit(TenantChange(REGISTRATIONS[name]))
    assert made.state == "proposed"
    status, _ = office.ask(user("alice"), do="approve", id=made.id, digest=made.digest)
    assert status == 409
    assert office.types()[-2:] == ["moratorium.proposed", "moratorium.refused"]
    assert permits(office) == before


def test_a_resumption_by_one(office: Office) -> None:
    suspended = structs.replace(POLICE, status="suspended")
    office.person("alice").submit(TenantChange(suspended))
    made = office.person("alice").submit(TenantChange(POLICE))
    assert made.state == "proposed"
    assert office.ask(user("alice"), do="approve", id=made.id, digest=made.digest)[0] == 409
    assert list(office.tenants().all()) == [suspended]


# -- past the service, on AppConfig


def start(office: Office, version: int, environment: str = "liv0000", profile: str = "mor0000") -> None:
    office.appconfig.start_deployment(
        ApplicationId="app0001",
        EnvironmentId=environment,
        ConfigurationProfileId=profile,
        ConfigurationVersion=str(version),
        DeploymentStrategyId="abe0000",
    )


def create(office: Office, document: dict[str, Any], profile: str = "mor0000") -> int:
    answer = office.appconfig.create_hosted_configuration_version(
        ApplicationId="app0001",
        ConfigurationProfileId=profile,
        Content=json.dumps(document).encode(),
        ContentType="application/json",
    )
    return int(answer["VersionNumber"])


def a_new_version(office: Office) -> None:
    start(office, create(office, NOTHING))


def a_version_of_last_year(office: Office) -> None:
    lifted_and_halted(office)
    start(office, 2)


def the_empty_brake_as_flags(office: Office) -> None:
    start(office, 1, profile="bra0001")


def an_empty_brake(office: Office) -> None:
    start(office, create(office, hosted(), "bra0001"), "bra0001", "bra0001")


def a_tightening_undone(office: Office) -> None:
    office.agree(FlagsChange(NOTHING))
    office.settle()
    office.person("carol").submit(FlagsChange(HALT))
    office.settle()
    office.appconfig.stop_deployment(
        ApplicationId="app0001", EnvironmentId="liv0000", DeploymentNumber=3, AllowRevert=True
    )


def the_brake_undone(office: Office) -> None:
    office.settle()
    office.appconfig.stop_deployment(
        ApplicationId="app0001", EnvironmentId="bra0001", DeploymentNumber=2, AllowRevert=True
    )


def without_a_validator(office: Office) -> None:
    office.appconfig.deploy_past_everybody(NOTHING)


def the_brake_without_a_validator(office: Office) -> None:
    office.settle()
    office.appconfig.deploy_past_everybody(hosted(), "brake")


def nothing_during_a_rollout(office: Office) -> None:
    office.agree(FlagsChange(hosted(other=value(sectors=["law_enforcement", "law_enforcement_support"]))))
    office.wait(400)
    office.appconfig.deploy_past_everybody(NOTHING)


APPCONFIG = (
    a_new_version,
    a_version_of_last_year,
    the_empty_brake_as_flags,
    an_empty_brake,
    a_tightening_undone,
    the_brake_undone,
    without_a_validator,
    the_brake_without_a_validator,
    nothing_during_a_rollout,
)


@pytest.mark.parametrize("attack", APPCONFIG, ids=lambda attack: attack.__name__)
def test_a_deployment_past_the_service(office: Office, attack: Callable[[Office], None]) -> None:
    """It is refused by the validator, or it is drift: the tighter holds, and the ledger has it."""
    before = permits(office)
    drifted = True
    try:
        attack(office)
    except office.appconfig.exceptions.BadRequestException:
        drifted = False
    assert permits(office)[:2] == before[:2]
    office.watch()
    assert ("moratorium.drift" in office.types()) is drifted
    if drifted:
        assert office.effective().drift
    office.settle()
    assert permits(office)[:2] == before[:2]
