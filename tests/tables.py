"""Clients of moto, and tables as the topology has them: string keys ``pk`` and ``sk``."""

from __future__ import annotations

import functools
from typing import Any

import boto3
from tests.fakes import MemoryTable

from abeyance.moratorium.tenants import Tenant, TenantTable


@functools.cache
def moto_client(service: str, region: str = "us-east-1") -> Any:
    """Return a client for use while moto is active; one for all tests, as making it takes longer than most of them."""
    return boto3.Session("testing", "testing", region_name=region).client(service)


def create_table(client: Any, name: str) -> None:
    """Create a table with the keys ``pk`` and ``sk``."""
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
    )


def registry_of(*tenants: Tenant) -> TenantTable:
    """Return a registry in memory that holds these tenants."""
    registry = TenantTable(MemoryTable())
    for tenant in tenants:
        registry.add(tenant)
    return registry
