"""The log's objects in an S3 bucket whose policy demands ``If-None-Match`` of whatever is written once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from abeyance.ledger.errors import LedgerUnavailable
from abeyance.ledger.objects import ObjectVersion, differs

#: Another write of the same key is there, or under way; which of them won is read afterwards.
_TAKEN: Final = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})
_MISSING: Final = frozenset({"NoSuchKey", "NoSuchVersion", "404", "InvalidRange", "416"})


class LedgerBucket:
    """:class:`~abeyance.ledger.objects.LogObjects` in a bucket.

    Parameters
    ----------
    client
        A low-level S3 client.
    bucket
        In AWS with Object Lock, versions, and the policy of ``infra/constructs/ledger.py``.
    parallel
        Objects that :meth:`put_all` writes at the same time.
    """

    def __init__(self, client: Any, bucket: str, parallel: int = 1) -> None:
        self._client = client
        self._bucket = bucket
        self._parallel = parallel

    def get(self, key: str, version: str | None = None) -> bytes | None:
        return self._get(key, {"VersionId": version} if version else {})

    def part(self, key: str, first: int, length: int) -> bytes | None:
        return self._get(key, {"Range": f"bytes={first}-{first + length - 1}"})

    def put_new(self, key: str, data: bytes) -> bool:
        try:
            self._put(key, data, IfNoneMatch="*")
        except ClientError as error:
            if _code(error) not in _TAKEN:
                raise _unavailable(error) from error
            # After a 409 nothing may be there yet: whoever calls tries again.
            there = self.get(key)
            if there is None:
                raise _unavailable(error) from error
            if there != data:
                raise differs(key) from None
            return False
        except BotoCoreError as error:
            raise _unavailable(error) from error
        return True

    def put_all(self, items: Iterable[tuple[str, bytes]]) -> None:
        todo = list(items)
        if self._parallel < 2 or len(todo) < 2:
            for key, data in todo:
                self.put_new(key, data)
            return
        with ThreadPoolExecutor(min(self._parallel, len(todo))) as pool:
            for _ in pool.map(lambda item: self.put_new(*item), todo):
                pass

    def replace(self, key: str, data: bytes) -> None:
        try:
            self._put(key, data)
        except (ClientError, BotoCoreError) as error:
            raise _unavailable(error) from error

    def keys(self, prefix: str = "", after: str = "") -> Iterator[str]:
        start = {"StartAfter": after} if after else {}
        for page in self._pages("list_objects_v2", Prefix=prefix, **start):
            for item in page.get("Contents", ()):
                yield item["Key"]

    def versions(self, prefix: str = "") -> Iterator[ObjectVersion]:
        for page in self._pages("list_object_versions", Prefix=prefix):
            found = [
                ObjectVersion(one["Key"], one["VersionId"], deleted)
                for name, deleted in (("Versions", False), ("DeleteMarkers", True))
                for one in page.get(name, ())
            ]
            yield from sorted(found, key=lambda one: one.key.encode())

    def _get(self, key: str, how: dict[str, str]) -> bytes | None:
        try:
            body: bytes = self._client.get_object(Bucket=self._bucket, Key=key, **how)["Body"].read()
        except ClientError as error:
            if _code(error) in _MISSING:
                return None
            raise _unavailable(error) from error
        except BotoCoreError as error:
            raise _unavailable(error) from error
        return body

    def _put(self, key: str, data: bytes, **how: str) -> None:
        self._client.put_object(
            Bucket=self._bucket, Key=key, Body=data, ContentType="application/octet-stream", **how
        )

    def _pages(self, operation: str, **how: str) -> Iterator[Any]:
        try:
            yield from self._client.get_paginator(operation).paginate(Bucket=self._bucket, **how)
        except (ClientError, BotoCoreError) as error:
            raise _unavailable(error) from error


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def _unavailable(error: ClientError | BotoCoreError) -> LedgerUnavailable:
    """Return the error for the caller, without the text of the cause, which may quote the request."""
    if isinstance(error, NoCredentialsError):
        raise error
    code = _code(error) if isinstance(error, ClientError) else type(error).__name__
    return LedgerUnavailable(f"the ledger's bucket did not confirm: {code}")
