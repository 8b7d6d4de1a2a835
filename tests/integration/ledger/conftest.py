"""A ledger on moto: the table of its head, a standard queue, and a bucket with Object Lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws
from tests.tables import create_table

from abeyance.aws.clients import DECISION_TIMEOUTS_S
from abeyance.aws.dynamodb import DynamoTable
from abeyance.ledger.entry import Record
from abeyance.ledger.heads import HeadStore
from abeyance.ledger.ledger_bucket import LedgerBucket
from abeyance.ledger.sequencer import Sequencer
from abeyance.local.moto import patch_moto

from ..one_at_a_time import OneAtATime

TABLE, BUCKET, REGION = "abeyance-ledger", "abeyance-ledger", "us-east-1"


def a_record(number: int | str, **body: Any) -> Record:
    return Record(
        f"d-{number}", "decision", "2020-06-10T00:00:00Z", {"outcome": "deny", "n": str(number), **body}
    )


@pytest.fixture
def record() -> Callable[..., Record]:
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
def s3(aws: None) -> Any:
    client = boto3.client("s3", region_name=REGION)
    client.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    return client


@pytest.fixture
def dynamodb(aws: None) -> Any:
    client = boto3.client("dynamodb", region_name=REGION)
    create_table(client, TABLE)
    return client


@pytest.fixture
def objects(s3: Any) -> LedgerBucket:
    return LedgerBucket(s3, BUCKET, parallel=4)


@pytest.fixture
def heads(dynamodb: Any) -> HeadStore:
    # moto's conditions are atomic only if one request runs at a time.
    return HeadStore(DynamoTable(OneAtATime(dynamodb), TABLE))


@pytest.fixture
def make_sequencer(heads: HeadStore, objects: LedgerBucket) -> Callable[[], Sequencer]:
    """Makes sequencers of one log."""
    return lambda: Sequencer(heads, objects, sleep=lambda _: None)


@pytest.fixture
def sqs(aws: None) -> Any:
    return boto3.client("sqs", region_name=REGION, config=Config(**DECISION_TIMEOUTS_S))


@pytest.fixture
def queue_url(sqs: Any) -> str:
    made = sqs.create_queue(QueueName="abeyance-ledger", Attributes={"VisibilityTimeout": "30"})
    return str(made["QueueUrl"])
