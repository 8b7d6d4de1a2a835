"""The registry of tenants, in a table.

Table design
------------
========================  ================  ===============================================================
``pk``                    ``sk``            holds
========================  ================  ===============================================================
``<tenant id>``           ``registration``  sector, jurisdiction, actions, purposes, principals, buckets, uploads,
                                            status; ``revision``
``principal#<principal>``  ``claim``         the one tenant that the principal belongs to
``bucket#<bucket>``       ``<version>``     a version of the rules for uploads to a bucket, and whose they are
========================  ================  ===============================================================

The tenant id *is* the leading key, so an IAM policy can hold a role to its own registration with
``"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["${aws:PrincipalTag/tenant}"]}``; no tenant id
contains ``#``, so a claim can never be mistaken for a registration. A claim is an item of its own, written
in the same transaction as the registration under the condition that no other tenant holds it: a lookup by
principal is one strongly consistent read (a global secondary index would go on answering for a moment after
a principal was taken away), and two tenants cannot claim one principal. Where somebody edited the table by
hand and claim and registration disagree, the answer is an error.

Versions of rules are written in the same transaction too, and never changed: a stage that works on an upload, and the
deletion of its photo, find the rules by which it came in, whatever has been registered since.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal, Protocol

import msgspec
from msgspec import Struct

from abeyance.aws.table import PARTITION, SORT, Conflict, Delete, Item, Key, Put, ReadAlong, Table
from abeyance.moratorium.buckets import PLACE_FORM, BucketRegistration, is_place, parse_rules
from abeyance.moratorium.errors import PrincipalAmbiguous, TenantExists, TenantUnreadable
from abeyance.moratorium.places import is_jurisdiction
from abeyance.moratorium.vocabulary import ACTIONS, PURPOSE_FORM, SECTORS, is_purpose, is_tenant_id

Status = Literal["active", "suspended"]
_REGISTRATION: Final = "registration"
_CLAIM: Final = "claim"
_REVISION: Final = "revision"
_LISTS: Final = ("actions", "purposes", "principals", "buckets", "uploads")
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
    buckets : tuple of str
        Places in S3 outside the deployment whose photos it may name in a request: ``BUCKET`` or ``BUCKET/PREFIX``.
    uploads : tuple of str
        Rules for uploads to these places, see :class:`~abeyance.moratorium.buckets.UploadRule`.
    status : str
        ``active`` or ``suspended``.
    """

    id: str
    sector: str
    jurisdiction: str
    actions: tuple[str, ...]
    purposes: tuple[str, ...]
    principals: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    uploads: tuple[str, ...] = ()
    status: Status = "active"

    def __post_init__(self) -> None:
        if not is_tenant_id(self.id):
            raise ValueError("a tenant id has 2 to 63 of a-z, 0-9 and -, and does not begin with -")
        if not isinstance(self.sector, str) or self.sector not in SECTORS:
            raise ValueError(f"sector must be one of {', '.join(sorted(SECTORS))}")
        if not is_jurisdiction(self.jurisdiction):
            raise ValueError("jurisdiction must be a place such as US, US-CA or US-CA-SAN_FRANCISCO")
        for name in _LISTS:
            given = getattr(self, name)
            if type(given) is not tuple or len(set(given)) != len(given):
                raise ValueError(f"{name} must be a tuple without repetitions")
        if not set(self.actions) <= ACTIONS:
            raise ValueError(f"actions must be among {', '.join(sorted(ACTIONS))}")
        if not all(is_purpose(purpose) for purpose in self.purposes):
            raise ValueError(PURPOSE_FORM)
        if any(canonical_principal(principal) != principal for principal in self.principals):
            raise ValueError("principals must be canonical; use canonical_principal")
        if not all(is_place(place) for place in self.buckets):
            raise ValueError(PLACE_FORM)
        parse_rules(self.uploads, self.buckets)
        if self.status not in ("active", "suspended"):
            raise ValueError("status must be active or suspended")

    def place(self, jurisdiction: str) -> Tenant:
        """Return the tenant as if it were registered in another place."""
        return msgspec.structs.replace(self, jurisdiction=jurisdiction)


class TenantRegistry(Protocol):
    """The registry as a decision reads it: what is written now, never a cache or an eventually consistent copy."""

    def get(self, tenant_id: str, /) -> Tenant | None:
        """Return the tenant, or ``None``. Raises ``TenantUnreadable``, or whatever the table raises."""
        ...

    def by_principal(self, principal: str, /) -> Tenant | None:
        """Return the one tenant of a caller (an IAM ARN or access key id), or ``None``; any text may come.

        Raises ``PrincipalAmbiguous``.
        """
        ...


