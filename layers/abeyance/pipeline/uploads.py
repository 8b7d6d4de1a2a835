"""From S3's notification to an :class:`~abeyance.pipeline.events.Upload`, and the keys that are derived from it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from abeyance.moratorium.buckets import COLLECTION_NAME, UPLOAD_ACTIONS
from abeyance.pipeline.events import PHOTO, VIDEO, Upload

#: S3's limit, in bytes of UTF-8.
MAX_KEY_BYTES = 1024
#: Of the parts of a long key that stay in its result's key. Tenant, action and collection have at most 327.
_MAX_FOLDER_BYTES = 600
_DIGEST_KEY = re.compile(r"/key-sha256-[0-9a-f]{64}\Z")
#: Second part of the keys of results of uploads to registered buckets, before the bucket's name.
_REGISTERED = "s3:"

#: Endings of the names of videos, in lower case. What an object holds is found out by the stage that decodes it.
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm")

_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{1,62}")
#: Amazon Rekognition's pattern of an ExternalImageId.
_EXTERNAL_IMAGE_ID = re.compile(r"[a-zA-Z0-9_.\-:]{1,255}")
#: Bytes that an escaped name keeps.
_KEPT = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
#: Prefixes of escaped names and of digests.
_ESCAPED, _DIGEST = "utf8:", "sha256:"


class KeyNotUnderstood(ValueError):
    """An object key without tenant, action and collection; the message says how it must be."""


class S3Notification(NamedTuple):
    """A notification of S3, parsed. The upload has no tenant, action and collection yet; see :func:`parse_key`."""

    upload: Upload
    is_deletion: bool


def parse_notification(envelope: Mapping[str, Any]) -> S3Notification:
    """Parse the EventBridge envelope of an ``Object Created`` or ``Object Deleted`` event.

    Its detail is as S3 documents it: ``bucket.name``; ``object.key``, ``.size``, ``.etag``, ``.version-id``,
    ``.sequencer``; ``deletion-type``. A deletion has a version only where that version alone was deleted for good: a
    delete marker's own version id and ETag are not those of the photo. Raises ``KeyError`` if a required field is
    missing, ``msgspec.ValidationError`` if one is of another type.
    """
    detail = envelope["detail"]
    thing, deletion = detail["object"], detail.get("deletion-type", "")
    etag = "" if deletion else thing.get("etag", "")
    version = "" if deletion == "Delete Marker Created" else thing.get("version-id", "")
    fields = {
        "bucket": detail["bucket"]["name"],
        "key": thing["key"],
        "version": version or etag,
        "etag": etag,
        "size": thing.get("size", 0),
        "sequencer": thing["sequencer"],
    }
    upload = msgspec.convert(fields, Upload)
    return S3Notification(upload, envelope["detail-type"] == "Object Deleted")


def parse_key(upload: Upload) -> Upload:
    """Return the upload with tenant, action and collection from its key, ``<tenant>/<action>/<collection>/<anything>``.

    Raises :class:`KeyNotUnderstood`.
    """
    parts = upload.key.split("/", 3)
    if len(parts) != 4 or not parts[3]:
        raise KeyNotUnderstood("The key must be <tenant>/<index|search|analyze>/<collection>/<name>.")
    tenant, action, collection, _ = parts
    if not _TENANT.fullmatch(tenant):
        raise KeyNotUnderstood(
            "The key's first part must be a tenant: lower-case letters, digits and hyphens."
        )
    if action not in UPLOAD_ACTIONS:
        raise KeyNotUnderstood(f"The key's second part must be one of {', '.join(UPLOAD_ACTIONS)}.")
    if not COLLECTION_NAME.fullmatch(collection):
        raise KeyNotUnderstood(
            "The key's third part must be a collection: letters, digits, '_', '.' and '-'."
        )
    return msgspec.structs.replace(upload, tenant=tenant, action=action, collection=collection)


def derive(upload: Upload) -> Upload:
    """Return the upload with tenant, action and collection of its key, and none for a key that is not understood."""
    bare = msgspec.structs.replace(upload, tenant="", action="", collection="")
    try:
        return parse_key(bare)
    except KeyNotUnderstood:
        return bare


def tenant_of_key(key: str) -> str:
    """Return the first part of a key if it can be a tenant's id; empty if it cannot."""
    tenant = key.split("/", 1)[0]
    return tenant if _TENANT.fullmatch(tenant) else ""


def external_image_id(upload: Upload, given: str = "") -> str:
    """Return the name of the photo's faces, as given, else the file's name; see :func:`name_id`."""
    return name_id(given or upload.key.rsplit("/", 1)[-1])


def name_id(name: str) -> str:
    """Return a name in Rekognition's alphabet of external image ids (1 to 255 of ``a-zA-Z0-9_.-:``).

    Two names never become one id. A name in that alphabet stays. Any other is escaped: ``utf8:``, then its UTF-8 bytes,
    ``:`` and two hexadecimal digits for each that is no letter, digit, ``_``, ``.`` or ``-``. If that exceeds 255
    characters, the id is ``sha256:`` and the name's SHA-256. A name that begins like an escaped one is escaped itself.
    No name is no id.
    """
    if not name or (_EXTERNAL_IMAGE_ID.fullmatch(name) and not name.startswith((_ESCAPED, _DIGEST))):
        return name
    body = name.encode(errors="surrogatepass")
    escaped = _ESCAPED + "".join(chr(byte) if byte in _KEPT else f":{byte:02X}" for byte in body)
    if len(escaped) <= 255:
        return escaped
    return _DIGEST + hashlib.sha256(body).hexdigest()


def media_of(key: str) -> str:
    """Return the kind of an upload by its name, ``photo`` or ``video``."""
    return VIDEO if key.lower().endswith(VIDEO_SUFFIXES) else PHOTO


def chips_key(upload: Upload) -> str:
    """Return the key of an upload's chips in the chips bucket."""
    return f"{upload.folder}{upload.identity}.npy"


def people_key(upload: Upload) -> str:
    """Return the key of every sample of the people of a job's video, in the chips bucket."""
    return f"{upload.folder}{upload.identity}.people"


def result_key(key: str) -> str:
    """Return the key of an upload's result in the results bucket: the upload's key and ``.json``.

    A key that would exceed S3's limit becomes ``<first three parts>/key-sha256-<digest>.json``, and so does a key that
    looks like one of these or like that of a result of a registered bucket, so that no two keys have one result.
    """
    parts = key.split("/")
    if _is_plain(key) and not (len(parts) > 1 and parts[1].startswith(_REGISTERED)):
        return f"{key}.json"
    folder = "/".join(parts[:3]).encode()[:_MAX_FOLDER_BYTES].decode(errors="ignore")
    return f"{folder}/key-sha256-{hashlib.sha256(key.encode()).hexdigest()}.json"


def result_key_of(upload: Upload) -> str:
    """Return the key of an upload's result: in a registered bucket, ``<tenant>/s3:<bucket>/<key>.json``."""
    if not upload.registration:
        return result_key(upload.key)
    folder = f"{upload.tenant}/{_REGISTERED}{upload.bucket}"
    if _is_plain(f"{folder}/{upload.key}"):
        return f"{folder}/{upload.key}.json"
    digest = hashlib.sha256(f"{upload.bucket}/{upload.key}".encode()).hexdigest()
    return f"{folder}/key-sha256-{digest}.json"


def _is_plain(key: str) -> bool:
    """Return whether a key and ``.json`` is within S3's limit, and looks like no digest."""
    return len(key.encode()) <= MAX_KEY_BYTES - len(".json") and not _DIGEST_KEY.search(key)
