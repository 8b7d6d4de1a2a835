"""The services of the simulation answer as moto's do, where the product looks at the answer."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from tests.simulation.aws import SimulatedAws, SimulatedQueue
from tests.simulation.clock import VirtualClock
from tests.simulation.faults import Faults
from tests.tables import moto_client


class Services:
    """S3 with a bucket, and SQS with a queue of each kind."""

    def __init__(self, s3: Any, sqs: Any, count: Any) -> None:
        self.s3 = s3
        self.sqs = sqs
        #: Returns the number of messages in a queue.
        self.count = count


def simulated() -> Services:
    clock, chance = VirtualClock(), random.Random(1)
    aws = SimulatedAws(clock, Faults(chance, active=False), chance)
    aws.uploads_bucket = "uploads"
    aws.s3.buckets["bucket"] = {}
    aws.sqs.queues["plain"] = SimulatedQueue("plain", 5, 30.0)
    return Services(aws.s3, aws.sqs, lambda name: len(aws.sqs.queues[name].messages))


def emulated() -> Services:
    s3, sqs = moto_client("s3"), moto_client("sqs")
    s3.create_bucket(Bucket="bucket")
    sqs.create_queue(QueueName="plain")

    def count(name: str) -> int:
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        known = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        return int(known["Attributes"]["ApproximateNumberOfMessages"])

    return Services(s3, sqs, count)


@pytest.fixture(params=["moto", "simulated"])
def services(request: pytest.FixtureRequest) -> Iterator[Services]:
    if request.param == "simulated":
        yield simulated()
        return
    with mock_aws():
        yield emulated()


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_an_object_comes_back_with_its_metadata_and_etag(services: Services) -> None:
    put = services.s3.put_object(Bucket="bucket", Key="k", Body=b"x", Metadata={"purpose": "p"})
    head = services.s3.head_object(Bucket="bucket", Key="k", IfMatch=put["ETag"])
    assert (head["Metadata"], head["ETag"]) == ({"purpose": "p"}, put["ETag"])
    assert put["ETag"] == f'"{hashlib.md5(b"x", usedforsecurity=False).hexdigest()}"'
    got = services.s3.get_object(Bucket="bucket", Key="k")
    assert (got["Body"].read(), got["ETag"]) == (b"x", put["ETag"])


def test_missing_and_replaced_objects_are_told_apart_from_other_errors(services: Services) -> None:
    with pytest.raises(ClientError) as error:
        services.s3.head_object(Bucket="bucket", Key="none")
    assert code(error) == "404"
    with pytest.raises(services.s3.exceptions.NoSuchKey):
        services.s3.get_object(Bucket="bucket", Key="none")
    services.s3.put_object(Bucket="bucket", Key="k", Body=b"x")
    with pytest.raises(ClientError) as error:
        services.s3.get_object(Bucket="bucket", Key="k", IfMatch='"other"')
    assert code(error) in ("412", "PreconditionFailed")
    with pytest.raises(ClientError) as error:
        services.s3.put_object(Bucket="bucket", Key="k", Body=b"y", IfNoneMatch="*")
    assert code(error) == "PreconditionFailed"
    services.s3.delete_object(Bucket="bucket", Key="none")
