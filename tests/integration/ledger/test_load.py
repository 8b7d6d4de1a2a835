"""Five thousand decisions, eight producers, redeliveries, one consumer: one chain, every decision once."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from abeyance.ledger.chain import Entry, Record
from abeyance.ledger.errors import LedgerUnavailable
from abeyance.ledger.queue import MESSAGE_GROUP, LedgerQueue
from abeyance.ledger.store import LedgerStore
from abeyance.ledger.verify import verify_store

PRODUCERS = 8
#: Messages that wait at most: moto looks at each of them at every call.
BACKLOG = 60


def test_a_confirmed_record_is_in_the_queue(sqs: Any, queue_url: str, record: Any) -> None:
    queue = LedgerQueue(sqs, queue_url)
    queue.put(record(1))
    queue.put(record(1))
    queue.put(record(1, outcome="permit"))
    got = sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, AttributeNames=["All"])["Messages"]
    # The retry is one message; the other content is another, for the ledger to record as a conflict.
    assert [msgspec.json.decode(one["Body"], type=Record).body["outcome"] for one in got] == [
        "deny",
        "permit",
    ]
    assert {one["Attributes"]["MessageGroupId"] for one in got} == {MESSAGE_GROUP}


def test_a_queue_that_is_not_there_is_a_denial(sqs: Any, queue_url: str, record: Any) -> None:
    with pytest.raises(LedgerUnavailable, match="deny"):
        LedgerQueue(sqs, queue_url.replace("abeyance", "other")).put(record(1))


def produce(
    queue: LedgerQueue, producer: int, count: int, record: Any, room: threading.Semaphore
) -> list[Record]:
    """Puts records, every tenth twice, and every twentieth again under another time, as a retried stage would."""
    chance, sent = random.Random(producer), []
    for number in range(count):
        one = record(f"{producer}-{number}", tenant=f"agency-{producer}")
        assert room.acquire(timeout=60)
        queue.put(one)
        sent.append(one)
        if number % 10 == 0:
            queue.put(one)
        if number % 20 == 0:
            again = chance.choice(sent)
            assert room.acquire(timeout=60)
            queue.put(Record(again.id, again.type, f"2021-01-01T00:00:00.{number:06d}Z", again.body))
    return sent


def consume(
    store: LedgerStore, sqs: Any, url: str, done: threading.Event, room: threading.Semaphore
) -> list[Entry]:
    """One consumer as Lambda is one: batches of ten, and now and then it dies before it can delete them."""
    chance = random.Random(1)
    entries: list[Entry] = []
    while True:
        finished = done.is_set()
        got = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        if not got and finished:
            return entries
        records = [msgspec.json.decode(one["Body"], type=Record) for one in got]
        if not records:
            time.sleep(0.01)
            continue
        entries += store.append(records)
        if chance.random() < 0.1:
            # It died here: what was appended is delivered again.
            entries += store.append(records)
        receipts = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(got)]
        sqs.delete_message_batch(QueueUrl=url, Entries=receipts)
        room.release(len(got))


@pytest.mark.parametrize(
    "count", [200, pytest.param(5000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_load(make_store: Any, sqs: Any, queue_url: str, record: Any, count: int) -> None:
    store, done, room = make_store(), threading.Event(), threading.Semaphore(BACKLOG)
    queue = LedgerQueue(sqs, queue_url)
    start = time.perf_counter()
    with ThreadPoolExecutor(PRODUCERS + 1) as pool:
        consumer = pool.submit(consume, store, sqs, queue_url, done, room)
        producers = [
            pool.submit(produce, queue, producer, count // PRODUCERS, record, room)
            for producer in range(PRODUCERS)
        ]
        try:
            sent = [one for producer in producers for one in producer.result()]
        finally:
            done.set()
        entries = consumer.result()
    seconds = time.perf_counter() - start
    print(f"{len(sent)} records of {PRODUCERS} producers, {len(entries)} deliveries, in {seconds:.1f} s")
    assert len(entries) > len(sent)
    chain = store.read(0, 10 * count)
    assert len(chain) == len(sent) == count
    assert {entry.id for entry in chain} == {one.id for one in sent}
    for producer in range(PRODUCERS):
        mine = [entry.id for entry in chain if entry.body["tenant"] == f"agency-{producer}"]
        assert mine == [one.id for one in sent if one.body["tenant"] == f"agency-{producer}"], (
            "in its own order"
        )
    report = verify_store(store)
    assert report is not None
    assert (report.ok, report.entries, report.conflicts) == (True, count, 0)
