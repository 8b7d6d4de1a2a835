"""Checkpoints in S3: written once, incrementally, and never over a broken chain."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError

from abeyance.ledger.chain import Head
from abeyance.ledger.checkpoints import Checkpointer
from abeyance.ledger.errors import CheckpointConflict, LedgerCorrupt
from abeyance.ledger.merkle import CompactRange, leaf_hash
from abeyance.ledger.note import Checkpoint
from abeyance.ledger.signatures import COSIGN, SIGN, check, generate
from abeyance.ledger.store import LedgerStore
from abeyance.ledger.verify import verify_store

BUCKET, TABLE = "abeyance-ledger", "abeyance-ledger"
NOW = datetime(2026, 6, 10, tzinfo=UTC)
OURS, THEIRS = generate("acme.example/ledger", b"a" * 32), generate("witness.example/w1", b"b" * 32)


class Counting:
    """A store that notes what is read of it."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store
        self.read: list[int] = []

    def head(self) -> Head | None:
        return self._store.head()

    def lines(self, after: int = 0, through: int | None = None) -> Iterator[bytes]:
        for seq, line in enumerate(self._store.lines(after, through), after + 1):
            self.read.append(seq)
            yield line


@pytest.fixture
def checkpointer(s3: Any) -> Checkpointer:
    return Checkpointer(s3, BUCKET)


def key_of(checkpoint: Checkpoint) -> str:
    return f"checkpoints/{checkpoint.origin}/{checkpoint.size:020d}"


def test_nothing_to_checkpoint(checkpointer: Checkpointer, store: LedgerStore) -> None:
    assert checkpointer.checkpoint(store) is None
    assert checkpointer.latest("abeyance/none") is None
    assert list(checkpointer.all("abeyance/none")) == []
    with pytest.raises(LedgerCorrupt, match="no checkpoint of 3"):
        checkpointer.get("abeyance/none", 3)


def test_each_checkpoint_reads_only_what_is_new(
    checkpointer: Checkpointer, store: LedgerStore, record: Any
) -> None:
    counting = Counting(store)
    tree, made, total = CompactRange(), [], 0
    for count in (1, 2, 5, 0, 30):
        for entry in store.append([record(total + n) for n in range(count)]):
            tree.append(leaf_hash(bytes.fromhex(entry.hash)))
        counting.read.clear()
        checkpoint = checkpointer.checkpoint(counting)
        assert checkpoint is not None
        assert counting.read == list(range(total + 1, total + count + 1))
        total += count
        assert (checkpoint.size, checkpoint.root) == (total, tree.root())
        made += [checkpoint] if count else []
    assert list(checkpointer.all(made[0].origin)) == made
    for near in (0, 5, 38, 5000, 10**9):
        assert checkpointer.latest(made[0].origin, near) == made[-1]
    report = verify_store(store, checkpoints=checkpointer.all(made[0].origin))
    assert report is not None
    assert (report.ok, report.checkpoints, report.checkpointed) == (True, 4, 38)


def test_a_checkpoint_is_never_overwritten(
    checkpointer: Checkpointer, s3: Any, store: LedgerStore, record: Any
) -> None:
    store.append([record(1)])
    first = checkpointer.checkpoint(store)
    assert first is not None
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=BUCKET, Key=key_of(first), Body=b"x", IfNoneMatch="*")
    assert checkpointer.checkpoint(store) == first
    assert len(s3.list_object_versions(Bucket=BUCKET)["Versions"]) == 1


def test_two_checkpointers_that_race_write_one(s3: Any, store: LedgerStore, record: Any) -> None:
    store.append([record(1), record(2)])
    other = Checkpointer(s3, BUCKET)

    class Overtaken(Counting):
        def lines(self, after: int = 0, through: int | None = None) -> Iterator[bytes]:
            yield from super().lines(after, through)
            other.checkpoint(store)

    made = Checkpointer(s3, BUCKET).checkpoint(Overtaken(store))
    assert made is not None
    assert list(other.all(made.origin)) == [made]


def test_another_history_of_the_same_size_is_a_conflict(
    checkpointer: Checkpointer, s3: Any, store: LedgerStore, record: Any
) -> None:
    entry = store.append([record(1)])[0]
    head = store.head()
    assert head is not None
    other = Checkpoint(head.header.origin, 1, bytes(32), entry.hash)

    class Overtaken(Counting):
        def lines(self, after: int = 0, through: int | None = None) -> Iterator[bytes]:
            yield from super().lines(after, through)
            s3.put_object(Bucket=BUCKET, Key=key_of(other), Body=str(other).encode())

    with pytest.raises(CheckpointConflict, match="two checkpoints of size 1"):
        checkpointer.checkpoint(Overtaken(store))
    store.append([record(2)])
    with pytest.raises(LedgerCorrupt, match=r"entry 1: .* not those of the last checkpoint"):
        checkpointer.checkpoint(store)


def test_a_lost_compact_range_is_made_anew(
    checkpointer: Checkpointer, s3: Any, store: LedgerStore, record: Any
) -> None:
    store.append([record(n) for n in range(5)])
    first = checkpointer.checkpoint(store)
    assert first is not None
    store.append([record(n) for n in range(5, 9)])
    metadata = s3.head_object(Bucket=BUCKET, Key=key_of(first))["Metadata"]
    nodes = metadata["compact-range"]
    respelt = {"compact-range": nodes[:-2] + chr(ord(nodes[-2]) + 1) + nodes[-1]}
    for damage in ({}, {"compact-range": "AAAA"}, {"compact-range": ","}, {"compact-range": "!"}, respelt):
        s3.put_object(Bucket=BUCKET, Key=key_of(first), Body=str(first).encode(), Metadata=damage)
        counting = Counting(store)
        made = checkpointer.checkpoint(counting)
        assert made is not None
        assert counting.read == list(range(1, 10))
        versions = s3.list_object_versions(Bucket=BUCKET, Prefix=key_of(made))["Versions"]
        s3.delete_object(Bucket=BUCKET, Key=key_of(made), VersionId=versions[0]["VersionId"])


