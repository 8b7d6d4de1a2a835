"""The log's objects over S3's API, by the contract of every adapter, and the head over DynamoDB's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws
from tests.fakes import MemoryTable
from tests.log_objects import LogObjectsContract

from abeyance.aws.dynamodb import DynamoTable
from abeyance.aws.table import Table
from abeyance.ledger.errors import LedgerCorrupt, LedgerUnavailable
from abeyance.ledger.heads import HeadStore
from abeyance.ledger.ledger_bucket import LedgerBucket

_NAMES = itertools.count()


@pytest.fixture(scope="module")
def aws() -> Iterator[tuple[Any, Any]]:
    with mock_aws():
        yield boto3.client("s3", region_name="us-east-1"), boto3.client("dynamodb", region_name="us-east-1")


@pytest.fixture(params=["memory", "dynamodb"])
def table(aws: tuple[Any, Any], request: pytest.FixtureRequest) -> Table:
    if request.param == "memory":
        return MemoryTable()
    name = f"heads-{next(_NAMES)}"
    keys = [("pk", "HASH"), ("sk", "RANGE")]
    aws[1].create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key, _ in keys],
    )
    return DynamoTable(aws[1], name)


@pytest.fixture(params=[1, 4])
def objects(aws: tuple[Any, Any], request: pytest.FixtureRequest) -> LedgerBucket:
    name = f"log-{next(_NAMES)}"
    aws[0].create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return LedgerBucket(aws[0], name, request.param)


class TestS3Objects(LogObjectsContract):
    """One object at a time, and several."""

    def test_many_are_written_and_one_that_differs_is_an_error(self, objects: LedgerBucket) -> None:
        objects.put_all((f"k/{n:02d}", b"%d" % n) for n in range(30))
        assert list(objects.keys("k/", "k/27")) == ["k/28", "k/29"]
        objects.put_all([])
        with pytest.raises(LedgerCorrupt):
            objects.put_all([("k/30", b""), ("k/07", b"other"), ("k/31", b"")])

    def test_every_version_and_delete_marker_is_seen(self, objects: LedgerBucket) -> None:
        objects.replace("checkpoint", b"1")
        objects.replace("checkpoint", b"2")
        objects._client.delete_object(Bucket=objects._bucket, Key="checkpoint")
        found = list(objects.versions())
        assert sorted(one.deleted for one in found) == [False, False, True]
        texts = {objects.get(one.key, one.version) for one in found if not one.deleted}
        assert texts == {b"1", b"2"}
        assert objects.get("checkpoint") is None


def test_a_bucket_that_does_not_answer(aws: tuple[Any, Any]) -> None:
    missing = LedgerBucket(aws[0], "there-is-none")
    for work in (
        lambda: missing.get("a"),
        lambda: missing.put_new("a", b""),
        lambda: missing.replace("a", b""),
        lambda: list(missing.keys()),
    ):
        with pytest.raises(LedgerUnavailable, match="NoSuchBucket"):
            work()


def test_the_head_moves_for_one(table: Table) -> None:
    heads = HeadStore(table)
    assert heads.read() is None
    start = heads.create("abeyance/one")
    assert heads.create("abeyance/other") == start
    after = start.followed_by(count=3, batch="sequenced/a", digest="aa")
    assert heads.move(start, after)
    assert not heads.move(start, start.followed_by(count=5, batch="sequenced/b", digest="bb"))
    assert heads.read() == after
    assert after.pending
    done = after.integrated_to(bytes(32))
    assert heads.move(after, done)
    assert not heads.move(after, done)
    assert (heads.read(), done.pending, done.root_bytes) == (done, False, bytes(32))


def test_a_table_that_does_not_answer(aws: tuple[Any, Any]) -> None:
    with pytest.raises(LedgerUnavailable, match="did not confirm"):
        HeadStore(DynamoTable(aws[1], "there-is-none")).read()
