"""The pipeline's ports on AWS: S3, EventBridge and DynamoDB."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import botocore.session
import msgspec
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.handlers import add_expect_header

from abeyance.ledger.queue import CLIENT_OPTIONS
from abeyance.pipeline import events, topology
from abeyance.pipeline.events import Event, Upload
from abeyance.pipeline.ports import Head, ObjectGone, Standing

#: EventBridge takes at most ten entries in one call.
ENTRIES_PER_CALL = 10
#: And at most 256 KB, of which this leaves something for what the service counts beside the detail.
BYTES_PER_CALL = 240_000

#: Attempts at records that DynamoDB leaves unread, as it may what is more than it wants to read at once.
ATTEMPTS = 3

#: What takes a fifth off the processor time of a request: the client's name is not put together anew each time, and
#: what our own code asks is not checked against the service's model before the service does.
_LEAN: dict[str, Any] = {"user_agent": "abeyance", "parameter_validation": False}
#: For bytes.
_PATIENT: dict[str, Any] = {
    "connect_timeout": 3,
    "read_timeout": 20,
    "retries": {"mode": "standard", "total_max_attempts": 3},
}
#: For what somebody waits for: the ledger's queue, the flags, the tenants; and the embedding endpoint.
_PATIENCE: dict[str, dict[str, Any]] = {
    "sqs": CLIENT_OPTIONS,
    "appconfigdata": CLIENT_OPTIONS,
    # The embedding endpoint is tried again by its own client, which knows better when.
    "sagemaker-runtime": {"connect_timeout": 1, "read_timeout": 10, "retries": {"total_max_attempts": 1}},
    # Once: who is cut off while something is deployed must look before asking again.
    "lambda": {"connect_timeout": 1, "read_timeout": 26, "retries": {"total_max_attempts": 1}},
    "dynamodb": {
        "connect_timeout": 1,
        "read_timeout": 4,
        "retries": {"mode": "standard", "total_max_attempts": 3},
    },
}
_GONE = {"404", "NoSuchKey", "NoSuchVersion", "NotFound", "412", "PreconditionFailed"}


#: One for all clients: what they share (the list of regions, credentials) is read once.
_session = functools.cache(botocore.session.get_session)


@functools.cache
def client(service: str) -> Any:
    """A client as boto3 makes it, made once a process.

    It gives up early enough for a function to answer, or for its queue to deliver again, before its time is up.
    It comes from botocore: boto3 itself, with its resources and transfers, would be a tenth of the gate's cold start.
    """
    made = _session().create_client(service, config=Config(**_LEAN, **_PATIENCE.get(service, _PATIENT)))
    # S3 would be asked first whether it wants the bytes, a round trip for objects smaller than the answer's way back.
    made.meta.events.unregister("before-call.s3", add_expect_header)
    return made


class S3Objects:
    """:class:`~abeyance.pipeline.ports.Objects` on S3."""

    def __init__(self, s3: Any) -> None:
        self._s3 = s3

    def head(self, upload: Upload) -> Head:
        answer = self._call(self._s3.head_object, upload)
        return Head(answer.get("Metadata", {}))

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
        for entries in _calls(self._entry(event) for event in events):
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


def _calls(entries: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The entries in their order, as few calls take them."""
    call: list[dict[str, Any]] = []
    size = 0
    for entry in entries:
        own = len(entry["Detail"].encode())
        if call and (len(call) == ENTRIES_PER_CALL or size + own > BYTES_PER_CALL):
            yield call
            call, size = [], 0
        call.append(entry)
        size += own
    if call:
        yield call


