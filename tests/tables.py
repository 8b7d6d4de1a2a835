"""Tables as the topology has them: string keys ``pk`` and ``sk``."""

from __future__ import annotations

from typing import Any

from tests.fakes import MemoryTable

from abeyance.moratorium.tenants import Tenant, TenantTable


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
