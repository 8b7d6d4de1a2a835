"""Patches for the places where moto differs from AWS, and its queues as Lambda's own poller sees them."""

from __future__ import annotations

import contextlib
import copy
import itertools
import time
import uuid
from typing import Any, Final

from moto.core.utils import unix_time
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table
from moto.events.models import events_backends
from moto.events.utils import EventTemplateParser
from moto.moto_api._internal.models import moto_api_backend
from moto.s3 import notifications
from moto.s3.models import s3_backends
from moto.sqs.exceptions import ReceiptHandleIsInvalid
from moto.sqs.models import Message, sqs_backends

from abeyance.local import sqs

HOST: Final = "127.0.0.1"
REGION: Final = "us-east-1"
ACCOUNT: Final = "123456789012"


def patch_moto() -> None:
    """Empty moto's AWS and patch it in this process."""
    moto_api_backend.reset()
    notifications._send_event_bridge_message = send_s3_event
    DynamoDBBackend.transact_write_items = transact_write_items  # type: ignore[method-assign, assignment]
    Table.__deepcopy__ = lambda table, _: table  # type: ignore[attr-defined]
    EventTemplateParser.parse = staticmethod(pass_event_through)  # type: ignore[method-assign]
    sqs.install()


_parse_template = EventTemplateParser.parse


def pass_event_through(input_template: str, input_paths_map: dict[str, Any], event: Any) -> dict[str, Any]:
    """Return the event unchanged for a rule without a transformer.

    moto 5.2.5 writes it into a template, which compiles eight path expressions for every event and target, and
    takes ``<id>`` in an object's key for a placeholder of its own.
    """
    if input_template:
        return _parse_template(input_template, input_paths_map, event)
    return {name: value for name, value in event.items() if name != "ingestion-time"}


class Inbox:
    """A queue as Lambda's poller sees it, inside AWS: no request is made, signed or parsed.

    Parameters
    ----------
    name
        Of a queue that is there.
    """

    def __init__(self, name: str) -> None:
        self._queue: Any = sqs_backends[ACCOUNT][REGION].get_queue(name)
        self.arn: str = self._queue.queue_arn

    def receive(self, most: int, wait_s: int) -> list[Message]:
        """Return at most ``most`` messages; wait up to ``wait_s`` seconds for the first."""
        found: list[Message] = self._queue.receive(most, wait_s, self._queue.visibility_timeout)
        return [copy.copy(message) for message in found]

    def delete(self, message: Message) -> None:
        """Delete a received message, if it is there."""
        with contextlib.suppress(ReceiptHandleIsInvalid):
            self._queue.delete_message(message.receipt_handle)

    def release(self, message: Message, delay_s: int) -> None:
        """Let a received message, if it is there, be delivered again after a delay."""
        with contextlib.suppress(ReceiptHandleIsInvalid):
            self._queue.change_visibility(message.receipt_handle, delay_s)

    def depth(self) -> int:
        """Return the number of messages, those in flight and those that are delayed included."""
        return int(self._queue.depth())

    def done(self) -> int:
        """Return the number of messages that were deleted since the start."""
        return int(self._queue.store.deleted)


_transact_write_items = DynamoDBBackend.transact_write_items


def transact_write_items(backend: DynamoDBBackend, actions: list[dict[str, Any]]) -> None:
    """Write all or nothing, with a copy of the items that the transaction touches.

    moto 5.2.5 copies every table whole, once an action, so that each transaction takes longer than the last. With
    tables that return themselves as their copy, its own rollback does nothing, and this function rolls back.
    """
    before = [_item(backend, next(iter(action.values()))) for action in actions]
    try:
        _transact_write_items(backend, actions)
    except BaseException:
        for rows, key, item in before:
            if rows is None:
                continue
            if item is None:
                rows.pop(key, None)
            else:
                rows[key] = item
        raise


def _item(backend: DynamoDBBackend, action: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Return the dictionary that holds an action's item, the key in it, and a copy of the item or None."""
    table = backend.tables.get(action["TableName"])
    if table is None:
        return None, None, None
    key = action.get("Key") or action["Item"]
    hash_key, range_key = (
        DynamoType(key[name]) if name else None for name in (table.hash_key_attr, table.range_key_attr)
    )
    if range_key is None:
        return table.items, hash_key, copy.deepcopy(table.items.get(hash_key))
    rows = table.items[hash_key]
    return rows, range_key, copy.deepcopy(rows.get(range_key))


def object_exists(bucket: str, key: str) -> bool:
    """Return True if a bucket has an object, looked up inside AWS."""
    return s3_backends[ACCOUNT]["aws"].head_object(bucket, key) is not None


#: Increases with every event; ``next`` of a counter is atomic.
_SEQUENCERS = itertools.count(time.time_ns())


def send_s3_event(account_id: str, bucket: Any, event_name: str, key: Any) -> None:
    """Send an S3 event to EventBridge in S3's own form and order.

    moto 5.2.5 writes ``eTag`` and ``ObjectCreated`` where S3 writes ``etag`` and ``PutObject``, and gives every event
    the same sequencer.
    """
    kind = str(getattr(event_name, "value", event_name))
    deleted = "ObjectRemoved" in kind
    if not deleted and "ObjectCreated" not in kind:
        return
    thing: dict[str, Any] = {"key": key.name, "sequencer": f"{next(_SEQUENCERS):016X}"}
    if not deleted:
        thing |= {"size": key.size, "etag": key.etag.strip('"')}
    if bucket.is_versioned:
        thing["version-id"] = key.version_id
    detail = {
        "version": "0",
        "bucket": {"name": bucket.name},
        "object": thing,
        "request-id": uuid.uuid4().hex[:16].upper(),
        "requester": account_id,
        "source-ip-address": HOST,
        "reason": "DeleteObject" if deleted else _reason(kind),
    }
    if deleted:
        detail["deletion-type"] = "Permanently Deleted"
    event: Any = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Object Deleted" if deleted else "Object Created",
        "source": "aws.s3",
        "account": account_id,
        "time": unix_time(),
        "region": bucket.region_name,
        "resources": [bucket.arn],
        "detail": detail,
    }
    for rule in list(events_backends[account_id][bucket.region_name].event_buses["default"].rules.values()):
        rule.send_to_targets(event, transform_input=False)


def _reason(kind: str) -> str:
    what = kind.rsplit(":", 1)[-1]
    return what if what == "CompleteMultipartUpload" else f"{what}Object"