class DynamoUploads:
    """:class:`~abeyance.pipeline.ports.Uploads` on one DynamoDB table, whose key is ``object``.

    ========================  ==========================================================================
    ``object``                holds
    ========================  ==========================================================================
    ``<bucket>/<key>``        ``sequencer`` (padded, so that it sorts as text) and ``upload``, the latest's identity
    ``upload#<identity>``     ``stage_<name>`` for each stage that settled it: the event's detail-type and JSON
    ========================  ==========================================================================
    """

    def __init__(self, dynamodb: Any, table: str, retention_days: int, now: Callable[[], float]) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._retention = retention_days * 86400
        self._now = now

    def claim(self, upload: Upload) -> bool:
        order = _padded(upload.sequencer)
        try:
            self._dynamodb.put_item(
                TableName=self._table,
                Item={
                    "object": {"S": f"{upload.bucket}/{upload.key}"},
                    "sequencer": {"S": order},
                    "upload": {"S": upload.identity},
                    "expires": self._expiry(),
                },
                ConditionExpression="attribute_not_exists(#o) OR sequencer < :s OR upload = :u",
                ExpressionAttributeNames={"#o": "object"},
                ExpressionAttributeValues={":s": {"S": order}, ":u": {"S": upload.identity}},
            )
        except self._dynamodb.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def look(self, uploads: Sequence[Upload]) -> list[Standing]:
        names = [(f"{upload.bucket}/{upload.key}", f"upload#{upload.identity}") for upload in uploads]
        found = self._items([name for pair in names for name in pair])
        return [
            Standing(_latest(found.get(place, {})) == upload.identity, _settled(found.get(record, {})))
            for upload, (place, record) in zip(uploads, names, strict=True)
        ]

    def still_latest(self, uploads: Sequence[Upload]) -> list[bool]:
        names = [f"{upload.bucket}/{upload.key}" for upload in uploads]
        found = self._items(names)
        return [
            _latest(found.get(name, {})) == upload.identity
            for upload, name in zip(uploads, names, strict=True)
        ]

    def latest(self, bucket: str, key: str) -> str:
        return _latest(self._item(f"{bucket}/{key}"))

    def settled(self, identity: str) -> dict[str, Event]:
        return _settled(self._item(f"upload#{identity}"))

    def settle(self, stage: str, event: Event) -> Event:
        name = f"stage_{stage}"
        try:
            self._dynamodb.update_item(
                TableName=self._table,
                Key={"object": {"S": f"upload#{event.upload.identity}"}},
                UpdateExpression="SET #a = :e, expires = :x",
                ConditionExpression="attribute_not_exists(#a)",
                ExpressionAttributeNames={"#a": name},
                ExpressionAttributeValues={
                    ":e": {"S": event.detail_type + "\n" + msgspec.json.encode(event).decode()},
                    ":x": self._expiry(),
                },
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except self._dynamodb.exceptions.ConditionalCheckFailedException as error:
            return _event(error.response["Item"][name])
        return event

    def _item(self, name: str) -> dict[str, Any]:
        answer = self._dynamodb.get_item(
            TableName=self._table, Key={"object": {"S": name}}, ConsistentRead=True
        )
        item: dict[str, Any] = answer.get("Item", {})
        return item

    def _items(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        keys = [{"object": {"S": name}} for name in dict.fromkeys(names)]
        found: dict[str, dict[str, Any]] = {}
        request: Any = {self._table: {"Keys": keys, "ConsistentRead": True}} if keys else {}
        for _ in range(ATTEMPTS):
            if not request:
                return found
            answer = self._dynamodb.batch_get_item(RequestItems=request)
            found |= {item["object"]["S"]: item for item in answer["Responses"].get(self._table, [])}
            request = answer.get("UnprocessedKeys")
        raise ConnectionError("DynamoDB left records of uploads unread at every attempt")

    def _expiry(self) -> dict[str, str]:
        return {"N": str(int(self._now() + self._retention))}


def _padded(sequencer: str) -> str:
    """S3 says: pad the shorter with zeros on the right, then compare as text. Its sequencers have at most 32 digits."""
    return sequencer.upper().ljust(32, "0")


def _latest(item: dict[str, Any]) -> str:
    identity: str = item.get("upload", {}).get("S", "")
    return identity


def _settled(item: dict[str, Any]) -> dict[str, Event]:
    return {name[6:]: _event(value) for name, value in item.items() if name.startswith("stage_")}


def _event(value: dict[str, str]) -> Event:
    detail_type, detail = value["S"].split("\n", 1)
    return msgspec.json.decode(detail.encode(), type=events.BY_DETAIL_TYPE[detail_type])
