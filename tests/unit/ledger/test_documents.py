"""Documents that decide come onto the ledger once, and their text before the entry that names it."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest
from tests.log_objects import MemoryLogObjects

from abeyance.ledger.documents import DOCUMENT, GUARDRAILS_DOCUMENT, DocumentLog, RecordedPublisher
from abeyance.ledger.entry import Record, blob_key, make_entry
from abeyance.ledger.errors import LedgerUnavailable
from abeyance.moratorium.document import document_digest, parse
from abeyance.moratorium.errors import FlagsError, MoratoriumError
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.subjects import BrakeChange, FlagsChange, GuardrailsChange, LinkChange

FLAGS = new_deployment()
GUARDRAILS: dict[str, Any] = {
    "version": "1",
    "guardrails": {"g": {"claim": "deny law_enforcement search in US", "reason": "R.", "source": "S"}},
}


class Ledger:
    """A queue and objects that may not answer."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.objects = MemoryLogObjects()
        self.answers = True
        self.log = DocumentLog(self, self.objects)

    def put(self, record: Record) -> None:
        if not self.answers:
            raise LedgerUnavailable("SQS did not answer")
        make_entry(record, bytes(16))
        assert self.objects.get(blob_key(record.body["document"])) is not None
        self.records.append(record)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_a_document_is_recorded_once_by_both_its_digests(ledger: Ledger) -> None:
    assert ledger.log.record(FLAGS)
    assert not ledger.log.record(FLAGS)
    (record,) = ledger.records
    digest = document_digest(FLAGS)
    assert (record.id, record.type) == (f"document:{digest}", DOCUMENT)
    assert record.body["flags"] == parse(FLAGS).digest
    text = ledger.objects.get(blob_key(digest))
    assert text is not None
    assert (sha256(text).hexdigest(), json.loads(text)) == (digest, FLAGS)
    assert record.body["content"] == {"blob": digest, "bytes": len(text)}


def test_guardrails_are_recorded_as_what_they_are(ledger: Ledger) -> None:
    assert ledger.log.record_guardrails(GUARDRAILS)
    assert not ledger.log.record_guardrails(GUARDRAILS)
    (record,) = ledger.records
    digest = document_digest(GUARDRAILS)
    assert (record.id, record.type) == (f"guardrails:{digest}", GUARDRAILS_DOCUMENT)
    assert json.loads(ledger.objects.get(blob_key(digest)) or b"") == GUARDRAILS


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (FlagsChange(FLAGS), DOCUMENT),
        (BrakeChange(FLAGS), DOCUMENT),
        (GuardrailsChange(GUARDRAILS), GUARDRAILS_DOCUMENT),
    ],
)
def test_the_document_of_a_change_is_recorded_by_its_kind(ledger: Ledger, change: Any, kind: str) -> None:
    assert ledger.log.record_change(change)
    assert [record.type for record in ledger.records] == [kind]


def test_a_change_without_a_document_records_none(ledger: Ledger) -> None:
    assert not ledger.log.record_change(LinkChange("arn:aws:iam::111122223333:user/eve", "eve"))
    assert (ledger.records, ledger.objects.stored) == ([], {})


def test_after_a_failure_the_next_call_does_both_again(ledger: Ledger) -> None:
    ledger.answers = False
    with pytest.raises(LedgerUnavailable):
        ledger.log.record(FLAGS)
    ledger.answers = True
    assert ledger.log.record(FLAGS)
    assert len(ledger.records) == 1


def test_what_cannot_be_read_is_not_recorded(ledger: Ledger) -> None:
    with pytest.raises(FlagsError):
        ledger.log.record({"version": "1"})
    with pytest.raises(MoratoriumError):
        ledger.log.record_guardrails({"version": "1"})
    assert (ledger.records, ledger.objects.stored) == ([], {})


class Publisher:
    """A store of documents that remembers what was on the ledger when it deployed."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.seen = ledger, list[int]()

    def serving(self) -> Any:
        return "serving"

    def deployed(self, known: Any = ()) -> Any:
        return iter(["published"])

    def deploy(self, document: dict[str, Any], /, *, gradual: bool, note: str) -> str:
        self.seen.append(len(self.ledger.records))
        return f"{gradual} {note}"


def test_a_document_is_on_the_ledger_before_it_is_deployed(ledger: Ledger) -> None:
    publisher = Publisher(ledger)
    recorded = RecordedPublisher(publisher, ledger.log)
    assert recorded.deploy(FLAGS, gradual=True, note="n") == "True n"
    assert publisher.seen == [1]
    assert (recorded.serving(), list(recorded.deployed())) == ("serving", ["published"])


def test_a_ledger_that_does_not_answer_holds_up_no_halt(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.answers = False
    publisher = Publisher(ledger)
    assert RecordedPublisher(publisher, ledger.log).deploy(FLAGS, gradual=False, note="halt") == "False halt"
    assert publisher.seen == [0]
    assert [one.message for one in caplog.records] == ["a document is not on the ledger yet"]
