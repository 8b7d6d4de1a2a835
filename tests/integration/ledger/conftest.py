"""A ledger on moto: table, FIFO queue, and a bucket with Object Lock."""

from __future__ import annotations

import copy
import threading
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws
from moto.dynamodb.models.table import Table

from abeyance.ledger.chain import Record
from abeyance.ledger.queue import CLIENT_OPTIONS
from abeyance.ledger.store import LedgerStore, table_definition

TABLE, BUCKET, REGION = "abeyance-ledger", "abeyance-ledger", "us-east-1"


class OneAtATime:
    """A client for many threads on moto, whose DynamoDB is not atomic between threads as the real one is.

    Every call runs alone; between two calls of one thread the others go on, which is where races are.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._client, name)

        def call(**arguments: Any) -> Any:
            with self._lock:
                return operation(**arguments)

        return call if callable(operation) else operation


def a_record(number: int | str, **body: Any) -> Record:
    return Record(
        f"d-{number}", "decision", "2020-06-10T00:00:00Z", {"outcome": "deny", "n": str(number), **body}
    )


@pytest.fixture
def record() -> Any:
    return a_record


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield


@pytest.fixture
def dynamodb(aws: None) -> Any:
    client = boto3.client("dynamodb", region_name=REGION)
    client.create_table(**table_definition(TABLE))
    return client


@pytest.fixture
def make_store(dynamodb: Any) -> Any:
    """Makes stores on one table; ``client`` stands in for the real one."""
    clock = iter(datetime(2020, 6, 10, tzinfo=UTC) + timedelta(seconds=n) for n in range(100))

    def make(client: Any = None, **options: Any) -> LedgerStore:
        options.setdefault("sleep", lambda seconds: None)
        return LedgerStore(client or dynamodb, TABLE, clock=lambda: next(clock), **options)

    return make


@pytest.fixture
def store(make_store: Any) -> LedgerStore:
    made: LedgerStore = make_store()
    return made


@pytest.fixture
def s3(aws: None) -> Any:
    client = boto3.client("s3", region_name=REGION)
    client.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    return client


@pytest.fixture
def sqs(aws: None) -> Any:
    return boto3.client("sqs", region_name=REGION, config=Config(**CLIENT_OPTIONS))


@pytest.fixture
def queue_url(sqs: Any) -> str:
    made = sqs.create_queue(
        QueueName="abeyance-ledger.fifo", Attributes={"FifoQueue": "true", "VisibilityTimeout": "30"}
    )
    return str(made["QueueUrl"])


@pytest.fixture
def quick_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let moto prepare for a rollback by copying what an append can change, and no more.

    moto 5 copies the whole table, each item of it, once for every action of a transaction, so that a ledger of
    thousands of entries takes minutes. An append only adds items and replaces the head.
    """

    def what_can_change(table: Table, memo: dict[int, Any]) -> Table:
        twin = copy.copy(table)
        twin.items = defaultdict(dict, table.items)
        twin.items.update({key: dict(table.items[key]) for key in ("head", "entries") if key in table.items})
        return twin

    monkeypatch.setattr(Table, "__deepcopy__", what_can_change, raising=False)


@pytest.fixture
def alone(dynamodb: Any) -> OneAtATime:
    return OneAtATime(dynamodb)
