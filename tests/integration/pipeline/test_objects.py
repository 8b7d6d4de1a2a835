"""Changes of objects that others change or delete meanwhile, on S3 as moto and as the simulation have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws
from tests.simulation.aws import SimulatedS3

from abeyance.pipeline.aws import S3Objects
from abeyance.pipeline.ports import ObjectGone

BUCKET, KEY = "chips", "a.npy"


def _simulated() -> Any:
    made = SimulatedS3(lambda _, run: run())
    made.buckets[BUCKET] = {}
    return made


def _moto() -> Any:
    made = boto3.client("s3", region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any")
    made.create_bucket(Bucket=BUCKET)
    return made


@pytest.fixture(params=[_simulated, _moto])
def objects(request: pytest.FixtureRequest) -> Iterator[S3Objects]:
    make: Callable[[], Any] = request.param
    with mock_aws():
        yield S3Objects(make())


def put(objects: S3Objects, body: bytes) -> None:
    objects.put(BUCKET, KEY, body, "text/plain")


def change(objects: S3Objects, edit: Callable[[bytes], bytes]) -> None:
    objects.change(BUCKET, KEY, edit, "text/plain")


def test_an_object_is_changed(objects: S3Objects) -> None:
    put(objects, b"one")
    change(objects, bytes.upper)
    assert objects.get(BUCKET, KEY) == b"ONE"


def test_a_change_is_made_of_what_was_written_meanwhile(objects: S3Objects) -> None:
    seen: list[bytes] = []

    def edit(body: bytes) -> bytes:
        seen.append(body)
        if len(seen) == 1:
            put(objects, b"two")
        return body.upper()

    put(objects, b"one")
    change(objects, edit)
    assert seen == [b"one", b"two"]
    assert objects.get(BUCKET, KEY) == b"TWO"


def test_an_object_that_is_deleted_meanwhile_does_not_come_back(objects: S3Objects) -> None:
    def edit(body: bytes) -> bytes:
        objects.delete(BUCKET, KEY)
        return body.upper()

    put(objects, b"one")
    with pytest.raises(ObjectGone):
        change(objects, edit)
    with pytest.raises(ObjectGone):
        objects.get(BUCKET, KEY)


def test_a_change_that_never_comes_to_its_end_fails(objects: S3Objects) -> None:
    def edit(body: bytes) -> bytes:
        put(objects, body + b".")
        return body.upper()

    put(objects, b"one")
    with pytest.raises(Exception, match="Precondition"):
        change(objects, edit)
