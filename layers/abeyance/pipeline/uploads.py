"""From S3's event to an :class:`~abeyance.pipeline.events.Upload`: what the object's key says."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from abeyance.pipeline.events import Upload

#: What the second part of a key may say.
ACTIONS = ("index", "search", "analyze")

#: Bytes of S3's longest key.
LONGEST_KEY = 1024

_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{1,62}")
_COLLECTION = re.compile(r"[a-zA-Z0-9_.\-]{1,255}")
_NOT_EXTERNAL_IMAGE_ID = re.compile(r"[^a-zA-Z0-9_.\-:]")


class KeyNotUnderstood(ValueError):
    """The object's key does not say whose it is and what to do with it."""


def from_s3(detail: dict[str, Any]) -> Upload:
    """The upload that an ``Object Created`` or ``Object Deleted`` event speaks of, its key not yet understood.

    ``detail`` is the event's detail as S3 documents it: ``bucket.name``; ``object.key``, ``.size``, ``.etag``,
    ``.version-id``, ``.sequencer``; ``deletion-type``. A deletion has a version only where that version alone was
    deleted for good: a delete marker's own version id and ETag say nothing of the photo. Raises ``KeyError`` if one
    that must be there is missing.
    """
    thing = detail["object"]
    deletion = detail.get("deletion-type", "")
    etag = "" if deletion else thing.get("etag", "")
    version = "" if deletion == "Delete Marker Created" else thing.get("version-id", "")
    return Upload(
        bucket=detail["bucket"]["name"],
        key=thing["key"],
        version=version or etag,
        etag=etag,
        size=thing.get("size", 0),
        sequencer=thing["sequencer"],
    )


def understand(upload: Upload) -> Upload:
    """The same upload with tenant, action and collection, from a key ``<tenant>/<action>/<collection>/<anything>``."""
    parts = upload.key.split("/", 3)
    if len(parts) != 4 or not parts[3]:
        raise KeyNotUnderstood("The key must be <tenant>/<index|search|analyze>/<collection>/<name>.")
    tenant, action, collection, _ = parts
    if not _TENANT.fullmatch(tenant):
        raise KeyNotUnderstood(
            "The key's first part must be a tenant: lower-case letters, digits and hyphens."
        )
    if action not in ACTIONS:
        raise KeyNotUnderstood(f"The key's second part must be one of {', '.join(ACTIONS)}.")
    if not _COLLECTION.fullmatch(collection):
        raise KeyNotUnderstood(
            "The key's third part must be a collection: letters, digits, '_', '.' and '-'."
        )
    return Upload(
        bucket=upload.bucket,
        key=upload.key,
        version=upload.version,
        sequencer=upload.sequencer,
        etag=upload.etag,
        size=upload.size,
        tenant=tenant,
        action=action,
        collection=collection,
    )


def external_image_id(upload: Upload, given: str = "") -> str:
    """What the faces of this photo are called: as given, else the file's name, in Rekognition's alphabet."""
    name = given or upload.key.rsplit("/", 1)[-1]
    return _NOT_EXTERNAL_IMAGE_ID.sub("_", name)[:255]


def chips_key(upload: Upload) -> str:
    """Where the chips of an upload lie in the chips bucket."""
    return f"{upload.folder}{upload.identity}.npy"


def result_key(key: str) -> str:
    """Where the result of an upload lies in the results bucket: the upload's key and ``.json``.

    S3 takes keys of at most 1024 bytes; what would be longer ends in its digest.
    """
    if len(key.encode()) <= LONGEST_KEY - len(".json"):
        return f"{key}.json"
    folder = "/".join(key.split("/")[:3])[:600]
    return f"{folder}/{hashlib.sha256(key.encode()).hexdigest()}.json"
