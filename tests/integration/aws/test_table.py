"""One contract for tables and buckets, held to by the fakes and by the adapters over moto."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from moto import mock_aws
from tests.fakes import MemoryObjects, MemoryTable
from tests.simulation.aws import SimulatedS3
from tests.simulation.dynamodb import SimulatedDynamoDB
from tests.tables import create_table, moto_client

from abeyance.aws.dynamodb import DynamoTable
from abeyance.aws.objects import ObjectMissing, Objects, S3Bucket
from abeyance.aws.table import PRESENT, Below, Conflict, Delete, Put, ReadAlong, Require, Table, Update

MakeTable = Callable[..., Table]
_numbers = itertools.count()


@pytest.fixture(scope="module")
def aws() -> Iterator[None]:
    """Each test has a table and a bucket of its own."""
    with mock_aws():
        yield


@pytest.fixture(params=["memory", "dynamodb", "simulated"])
def make(request: pytest.FixtureRequest) -> MakeTable:
    if request.param == "memory":
        return MemoryTable
    if request.param == "simulated":
        return _simulated_table
    request.getfixturevalue("aws")
    client, name = moto_client("dynamodb"), f"table-{next(_numbers)}"

    def create(*, partition: str = "pk", sort: str = "sk") -> Table:
        keys = [(partition, "HASH")] + ([(sort, "RANGE")] if sort else [])
        client.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key, _ in keys],
        )
        return DynamoTable(client, name, partition=partition, sort=sort)

    return create


def _simulated_table(*, partition: str = "pk", sort: str = "sk") -> Table:
    client = SimulatedDynamoDB(lambda _, run: run())
    client.create("table", partition, sort)
    return DynamoTable(client, "table", partition=partition, sort=sort)


@pytest.fixture
def table(make: MakeTable) -> Table:
    return make()


@pytest.fixture(params=["memory", "s3", "simulated"])
def bucket(request: pytest.FixtureRequest) -> Objects:
    if request.param == "memory":
        return MemoryObjects()
    if request.param == "simulated":
        simulated = SimulatedS3(lambda _, run: run())
        simulated.buckets["bucket"] = {}
        return S3Bucket(simulated, "bucket")
    request.getfixturevalue("aws")
    client, name = moto_client("s3"), f"bucket-{next(_numbers)}"
    client.create_bucket(Bucket=name)
    return S3Bucket(client, name)


def item(sk: str, **attributes: Any) -> dict[str, Any]:
    return {"pk": "p", "sk": sk, **attributes}


def test_every_type_comes_back_as_it_was_written(table: Table) -> None:
    whole = item("a", text="ö", count=-3, share=0.25, raw=b"\0\xff", list=["x"], numbers=frozenset({1, 2}))
    table.transact([Put(whole)])
    assert table.get(("p", "a")) == whole
    assert table.get(("p", "b")) is None


def test_get_many_returns_what_exists_and_only_the_attributes_asked_for(table: Table) -> None:
    for name in ("a", "b"):
        table.transact([Put(item(name, one=1, two=2))])
    keys = [("p", "a"), ("p", "b"), ("p", "c"), ("p", "a")]
    assert table.get_many(keys) == {("p", name): item(name, one=1, two=2) for name in "ab"}
    assert table.get_many(keys[:1], attributes=["one"]) == {("p", "a"): item("a", one=1)}
    assert table.get_transactional(keys[:3]) == table.get_many(keys)
    assert table.get_many([]) == {}


@pytest.mark.parametrize("kind", ["dynamodb", "simulated"])
def test_items_of_another_table_are_read_along_in_one_request(
    kind: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("aws")
    table, other = _two_tables(kind)
    table.transact([Put(item("a", one=1))])
    other.transact([Put(item("b", two=2))])
    accepted: list[Any] = []
    along = ReadAlong(other, [("p", "b"), ("p", "c"), ("p", "b")], accepted.append)
    found = table.get_many([("p", "a"), ("p", "b")], attributes=["one"], along=[along])
    assert found == {("p", "a"): item("a", one=1)}
    assert accepted == [{("p", "b"): item("b", two=2)}]


@pytest.mark.parametrize("kind", ["dynamodb", "simulated"])
def test_a_table_whose_neighbour_cannot_be_read_is_read_alone(
    kind: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("aws")
    table, other = _two_tables(kind)
    table.transact([Put(item("a"))])
    gone = DynamoTable(other._client, "no-such-table")
    accepted: list[Any] = []
    along = [ReadAlong(one, [("p", "a")], accepted.append) for one in (other, gone)]
    assert table.get_many([("p", "a")], along=along) == {("p", "a"): item("a")}
    assert accepted == []


def _two_tables(kind: str) -> tuple[DynamoTable, DynamoTable]:
    if kind == "simulated":
        client: Any = SimulatedDynamoDB(lambda _, run: run())
        names = ["own", "other"]
        for name in names:
            client.create(name)
    else:
        client, names = moto_client("dynamodb"), [f"table-{next(_numbers)}" for _ in range(2)]
        for name in names:
            create_table(client, name)
    own, other = (DynamoTable(client, name) for name in names)
    return own, other


def test_get_many_takes_more_keys_than_one_call(table: Table) -> None:
    names = [f"{number:03}" for number in range(230)]
    for name in names:
        table.transact([Put(item(name))])
    assert len(table.get_many(("p", name) for name in names)) == 230


def test_query_is_in_order_from_first_to_last(table: Table) -> None:
    for name in "dbca":
        table.transact([Put(item(name, kind="letter"))])
    table.transact([Put({"pk": "other", "sk": "b"})])
    assert [found["sk"] for found in table.query("p")] == list("abcd")
    assert [found["sk"] for found in table.query("p", "b", "c")] == list("bc")
    assert [found["sk"] for found in table.query("p", "b")] == list("bcd")
    assert [found["sk"] for found in table.query("p", limit=3)] == list("abc")
    assert [found["sk"] for found in table.query("p", limit=2, descending=True)] == list("dc")
    assert list(table.query("p", "a", "a", attributes=["kind"])) == [{"kind": "letter"}]
    assert list(table.query("nothing")) == []


def test_scan_returns_the_items_that_are_equal(table: Table) -> None:
    for name in "abc":
        table.transact([Put(item(name, odd=int(name in "ac")))])
    assert sorted(found["sk"] for found in table.scan({"odd": 1})) == ["a", "c"]


def test_put_only_where_there_is_none_and_the_conflict_has_what_is_there(table: Table) -> None:
    table.transact([Put(item("a", n=1), absent=True)])
    with pytest.raises(Conflict) as conflict:
        table.transact([Put(item("a", n=2), absent=True)])
    assert conflict.value.item == item("a", n=1)
    assert conflict.value.failed == (True,)
    assert table.get(("p", "a")) == item("a", n=1)


@pytest.mark.parametrize(
    ("expect", "holds"),
    [
        ({"n": 5}, True),
        ({"n": 6}, False),
        ({"n": 5, "gone": None}, True),
        ({"n": None}, False),
        ({"n": PRESENT}, True),
        ({"gone": PRESENT}, False),
        ({"n": Below(6)}, True),
        ({"n": Below(5)}, False),
        ({"gone": Below(5)}, False),
        (({"n": 6}, {"n": 5}), True),
        (({"n": 6}, {"gone": PRESENT}), False),
    ],
)
@pytest.mark.parametrize("kind", [Put, Update, Delete, Require])
def test_conditions(table: Table, expect: Any, holds: bool, kind: type) -> None:
    table.transact([Put(item("a", n=5))])
    make: dict[type, Any] = {
        Put: lambda: Put(item("a", n=9), expect=expect),
        Update: lambda: Update(("p", "a"), {"n": 9}, expect=expect),
        Delete: lambda: Delete(("p", "a"), expect=expect),
        Require: lambda: Require(("p", "a"), expect),
    }
    after = {Put: item("a", n=9), Update: item("a", n=9), Delete: None, Require: item("a", n=5)}[kind]
    if holds:
        table.transact([make[kind]()])
    else:
        with pytest.raises(Conflict):
            table.transact([make[kind]()])
    assert table.get(("p", "a")) == (after if holds else item("a", n=5))


def test_update_changes_attributes_and_makes_the_item_where_there_is_none(table: Table) -> None:
    key = ("p", "a")
    table.transact([Update(key, {"x": 1, "y": 2}, add={"s": frozenset({1, 2, 3})})])
    table.transact([Update(key, {"x": 3}, unset=["y"], discard={"s": frozenset({2})})])
    assert table.get(key) == item("a", x=3, s=frozenset({1, 3}))
    table.transact([Update(key, discard={"s": frozenset({1, 3})})])
    assert table.get(key) == item("a", x=3)


def test_a_counter_counts_from_nothing_up_to_its_limit(table: Table) -> None:
    key, below = ("p", "a"), ({"used": None}, {"used": Below(3)})
    count = Update(key, {"until": 9}, add={"used": 1}, expect=below)
    for _ in range(3):
        table.transact([count])
    with pytest.raises(Conflict) as conflict:
        table.transact([count])
    assert conflict.value.failed == (True,)
    assert table.get(key) == item("a", used=3, until=9)
    table.transact([Update(key, add={"used": -5, "s": frozenset({1})})])
    assert table.get(key) == item("a", used=-2, until=9, s=frozenset({1}))


def test_a_transaction_is_all_or_nothing_and_says_which_condition_failed(table: Table) -> None:
    table.transact([Put(item("a", n=1))])
    with pytest.raises(Conflict) as conflict:
        table.transact([Put(item("b")), Update(("p", "a"), {"n": 2}, expect={"n": 7}), Delete(("p", "c"))])
    assert conflict.value.failed == (False, True, False)
    assert [found["sk"] for found in table.query("p")] == ["a"]
    table.transact([Put(item("b")), Require(("p", "a"), {"n": 1}), Delete(("p", "c"))])
    assert [found["sk"] for found in table.query("p")] == ["a", "b"]


def test_delete_many_takes_more_than_one_call(table: Table) -> None:
    for number in range(60):
        table.transact([Put(item(f"{number:02}"))])
    table.delete_many(("p", f"{number:02}") for number in range(59))
    assert [found["sk"] for found in table.query("p")] == ["59"]


def test_a_table_without_a_sort_key(make: MakeTable) -> None:
    table = make(partition="object", sort="")
    table.transact([Put({"object": "x", "n": 1})])
    table.transact([Update(("y", ""), {"n": 2})])
    assert table.get(("x", "")) == {"object": "x", "n": 1}
    assert table.get_many([("x", ""), ("y", ""), ("z", "")]) == {
        ("x", ""): {"object": "x", "n": 1},
        ("y", ""): {"object": "y", "n": 2},
    }
    with pytest.raises(Conflict):
        table.transact([Put({"object": "x"}, absent=True)])


class _Stubborn:
    """A DynamoDB client that leaves one key unread at each of the first calls."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.calls: list[int] = []

    def batch_get_item(self, RequestItems: Any) -> Any:
        keys = RequestItems["t"]["Keys"]
        self.calls.append(len(keys))
        left = keys[-1:] if len(self.calls) <= self.times else []
        done = keys[: len(keys) - len(left)]
        return {
            "Responses": {"t": done},
            "UnprocessedKeys": {"t": {"Keys": left, "ConsistentRead": True}} if left else {},
        }


def test_keys_left_unread_are_asked_for_again_after_a_pause() -> None:
    paused: list[int] = []
    client = _Stubborn(2)
    table = DynamoTable(client, "t", pause=paused.append)
    assert len(table.get_many([("p", "a"), ("p", "b"), ("p", "c")])) == 3
    assert client.calls == [3, 1, 1]
    assert paused == [0, 1]
    with pytest.raises(Conflict):
        DynamoTable(_Stubborn(99), "t", pause=paused.append).get_many([("p", "a")])


def test_a_bucket_keeps_lists_and_deletes(bucket: Objects) -> None:
    for key in ("a/2", "a/1", "b/1"):
        bucket.put(key, key.encode())
    assert bucket.get("a/1") == b"a/1"
    assert bucket.list("a/") == ["a/1", "a/2"]
    bucket.delete(["a/1", "a/9"])
    assert bucket.list("") == ["a/2", "b/1"]
    with pytest.raises(ObjectMissing):
        bucket.get("a/1")
