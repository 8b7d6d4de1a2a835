"""AWS as moto has it: tables, queue, and one way to make flags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from moto import mock_aws
from tests.tables import create_table, moto_client

from abeyance.moratorium.schema import definition


def value(**attributes: Any) -> dict[str, Any]:
    """A flag that halts everyone since 2020; ``None`` takes an attribute out."""
    merged = {
        "enabled": True,
        "effect": "halt",
        "actions": ["all"],
        "sectors": ["all"],
        "jurisdictions": ["all"],
        "starts": "2020-01-01T00:00:00Z",
        "on_expiry": "hold",
        "reason": "Halted.",
        "source": "A law",
    } | attributes
    return {name: attribute for name, attribute in merged.items() if attribute is not None}


def hosted(**values: dict[str, Any]) -> dict[str, Any]:
    """A hosted document of flag values."""
    return {"version": "1", "flags": {key: definition(key, key) for key in values}, "values": values}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws():
        # moto sets credentials of its own when it starts.
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "officer-one")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield


@pytest.fixture
def dynamodb(aws: None) -> Any:
    client = moto_client("dynamodb", "us-west-2")
    create_table(client, "abeyance-tenants")
    create_table(client, "abeyance-proposals")
    return client
