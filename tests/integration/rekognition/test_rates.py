"""One tenant's requests are limited, over all its principals and all environments, and nobody else's are."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from moto import mock_aws

from abeyance.moratorium.tenants import Tenant
from abeyance.rekognition.errors import ApiError
from abeyance.rekognition.rates import WINDOW_S, TenantRates


class Registry:
    """Tenants by principal; ``broken`` raises."""

    def __init__(self) -> None:
        self.asked = 0

    def by_principal(self, principal: str) -> Tenant | None:
        self.asked += 1
        if principal == "broken":
            raise RuntimeError
        if principal == "stranger":
            return None
        return Tenant(
            id=principal.split("_")[0], sector="commercial", jurisdiction="US-IL", actions=(), purposes=()
        )

    def get(self, tenant_id: str) -> Tenant | None:
        raise AssertionError


class Clock:
    now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def client() -> Any:
    with mock_aws():
        dynamodb = boto3.client(
            "dynamodb", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
        )
        dynamodb.create_table(
            TableName="uploads",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "object", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "object", "AttributeType": "S"}],
        )
        yield dynamodb


def taken(rates: TenantRates, principal: str, tries: int) -> int:
    """How many of so many requests are let in."""
    count, refused = 0, []
    for _ in range(tries):
        try:
            rates.take(principal)
            count += 1
        except ApiError as error:
            refused.append((error.name, error.status))
    assert set(refused) <= {("ProvisionedThroughputExceededException", 400)}
    return count


def test_a_tenant_is_limited_over_principals_and_environments(client: Any) -> None:
    clock, registry = Clock(), Registry()
    one, other = (TenantRates(client, "uploads", 2.0, registry, clock) for _ in range(2))
    limit = 2 * WINDOW_S
    assert taken(one, "acme_a", limit - 3) == limit - 3
    assert taken(other, "acme_b", 10) == 3
    assert taken(one, "globex", 5) == 5
    assert registry.asked == 3
    clock.now += WINDOW_S
    assert taken(one, "acme_a", limit + 5) == limit
    (item,) = [
        found for found in client.scan(TableName="uploads")["Items"] if "globex" in found["object"]["S"]
    ]
    assert int(item["expires"]["N"]) > clock.now


def test_strangers_share_one_limit(client: Any) -> None:
    rates = TenantRates(client, "uploads", 0.3, Registry(), Clock())
    assert taken(rates, "stranger", 2) + taken(rates, "broken", 2) + taken(rates, "", 2) == 3
