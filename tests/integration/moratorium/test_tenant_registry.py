"""One contract, two registries: in memory and in DynamoDB."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs
from tests.tables import registry_of

from abeyance.aws.dynamodb import DynamoTable
from abeyance.moratorium.errors import PrincipalAmbiguous, TenantExists, TenantUnreadable
from abeyance.moratorium.tenants import Tenant, TenantTable

ROLE = "arn:aws:iam::123456789012:role/Police"
SESSION = "arn:aws:sts::123456789012:assumed-role/Police/jane"


def tenant(tenant_id: str, *principals: str) -> Tenant:
    return Tenant(
        id=tenant_id,
        sector="law_enforcement",
        jurisdiction="US-CA-OAKLAND",
        actions=("search", "index"),
        purposes=("missing_children",),
        principals=principals,
    )


@pytest.fixture(params=["memory", "dynamodb"])
def registry(request: pytest.FixtureRequest) -> TenantTable:
    if request.param == "memory":
        return registry_of()
    return TenantTable(DynamoTable(request.getfixturevalue("dynamodb"), "abeyance-tenants"))


def test_what_is_added_is_found(registry: TenantTable) -> None:
    police = tenant("oakland-police", ROLE, "oakland-police")
    registry.add(police)
    assert registry.get("oakland-police") == police
    assert registry.get("oakland") is None
    assert registry.get("") is None
    assert registry.get("principal#" + ROLE) is None


def test_principals_lead_to_their_tenant(registry: TenantTable) -> None:
    police = tenant("oakland-police", ROLE, "oakland-police")
    registry.add(police)
    for principal in (ROLE, SESSION, "arn:aws:iam::123456789012:role/some/path/Police", "oakland-police"):
        assert registry.by_principal(principal) == police
    for stranger in ("arn:aws:iam::210987654321:role/Police", "AKIAOTHER"):
        assert registry.by_principal(stranger) is None
    for nonsense in ("arn:aws:s3:::bucket", "", "two words", "principal#oakland-police"):
        assert registry.by_principal(nonsense) is None


def test_rules_for_uploads_are_kept_in_versions_that_never_change(registry: TenantTable) -> None:
    police = tenant("oakland-police")
    rules = ("doors/in/=index:staff", "gates=search:staff:missing_children")
    with_rules = structs.replace(police, buckets=("doors", "gates"), uploads=rules)
    assert registry.registrations("doors") == ()
    registry.add(with_rules)
    # What leaves a bucket's rules as they are makes no version.
    assert registry.put(structs.replace(with_rules, status="suspended"), 1)
    assert registry.put(structs.replace(with_rules, uploads=rules[1:]), 2)
    assert registry.put(with_rules, 3)
    versions = registry.registrations("doors")
    assert [one.rules for one in versions] == [rules[:1], (), rules[:1]]
    assert {(one.bucket, one.tenant) for one in versions} == {("doors", "oakland-police")}
    assert [one.version for one in versions] == [1, 2, 3]
    assert [one.rules for one in registry.registrations("gates")] == [rules[1:]]
    assert registry.get("oakland-police") == with_rules
    assert [one.id for one in registry.all()] == ["oakland-police"]


def test_the_rules_of_a_bucket_are_one_tenants(registry: TenantTable) -> None:
    police = structs.replace(tenant("oakland-police"), buckets=("doors",), uploads=("doors/in/=index:a",))
    other = structs.replace(tenant("fresno-police"), buckets=("doors",), uploads=("doors/out/=index:a",))
    registry.add(police)
    with pytest.raises(TenantExists):
        registry.add(other)
    assert registry.get("fresno-police") is None
    assert registry.put(structs.replace(police, uploads=()), 1)
    registry.add(other)
    assert [one.tenant for one in registry.registrations("doors")] == [
        *("oakland-police", "oakland-police", "fresno-police")
    ]


def test_nobody_registers_twice(registry: TenantTable) -> None:
    registry.add(tenant("oakland-police"))
    with pytest.raises(TenantExists):
        registry.add(tenant("oakland-police", "other"))
    assert registry.by_principal("other") is None


def test_two_tenants_cannot_claim_one_principal(registry: TenantTable) -> None:
    registry.add(tenant("oakland-police", ROLE))
    with pytest.raises(TenantExists):
        registry.add(tenant("acme", "acme", ROLE))
    assert registry.get("acme") is None
    assert registry.by_principal("acme") is None
    found = registry.by_principal(ROLE)
    assert found is not None
    assert found.id == "oakland-police"


def test_suspending_and_resuming(registry: TenantTable) -> None:
    police = tenant("oakland-police", ROLE)
    registry.add(police)
    assert registry.put(structs.replace(police, status="suspended"), 1)
    found = registry.by_principal(SESSION)
    assert found is not None
    assert found.status == "suspended"
    assert registry.put(police, 2)
    assert registry.read("oakland-police") == (police, 3)


def test_a_registration_is_replaced_only_in_the_revision_that_was_read(registry: TenantTable) -> None:
    police = tenant("oakland-police", ROLE)
    assert registry.put(police, 0)
    assert not registry.put(police, 0)
    assert not registry.put(police, 2)
    assert not registry.put(tenant("other", "other"), 1)
    assert registry.read("oakland-police") == (police, 1)


def test_principals_come_and_go_with_the_registration(registry: TenantTable) -> None:
    registry.add(tenant("oakland-police", ROLE, "first"))
    assert registry.put(tenant("oakland-police", ROLE, "second"), 1)
    assert registry.by_principal("first") is None
    assert registry.by_principal("second") == tenant("oakland-police", ROLE, "second")
    with pytest.raises(TenantExists, match="another tenant"):
        registry.put(tenant("acme", "second"), 0)


def test_all_lists_registrations_by_id(registry: TenantTable) -> None:
    for name in ("gamma", "alpha", "beta"):
        registry.add(tenant(name, name))
    assert [found.id for found in registry.all()] == ["alpha", "beta", "gamma"]


# -- what only a table can suffer


def damage(dynamodb: Any, **attributes: Any) -> None:
    item = {
        "pk": {"S": "oakland-police"},
        "sk": {"S": "registration"},
        "sector": {"S": "law_enforcement"},
        "jurisdiction": {"S": "US-CA-OAKLAND"},
        "status": {"S": "active"},
        "actions": {"L": [{"S": "search"}]},
        "purposes": {"L": [{"S": "missing_children"}]},
        "principals": {"L": [{"S": ROLE}]},
    } | attributes
    dynamodb.put_item(
        TableName="abeyance-tenants", Item={name: held for name, held in item.items() if held is not None}
    )


@pytest.mark.parametrize(
    "attributes",
    [
        {"status": None},
        {"status": {"S": "retired"}},
        {"sector": {"S": "police"}},
        {"actions": {"S": "search"}},
        {"actions": {"L": [{"S": "all"}]}},
        {"purposes": {"L": [{"N": "1"}]}},
        {"jurisdiction": {"N": "1"}},
        {"note": {"S": "edited by hand"}},
    ],
    ids=str,
)
def test_a_damaged_registration_is_an_error_not_a_guess(dynamodb: Any, attributes: dict[str, Any]) -> None:
    damage(dynamodb, **attributes)
    with pytest.raises(TenantUnreadable):
        TenantTable(DynamoTable(dynamodb, "abeyance-tenants")).get("oakland-police")


def test_a_claim_and_a_registration_that_disagree_are_an_error(dynamodb: Any) -> None:
    registry = TenantTable(DynamoTable(dynamodb, "abeyance-tenants"))
    registry.add(tenant("oakland-police", ROLE))
    damage(dynamodb, principals={"L": []})
    with pytest.raises(PrincipalAmbiguous):
        registry.by_principal(ROLE)
    dynamodb.delete_item(
        TableName="abeyance-tenants", Key={"pk": {"S": "oakland-police"}, "sk": {"S": "registration"}}
    )
    with pytest.raises(PrincipalAmbiguous):
        registry.by_principal(ROLE)


def test_a_principal_that_was_written_into_a_registration_by_hand_leads_nowhere(dynamodb: Any) -> None:
    damage(dynamodb)
    assert TenantTable(DynamoTable(dynamodb, "abeyance-tenants")).by_principal(ROLE) is None


def test_a_tenant_s_items_have_its_id_as_leading_key(dynamodb: Any) -> None:
    TenantTable(DynamoTable(dynamodb, "abeyance-tenants")).add(tenant("oakland-police", ROLE))
    items = dynamodb.scan(TableName="abeyance-tenants")["Items"]
    assert {item["pk"]["S"] for item in items} == {"oakland-police", f"principal#{ROLE}"}
