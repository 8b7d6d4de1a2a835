"""Who may ask: the registry of tenants, in DynamoDB and in memory.

Table design
------------
========================  ================  =====================================================
``pk``                    ``sk``            holds
========================  ================  =====================================================
``<tenant id>``           ``registration``  sector, jurisdiction, actions, purposes, principals, status
``principal#<principal>``  ``claim``         the one tenant that the principal belongs to
========================  ================  =====================================================

The tenant id *is* the leading key, so an IAM policy can hold a role to its own registration with
``"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["${aws:PrincipalTag/tenant}"]}``; no tenant id
contains ``#``, so a claim can never be mistaken for a registration. A claim is an item of its own, written
in the same transaction as the registration under the condition that no other tenant holds it: a lookup by
principal is one strongly consistent read (a global secondary index would go on answering for a moment after
a principal was taken away), and two tenants cannot claim one principal. Where somebody edited the table by
hand and claim and registration disagree, the answer is an error.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, Protocol

import msgspec
from msgspec import Struct

from abeyance.moratorium.errors import PrincipalAmbiguous, TenantExists, TenantUnknown, TenantUnreadable
from abeyance.moratorium.vocabulary import (
    ACTIONS,
    SECTORS,
    is_jurisdiction,
    is_purpose,
    is_tenant_id,
)

#: Arguments of ``create_table``, less the name: for the infrastructure, the local runtime and the tests
#: alike.
TENANTS_TABLE: Final[Mapping[str, Any]] = {
    "AttributeDefinitions": [
        {"AttributeName": "pk", "AttributeType": "S"},
        {"AttributeName": "sk", "AttributeType": "S"},
    ],
    "KeySchema": [
        {"AttributeName": "pk", "KeyType": "HASH"},
        {"AttributeName": "sk", "KeyType": "RANGE"},
    ],
    "BillingMode": "PAY_PER_REQUEST",
}

Status = Literal["active", "suspended"]
_arn = re.compile(r"arn:(aws[a-z-]*):(iam|sts)::([0-9]{12}):(.+)")
_name = re.compile(r"[A-Za-z0-9_+=,.@/:-]{1,256}")


class Tenant(Struct, frozen=True, kw_only=True):
    """A registered user of the system.

    Raises ``ValueError`` on construction from anything that is not well-formed, so that a ``Tenant`` is
    always one.

    Attributes
    ----------
    id : str
        ``^[a-z0-9][a-z0-9-]{1,62}$``; the first segment of its S3 keys and the leading key of its items.
    sector : str
        A ``Sector``.
    jurisdiction : str
        Where it works: ``US``, ``US-CA``, ``US-CA-SAN_FRANCISCO``.
    actions, purposes : tuple of str
        What it is registered for; there is no wildcard.
    principals : tuple of str
        Canonical principals (see ``canonical_principal``) that act as this tenant.
    status : str
        ``active`` or ``suspended``.
    """

    id: str
    sector: str
    jurisdiction: str
    actions: tuple[str, ...]
    purposes: tuple[str, ...]
    principals: tuple[str, ...] = ()
    status: Status = "active"

    def __post_init__(self) -> None:
        if not is_tenant_id(self.id):
            raise ValueError("a tenant id has 2 to 63 of a-z, 0-9 and -, and does not begin with -")
        if not isinstance(self.sector, str) or self.sector not in SECTORS:
            raise ValueError(f"sector must be one of {', '.join(sorted(SECTORS))}")
        if not is_jurisdiction(self.jurisdiction):
            raise ValueError("jurisdiction must be a place such as US, US-CA or US-CA-SAN_FRANCISCO")
        for name in ("actions", "purposes", "principals"):
            if type(getattr(self, name)) is not tuple or len(set(getattr(self, name))) != len(
                getattr(self, name)
            ):
                raise ValueError(f"{name} must be a tuple without repetitions")
        if not set(self.actions) <= ACTIONS:
            raise ValueError(f"actions must be among {', '.join(sorted(ACTIONS))}")
        if not all(is_purpose(purpose) for purpose in self.purposes):
            raise ValueError("a purpose is lower_snake, such as missing_children")
        if any(canonical_principal(principal) != principal for principal in self.principals):
            raise ValueError("principals must be canonical; use canonical_principal")
        if self.status not in ("active", "suspended"):
            raise ValueError("status must be active or suspended")

    def place(self, jurisdiction: str) -> Tenant:
        """The same tenant as if it were registered in another place."""
        return msgspec.structs.replace(self, jurisdiction=jurisdiction)


class TenantRegistry(Protocol):
    """What a decision asks. Both answer from what is written now, never from a cache or an eventually
    consistent copy."""

    def get(self, tenant_id: str, /) -> Tenant | None:
        """The tenant, or ``None`` if there is none. Raises ``TenantUnreadable``, or whatever the store
        raises."""
        ...

    def by_principal(self, principal: str, /) -> Tenant | None:
        """The one tenant of an IAM ARN or access key id, or ``None``. Raises ``PrincipalAmbiguous``."""
        ...


class TenantStore(TenantRegistry, Protocol):
    """A registry that can be written."""

    def add(self, tenant: Tenant, /) -> None:
        """Register a new tenant. Raises ``TenantExists`` if its id or one of its principals is taken."""
        ...

    def set_status(self, tenant_id: str, status: Status, /) -> Tenant:
        """Suspend or resume. Raises ``TenantUnknown``."""
        ...

    def all(self) -> Iterator[Tenant]:
        """Every tenant, by id."""
        ...


def canonical_principal(principal: str) -> str:
    """One spelling for each caller.

    The ARN that STS reports for an assumed role (``arn:aws:sts::123456789012:assumed-role/Gate/session``)
    becomes that of its role, ``arn:aws:iam::123456789012:role/Gate``. A session ARN does not show the
    role's path, and role names are unique in an account whatever their path, so the path of a role ARN goes
    too. Users, and access key ids, stay as they are.

    Raises
    ------
    ValueError
        If ``principal`` is neither an IAM or STS ARN nor a plain name.
    """
    if not isinstance(principal, str) or not _name.fullmatch(principal):
        raise ValueError("a principal is an IAM ARN or an access key id")
    if not principal.startswith("arn:"):
        if ":" in principal or "/" in principal:
            raise ValueError("a principal is an IAM ARN or an access key id")
        return principal
    match = _arn.fullmatch(principal)
    if match is None:
        raise ValueError("a principal's ARN is one of IAM or STS, with an account id")
    partition, service, account, resource = match.groups()
    kind, _, rest = resource.partition("/")
    if service == "sts" and kind == "assumed-role":
        role, _, session = rest.partition("/")
        if not role or not session:
            raise ValueError("an assumed-role ARN names a role and a session")
        return f"arn:{partition}:iam::{account}:role/{role}"
    if service == "iam" and kind == "role":
        role = rest.rpartition("/")[2]
        if not role:
            raise ValueError("a role ARN names a role")
        return f"arn:{partition}:iam::{account}:role/{role}"
    return principal


class InMemoryTenants:
    """The registry without AWS: for tests and for asking what-if."""

    def __init__(self, *tenants: Tenant) -> None:
        self._tenants: dict[str, Tenant] = {}
        self._claims: dict[str, str] = {}
        self._lock = threading.Lock()
        for tenant in tenants:
            self.add(tenant)

    def get(self, tenant_id: str, /) -> Tenant | None:
        return self._tenants.get(tenant_id)

    def by_principal(self, principal: str, /) -> Tenant | None:
        principal = canonical_principal(principal)
        owner = self._claims.get(principal)
        return None if owner is None else _agreed(self.get(owner), principal)

    def add(self, tenant: Tenant, /) -> None:
        with self._lock:
            if tenant.id in self._tenants or any(claim in self._claims for claim in tenant.principals):
                raise TenantExists("this tenant id, or one of its principals, is already registered")
            self._tenants[tenant.id] = tenant
            self._claims.update(dict.fromkeys(tenant.principals, tenant.id))

    def set_status(self, tenant_id: str, status: Status, /) -> Tenant:
        with self._lock:
            if tenant_id not in self._tenants:
                raise TenantUnknown("no tenant of this id is registered")
            self._tenants[tenant_id] = msgspec.structs.replace(self._tenants[tenant_id], status=status)
            return self._tenants[tenant_id]

    def all(self) -> Iterator[Tenant]:
        return iter(sorted(self._tenants.values(), key=lambda tenant: tenant.id))


class DynamoTenants:
    """The registry in a DynamoDB table of ``TENANTS_TABLE``'s shape; ``client`` is a low-level boto3
    client."""

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table

    def get(self, tenant_id: str, /) -> Tenant | None:
        if not is_tenant_id(tenant_id):
            return None
        item = self._item(tenant_id, "registration")
        return None if item is None else _tenant(item)

    def by_principal(self, principal: str, /) -> Tenant | None:
        principal = canonical_principal(principal)
        claim = self._item(f"principal#{principal}", "claim")
        if claim is None:
            return None
        return _agreed(self.get(claim.get("tenant", {}).get("S", "")), principal)

    def add(self, tenant: Tenant, /) -> None:
        vacant = "attribute_not_exists(pk)"
        items = [_to_item(tenant)]
        items += [
            {"pk": {"S": f"principal#{principal}"}, "sk": {"S": "claim"}, "tenant": {"S": tenant.id}}
            for principal in tenant.principals
        ]
        try:
            self._client.transact_write_items(
                TransactItems=[
                    {"Put": {"TableName": self._table, "Item": item, "ConditionExpression": vacant}}
                    for item in items
                ]
            )
        except self._client.exceptions.TransactionCanceledException as error:
            reasons = error.response.get("CancellationReasons", [])
            if any(reason.get("Code") == "ConditionalCheckFailed" for reason in reasons):
                raise TenantExists(
                    "this tenant id, or one of its principals, is already registered"
                ) from None
            raise

    def set_status(self, tenant_id: str, status: Status, /) -> Tenant:
        if status not in ("active", "suspended"):
            raise ValueError("status must be active or suspended")
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key={"pk": {"S": tenant_id}, "sk": {"S": "registration"}},
                UpdateExpression="SET #status = :status",
                ConditionExpression="attribute_exists(pk)",
                ExpressionAttributeNames={"#status": "status"},
                ExpressionAttributeValues={":status": {"S": status}},
                ReturnValues="ALL_NEW",
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            raise TenantUnknown("no tenant of this id is registered") from None
        return _tenant(answer["Attributes"])

    def all(self) -> Iterator[Tenant]:
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._table,
            ConsistentRead=True,
            FilterExpression="sk = :registration",
            ExpressionAttributeValues={":registration": {"S": "registration"}},
        )
        found = [_tenant(item) for page in pages for item in page["Items"]]
        return iter(sorted(found, key=lambda tenant: tenant.id))

    def _item(self, pk: str, sk: str) -> dict[str, Any] | None:
        answer = self._client.get_item(
            TableName=self._table, Key={"pk": {"S": pk}, "sk": {"S": sk}}, ConsistentRead=True
        )
        item: dict[str, Any] | None = answer.get("Item")
        return item


def _agreed(tenant: Tenant | None, principal: str) -> Tenant:
    if tenant is None or principal not in tenant.principals:
        raise PrincipalAmbiguous(
            "a principal's claim and its tenant's registration disagree; register the tenant anew"
        )
    return tenant


def _to_item(tenant: Tenant) -> dict[str, Any]:
    return {
        "pk": {"S": tenant.id},
        "sk": {"S": "registration"},
        "sector": {"S": str(tenant.sector)},
        "jurisdiction": {"S": tenant.jurisdiction},
        "status": {"S": tenant.status},
        **{
            name: {"L": [{"S": str(entry)} for entry in getattr(tenant, name)]}
            for name in ("actions", "purposes", "principals")
        },
    }


def _tenant(item: dict[str, Any]) -> Tenant:
    try:
        if set(item) != {"pk", "sk", "sector", "jurisdiction", "status", "actions", "purposes", "principals"}:
            raise ValueError("attributes")
        return Tenant(
            id=item["pk"]["S"],
            sector=item["sector"]["S"],
            jurisdiction=item["jurisdiction"]["S"],
            status=item["status"]["S"],
            actions=tuple(entry["S"] for entry in item["actions"]["L"]),
            purposes=tuple(entry["S"] for entry in item["purposes"]["L"]),
            principals=tuple(entry["S"] for entry in item["principals"]["L"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TenantUnreadable(
            "a registration in the tenants table is not well-formed; register it anew"
        ) from None
