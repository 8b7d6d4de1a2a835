"""A bucket of S3 and its port: objects by key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from abeyance.aws.dynamodb import batches


class ObjectMissing(Exception):
    """An object that the bucket does not have."""


class Objects(Protocol):
    """A bucket, used under prefixes of the caller's own."""

    def put(self, key: str, body: bytes) -> None:
        """Write an object."""
        ...

    def get(self, key: str) -> bytes:
        """Read an object. Raises :class:`ObjectMissing`."""
        ...

    def list(self, prefix: str) -> list[str]:
        """Return the keys under a prefix, sorted."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; a missing one is no error. Raises ``OSError`` if any could not be deleted."""
        ...


class S3Bucket:
    """:class:`Objects` on S3; ``client`` is a low-level S3 client."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def put(self, key: str, body: bytes) -> None:
        self._client.put_object(
            Bucket=self._bucket, Key=key, Body=body, ContentType="application/octet-stream"
        )

    def get(self, key: str) -> bytes:
        try:
            body: bytes = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except self._client.exceptions.NoSuchKey as error:
            raise ObjectMissing(key) from error
        return body

    def list(self, prefix: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", ())]

    def delete(self, keys: Sequence[str]) -> None:
        for some in batches(keys, 1000):
            answer = self._client.delete_objects(
                Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in some], "Quiet": True}
            )
            if errors := answer.get("Errors"):
                raise OSError(f"S3 could not delete {len(errors)} objects: {errors[0]['Code']}")
