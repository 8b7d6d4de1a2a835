"""The traces of what happened: records of stages, results, faces, reviews, and CloudTrail's log of a bucket."""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import msgspec

from abeyance.assurance.reconcile import Trace, TraceSource
from abeyance.aws.timestamps import rfc3339
from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import Face, Page
from abeyance.ledger.admissible import named
from abeyance.pipeline.events import BY_DETAIL_TYPE, FacesIndexed, Upload
from abeyance.pipeline.review_store import ReviewStore
from abeyance.pipeline.upload_records import UploadRecords

#: CloudTrail's names of the calls that make an object.
_UPLOADS: Final = frozenset({"PutObject", "CompleteMultipartUpload", "CopyObject", "PostObject"})
#: Largest result that is read; an event has at most 256 KiB.
_MAX_RESULT_BYTES: Final = 4 * 1024 * 1024


_T = TypeVar("_T")


class TraceError(ValueError):
    """A log file that cannot be read; the message names it."""


class _Result(msgspec.Struct):
    event: str
    id: str
    time: str


def of_records(records: UploadRecords) -> Iterator[Trace]:
    """Yield the event that each stage recorded for each upload."""
    for recorded in records.all():
        for event in recorded.values():
            yield Trace(source=TraceSource.RECORD, name=event.id, at=event.time, entry=event.id)


def of_results(s3: Any, bucket: str) -> Iterator[Trace]:
    """Yield the event in every result of a bucket; ``s3`` is a low-level client.

    An object that is no result is a trace of its own, under a digest of its key, and has no entry.
    """
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", ()):
            key, at = item["Key"], rfc3339(item["LastModified"])
            unknown = f"object {hashlib.sha256(key.encode()).hexdigest()[:16]}"
            try:
                body = s3.get_object(Bucket=bucket, Key=key)["Body"].read(_MAX_RESULT_BYTES)
                found = msgspec.json.decode(body, type=_Result)
                yield Trace(source=TraceSource.RESULT, name=found.id, at=found.time, entry=found.id)
            except s3.exceptions.NoSuchKey:
                continue  # deleted meanwhile
            except msgspec.MsgspecError:
                yield Trace(source=TraceSource.RESULT, name=unknown, at=at, entry=unknown)


def of_faces(gallery: Gallery, tenants: Iterable[str]) -> Iterator[Trace]:
    """Yield every face of the tenants' collections."""
    for tenant in tenants:
        for collection in _pages(functools.partial(gallery.list_collections, tenant)):
            for face in _pages(functools.partial(gallery.list_faces, collection.ref)):
                yield _face(face)


def of_reviews(reviews: ReviewStore) -> Iterator[Trace]:
    """Yield the outcome of every finished review."""
    for review in reviews.all():
        if review.outcome in BY_DETAIL_TYPE:
            entry = BY_DETAIL_TYPE[review.outcome].identify(review.waiting.upload)
            yield Trace(source=TraceSource.REVIEW, name=entry, at=review.finished, entry=entry)


def of_cloudtrail(path: Path, bucket: str, pseudonym: Callable[[str], str]) -> Iterator[Trace]:
    """Yield the uploads to a bucket in a file of CloudTrail's data events, compressed or not.

    ``pseudonym`` is the ledger's. Calls that failed made no object.

    Raises
    ------
    TraceError
        Not such a file.
    """
    data = path.read_bytes()
    try:
        found = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)["Records"]
        for call in found:
            made = call.get("eventSource") == "s3.amazonaws.com" and call.get("eventName") in _UPLOADS
            asked = call.get("requestParameters") or {}
            if not made or call.get("errorCode") or asked.get("bucketName") != bucket:
                continue
            upload = pseudonym(f"{bucket}/{asked['key']}")
            yield Trace(source=TraceSource.OBJECT, name=call["eventID"], at=call["eventTime"], upload=upload)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError):
        raise TraceError(f"{path} is no log of CloudTrail") from None


def _face(face: Face) -> Trace:
    source = face.source
    if source is None:
        (collection,) = named(face.collection.name).values()
        return Trace(
            source=TraceSource.FACE,
            name=face.id,
            at=face.created,
            tenant=face.collection.tenant,
            collection=collection,
        )
    upload = Upload(bucket=source.bucket, key=source.key, version=source.version, sequencer=source.sequencer)
    entry = FacesIndexed.identify(upload)
    return Trace(source=TraceSource.FACE, name=face.id, at=face.created, entry=entry)


class _Listing(Protocol[_T]):
    def __call__(self, *, token: str) -> Page[_T]: ...


def _pages(read: _Listing[_T]) -> Iterator[_T]:
    token = ""
    while True:
        page = read(token=token)
        yield from page.items
        token = page.next_token
        if not token:
            return
