"""Five thousand decisions, eight producers, redeliveries, two sequencers: one log, every decision once."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from abeyance.aws.timestamps import utc_now
from abeyance.ledger.checkpointer import Checkpointer
from abeyance.ledger.defects import LogVerdict
from abeyance.ledger.entry import Record, make_entry
from abeyance.ledger.errors import LedgerBusy, LedgerUnavailable
from abeyance.ledger.heads import HeadStore
from abeyance.ledger.ledger_bucket import LedgerBucket
from abeyance.ledger.opened import open_log
from abeyance.ledger.policy import trust_keys
from abeyance.ledger.queue import LedgerQueue
from abeyance.ledger.reading import LogReader
from abeyance.ledger.sequencer import Sequencer
from abeyance.ledger.signers import LocalSigner
from abeyance.ledger.verification import verify_log

PRODUCERS = 8
SEQUENCERS = 2
#: Messages of a batch. moto looks at each message of a queue at every call, so only so many wait.
BATCH = 100
BACKLOG = 200

MakeRecord = Callable[..., Record]


def test_a_confirmed_record_is_in_the_queue(sqs: Any, queue_url: str, record: MakeRecord) -> None:
    queue = LedgerQueue(sqs, queue_url)
    queue.put(record(1))
    queue.put(record(1, outcome="permit"))
    got = sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10)["Messages"]
    assert [msgspec.json.decode(one["Body"], type=Record).body["outcome"] for one in got] == [
        "deny",
        "permit",
    ]


def test_a_queue_that_is_not_there_is_a_denial(sqs: Any, queue_url: str, record: MakeRecord) -> None:
    with pytest.raises(LedgerUnavailable, match="deny"):
        LedgerQueue(sqs, queue_url.replace("abeyance", "other")).put(record(1))


def test_a_record_that_cannot_be_written_is_a_denial(sqs: Any, queue_url: str) -> None:
    for bad in (Record("x", "decision", "today", {}), Record("x", "conflict", "2020-06-10T00:00:00Z", {})):
        with pytest.raises(LedgerUnavailable, match="does not take this record"):
            LedgerQueue(sqs, queue_url).put(bad)


def produce(
    queue: LedgerQueue, producer: int, count: int, record: MakeRecord, room: threading.Semaphore
) -> list[Record]:
    """Put records, every tenth twice, and every twentieth again under another time, as a retried stage would."""
    chance, sent = random.Random(producer), list[Record]()
    for number in range(count):
        again = [record(f"{producer}-{number}", tenant=f"agency-{producer}")]
        sent += again
        if number % 10 == 0:
            again *= 2
        if number % 20 == 0:
            old = chance.choice(sent)
            again.append(Record(old.id, old.type, f"2021-01-01T00:00:00.{number:06d}Z", old.body))
        for one in again:
            assert room.acquire(timeout=60)
            queue.put(one)
    return sent


def consume(
    make: Callable[[], Sequencer], sqs: Any, url: str, done: threading.Event, room: threading.Semaphore
) -> int:
    """Take batches as one of Lambda's two invocations; die now and then, before they are deleted."""
    chance = random.Random(threading.get_ident())
    sequencer, delivered = make(), 0
    while True:
        finished, got = done.is_set(), list[Any]()
        while len(got) < BATCH:
            some = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
            got += some
            if not some:
                break
        if not got:
            if finished:
                return delivered
            time.sleep(0.01)
            continue
        records = [msgspec.json.decode(one["Body"], type=Record) for one in got]
        for _ in range(2 if chance.random() < 0.3 else 1):
            entries = [make_entry(one, secrets.token_bytes(16)) for one in records]
            while True:
                try:
                    sequencer.append(entries, time.time() - 900)
                    break
                except LedgerBusy:
                    continue
            delivered += len(entries)
            # Another process gets the same messages, where this one died before it could delete them.
            sequencer = make()
        for start in range(0, len(got), 10):
            receipts = [
                {"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]}
                for n, one in enumerate(got[start : start + 10])
            ]
            sqs.delete_message_batch(QueueUrl=url, Entries=receipts)
        room.release(len(got))


@pytest.mark.parametrize(
    "count", [400, pytest.param(5000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_load(
    make_sequencer: Callable[[], Sequencer],
    heads: HeadStore,
    objects: LedgerBucket,
    sqs: Any,
    queue_url: str,
    record: MakeRecord,
    count: int,
) -> None:
    done, room = threading.Event(), threading.Semaphore(BACKLOG)
    queue = LedgerQueue(sqs, queue_url)
    with ThreadPoolExecutor(PRODUCERS + SEQUENCERS) as pool:
        consumers = [
            pool.submit(consume, make_sequencer, sqs, queue_url, done, room) for _ in range(SEQUENCERS)
        ]
        producers = [
            pool.submit(produce, queue, producer, count // PRODUCERS, record, room)
            for producer in range(PRODUCERS)
        ]
        try:
            sent = [one for producer in producers for one in producer.result()]
        finally:
            done.set()
        delivered = sum(consumer.result() for consumer in consumers)
    assert delivered > len(sent)
    head = heads.read()
    assert head is not None
    entries = list(LogReader(objects, head.integrated).entries())
    assert len(entries) == len(sent) == count
    assert {entry.id for entry in entries} == {one.id for one in sent}
    signer = LocalSigner(b"test")
    Checkpointer(heads, objects, signer).checkpoint()
    report = verify_log(objects, trust_keys([signer.verifier(head.origin)]), now=utc_now())
    opened = open_log(objects, report.size)
    assert (report.verdict, report.signed) == (LogVerdict.WHOLE, count), report
    assert (opened.opened, opened.repeated, opened.found) == (count, 0, 0)