@pytest.mark.parametrize("seq", [2, 5, 7])
def test_a_broken_chain_gets_no_checkpoint(
    checkpointer: Checkpointer, s3: Any, dynamodb: Any, store: LedgerStore, record: Any, seq: int
) -> None:
    store.append([record(n) for n in range(7)])
    key = {"pk": {"S": "entries"}, "sk": {"S": f"{seq:016d}"}}
    item = dynamodb.get_item(TableName=TABLE, Key=key)["Item"]
    for line in (item["line"]["S"].replace("deny", "dent"), "damage"):
        dynamodb.put_item(TableName=TABLE, Item={**item, "line": {"S": line}})
        with pytest.raises(LedgerCorrupt, match=f"entry {seq}: .* verify"):
            checkpointer.checkpoint(store)
    dynamodb.delete_item(TableName=TABLE, Key=key)
    with pytest.raises(LedgerCorrupt, match=f"entry {seq}: .* verify"):
        checkpointer.checkpoint(store)
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)


def test_a_chain_that_is_shorter_than_its_checkpoint(
    checkpointer: Checkpointer, dynamodb: Any, store: LedgerStore, record: Any
) -> None:
    entries = store.append([record(n) for n in range(5)])
    made = checkpointer.checkpoint(store)
    assert made is not None
    head = dynamodb.get_item(TableName=TABLE, Key={"pk": {"S": "head"}, "sk": {"S": "head"}})["Item"]
    dynamodb.put_item(TableName=TABLE, Item={**head, "seq": {"N": "3"}, "hash": {"S": entries[2].hash}})
    with pytest.raises(LedgerCorrupt, match="checkpoint of 5"):
        checkpointer.checkpoint(store)
    report = verify_store(store, checkpoints=checkpointer.all(made.origin))
    assert report is not None
    assert [(one.kind.value, one.seq) for one in report.findings] == [("truncated", 4)]
    dynamodb.put_item(TableName=TABLE, Item={**head, "hash": {"S": "0" * 64}})
    with pytest.raises(CheckpointConflict):
        checkpointer.checkpoint(store)


@pytest.mark.parametrize("body", [b"", b"damage", b"\xff", b"abeyance/x\n1\n"])
def test_a_damaged_checkpoint_object_is_named(
    checkpointer: Checkpointer, s3: Any, store: LedgerStore, record: Any, body: bytes
) -> None:
    store.append([record(1)])
    made = checkpointer.checkpoint(store)
    assert made is not None
    s3.put_object(Bucket=BUCKET, Key=key_of(made), Body=body)
    with pytest.raises(LedgerCorrupt, match="size 1 is damaged"):
        checkpointer.get(made.origin, 1)
    other = msgspec.structs.replace(made, size=7)
    s3.put_object(Bucket=BUCKET, Key=key_of(made), Body=str(other).encode())
    with pytest.raises(LedgerCorrupt, match="another checkpoint"):
        checkpointer.get(made.origin, 1)
    s3.put_object(Bucket=BUCKET, Key=f"checkpoints/{made.origin}/x", Body=body)
    with pytest.raises(LedgerCorrupt, match="that is none"):
        checkpointer.latest(made.origin)


def test_object_lock(s3: Any, store: LedgerStore, record: Any) -> None:
    store.append([record(1)])
    now = datetime.now(UTC)
    locked = Checkpointer(s3, BUCKET, retain=timedelta(days=30), clock=lambda: now)
    made = locked.checkpoint(store)
    assert made is not None
    found = s3.head_object(Bucket=BUCKET, Key=key_of(made))
    assert found["ObjectLockMode"] == "COMPLIANCE"
    assert abs(found["ObjectLockRetainUntilDate"] - now - timedelta(days=30)) < timedelta(seconds=2)
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.delete_object(Bucket=BUCKET, Key=key_of(made), VersionId=found["VersionId"])


def test_signatures_and_countersignatures(s3: Any, store: LedgerStore, record: Any) -> None:
    store.append([record(1)])
    checkpointer = Checkpointer(s3, BUCKET, sign=OURS.sign)
    made = checkpointer.checkpoint(store)
    assert made is not None
    for day in (0, 1):
        at = NOW + timedelta(days=day)
        checkpointer.countersign(made, THEIRS.countersign(made, at), at)
    found = checkpointer.get(made.origin, 1)
    trusted = [OURS.verifier(SIGN), THEIRS.verifier(COSIGN)]
    assert check(found, trusted) == ([OURS.name, THEIRS.name, THEIRS.name], [])
    assert checkpointer.latest(made.origin) == found == checkpointer.checkpoint(store)
    report = verify_store(store, checkpoints=[found], trusted=[THEIRS.verifier(COSIGN)])
    assert report is not None
    assert (report.ok, report.signed) == (True, 1)
    s3.put_object(Bucket=BUCKET, Key=f"countersignatures/{made.origin}/{1:020d}/x", Body=b"damage")
    with pytest.raises(LedgerCorrupt, match="countersignature"):
        checkpointer.get(made.origin, 1)


def test_a_bucket_that_is_not_there_is_an_error(s3: Any, store: LedgerStore, record: Any) -> None:
    store.append([record(1)])
    with pytest.raises(ClientError, match="NoSuchBucket"):
        Checkpointer(s3, "other").checkpoint(store)
