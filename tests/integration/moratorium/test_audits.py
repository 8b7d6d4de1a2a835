"""Audits through the change service: signed, two people where one lifts a halt, on the ledger, and at the stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import rfc8785
from msgspec import structs, to_builtins
from tests.office import Office, offices

from abeyance.deployment import build
from abeyance.ledger.documents import AUDIT_DOCUMENT
from abeyance.ledger.note import SignedNote
from abeyance.ledger.signatures import SIGN, SignerKey, generate
from abeyance.moratorium.audit_store import audit_digest
from abeyance.moratorium.audits import AuditedThreshold, AuditStatement, GroupFigure
from abeyance.moratorium.decide import Clause, Decision
from abeyance.moratorium.document import instant_text
from abeyance.moratorium.subjects import AuditChange, ChangeRefused, FlagsChange, TenantChange
from abeyance.moratorium.tenants import Tenant

from .conftest import hosted, value

LAB, STRANGER = generate("lab.example", bytes(range(32))), generate("stranger.example", bytes(32))
MODEL = "sface-2021dec@0123456789ab"
ACME = Tenant(
    id="acme", sector="commercial", jurisdiction="US", actions=("search",), purposes=("access_control",)
)
FLAG = value(
    audit_max_age_days=90,
    audit_signers=[str(LAB.verifier(SIGN))],
    audit_similarity=99,
    audit_max_fmr=0.001,
)


@pytest.fixture(scope="module")
def make() -> Iterator[Callable[..., Office]]:
    with offices() as made:
        yield made


@pytest.fixture
def office(make: Callable[..., Office]) -> Office:
    office = make()
    office.settings = office.settings.replace(deployed_model=MODEL)
    office.agree(TenantChange(ACME))
    office.agree(FlagsChange(hosted(bias=FLAG)))
    office.settle()
    return office


def statement(office: Office, fmr: float = 0.0005, **changes: Any) -> AuditStatement:
    figure = GroupFigure(
        group="women", attributes=("gender",), value=fmr / 2, limit=fmr, errors=3, pairs=10_000, people=300
    )
    at = AuditedThreshold(
        similarity=99,
        worst_fmr=figure,
        fmr_ratio=None,
        ratio_groups=0,
        ratio_left_out=2,
        lowest_accuracy=None,
    )
    made = AuditStatement(
        format="abeyance-audit-1",
        model=MODEL,
        measured=instant_text((office.clock.utc() - timedelta(days=1)).replace(microsecond=0)),
        strangers="faces",
        mated="",
        report="0" * 64,
        thresholds=(at,),
    )
    return structs.replace(made, **changes)


def signed(stated: AuditStatement, key: SignerKey = LAB) -> str:
    note = SignedNote(rfc8785.dumps(to_builtins(stated)).decode() + "\n")
    return str(structs.replace(note, signatures=(key.sign(note),)))


def decide(office: Office) -> Decision:
    guard = build.build_guard(office.settings, office.aws.client)
    return guard.decide("acme", "search", "access_control")


def test_two_people_lift_a_halt_by_an_audit(office: Office) -> None:
    assert decide(office).clause is Clause.HALTED
    note = signed(statement(office))
    made = office.person("alice").submit(AuditChange(note))
    assert (made.state, made.kind, made.people) == ("proposed", "loosening", 2)
    assert decide(office).clause is Clause.HALTED
    assert office.person("bob").approve(made.id, made.digest).state == "applied"
    decision = decide(office)
    assert decision.clause is Clause.AUDITED
    assert decision.audit is not None
    assert decision.audit.facts is not None
    assert decision.audit.facts.digest == audit_digest(note)
    bodies = [body for kind, body in office.ledger() if kind == AUDIT_DOCUMENT]
    assert [body["document"] for body in bodies] == [audit_digest(note)]
    text = office.aws.s3.buckets[office.settings.ledger_bucket][f"blob/{audit_digest(note)}"].body
    assert text.decode() == note
    assert office.person("carol").state()["audits"][MODEL]["digest"] == audit_digest(note)
    office.clock.advance(90 * 86400)
    assert decide(office).clause is Clause.HALTED


def test_a_worse_audit_takes_one_person_and_halts_at_once(office: Office) -> None:
    office.agree(AuditChange(signed(statement(office))))
    assert decide(office).permitted
    worse = statement(office, fmr=0.01, measured=instant_text(office.clock.utc().replace(microsecond=0)))
    made = office.person("carol").submit(AuditChange(signed(worse)))
    assert (made.state, made.kind) == ("applied", "tightening")
    assert decide(office).clause is Clause.HALTED


def test_another_models_audit_lifts_nothing(office: Office) -> None:
    office.agree(AuditChange(signed(statement(office, model="sface-2021dec@ffffffffffff"))))
    assert decide(office).clause is Clause.HALTED


def test_what_is_not_signed_by_a_key_of_a_flag_is_refused(office: Office) -> None:
    stated = statement(office)
    forged = signed(stated).replace("0.0005", "0.0001")
    for note, why in (
        (signed(stated, STRANGER), "no flag in force"),
        (forged, "no flag in force"),
        (signed(stated).partition("\n\n")[0], "signed note"),
        ("{}", "no audit"),
    ):
        with pytest.raises(ChangeRefused, match=why):
            office.person("alice").submit(AuditChange(note))
    assert decide(office).clause is Clause.HALTED


def test_an_older_audit_does_not_replace_a_younger_one(office: Office) -> None:
    office.agree(AuditChange(signed(statement(office))))
    older = statement(
        office, measured=instant_text((office.clock.utc() - timedelta(days=9)).replace(microsecond=0))
    )
    with pytest.raises(ChangeRefused, match="as young"):
        office.person("alice").submit(AuditChange(signed(older)))
    future = statement(
        office, measured=instant_text((office.clock.utc() + timedelta(days=9)).replace(microsecond=0))
    )
    with pytest.raises(ChangeRefused, match="future"):
        office.person("alice").submit(AuditChange(signed(future)))


def test_a_record_that_cannot_be_read_halts(office: Office) -> None:
    office.agree(AuditChange(signed(statement(office))))
    table = office.aws.dynamodb.tables[office.settings.proposals_table]
    item = dict(table.get(("in-force", "audits")) or {})
    from abeyance.moratorium.inforce import pack

    table.put({**item, "document": {"B": pack({"version": "1", "audits": {MODEL: {"note": "x"}}})}})
    assert decide(office).clause is Clause.HALTED
