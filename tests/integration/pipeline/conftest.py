"""The whole system on this machine, and sample photos."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from abeyance.local.demo import prepare
from abeyance.local.samples import fetch_samples
from abeyance.local.system import LocalSystem
from abeyance.local.tenants import TENANTS, register
from abeyance.pipeline.events import Event, parse


@pytest.fixture(scope="session")
def portraits() -> dict[str, Path]:
    """Photos of two politicians by file name."""
    prepare()
    return fetch_samples("white-house-portraits")


@pytest.fixture(scope="module")
def system(portraits: dict[str, Path]) -> Iterator[LocalSystem]:
    """A running system with the local tenants."""
    with LocalSystem() as running:
        register(running, TENANTS)
        yield running


@pytest.fixture
def upload(system: LocalSystem) -> Callable[..., dict[str, Any]]:
    """Put an object, wait until all is quiet, and return its result."""

    def put(key: str, body: bytes, **metadata: str) -> dict[str, Any]:
        given = {name.replace("_", "-"): value for name, value in metadata.items()}
        system.client("s3").put_object(Bucket="uploads", Key=key, Body=body, Metadata=given)
        system.drain(60)
        found = result(system, key)
        assert found is not None, f"no result; {system.waiting()}"
        return found

    return put


def result(system: LocalSystem, key: str) -> dict[str, Any] | None:
    """The result document of an upload, if there is one."""
    s3 = system.client("s3")
    try:
        answer = s3.get_object(Bucket="results", Key=f"{key}.json")
    except s3.exceptions.NoSuchKey:
        return None
    document: dict[str, Any] = json.loads(answer["Body"].read())
    return document


def settled_events(system: LocalSystem) -> list[Event]:
    """Every event with which a stage settled an upload."""
    items = system.client("dynamodb").scan(TableName="abeyance-uploads", ConsistentRead=True)["Items"]
    stored = [
        value["S"].split("\n", 1)
        for item in items
        for name, value in item.items()
        if name.startswith("stage_")
    ]
    return [parse(detail_type, json.loads(detail)) for detail_type, detail in stored]
