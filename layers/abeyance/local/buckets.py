"""Buckets on this machine: whoever makes one owns it, so it becomes a place of that tenant's registration at once.

In AWS a registration is a loosening, which takes two people. Here one person is everybody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from abeyance.moratorium.buckets import UploadRule, covers
from abeyance.moratorium.tenants import Tenant, TenantTable

_CREDENTIAL: Final = re.compile(r"AWS4-HMAC-SHA256 +Credential=([^,\s]+)/\d{8}/[^/,\s]+/s3/aws4_request\b")
_VIRTUAL_HOST: Final = re.compile(r"([a-z0-9.-]+)\.(?:s3\.)?localhost:\d+")


class BucketCall(NamedTuple):
    """A request that makes or deletes a bucket."""

    principal: str
    bucket: str
    is_deletion: bool


def parse_bucket_call(environ: Mapping[str, Any]) -> BucketCall | None:
    """Return the CreateBucket or DeleteBucket in a WSGI environment; None for any other request."""
    method = environ.get("REQUEST_METHOD")
    signed = _CREDENTIAL.match(str(environ.get("HTTP_AUTHORIZATION", "")))
    if signed is None or method not in ("PUT", "DELETE") or environ.get("QUERY_STRING"):
        return None
    hosted = _VIRTUAL_HOST.fullmatch(str(environ.get("HTTP_HOST", "")).lower())
    path = str(environ.get("PATH_INFO", "")).strip("/")
    bucket = path if hosted is None else "" if path else hosted[1]
    if not bucket or "/" in bucket:
        return None
    return BucketCall(signed[1], bucket, is_deletion=method == "DELETE")


class MadeBuckets:
    """Keeps the registrations in step with who made which bucket.

    Parameters
    ----------
    tenants
        Makes the registry; called when the first bucket is made.
    reserved
        Buckets of the deployment, which are nobody's.
    s3
        Makes a client of S3, which lets a new bucket send its events, as its owner does in AWS.
    """

    def __init__(
        self, tenants: Callable[[], TenantTable], reserved: frozenset[str], s3: Callable[[], Any]
    ) -> None:
        self._s3 = s3
        self._tenants = tenants
        self._reserved = reserved

    def record(self, call: BucketCall) -> None:
        """Register a new bucket for its maker's tenant, if there is one, or take a deleted one from everybody's."""
        if call.bucket in self._reserved:
            return
        registry = self._tenants()
        if call.is_deletion:
            for tenant in registry.all():
                self._change(registry, tenant.id, lambda own: own - {call.bucket})
        elif (maker := registry.by_principal(call.principal)) is not None and not any(
            _names(tenant, call.bucket) for tenant in registry.all()
        ):
            # S3 in us-east-1 says yes to a bucket that is there already.
            self._change(registry, maker.id, lambda own: own | {call.bucket})
        if not call.is_deletion:
            self._s3().put_bucket_notification_configuration(
                Bucket=call.bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
            )

    @staticmethod
    def _change(
        registry: TenantTable, tenant_id: str, change: Callable[[frozenset[str]], frozenset[str]]
    ) -> None:
        while True:
            tenant, revision = registry.read(tenant_id)
            if tenant is None:
                return
            buckets = tuple(sorted(change(frozenset(tenant.buckets))))
            rules = [UploadRule.parse(rule) for rule in tenant.uploads]
            kept = [
                text
                for text, rule in zip(tenant.uploads, rules, strict=True)
                if covers(buckets, *rule.place.partition("/")[::2])
            ]
            changed: Tenant = msgspec.structs.replace(tenant, buckets=buckets, uploads=tuple(kept))
            if changed == tenant or registry.put(changed, revision):
                return


def _names(tenant: Tenant, bucket: str) -> bool:
    return any(place.partition("/")[0] == bucket for place in tenant.buckets)