def canonical_principal(principal: str) -> str:
    """Return the one spelling of a caller.

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


class TenantTable:
    """The registry in a table, which the module describes.

    Parameters
    ----------
    table : Table
        :class:`~abeyance.aws.dynamodb.DynamoTable`, or a fake.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def get(self, tenant_id: str, /) -> Tenant | None:
        """Return the tenant, or ``None``; see :class:`TenantRegistry`."""
        if not is_tenant_id(tenant_id):
            return None
        item = self._item(tenant_id, _REGISTRATION)
        return None if item is None else _tenant(item)

    def read_along(
        self, tenant_ids: Iterable[str], accept: Callable[[Mapping[str, Tenant | Exception | None]], None]
    ) -> ReadAlong:
        """Return the read of some registrations, for another table's read to take along.

        ``accept`` is given for each id what :meth:`get` returns or raises.
        """
        keys = {(tenant_id, _REGISTRATION): tenant_id for tenant_id in tenant_ids if is_tenant_id(tenant_id)}

        def take(items: Mapping[Key, Item]) -> None:
            accept({tenant_id: _tenant_or_error(items.get(key)) for key, tenant_id in keys.items()})

        return ReadAlong(self._table, list(keys), take)

    def by_principal(self, principal: str, /) -> Tenant | None:
        """Return the tenant of a principal, or ``None``; see :class:`TenantRegistry`."""
        try:
            principal = canonical_principal(principal)
        except ValueError:  # a caller that is no principal is nobody's
            return None
        claim = self._item(f"principal#{principal}", _CLAIM)
        if claim is None:
            return None
        tenant = self.get(claim.get("tenant", ""))
        if tenant is None or principal not in tenant.principals:
            raise PrincipalAmbiguous(
                "a principal's claim and its tenant's registration disagree; register the tenant anew"
            )
        return tenant

    def read(self, tenant_id: str, /) -> tuple[Tenant | None, int]:
        """Return the tenant and the revision of its registration; ``None`` and 0 without one."""
        item = self._item(tenant_id, _REGISTRATION) if is_tenant_id(tenant_id) else None
        return (None, 0) if item is None else (_tenant(item), _revision(item))

    def put(self, tenant: Tenant, revision: int, /) -> bool:
        """Write a registration in the place of that revision (0: of none), with the claims to its principals.

        Returns False if it has another revision by now. Raises ``TenantExists`` if another tenant has a principal, or
        rules for uploads to a bucket.
        """
        old, found = self.read(tenant.id)
        if found != revision:
            return False
        before, after = set(old.principals if old else ()), set(tenant.principals)
        registration = Put(
            {**_to_item(tenant), _REVISION: revision + 1},
            absent=old is None,
            expect={} if old is None else {_REVISION: revision or None},
        )
        claims = [
            Put({PARTITION: f"principal#{principal}", SORT: _CLAIM, "tenant": tenant.id}, absent=True)
            for principal in sorted(after - before)
        ]
        gone = [Delete((f"principal#{principal}", _CLAIM)) for principal in sorted(before - after)]
        try:
            self._table.transact([registration, *claims, *gone, *self._versions(old, tenant)])
        except Conflict as error:
            if not any(error.failed):
                raise
            if not error.failed[0]:
                raise TenantExists("one of its principals or buckets is another tenant's") from None
            return False
        return True

    def registrations(self, bucket: str, /) -> tuple[BucketRegistration, ...]:
        """Return every version of the rules for uploads to a bucket, the one in force last; none without any."""
        try:
            return tuple(
                BucketRegistration(bucket, int(item[SORT]), item["tenant"], tuple(item["rules"]))
                for item in self._table.query(f"bucket#{bucket}")
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            raise TenantUnreadable(_UNREADABLE) from None

    def _versions(self, old: Tenant | None, tenant: Tenant) -> Iterator[Put]:
        """Yield the next version of each bucket whose rules change."""
        before, after = _rules_by_bucket(old), _rules_by_bucket(tenant)
        for bucket in sorted(before.keys() | after.keys()):
            if before.get(bucket) == after.get(bucket):
                continue
            found = self.registrations(bucket)
            if found and found[-1].rules and found[-1].tenant != tenant.id:
                raise TenantExists("one of its principals or buckets is another tenant's")
            key = {PARTITION: f"bucket#{bucket}", SORT: f"{len(found) + 1:06d}"}
            yield Put({**key, "tenant": tenant.id, "rules": after.get(bucket, [])}, absent=True)

    def add(self, tenant: Tenant, /) -> None:
        """Register a new tenant. Raises ``TenantExists`` if its id or one of its principals is taken."""
        if not self.put(tenant, 0):
            raise TenantExists("this tenant id is already registered")

    def all(self) -> Iterator[Tenant]:
        """Yield every tenant, by id."""
        found = [_tenant(item) for item in self._table.scan({SORT: _REGISTRATION})]
        return iter(sorted(found, key=lambda tenant: tenant.id))

    def _item(self, pk: str, sk: str) -> Item | None:
        try:
            return self._table.get((pk, sk))
        except (ValueError, TypeError, AttributeError):  # an attribute of a type that we never write
            raise TenantUnreadable(_UNREADABLE) from None


_UNREADABLE: Final = "a registration in the tenants table is not well-formed; register it anew"


def _rules_by_bucket(tenant: Tenant | None) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for rule in sorted(tenant.uploads) if tenant else ():
        found.setdefault(rule.partition("=")[0].partition("/")[0], []).append(rule)
    return found


def _revision(item: Item) -> int:
    """Return the revision of a registration; 0 for one that was written without."""
    found = item.get(_REVISION, 0)
    return found if isinstance(found, int) else 0


def _to_item(tenant: Tenant) -> Item:
    fields = {
        name: list(field) if isinstance(field, tuple) else str(field)
        for name, field in msgspec.structs.asdict(tenant).items()
    }
    return {PARTITION: fields.pop("id"), SORT: _REGISTRATION, **fields}


def _tenant_or_error(item: Item | None) -> Tenant | TenantUnreadable | None:
    try:
        return None if item is None else _tenant(item)
    except TenantUnreadable as error:
        return error


def _tenant(item: Item) -> Tenant:
    fields = dict(item)
    fields.pop(_REVISION, None)
    try:
        if fields.pop(SORT) != _REGISTRATION:
            raise ValueError("sort key")
        # A registration from before these could be registered has none.
        fields.setdefault("buckets", [])
        fields.setdefault("uploads", [])
        for name in _LISTS:
            if not isinstance(fields[name], list):
                raise ValueError(name)
            fields[name] = tuple(fields[name])
        return Tenant(id=fields.pop(PARTITION), status=fields.pop("status"), **fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TenantUnreadable(_UNREADABLE) from None
