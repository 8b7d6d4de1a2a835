"""Many calls at once: every one is answered, and none is refused that a caller alone would be granted."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from tests.integration.rekognition.conftest import Api

from abeyance.local.moto import REGION


def plain_client(api: Api, calls: int, **retries: Any) -> Any:
    """Return a client as a program makes it, with a connection for each call."""
    return boto3.client(
        "rekognition",
        endpoint_url=api.endpoint,
        region_name=REGION,
        aws_access_key_id="acme",
        aws_secret_access_key="any",
        config=Config(max_pool_connections=calls, **retries),
    )


@pytest.mark.parametrize("calls", [30, 200])
def test_calls_at_once_are_all_answered(api: Api, photos: Any, calls: int) -> None:
    client, photo = plain_client(api, calls), photos("obama.jpg")
    collection = f"at-once-{calls}"
    client.create_collection(CollectionId=collection)
    start = threading.Barrier(calls)

    def index(number: int) -> str:
        start.wait()
        answer = client.index_faces(
            CollectionId=collection, Image={"Bytes": photo}, ExternalImageId=f"photo-{number}"
        )
        (record,) = answer["FaceRecords"]
        return str(record["Face"]["ExternalImageId"])

    with ThreadPoolExecutor(calls) as pool:
        named = set(pool.map(index, range(calls)))
    assert named == {f"photo-{number}" for number in range(calls)}
    assert client.describe_collection(CollectionId=collection)["FaceCount"] == calls


def test_what_cannot_be_served_is_told_to_wait(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """More calls than may wait end in what SDKs retry."""
    monkeypatch.setattr("abeyance.local.lanes._MAX_REQUESTS", 0)
    client = plain_client(api, 50, retries={"total_max_attempts": 1})

    def ask(_: int) -> str:
        with pytest.raises(ClientError) as refused:
            client.list_collections()
        return str(refused.value.response["Error"]["Code"])

    with ThreadPoolExecutor(50) as pool:
        assert Counter(pool.map(ask, range(50))) == {"ThrottlingException": 50}
    monkeypatch.undo()
    assert "CollectionIds" in client.list_collections()
