"""The pipeline's ports on S3 and EventBridge."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from botocore.exceptions import ClientError

from abeyance.aws.eventbridge import put_events
from abeyance.aws.objects import require_readable, unreadable
from abeyance.pipeline import topology
from abeyance.pipeline.events import Event, Upload
from abeyance.pipeline.ports import ObjectGone

_GONE = {"404", "NoSuchKey", "NoSuchVersion", "NotFound", "412", "PreconditionFailed"}

#: Another write to the object is under way, or has come since it was read.
_CHANGED = _GONE | {"409", "ConditionalRequestConflict"}
#: Times that an object may change while a change of it is made.
_MAX_CHANGES = 5


class S3Objects:
    """:class:`~abeyance.pipeline.ports.ObjectStore` on S3."""

    def __init__(self, s3: Any) -> None:
        self._s3 = s3

    def head(self, upload: Upload) -> Mapping[str, str]:
        answer = _call(self._s3.head_object, **_version(upload))
        require_readable(answer)
        metadata: Mapping[str, str] = answer.get("Metadata", {})
        return metadata

    def tags(self, upload: Upload) -> Mapping[str, str]:
        # S3 takes no condition here: where there are no versions, these may be a later upload's, whose event follows.
        named = {name: value for name, value in _version(upload).items() if name != "IfMatch"}
        answer = _call(self._s3.get_object_tagging, **named)
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}

    def read(self, upload: Upload) -> bytes:
        body: bytes = _call(self._s3.get_object, **_version(upload))["Body"].read()
        return body

    def read_range(self, upload: Upload, first: int, last: int) -> bytes:
        part = _call(self._s3.get_object, **_version(upload), Range=f"bytes={first}-{last}")
        body: bytes = part["Body"].read()
        return body

    def get(self, bucket: str, key: str) -> bytes:
        body: bytes = _call(self._s3.get_object, Bucket=bucket, Key=key)["Body"].read()
        return body

    def put(self, bucket: str, key: str, body: bytes, content_type: str) -> None:
        self._s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type)

    def change(self, bucket: str, key: str, edit: Callable[[bytes], bytes], content_type: str) -> None:
        for attempt in range(_MAX_CHANGES):
            found = _call(self._s3.get_object, Bucket=bucket, Key=key)
            before = found["Body"].read()
            if (after := edit(before)) == before:
                return
            try:
                self._s3.put_object(
                    Bucket=bucket, Key=key, Body=after, ContentType=content_type, IfMatch=found["ETag"]
                )
                return
            except ClientError as error:
                if error.response["Error"]["Code"] not in _CHANGED or attempt + 1 == _MAX_CHANGES:
                    raise

    def delete(self, bucket: str, key: str) -> None:
        self._s3.delete_object(Bucket=bucket, Key=key)

    def delete_all(self, bucket: str, prefix: str, keep: Collection[str] = ()) -> None:
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for found in page.get("Contents", []):
                if found["Key"] not in keep:
                    self.delete(bucket, found["Key"])


def _version(upload: Upload) -> dict[str, str]:
    """Return the parameters that name exactly the version of the upload."""
    return {
        "Bucket": upload.bucket,
        "Key": upload.key,
        **({"IfMatch": f'"{upload.etag}"'} if upload.etag else {}),
        **({"VersionId": upload.version} if upload.version != upload.etag else {}),
    }


def _call(operation: Callable[..., Any], **parameters: str) -> Any:
    try:
        return operation(**parameters)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        raise (ObjectGone() if code in _GONE else unreadable(code) or error) from error


class EventBridgeBus:
    """:class:`~abeyance.pipeline.ports.EventBus` on EventBridge."""

    def __init__(self, eventbridge: Any, bus: str) -> None:
        self._eventbridge = eventbridge
        self._bus = bus

    def emit(self, events: Sequence[Event]) -> None:
        put_events(self._eventbridge, map(self._entry, events))

    def _entry(self, event: Event) -> dict[str, Any]:
        return {
            "EventBusName": self._bus,
            "Source": topology.SOURCE,
            "DetailType": event.detail_type,
            "Detail": msgspec.json.encode(event).decode(),
            "Time": datetime.fromisoformat(event.time),
        }
