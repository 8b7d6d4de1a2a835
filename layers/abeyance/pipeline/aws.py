"""The pipeline's ports on AWS: S3, EventBridge and DynamoDB."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import boto3
import msgspec
from botocore.config import Config
from botocore.exceptions import ClientError

from abeyance.ledger.queue import CLIENT_OPTIONS
from abeyance.pipeline import events, topology
from abeyance.pipeline.events import Event, Upload
from abeyance.pipeline.ports import Head, ObjectGone, Record

#: EventBridge takes at most ten entries in one call.
ENTRIES_PER_CALL = 10

_PATIENT: dict[str, Any] = {
    "connect_timeout": 3,
    "read_timeout": 20,
    "retries": {"mode": "standard", "total_max_attempts": 4},
}
_GONE = {"404", "NoSuchKey", "NoSuchVersion", "NotFound", "412", "PreconditionFailed"}


@functools.cache
def client(service: str) -> Any:
    """A boto3 client, made once a process.

    It gives up early enough for a queue to try again; and the one for SQS, on which a caller waits for the ledger,
    within seconds.
    """
    options = CLIENT_OPTIONS if service == "sqs" else _PATIENT
    return boto3.client(service, config=Config(**options))


class S3Objects:
    """:class:`~abeyance.pipeline.ports.Objects` on S3."""

    def __init__(self, s3: Any) -> None:
        self._s3 = s3

    def head(self, upload: Upload) -> Head:
        answer = self._call(self._s3.head_object, upload)
        return Head(answer["ContentLength"], answer["ETag"].strip('"'), answer.get("Metadata", {}))

    def read(self, upload: Upload) -> bytes:
        body: bytes = self._call(self._s3.get_object, upload)["Body"].read()
        return body

    def _call(self, operation: Callable[..., Any], upload: Upload) -> Any:
        wanted: dict[str, str] = {"IfMatch": f'"{upload.etag}"'} if upload.etag else {}
        if upload.version != upload.etag:
            wanted["VersionId"] = upload.version
        try:
            return operation(Bucket=upload.bucket, Key=upload.key, **wanted)
        except ClientError as error:
            raise _gone(error) from error

    def get(self, bucket: str, key: str) -> bytes:
        try:
            body: bytes = self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except ClientError as error:
            raise _gone(error) from error
        return body

    def put(self, bucket: str, key: str, body: bytes, content_type: str) -> None:
        self._s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type)

    def delete(self, bucket: str, key: str) -> None:
        self._s3.delete_object(Bucket=bucket, Key=key)

    def delete_all(self, bucket: str, prefix: str) -> None:
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for found in page.get("Contents", []):
                self.delete(bucket, found["Key"])


def _gone(error: ClientError) -> Exception:
    return ObjectGone() if error.response["Error"]["Code"] in _GONE else error


class EventBridgeBus:
    """:class:`~abeyance.pipeline.ports.Bus` on EventBridge."""

    def __init__(self, eventbridge: Any, bus: str) -> None:
        self._eventbridge = eventbridge
        self._bus = bus

    def emit(self, events: Sequence[Event]) -> None:
        for start in range(0, len(events), ENTRIES_PER_CALL):
            entries = [self._entry(event) for event in events[start : start + ENTRIES_PER_CALL]]
            answer = self._eventbridge.put_events(Entries=entries)
            if answer["FailedEntryCount"]:
                codes = {entry["ErrorCode"] for entry in answer["Entries"] if "ErrorCode" in entry}
                raise ConnectionError(
                    f"EventBridge refused {answer['FailedEntryCount']} events: {sorted(codes)}"
                )

    def _entry(self, event: Event) -> dict[str, Any]:
        return {
            "EventBusName": self._bus,
            "Source": topology.SOURCE,
            "DetailType": event.detail_type,
            "Detail": msgspec.json.encode(event).decode(),
            "Time": datetime.fromisoformat(event.time),
        }


class DynamoUploads:
    """:class:`~abeyance.pipeline.ports.Uploads` on one DynamoDB table.

    An item: ``object`` (bucket/key), ``sequencer`` (padded, so that it sorts as text), ``upload`` (its identity),
    ``tenant``, ``state`` (detail-type of the last event), ``expires``, and ``stage_<name>`` for each stage that
    settled it: the event's detail-type and JSON.
    """

    def __init__(self, dynamodb: Any, table: str, retention_days: int, now: Callable[[], float]) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._retention = retention_days * 86400
        self._now = now

    def claim(self, upload: Upload) -> Record | None:
        order = _padded(upload.sequencer)
        item = {
            **_key(upload),
            "sequencer": {"S": order},
            "upload": {"S": upload.identity},
            "tenant": {"S": upload.tenant},
            "state": {"S": "Received"},
            "expires": {"N": str(int(self._now() + self._retention))},
        }
        try:
            self._dynamodb.put_item(
                TableName=self._table,
                Item=item,
                ConditionExpression="attribute_not_exists(#o) OR sequencer < :s",
                ExpressionAttributeNames={"#o": "object"},
                ExpressionAttributeValues={":s": {"S": order}},
            )
        except self._dynamodb.exceptions.ConditionalCheckFailedException:
            return self.get(upload)
        return Record(upload.sequencer, {})

    def get(self, upload: Upload) -> Record | None:
        item = self._dynamodb.get_item(TableName=self._table, Key=_key(upload), ConsistentRead=True).get(
            "Item"
        )
        if item is None or item["upload"]["S"] != upload.identity:
            return None
        settled = {name[6:]: _event(value) for name, value in item.items() if name.startswith("stage_")}
        return Record(upload.sequencer, settled)

    def settle(self, stage: str, event: Event) -> Event | None:
        attribute = f"stage_{stage}"
        body = {"S": event.detail_type + "\n" + msgspec.json.encode(event).decode()}
        try:
            self._dynamodb.update_item(
                TableName=self._table,
                Key=_key(event.upload),
                UpdateExpression="SET #a = :e, #s = :t",
                ConditionExpression="upload = :u AND attribute_not_exists(#a)",
                ExpressionAttributeNames={"#a": attribute, "#s": "state"},
                ExpressionAttributeValues={
                    ":e": body,
                    ":t": {"S": event.detail_type},
                    ":u": {"S": event.upload.identity},
                },
            )
        except self._dynamodb.exceptions.ConditionalCheckFailedException:
            record = self.get(event.upload)
            return record.settled.get(stage) if record else None
        return event


def _key(upload: Upload) -> dict[str, Any]:
    return {"object": {"S": f"{upload.bucket}/{upload.key}"}}


def _padded(sequencer: str) -> str:
    """S3 says: pad the shorter with zeros on the right, then compare as text. Its sequencers have at most 32 digits."""
    return sequencer.upper().ljust(32, "0")


def _event(value: dict[str, str]) -> Event:
    detail_type, detail = value["S"].split("\n", 1)
    return msgspec.json.decode(detail.encode(), type=events.BY_DETAIL_TYPE[detail_type])
