"""The store on DynamoDB: append once, in order, whatever happens in between."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from abeyance.ledger.chain import Record, content_digest, normalise
from abeyance.ledger.errors import Inadmissible, LedgerBusy, LedgerCorrupt, LedgerUnavailable
from abeyance.ledger.store import BATCH, LedgerStore
from abeyance.ledger.verify import verify_store

TABLE = "abeyance-ledger"


def holds(store: LedgerStore, entries: int) -> None:
    """The chain is whole and as long as this."""
    report = verify_store(store)
    assert report is not None
    assert report.findings == ()
    assert report.entries == entries


class Meddler:
    """A client that lets something happen before or after a call, or in its place."""

    def __init__(self, client: Any, **operations: Any) -> None:
        self._client = client
        self._operations = operations

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._client, name)
        meddle = self._operations.get(name)
        return operation if meddle is None else lambda **arguments: meddle(operation, arguments)


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "with agency-1 in it"}}, "any")


def test_an_empty_ledger(store: LedgerStore) -> None:
    assert store.head() is None
    assert store.read() == []
    assert list(store.lines()) == []
    assert (store.find("x"), store.get(1)) == (None, None)
    assert store.append([]) == []
    assert verify_store(store) is None


def test_what_was_appended_is_read(store: LedgerStore, record: Any) -> None:
    entries = store.append([record(n) for n in range(75)])
    assert [entry.seq for entry in entries] == list(range(1, 76))
    assert [entry.id for entry in entries] == [f"d-{n}" for n in range(75)]
    assert store.read() == entries
    assert store.read(after=10, limit=7) == entries[10:17]
    assert store.read(after=75) == []
    assert list(store.lines(70, page=2)) == [entry.canonical for entry in entries[70:]]
    assert list(store.lines(0, 3)) == [entry.canonical for entry in entries[:3]]
    assert store.find("d-74") == store.get(75) == entries[74]
    head = store.head()
    assert head is not None
    assert (head.seq, head.hash) == (75, entries[-1].hash)
    holds(store, 75)


def test_the_chain_is_named_once(make_store: Any, record: Any) -> None:
    first, second = make_store(chain="ours"), make_store(chain="theirs")
    first.append([record(1)])
    second.append([record(2)])
    assert second.head().chain == "ours"
    assert make_store().head().created == "2020-06-10T00:00:00.000000Z"


def test_redelivered_records_are_written_once(store: LedgerStore, record: Any) -> None:
    first = store.append([record(1), record(2), record(1)])
    assert first[0] == first[2]
    later = Record("d-2", "decision", "2021-01-01T00:00:00Z", record(2).body)
    again = store.append([record(2), record(3), record(3), later, record(1)])
    assert [entry.seq for entry in again] == [2, 3, 3, 2, 1]
    holds(store, 3)


def test_the_same_id_with_other_content_becomes_a_conflict(store: LedgerStore, record: Any) -> None:
    honest, other = record(1), record(1, outcome="permit")
    batch = store.append([honest, other, honest, other])
    assert [entry.seq for entry in batch] == [1, 2, 1, 2]
    assert batch[1].type == "conflict"
    assert batch[1].body == {"conflicts_with": 1, "id": "d-1", "type": "decision", "body": other.body}
    again = store.append(
        [other, record(1, outcome="maybe"), Record("d-1", "Upload Halted", honest.time, honest.body)]
    )
    assert [(entry.seq, entry.type) for entry in again] == [(2, "conflict"), (3, "conflict"), (4, "conflict")]
    assert store.find("d-1") == batch[0]
    assert batch[1].id == f"conflict:{content_digest(normalise(other))[:32]}:d-1"
    holds(store, 4)


def test_one_inadmissible_record_and_nothing_of_any_batch_is_written(store: LedgerStore, record: Any) -> None:
    with pytest.raises(Inadmissible, match="template"):
        store.append([*(record(n) for n in range(BATCH + 5)), record("x", template=[0.5] * 512)])
    assert store.head() is None


def test_a_crash_in_the_transaction_leaves_the_chain_as_it_was(
    make_store: Any, dynamodb: Any, record: Any
) -> None:
    def lost(operation: Any, arguments: Any) -> Any:
        raise EndpointConnectionError(endpoint_url="x")

    make_store().append([record(1)])
    with pytest.raises(LedgerUnavailable) as error:
        make_store(Meddler(dynamodb, transact_write_items=lost)).append([record(2), record(3)])
    assert "EndpointConnectionError" in str(error.value)
    holds(make_store(), 1)
    assert [entry.seq for entry in make_store().append([record(2), record(3)])] == [2, 3]
    holds(make_store(), 3)


def test_an_answer_that_is_lost_after_the_write_is_not_written_again(
    make_store: Any, dynamodb: Any, record: Any
) -> None:
    def deaf(operation: Any, arguments: Any) -> Any:
        operation(**arguments)
        raise ReadTimeoutError(endpoint_url="x")

    with pytest.raises(LedgerUnavailable):
        make_store(Meddler(dynamodb, transact_write_items=deaf)).append([record(1), record(2)])
    assert [entry.seq for entry in make_store().append([record(2), record(1)])] == [2, 1]
    holds(make_store(), 2)


def test_a_crash_between_two_batches_loses_and_doubles_nothing(
    make_store: Any, dynamodb: Any, record: Any
) -> None:
    calls = []

    def second_fails(operation: Any, arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise refused("InternalServerError")
        return operation(**arguments)

    records = [record(n) for n in range(2 * BATCH + 1)]
    with pytest.raises(LedgerUnavailable):
        make_store(Meddler(dynamodb, transact_write_items=second_fails)).append(records)
    holds(make_store(), BATCH)
    assert [entry.seq for entry in make_store().append(records)] == list(range(1, 2 * BATCH + 2))
    holds(make_store(), 2 * BATCH + 1)


def test_a_writer_that_was_overtaken_starts_again(make_store: Any, dynamodb: Any, record: Any) -> None:
    other, calls = make_store(), []

    def overtaken(operation: Any, arguments: Any) -> Any:
        calls.append(1)
        if len(calls) <= 3:
            other.append([record(f"other-{len(calls)}"), record(2)])
        return operation(**arguments)

    slow = make_store(Meddler(dynamodb, transact_write_items=overtaken))
    entries = slow.append([record(1), record(2)])
    assert [entry.id for entry in entries] == ["d-1", "d-2"]
    assert [entry.seq for entry in entries] == [5, 2]
    holds(make_store(), 5)


def test_a_writer_that_nobody_overtakes_reads_nothing(make_store: Any, dynamodb: Any, record: Any) -> None:
    called: list[str] = []

    def note(operation: Any, arguments: Any) -> Any:
        called.append(operation.__name__)
        return operation(**arguments)

    meddler = Meddler(dynamodb, get_item=note, batch_get_item=note, transact_write_items=note)
    store, other = make_store(client=meddler), make_store()
    store.append([record(0)])
    called.clear()
    store.append([record(1), record(2)])
    assert called == ["transact_write_items"]
    other.append([record(3)])
    called.clear()
    assert [entry.seq for entry in store.append([record(2), record(4)])] == [3, 5]
    assert called[0] == "transact_write_items"
    assert called.count("transact_write_items") == 2
    holds(store, 5)


def test_two_that_create_the_chain_at_once_create_one(make_store: Any, dynamodb: Any, record: Any) -> None:
    other = make_store()

    def overtaken(operation: Any, arguments: Any) -> Any:
        other.append([record("other")])
        return operation(**arguments)

    assert make_store(Meddler(dynamodb, put_item=overtaken)).append([record(1)])[0].seq == 2
    holds(make_store(), 2)


def test_one_that_is_always_overtaken_says_so(make_store: Any, dynamodb: Any, record: Any) -> None:
    def overtaken(operation: Any, arguments: Any) -> Any:
        make_store().append([record(f"other-{make_store().head().seq}")])
        return operation(**arguments)

    make_store().append([record(0)])
    waits: list[float] = []
    with pytest.raises(LedgerBusy):
        make_store(Meddler(dynamodb, transact_write_items=overtaken), sleep=waits.append).append([record(1)])
    assert make_store().find("d-1") is None
    assert all(0 <= wait <= 1 for wait in waits)


@pytest.mark.parametrize(
    "operation", ["get_item", "batch_get_item", "query", "put_item", "transact_write_items"]
)
def test_every_refusal_is_typed_and_says_nothing_personal(
    make_store: Any, dynamodb: Any, record: Any, operation: str
) -> None:
    def refuse(call: Any, arguments: Any) -> Any:
        raise refused("ThrottlingException")

    store = make_store(Meddler(dynamodb, **{operation: refuse}))
    with pytest.raises(LedgerUnavailable) as error:
        store.read() if operation == "query" else store.append([record(1)])
    assert "ThrottlingException" in str(error.value)
    assert "agency" not in str(error.value)


def test_keys_that_dynamodb_leaves_unprocessed_are_asked_for_again(
    make_store: Any, dynamodb: Any, record: Any
) -> None:
    calls = []

    def half(operation: Any, arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            return {"Responses": {}, "UnprocessedKeys": arguments["RequestItems"]}
        return operation(**arguments)

    def none(operation: Any, arguments: Any) -> Any:
        return {"Responses": {}, "UnprocessedKeys": arguments["RequestItems"]}

    entries = make_store().append([record(1), record(2)])
    assert make_store(Meddler(dynamodb, batch_get_item=half)).append([record(2)]) == entries[1:]
    with pytest.raises(LedgerUnavailable, match="unprocessed"):
        make_store(Meddler(dynamodb, batch_get_item=none)).append([record(2)])


def test_a_page_that_a_transaction_ran_through_is_read_again(
    make_store: Any, dynamodb: Any, record: Any
) -> None:
    calls = []

    def torn(operation: Any, arguments: Any) -> Any:
        calls.append(1)
        answer = operation(**arguments)
        if len(calls) == 1:
            del answer["Items"][3]
        return answer

    entries = make_store().append([record(n) for n in range(9)])
    assert make_store(Meddler(dynamodb, query=torn)).read() == entries


def test_pages_end_where_dynamodb_ends_them(make_store: Any, dynamodb: Any, record: Any) -> None:
    def short(operation: Any, arguments: Any) -> Any:
        return operation(**{**arguments, "Limit": min(arguments["Limit"], 2)})

    entries = make_store().append([record(n) for n in range(9)])
    store = make_store(Meddler(dynamodb, query=short))
    assert store.read() == entries
    assert list(store.lines(page=5)) == [entry.canonical for entry in entries]


@pytest.mark.parametrize("seq", [1, 4, 9])
def test_an_entry_that_was_deleted_or_changed_in_the_table_is_found(
    store: LedgerStore, dynamodb: Any, record: Any, seq: int
) -> None:
    store.append([record(n) for n in range(9)])
    key = {"pk": {"S": "entries"}, "sk": {"S": f"{seq:016d}"}}
    item = dynamodb.get_item(TableName=TABLE, Key=key)["Item"]
    dynamodb.put_item(
        TableName=TABLE, Item={**item, "line": {"S": item["line"]["S"].replace("deny", "dent")}}
    )
    report = verify_store(store)
    assert report is not None
    assert [(one.kind.value, one.seq) for one in report.findings] == [("altered", seq)]
    dynamodb.put_item(TableName=TABLE, Item={**item, "line": {"S": "damage"}})
    report = verify_store(store)
    assert report is not None
    assert [(one.kind.value, one.seq) for one in report.findings][:1] == [("malformed", seq)]
    with pytest.raises(LedgerCorrupt, match="damaged"):
        store.read()
    with pytest.raises(LedgerCorrupt, match="damaged"):
        store.append([record(seq - 1)])
    dynamodb.delete_item(TableName=TABLE, Key=key)
    report = verify_store(store)
    assert report is not None
    assert [(one.kind.value, one.seq) for one in report.findings] == [
        ("truncated" if seq == 9 else "gap", seq)
    ]
    with pytest.raises(LedgerCorrupt, match=f"entry {seq} "):
        store.append([record(seq - 1)])


def test_writers_that_race_never_fork(make_store: Any, alone: Any, record: Any) -> None:
    start = threading.Barrier(6)

    def write(writer: int) -> None:
        store = make_store(alone)
        start.wait()
        for step in range(4):
            mine = [record(f"{writer}-{step}-{n}") for n in range(3)]
            shared = [record(f"shared-{step}-{n}") for n in range(3)]
            while True:
                try:
                    entries = store.append([*mine, *shared])
                except LedgerBusy:
                    continue
                break
            assert [entry.id for entry in entries] == [one.id for one in (*mine, *shared)]

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(write, writer) for writer in range(6)]:
            done.result()
    holds(make_store(), 6 * 4 * 3 + 4 * 3)
