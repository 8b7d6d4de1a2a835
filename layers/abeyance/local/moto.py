"""Where moto says or does something else than AWS, put right; and what Lambda's own poller sees of a queue."""

from __future__ import annotations

import contextlib
import copy
import itertools
import threading
import time
import uuid
from collections.abc import Iterator
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
from moto.sqs.models import Message, Queue, sqs_backends

HOST: Final = "127.0.0.1"
REGION: Final = "us-east-1"
ACCOUNT: Final = "123456789012"


def put_right() -> None:
    """Empty moto's AWS and make it behave, in this process, as the rest of this module says."""
    moto_api_backend.reset()
    notifications._send_event_bridge_message = send_as_s3_does
    DynamoDBBackend.transact_write_items = transact_write_items  # type: ignore[method-assign, assignment]
    Table.__deepcopy__ = lambda table, _: table  # type: ignore[attr-defined]
    EventTemplateParser.parse = staticmethod(as_it_is)  # type: ignore[method-assign]
    Queue.delete_message = delete_message  # type: ignore[method-assign, assignment]


_parse_template = EventTemplateParser.parse


def as_it_is(input_template: str, input_paths_map: dict[str, Any], event: Any) -> dict[str, Any]:
    """What a rule without a transformer hands on: the event.

    moto 5.2.5 writes it into a template, compiling eight path expressions for every event and target, and would
    take ``<id>`` in somebody's key for one of its own places.
    """
    if input_template:
        return _parse_template(input_template, input_paths_map, event)
    return {name: value for name, value in event.items() if name != "ingestion-time"}


_delete_message = Queue.delete_message


def delete_message(queue: Queue, receipt_handle: str) -> None:
    """Delete, with nobody adding meanwhile: moto puts a new list in the place of the old, and what was added goes."""
    with queue._messages_lock:
        _delete_message(queue, receipt_handle)


class Inbox:
    """A queue as Lambda's poller sees it, from inside AWS: no request is made, signed or parsed.

    Parameters
    ----------
    name
        Of a queue that is there.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._backend: Any = sqs_backends[ACCOUNT][REGION]
        self._queue: Any = self._backend.get_queue(name)
        self.arn: str = self._queue.queue_arn

    def receive(self, most: int, wait: int) -> list[Message]:
        """At most ``most`` messages; waits up to ``wait`` seconds for the first."""
        timeout = self._queue.visibility_timeout
        found: list[Message] = self._backend.receive_message(self._name, most, wait, timeout)
        return found

    def delete(self, message: Message) -> None:
        """Take a received message out; nothing if it is gone."""
        with contextlib.suppress(ReceiptHandleIsInvalid):
            self._queue.delete_message(message.receipt_handle)

    def give_back(self, message: Message, seconds: int) -> None:
        """Let a received message be delivered again after so many seconds; nothing if it is gone."""
        with contextlib.suppress(ReceiptHandleIsInvalid):
            self._backend.change_message_visibility(self._name, message.receipt_handle, seconds)

    def depth(self) -> int:
        """How many messages are in it, those in work and those that are delayed included."""
        return len(self._queue._messages)


_transact_write_items = DynamoDBBackend.transact_write_items


def transact_write_items(backend: DynamoDBBackend, actions: list[dict[str, Any]]) -> None:
    """All or nothing, keeping a copy of the items that the transaction touches.

    moto 5.2.5 copies every table whole, once an action, so that each transaction takes longer than the last;
    with tables that "copy" as themselves its own rollback does nothing, and this one does it.
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
    """Where the item of an action lies: the dictionary, the key in it, and a copy of what is there or None."""
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


def holds(bucket: str, key: str) -> bool:
    """Whether a bucket has an object, looked up from inside AWS."""
    return s3_backends[ACCOUNT]["aws"].head_object(bucket, key) is not None


def _sequencers() -> Iterator[str]:
    """Ever later S3 sequencers, 16 hexadecimal digits."""
    last = 0
    for _ in itertools.count():
        last = max(last + 1, time.time_ns())
        yield f"{last:016X}"


_SEQUENCERS = _sequencers()
_SEQUENCER_LOCK = threading.Lock()


def send_as_s3_does(account_id: str, bucket: Any, event_name: str, key: Any) -> None:
    """Send S3's event to EventBridge in AWS's own form and order, in place of moto's sender.

    moto 5.2.5 says ``eTag`` and ``ObjectCreated`` where S3 says ``etag`` and ``PutObject``, and gives every event
    the same sequencer.
    """
    kind = str(getattr(event_name, "value", event_name))
    deleted = "ObjectRemoved" in kind
    if not deleted and "ObjectCreated" not in kind:
        return
    with _SEQUENCER_LOCK:
        thing: dict[str, Any] = {"key": key.name, "sequencer": next(_SEQUENCERS)}
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
