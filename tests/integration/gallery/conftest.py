"""Galleries on moto and in memory, and generated faces."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import numpy as np
import pytest
from moto import mock_aws
from tests.fakes import MemoryObjects, MemoryTable
from tests.tables import create_table, moto_client

from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import NewFace
from abeyance.gallery.store import DynamoGallery
from abeyance.local.moto import patch_moto

from ..one_at_a_time import OneAtATime


@pytest.fixture
def new_face() -> Callable[..., NewFace]:
    """Return a maker of faces, each with a template that its name determines."""

    def make(name: str, *, dimension: int = 8, model: str = "test@000000000000", **rest: object) -> NewFace:
        face_id = uuid.uuid5(uuid.NAMESPACE_URL, name)
        vector = np.random.default_rng(face_id.int).standard_normal(dimension).astype(np.float32)
        return NewFace(id=str(face_id), model=model, template=vector / np.linalg.norm(vector), **rest)  # type: ignore[arg-type]

    return make


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    """Yield DynamoDB and S3 clients of moto, with an empty table ``gallery`` and an empty bucket ``gallery``."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        patch_moto()
        # DynamoDB's client is this test's own, because some tests listen to its events.
        dynamodb, s3 = OneAtATime(boto3.client("dynamodb", "us-east-1")), OneAtATime(moto_client("s3"))
        create_table(dynamodb, "gallery")
        s3.create_bucket(Bucket="gallery")
        yield dynamodb, s3


@pytest.fixture(params=["memory", "dynamodb"])
def make_gallery(request: pytest.FixtureRequest) -> Callable[..., Gallery]:
    """Return a maker of galleries of one kind; all those of a test share a table and a bucket."""
    if request.param == "memory":
        table, objects = MemoryTable(), MemoryObjects()
        return lambda **options: Gallery(table, objects, **options)
    dynamodb, s3 = request.getfixturevalue("aws")
    return lambda **options: DynamoGallery(dynamodb, "gallery", s3, "gallery", **options)


@pytest.fixture
def gallery(make_gallery: Callable[..., Gallery]) -> Gallery:
    return make_gallery(span=16)
