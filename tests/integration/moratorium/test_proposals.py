"""Two principals to loosen, one to tighten, and every step on the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from abeyance.moratorium.document import document_digest, parse
from abeyance.moratorium.errors import FlagsError
from abeyance.moratorium.proposals import Proposal, ProposalRefused, Proposals, is_approved
from abeyance.moratorium.publish import FilePublisher, PublishConflict, publisher_from
from abeyance.moratorium.source import FileSource

from .conftest import hosted, value

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE, TWO = "arn:aws:iam::123456789012:role/One", "arn:aws:iam::123456789012:role/Two"
HALT = hosted(halt=value())
LOOSER = hosted(halt=value(exempt_purposes=["missing_children"]))
TIGHTER = hosted(halt=value(), more=value(effect="restrict", human_review=2))


class Office:
    """Proposals over moto and a file, with the ledger as a list."""

    def __init__(self, dynamodb: Any, folder: Path) -> None:
        self.path = folder / "flags.json"
        self.path.write_text(json.dumps(HALT))
        self.publisher = FilePublisher(self.path)
        self.ledger: list[tuple[str, dict[str, Any]]] = []
        self.dynamodb = dynamodb
        self.rules = Proposals(dynamodb, "abeyance-proposals", self.publisher, self.record, clock=lambda: NOW)
        self.ledger_fails = ""

    def record(self, kind: str, body: dict[str, Any]) -> None:
        if kind == self.ledger_fails:
            raise ConnectionError
        self.ledger.append((kind, body))

    @property
    def in_force(self) -> dict[str, Any]:
        return json.loads(self.path.read_text())

    @property
    def steps(self) -> list[str]:
        return [kind for kind, _ in self.ledger]

    def approve(self, proposal: Proposal, who: str = TWO) -> Proposal:
        return self.rules.approve(proposal.id, who, proposal.document_digest)


@pytest.fixture
def office(dynamodb: Any, tmp_path: Path) -> Office:
    return Office(dynamodb, tmp_path)


def test_one_tightens_at_once(office: Office) -> None:
    assert office.rules.tighten(TIGHTER, ONE, note="as ordered") == "1"
    assert office.in_force == TIGHTER
    assert office.steps == ["moratorium.tightened"]
    assert office.ledger[0][1]["principal"] == ONE
    assert office.ledger[0][1]["document"] == document_digest(TIGHTER)


def test_one_alone_cannot_loosen(office: Office) -> None:
    with pytest.raises(ProposalRefused, match="this loosens"):
        office.rules.tighten(LOOSER, ONE)
    assert office.in_force == HALT
    assert office.ledger == []


def test_two_loosen(office: Office) -> None:
    proposal = office.rules.propose(LOOSER, ONE, note="children")
    assert (proposal.state, proposal.kind) == ("proposed", "loosening")
    assert office.in_force == HALT
    done = office.approve(proposal)
    assert (done.state, done.approver, done.version) == ("published", TWO, "1")
    assert office.in_force == LOOSER
    assert office.steps == ["moratorium.proposed", "moratorium.approved", "moratorium.published"]
    for _, body in office.ledger:
        assert (body["proposer"], body["document"]) == (ONE, document_digest(LOOSER))
    assert office.rules.get(proposal.id) == done


@pytest.mark.parametrize(
    "same",
    [
        ONE,
        "arn:aws:sts::123456789012:assumed-role/One/other-session",
        "arn:aws:iam::123456789012:role/path/One",
    ],
)
def test_nobody_approves_their_own_proposal(office: Office, same: str) -> None:
    proposal = office.rules.propose(LOOSER, ONE)
    with pytest.raises(ProposalRefused, match="their own"):
        office.approve(proposal, same)
    assert office.in_force == HALT


def test_an_approval_is_for_exactly_the_proposed_document(office: Office) -> None:
    proposal = office.rules.propose(LOOSER, ONE)
    for digest in ("", "0" * 64, document_digest(HALT), proposal.document_digest[:-1]):
        with pytest.raises(ProposalRefused, match="digest"):
            office.rules.approve(proposal.id, TWO, digest)
    assert office.in_force == HALT
    assert office.steps == ["moratorium.proposed"]


def test_a_document_exchanged_in_the_table_is_not_approved(office: Office) -> None:
    proposal = office.rules.propose(LOOSER, ONE)
    other = office.rules.propose(hosted(), ONE)
    item = office.dynamodb.get_item(
        TableName="abeyance-proposals", Key={"pk": {"S": f"proposal#{other.id}"}, "sk": {"S": "proposal"}}
    )["Item"]
    office.dynamodb.update_item(
        TableName="abeyance-proposals",
        Key={"pk": {"S": f"proposal#{proposal.id}"}, "sk": {"S": "proposal"}},
        UpdateExpression="SET document = :other",
        ExpressionAttributeValues={":other": item["document"]},
    )
    with pytest.raises(ProposalRefused, match="digest"):
        office.approve(proposal)
    assert office.in_force == HALT


def test_an_approval_is_against_the_flags_that_were_in_force(office: Office) -> None:
    proposal = office.rules.propose(LOOSER, ONE)
    office.rules.tighten(TIGHTER, TWO)
    with pytest.raises(ProposalRefused, match="propose again"):
        office.approve(proposal)
    assert office.in_force == TIGHTER


def test_a_proposal_is_approved_once(office: Office) -> None:
    proposal = office.rules.propose(LOOSER, ONE)
    office.approve(proposal)
    with pytest.raises(ProposalRefused, match="published"):
        office.approve(proposal, "arn:aws:iam::123456789012:role/Three")


def test_withdrawn_is_withdrawn(office: Office) -> None:
    proposal = office.rules.propose(LOOSER, ONE)
    assert office.rules.withdraw(proposal.id, TWO).state == "withdrawn"
    with pytest.raises(ProposalRefused, match="withdrawn"):
        office.approve(proposal)
    with pytest.raises(ProposalRefused):
        office.rules.withdraw(proposal.id, TWO)
    with pytest.raises(ProposalRefused, match="no proposal"):
        office.rules.get("none")


def test_two_who_decide_at_once_do_not_both_decide(office: Office) -> None:
    proposal = office.rules.propose(LOOSER, ONE)
    record, done = office.rules._record, []

    def meanwhile(kind: str, body: dict[str, Any]) -> None:
        record(kind, body)
        if kind == "moratorium.approved" and not done:
            done.append(True)
            office.rules.withdraw(proposal.id, ONE)

    office.rules._record = meanwhile
    with pytest.raises(ProposalRefused, match="meanwhile"):
        office.approve(proposal)
    assert office.in_force == HALT
    assert office.steps[-1] == "moratorium.failed"


@pytest.mark.parametrize(
    ("kind", "act"),
    [
        ("moratorium.tightened", lambda office: office.rules.tighten(TIGHTER, ONE)),
        ("moratorium.proposed", lambda office: office.rules.propose(LOOSER, ONE)),
        ("moratorium.approved", lambda office: office.approve(office.rules.propose(LOOSER, ONE))),
    ],
)
def test_without_the_ledger_nothing_happens(office: Office, kind: str, act: Callable[[Office], Any]) -> None:
    office.ledger_fails = kind
    with pytest.raises(ConnectionError):
        act(office)
    assert office.in_force == HALT
    assert [proposal.state for proposal in office.rules.all()] in ([], ["proposed"])


def test_publishing_that_failed_is_recorded_and_can_be_resumed(office: Office) -> None:
    proposal = office.rules.propose(LOOSER, ONE)
    publish = office.publisher.publish

    def broken(*_: Any, **__: Any) -> str:
        raise OSError

    office.publisher.publish = broken
    with pytest.raises(OSError):  # noqa: PT011
        office.approve(proposal)
    assert office.steps[-1] == "moratorium.failed"
    assert office.rules.get(proposal.id).state == "approved"
    office.publisher.publish = publish
    assert office.rules.resume(proposal.id).state == "published"
    assert office.in_force == LOOSER
    with pytest.raises(ProposalRefused, match="only an approved one"):
        office.rules.resume(proposal.id)


def test_an_approved_document_cannot_be_resumed_over_other_flags(office: Office) -> None:
    proposal = office.rules.propose(LOOSER, ONE)
    publish = office.publisher.publish

    def broken(*_: Any, **__: Any) -> str:
        raise OSError

    office.publisher.publish = broken
    with pytest.raises(OSError):  # noqa: PT011
        office.approve(proposal)
    office.publisher.publish = publish
    office.rules.tighten(TIGHTER, ONE)
    with pytest.raises(PublishConflict):
        office.rules.resume(proposal.id)
    assert office.in_force == TIGHTER


def test_invalid_documents_are_not_proposed(office: Office) -> None:
    with pytest.raises(ProposalRefused, match="exemption needs"):
        office.rules.propose(hosted(halt=value(exempt_tenants=["thorn"])), ONE)
    with pytest.raises(ProposalRefused, match="not known"):
        office.rules.propose(hosted(halt=value(jurisdictions=["US-CA-NOWHERE"])), ONE)
    assert office.ledger == []


def test_the_validator_finds_an_approval_for_this_document_and_base_only(office: Office) -> None:
    base = parse(HALT).digest
    proposal = office.rules.propose(LOOSER, ONE)
    digest = proposal.document_digest

    def found(digest: str, base: str) -> bool:
        return is_approved(office.dynamodb, "abeyance-proposals", digest, base)

    assert not found(digest, base)
    office.approve(proposal)
    assert found(digest, base)
    assert not found(digest, parse(TIGHTER).digest)
    assert not found(document_digest(hosted()), base)


def test_an_approval_by_one_principal_is_none(office: Office) -> None:
    office.dynamodb.put_item(
        TableName="abeyance-proposals",
        Item={
            "pk": {"S": "approval#d"},
            "sk": {"S": "b"},
            "proposal": {"S": "x"},
            "proposer": {"S": ONE},
            "approver": {"S": ONE},
        },
    )
    assert not is_approved(office.dynamodb, "abeyance-proposals", "d", "b")


# -- the file


def test_a_file_keeps_every_version_and_readers_see_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    path.write_text(json.dumps(HALT))
    publisher, source = FilePublisher(path), FileSource(path)
    base = publisher.current().flags.digest
    assert publisher.publish(TIGHTER, base=base, gradual=False, note="one") == "1"
    assert publisher.current().version == "1"
    assert source.current().flags.digest == parse(TIGHTER).digest
    assert publisher.publish(HALT, base=parse(TIGHTER).digest, gradual=True, note="two") == "2"
    kept = sorted((tmp_path / "flags.json.history").iterdir())
    assert [json.loads(entry.read_text())["note"] for entry in kept] == ["one", "two"]
    assert list(tmp_path.glob("*.new")) == []


def test_a_file_is_not_published_over_something_else(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    path.write_text(json.dumps(HALT))
    publisher = FilePublisher(path)
    with pytest.raises(PublishConflict):
        publisher.publish(TIGHTER, base="0" * 64, gradual=False, note="")
    with pytest.raises(FlagsError):
        publisher.publish({"version": "2"}, base=publisher.current().flags.digest, gradual=False, note="")
    assert json.loads(path.read_text()) == HALT


def test_of_two_who_publish_at_once_one_fails(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    path.write_text(json.dumps(HALT))
    publisher = FilePublisher(path)
    base = publisher.current().flags.digest
    (tmp_path / "flags.json.history").mkdir()
    publisher._latest = lambda: 0
    (tmp_path / "flags.json.history" / "000001.json").write_text("{}")
    with pytest.raises(PublishConflict, match="at this moment"):
        publisher.publish(TIGHTER, base=base, gradual=False, note="")
    assert json.loads(path.read_text()) == HALT


def test_no_file_is_no_document(tmp_path: Path) -> None:
    with pytest.raises(FlagsError):
        FilePublisher(tmp_path / "none.json").current()
    for setting in ("file:", "appconfig:a/b", "s3:x"):
        with pytest.raises(ValueError, match="flags come from"):
            publisher_from(setting, boto3.client)
