"""A ledger on moto: table, FIFO queue, and a bucket with Object Lock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws
from tests.tables import create_table

from abeyance.aws.clients import DECISION_TIMEOUTS_S
from abeyance.ledger.chain import Record
from abeyance.ledger.store import LedgerStore
from abeyance.local.moto import patch_moto

from ..one_at_a_time import OneAtATime

TABLE, BUCKET, REGION = "abeyance-ledger", "abeyance-ledger", "us-east-1"


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
        patch_moto()
        yield


@pytest.fixture
def dynamodb(aws: None) -> Any:
    client = boto3.client("dynamodb", region_name=REGION)
    create_table(client, TABLE)
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
    return boto3.client("sqs", region_name=REGION, config=Config(**DECISION_TIMEOUTS_S))


@pytest.fixture
def queue_url(sqs: Any) -> str:
    made = sqs.create_queue(
        QueueName="abeyance-ledger.fifo", Attributes={"FifoQueue": "true", "VisibilityTimeout": "30"}
    )
    return str(made["QueueUrl"])


@pytest.fixture
def alone(dynamodb: Any) -> OneAtATime:
    return OneAtATime(dynamodb)
