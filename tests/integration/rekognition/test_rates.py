"""One tenant's requests are limited, over all its principals and all environments, and nobody else's are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from tests.tables import moto_client

from abeyance.aws.dynamodb import DynamoTable
from abeyance.deployment.settings import DeploymentSettings
from abeyance.local.aws import LocalAws
from abeyance.local.gateway import mount_api
from abeyance.local.moto import Inbox
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.tenants import Tenant, TenantTable
from abeyance.pipeline.upload_records import KEY
from abeyance.rekognition.errors import ApiError
from abeyance.rekognition.rates import WINDOW_S, TenantRates

from .conftest import TENANTS, Api


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
        dynamodb = moto_client("dynamodb")
        dynamodb.create_table(
            TableName="uploads",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "object", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "object", "AttributeType": "S"}],
        )
        yield dynamodb


def table(client: Any) -> DynamoTable:
    return DynamoTable(client, "uploads", partition=KEY, sort="")


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
    one, other = (TenantRates(table(client), 2.0, registry, clock) for _ in range(2))
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
    rates = TenantRates(table(client), 0.3, Registry(), Clock())
    assert taken(rates, "stranger", 2) + taken(rates, "broken", 2) + taken(rates, "", 2) == 3


def test_the_deployed_api_refuses_before_it_decides(tmp_path: Path) -> None:
    """Through the function that is deployed: a second tenant is served, and refusals are not on the ledger."""
    flags = tmp_path / "flags.json"
    flags.write_text(json.dumps(new_deployment()))
    aws = LocalAws(settings=DeploymentSettings.of(flags=f"file:{flags}", tenant_rate="0.3"))
    aws.start()
    served = mount_api(aws)
    try:
        registry = TenantTable(DynamoTable(aws.client("dynamodb"), aws.settings.tenants_table))
        for one in TENANTS[:2]:
            registry.add(one)
        api = Api(aws, flags)
        answers = []
        for _ in range(8):
            try:
                api.client("acme").list_collections()
                answers.append("served")
            except ClientError as error:
                answers.append(error.response["Error"]["Code"])
        # Three a window, and at most one change of windows meanwhile.
        assert 3 <= answers.count("served") <= 6
        assert set(answers) == {"served", "ProvisionedThroughputExceededException"}
        assert api.client("globex").list_collections()["CollectionIds"] == []
        for _ in range(8):
            with pytest.raises(ClientError) as refused:
                api.client("stranger").list_collections()
        assert refused.value.response["Error"]["Code"] == "ProvisionedThroughputExceededException"
        # What was answered, and the denials that were made, of the stranger; nothing of what the rate refused.
        answered = answers.count("served") + 1
        assert 3 <= Inbox(aws.settings.ledger_queue).depth() - answered <= 6
    finally:
        served.stop()
        aws.stop()
