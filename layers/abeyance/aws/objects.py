"""A bucket of S3 and its port: objects by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from abeyance.aws.dynamodb import batches


class ObjectMissing(Exception):
    """An object that the bucket does not have."""


class ObjectUnreadable(Exception):
    """An object that S3 has and does not give; the message says what to do.

    Attributes
    ----------
    reason
        One of the documented codes that begin with ``OBJECT_``.
    may_pass
        True if a later attempt may succeed: S3 answers alike while a right of the caller's is being changed.
    """

    def __init__(self, reason: str, *, may_pass: bool = False) -> None:
        super().__init__(_MESSAGES[reason])
        self.reason = reason
        self.may_pass = may_pass


_MESSAGES: Final = {
    "OBJECT_ARCHIVED": (
        "The object is archived, and S3 does not give it. Restore it, and when that is done "
        "copy it over itself with the storage class STANDARD."
    ),
    "OBJECT_ENCRYPTED": (
        "The object is encrypted with a key that the request would have to bring (SSE-C). "
        "Upload it again without that key."
    ),
    "OBJECT_DENIED": (
        "S3 denies access to the object: its encryption key, its access list or its bucket's policy does not "
        "permit it, or the requester has to pay. Permit it, or upload the object again with the bucket's own key."
    ),
}

#: S3's error code -> reason, and whether it may pass. The answer to a HEAD has no body, so its code is the HTTP
#: status, and an expired credential looks there like a missing key of the customer's.
UNREADABLE: Final = {
    "InvalidObjectState": ("OBJECT_ARCHIVED", False),
    "InvalidRequest": ("OBJECT_ENCRYPTED", False),
    "400": ("OBJECT_ENCRYPTED", True),
    "403": ("OBJECT_DENIED", True),
    "AccessDenied": ("OBJECT_DENIED", True),
    "KMS.DisabledException": ("OBJECT_DENIED", True),
    "KMS.KMSInvalidStateException": ("OBJECT_DENIED", True),
    "KMS.NotFoundException": ("OBJECT_DENIED", True),
}
_ARCHIVES: Final = ("GLACIER", "DEEP_ARCHIVE")


def unreadable(code: str) -> ObjectUnreadable | None:
    """Return the exception for an error code of S3's GetObject or HeadObject, or None for any other fault."""
    if code not in UNREADABLE:
        return None
    reason, may_pass = UNREADABLE[code]
    return ObjectUnreadable(reason, may_pass=may_pass)


def require_readable(head: Mapping[str, Any]) -> None:
    """Raise :class:`ObjectUnreadable` if S3's answer to a HEAD shows an archived object that is not restored.

    ``ArchiveStatus`` is there for the archive tiers of INTELLIGENT_TIERING only. GLACIER_IR is no archive: S3 gives
    its objects at once. https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
    """
    archived = head.get("StorageClass") in _ARCHIVES or head.get("ArchiveStatus")
    if archived and 'ongoing-request="false"' not in head.get("Restore", ""):
        raise ObjectUnreadable("OBJECT_ARCHIVED")


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
