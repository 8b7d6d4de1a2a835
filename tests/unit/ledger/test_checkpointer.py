"""The checkpointer: it signs what follows from the entries, has it witnessed, and asks again when nothing comes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs
from tests.fakes import MemoryTable
from tests.log_objects import MemoryLogObjects
from tests.logs import entries, signer

from abeyance.ledger.checkpoint import LATEST, LogCheckpoint, checkpoint_key, parse_note
from abeyance.ledger.checkpointer import RENEW_S, WITNESS_REFUSES, Checkpointer, HttpWitness
from abeyance.ledger.defects import LedgerReport, LogVerdict
from abeyance.ledger.errors import LedgerCorrupt
from abeyance.ledger.exporting import export_log
from abeyance.ledger.heads import HeadStore
from abeyance.ledger.policy import Policy, WitnessEntry
from abeyance.ledger.receipts import read_checkpoint
from abeyance.ledger.sequencer import Sequencer
from abeyance.ledger.signatures import COSIGN
from abeyance.ledger.signers import LocalSigner
from abeyance.ledger.verification import verify_log
from abeyance.ledger.witness import WitnessRefused, add_checkpoint_body
from abeyance.ledger.witness_server import CheckpointWitness, WitnessMemory


class Ledger:
    """A deployed log with one witness of its own, in memory."""

    def __init__(self) -> None:
        self.objects, self.heads = MemoryLogObjects(), HeadStore(MemoryTable())
        self.sequencer = Sequencer(self.heads, self.objects, clock=lambda: 0.0, sleep=lambda _: None)
        self.signer = LocalSigner(b"secret")
        self.now = datetime(2020, 6, 10, tzinfo=UTC)
        self.online = True
        self.asked = 0
        self.append(0, 5)
        head = self.heads.read()
        assert head is not None
        self.origin = head.origin
        key = signer("w.example", 9)
        known = [self.signer.verifier(self.origin)]
        self.witness = CheckpointWitness(key, known, WitnessMemory(":memory:"), lambda: self.now)
        self.entry = WitnessEntry("w", key.verifier(COSIGN), "https://w.example/")
        self.checkpointer = Checkpointer(
            self.heads,
            self.objects,
            self.signer,
            [HttpWitness(self.entry, self.post)],
            clock=lambda: self.now.timestamp(),
        )

    def append(self, first: int, count: int) -> None:
        self.sequencer.append(entries(first, count), 0.0)

    def post(self, url: str, body: bytes) -> Any:
        self.asked += 1
        if not self.online:
            raise ConnectionError
        return self.witness.add_checkpoint(body)

    def checkpoint(self) -> LogCheckpoint:
        made = self.checkpointer.checkpoint()
        assert made is not None
        return made

    def verify(self) -> LedgerReport:
        policy = Policy(
            logs=(self.signer.verifier(self.origin),),
            witnesses=(self.entry,),
            quorum="w",
            fresh=timedelta(hours=24),
        )
        return verify_log(self.objects, policy, now=self.now)


def test_what_is_integrated_is_signed_witnessed_and_published() -> None:
    ledger = Ledger()
    made = ledger.checkpoint()
    assert [one.name for one in made.signatures] == [ledger.origin, "w.example"]
    assert ledger.objects.get(LATEST) == ledger.objects.get(checkpoint_key(5)) == str(made).encode()
    assert ledger.verify().verdict is LogVerdict.WHOLE
    ledger.append(5, 300)
    assert ledger.verify().verdict is LogVerdict.UNSIGNED
    assert ledger.checkpoint().size == 305
    assert ledger.verify().verdict is LogVerdict.WHOLE


def test_an_empty_log_has_no_checkpoint() -> None:
    empty = Checkpointer(HeadStore(MemoryTable()), MemoryLogObjects(), LocalSigner(b"secret"))
    assert empty.checkpoint() is None


def test_nothing_is_signed_twice() -> None:
    ledger = Ledger()
    first = ledger.checkpoint()
    stored = {key: list(versions) for key, versions in ledger.objects.stored.items()}
    assert ledger.checkpoint().text == first.text
    assert ledger.objects.stored == stored
    assert ledger.asked == 1


def test_a_log_that_stands_still_is_witnessed_again() -> None:
    ledger = Ledger()
    ledger.checkpoint()
    ledger.now += timedelta(hours=25)
    assert "25 hours ago" in ledger.verify().why
    ledger.checkpoint()
    assert ledger.verify().verdict is LogVerdict.WHOLE
    assert len(list(ledger.objects.keys("cosignatures/"))) == 1
    ledger.now += timedelta(seconds=RENEW_S - 1)
    ledger.checkpoint()
    assert ledger.asked == 2
    ledger.now += timedelta(seconds=2)
    ledger.checkpoint()
    assert (ledger.asked, len(list(ledger.objects.keys("cosignatures/")))) == (3, 2)


def test_a_witness_that_was_away_is_asked_again() -> None:
    ledger = Ledger()
    ledger.online = False
    assert [one.name for one in ledger.checkpoint().signatures] == [ledger.origin]
    assert ledger.verify().verdict is LogVerdict.UNSIGNED
    ledger.online = True
    ledger.checkpoint()
    assert ledger.verify().verdict is LogVerdict.WHOLE
    parse_note(ledger.objects.get(LATEST) or b"")


def test_what_does_not_follow_is_not_signed() -> None:
    ledger = Ledger()
    ledger.checkpoint()
    ledger.append(5, 10)
    ledger.objects.stored["tile/entries/000.p/15"] = ledger.objects.stored["tile/entries/000.p/5"]
    with pytest.raises(LedgerCorrupt):
        ledger.checkpoint()
    ledger = Ledger()
    ledger.checkpoint()
    ledger.append(5, 10)
    ledger.objects.stored["tile/0/000.p/15"] = [bytes(480)]
    with pytest.raises(LedgerCorrupt):
        ledger.checkpoint()


class Witnessed(Ledger):
    """A log with three witnesses, of whom two are demanded; the first has signed another history of it."""

    def __init__(self, needed: int = 2) -> None:
        super().__init__()
        self.away = ""
        self.refusing = self.witness
        forged = LogCheckpoint(self.origin, 99, bytes(32))
        forged = forged.signed_with(self.signer.verifier(self.origin), self.signer.sign)
        status, _, _ = self.refusing.add_checkpoint(add_checkpoint_body(0, [], forged))
        assert status == 200
        self.servers = {self.entry.url: self.refusing}
        entries = [self.entry]
        for name in ("x", "y"):
            key = signer(f"{name}.example", ord(name))
            url = f"https://{name}.example/"
            known = [self.signer.verifier(self.origin)]
            self.servers[url] = CheckpointWitness(key, known, WitnessMemory(":memory:"), lambda: self.now)
            entries.append(WitnessEntry(name, key.verifier(COSIGN), url))
        self.policy = Policy(
            logs=(self.signer.verifier(self.origin),),
            witnesses=tuple(entries),
            groups={"quorum": (needed, tuple(one.name for one in entries))},
            quorum="quorum",
        )
        self.checkpointer = Checkpointer(
            self.heads,
            self.objects,
            self.signer,
            [HttpWitness(one, self.post) for one in entries],
            self.policy,
            clock=lambda: self.now.timestamp(),
        )

    def post(self, url: str, body: bytes) -> Any:
        if self.away and self.away in url:
            raise ConnectionError
        return self.servers[url.removesuffix("add-checkpoint")].add_checkpoint(body)

    def verify(self, policy: Policy | None = None) -> LedgerReport:
        return verify_log(self.objects, policy or self.policy, now=self.now)


def test_a_witness_that_refuses_stops_nothing_that_the_others_sign_and_is_heard(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = Witnessed()
    made = ledger.checkpoint()
    assert [one.name for one in made.signatures] == [ledger.origin, "x.example", "y.example"]
    assert ledger.objects.get(LATEST) == str(made).encode()
    assert [one.message for one in caplog.records] == [WITNESS_REFUSES]
    report = ledger.verify()
    assert (report.verdict, report.witnessed, report.found) == (LogVerdict.UNSIGNED, 5, 0)
    assert "witness w refuses: witness w has signed 99 entries of this log, which now has 5" in report.why
    without = structs.replace(ledger.policy, witnesses=ledger.policy.witnesses[1:])
    assert ledger.verify(without).verdict is LogVerdict.WHOLE


def test_a_refusal_is_kept_once_in_a_while_and_is_part_of_an_export() -> None:
    ledger = Witnessed()
    ledger.checkpoint()
    for number, hours in enumerate((0, 1, 6), 1):
        ledger.now += timedelta(hours=hours)
        ledger.append(5 * number, 5)
        ledger.checkpoint()
    kept = list(ledger.objects.keys("refusals/"))
    assert len(kept) == 2
    exported = MemoryLogObjects()
    export_log(ledger.objects, read_checkpoint(ledger.objects), exported.put_new)
    assert list(exported.keys("refusals/")) == kept
    assert "witness w refuses" in verify_log(exported, ledger.policy, now=ledger.now).why


def test_a_witness_that_signs_again_takes_its_refusal_back() -> None:
    ledger = Witnessed()
    ledger.checkpoint()
    url = ledger.entry.url
    known = [ledger.signer.verifier(ledger.origin)]
    ledger.servers[url] = CheckpointWitness(
        signer("w.example", 9), known, WitnessMemory(":memory:"), lambda: ledger.now
    )
    ledger.now += timedelta(minutes=1)
    ledger.append(5, 5)
    ledger.checkpoint()
    assert ledger.verify().verdict is LogVerdict.WHOLE


@pytest.mark.parametrize(("needed", "away"), [(3, ""), (2, "x.example")])
def test_a_witness_that_refuses_and_is_needed_stops_the_checkpoints(needed: int, away: str) -> None:
    ledger = Witnessed(needed)
    ledger.away = away
    with pytest.raises(WitnessRefused):
        ledger.checkpoint()
    assert ledger.objects.get(LATEST) is None
    assert list(ledger.objects.keys("checkpoints/")) == []
    assert len(list(ledger.objects.keys("refusals/"))) == 1


def test_witnesses_that_are_away_stop_nothing() -> None:
    ledger = Witnessed()
    ledger.away = "example"
    assert [one.name for one in ledger.checkpoint().signatures] == [ledger.origin]
    assert ledger.verify().verdict is LogVerdict.UNSIGNED


def test_a_witness_that_refuses_a_log_that_stands_still_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    ledger = Witnessed()
    ledger.away = "w.example"
    ledger.checkpoint()
    ledger.away = ""
    ledger.checkpoint()
    assert WITNESS_REFUSES in [one.message for one in caplog.records]
    assert ledger.verify().verdict is LogVerdict.UNSIGNED
