"""The traces of what happened: records of stages, results, reviews, and CloudTrail's log of a bucket."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from abeyance.assurance.reconcile import Trace, TraceSource, used_by
from abeyance.aws.timestamps import rfc3339
from abeyance.moratorium.authorization_uses import UseTable
from abeyance.pipeline.events import BY_DETAIL_TYPE
from abeyance.pipeline.review_store import ReviewStore
from abeyance.pipeline.upload_records import UploadRecords

#: CloudTrail's names of the calls that make an object.
_UPLOADS: Final = frozenset({"PutObject", "CompleteMultipartUpload", "CopyObject", "PostObject"})
#: Largest result that is read; an event has at most 256 KiB.
_MAX_RESULT_BYTES: Final = 4 * 1024 * 1024


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


def of_reviews(reviews: ReviewStore) -> Iterator[Trace]:
    """Yield the outcome of every finished review."""
    for review in reviews.all():
        if review.outcome in BY_DETAIL_TYPE:
            entry = BY_DETAIL_TYPE[review.outcome].identify(review.waiting.upload)
            yield Trace(source=TraceSource.REVIEW, name=entry, at=review.finished, entry=entry)


def of_uses(uses: UseTable) -> Iterator[Trace]:
    """Yield every use of an authorisation."""
    for use in uses.all():
        used = used_by(use.search, use.number)
        yield Trace(source=TraceSource.AUTHORIZATION, name=use.entry, at=use.at, entry=use.entry, used=used)


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
