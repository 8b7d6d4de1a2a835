"""The gallery on DynamoDB and S3.

The table has a string partition key ``pk``, a string sort key ``sk`` and the time to live attribute ``expires``
(:func:`create_table` makes one). Keep the bucket without versions, or let old versions expire within a day:
erasure deletes objects, and an old version would outlive that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from abeyance.gallery.table import (
    PARTITION,
    SORT,
    TTL,
    Conflict,
    Delete,
    Item,
    Key,
    ObjectMissing,
    Operation,
    Put,
)
from abeyance.gallery.users import TableGallery

#: Reasons for which a cancelled transaction may go through when tried again.
RETRYABLE = frozenset(
    {
        "ConditionalCheckFailed",
        "TransactionConflict",
        "ThrottlingError",
        "ProvisionedThroughputExceeded",
        "None",
    }
)
#: Attempts at what DynamoDB left unprocessed.
ATTEMPTS = 8


def create_table(client: Any, name: str) -> None:
    """Create the gallery table and wait for it; for local use and tests."""
    client.create_table(
        TableName=name,
        KeySchema=[
            {"AttributeName": PARTITION, "KeyType": "HASH"},
            {"AttributeName": SORT, "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": PARTITION, "AttributeType": "S"},
            {"AttributeName": SORT, "AttributeType": "S"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    client.update_time_to_live(
        TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": TTL}
    )


class DynamoGallery(TableGallery):
    """A :class:`~abeyance.gallery.port.Gallery` in a DynamoDB table and an S3 bucket.

    Parameters
    ----------
    dynamodb, s3
        Low-level boto3 clients. They are used from several threads, which clients allow.
    table, bucket
        Names.
    rest
        ``clock``, ``sleep``, ``span``, ``vector_index`` and ``auto_compact``; see
        :class:`~abeyance.gallery.core.Core`, :class:`~abeyance.gallery.collections.Collections` and
        :class:`~abeyance.gallery.snapshots.Snapshots`.
    """

    def __init__(self, dynamodb: Any, table: str, s3: Any, bucket: str, **rest: Any) -> None:
        super().__init__(DynamoTable(dynamodb, table), S3Objects(s3, bucket), **rest)
        self.table: DynamoTable
        self.table.pause = self.pause


class DynamoTable:
    """:class:`~abeyance.gallery.table.Table` over a boto3 DynamoDB client."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name
        self.pause: Any = lambda attempt: None

    def get(self, key: Key) -> Item | None:
        answer = self._client.get_item(TableName=self._name, Key=_key(key), ConsistentRead=True)
        return _decode(answer["Item"]) if "Item" in answer else None

    def get_many(self, keys: Iterable[Key], *, attributes: Sequence[str] = ()) -> dict[Key, Item]:
        found: dict[Key, Item] = {}
        shape: dict[str, Any] = {"ConsistentRead": True}
        if attributes:
            names = {f"#a{n}": name for n, name in enumerate(dict.fromkeys((PARTITION, SORT, *attributes)))}
            shape |= {"ProjectionExpression": ", ".join(names), "ExpressionAttributeNames": names}
        for some in _batches(keys, 100):
            request: Any = {self._name: {"Keys": [_key(k) for k in some], **shape}}
            for attempt in range(ATTEMPTS):
                answer = self._client.batch_get_item(RequestItems=request)
                for raw in answer["Responses"].get(self._name, ()):
                    item = _decode(raw)
                    found[item[PARTITION], item[SORT]] = item
                request = answer.get("UnprocessedKeys")
                if not request:
                    break
                self.pause(attempt)
            else:
                raise Conflict("DynamoDB left items unread")
        return found

    def get_settled(self, keys: Sequence[Key]) -> dict[Key, Item]:
        reads = [{"Get": {"TableName": self._name, "Key": _key(key)}} for key in keys]
        try:
            answer = self._client.transact_get_items(TransactItems=reads)
        except self._client.exceptions.TransactionCanceledException as error:
            raise _conflict(error) from error
        items = (_decode(r["Item"]) for r in answer["Responses"] if r.get("Item"))
        return {(item[PARTITION], item[SORT]): item for item in items}

    def query(
        self, pk: str, first: str, last: str, *, limit: int = 0, attributes: Sequence[str] = ()
    ) -> Iterator[Item]:
        request: dict[str, Any] = {
            "TableName": self._name,
            "KeyConditionExpression": "#pk = :pk AND #sk BETWEEN :first AND :last",
            "ExpressionAttributeNames": {"#pk": PARTITION, "#sk": SORT},
            "ExpressionAttributeValues": {":pk": {"S": pk}, ":first": {"S": first}, ":last": {"S": last}},
            "ConsistentRead": True,
        }
        if attributes:
            names = {"#sk" if name == SORT else f"#a{n}": name for n, name in enumerate(attributes)}
            request["ExpressionAttributeNames"] |= names
            request["ProjectionExpression"] = ", ".join(names)
        left = limit
        while True:
            if limit:
                request["Limit"] = left
            answer = self._client.query(**request)
            yield from map(_decode, answer["Items"])
            left -= len(answer["Items"])
            if "LastEvaluatedKey" not in answer or (limit and left <= 0):
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def transact(self, operations: Sequence[Operation]) -> None:
        if len(operations) == 1:
            return self._single(operations[0])
        client = self._client
        items = [{type(op).__name__: self._request(op)} for op in operations]
        try:
            client.transact_write_items(TransactItems=items)
        except client.exceptions.TransactionCanceledException as error:
            raise _conflict(error) from error
        except client.exceptions.TransactionInProgressException as error:
            raise Conflict("the same transaction is under way") from error
        return None

    def delete_many(self, keys: Iterable[Key]) -> None:
        for some in _batches(keys, 25):
            request: Any = {self._name: [{"DeleteRequest": {"Key": _key(key)}} for key in some]}
            for attempt in range(ATTEMPTS):
                request = self._client.batch_write_item(RequestItems=request).get("UnprocessedItems")
                if not request:
                    break
                self.pause(attempt)
            else:
                raise Conflict("DynamoDB left items undeleted")

    def _single(self, operation: Operation) -> None:
        client = self._client
        verb = {Put: client.put_item, Delete: client.delete_item}.get(type(operation), client.update_item)
        try:
            verb(**self._request(operation))
        except (
            client.exceptions.ConditionalCheckFailedException,
            client.exceptions.TransactionConflictException,
        ) as error:
            raise Conflict("a condition did not hold") from error

    def _request(self, operation: Operation) -> dict[str, Any]:
        expression = _Expression()
        request: dict[str, Any] = {"TableName": self._name}
        if isinstance(operation, Put):
            request["Item"] = {name: _encode(value) for name, value in operation.item.items()}
            if operation.absent:
                request["ConditionExpression"] = f"attribute_not_exists({expression.name(PARTITION)})"
        else:
            request["Key"] = _key(operation.key)
            if operation.expect:
                request["ConditionExpression"] = expression.all_equal(operation.expect)
            if not isinstance(operation, Delete):
                clauses = {
                    "SET": [
                        f"{expression.name(n)} = {expression.value(v)}" for n, v in operation.set.items()
                    ],
                    "REMOVE": [expression.name(n) for n in operation.unset],
                    "ADD": [f"{expression.name(n)} {expression.value(v)}" for n, v in operation.add.items()],
                    "DELETE": [
                        f"{expression.name(n)} {expression.value(v)}" for n, v in operation.discard.items()
                    ],
                }
                request["UpdateExpression"] = " ".join(
                    f"{verb} {', '.join(parts)}" for verb, parts in clauses.items() if parts
                )
        return request | expression.members()


class S3Objects:
    """:class:`~abeyance.gallery.table.Objects` over a boto3 S3 client."""

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
        for some in _batches(keys, 1000):
            answer = self._client.delete_objects(
                Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in some], "Quiet": True}
            )
            if answer.get("Errors"):
                raise OSError(
                    f"S3 could not delete {len(answer['Errors'])} objects: {answer['Errors'][0]['Code']}"
                )


class _Expression:
    """Placeholders of one request's expressions."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._values: dict[str, Any] = {}

    def name(self, attribute: str) -> str:
        for placeholder, known in self._names.items():
            if known == attribute:
                return placeholder
        placeholder = f"#n{len(self._names)}"
        self._names[placeholder] = attribute
        return placeholder

    def value(self, value: Any) -> str:
        placeholder = f":v{len(self._values)}"
        self._values[placeholder] = _encode(value)
        return placeholder

    def all_equal(self, expected: Mapping[str, Any]) -> str:
        return " AND ".join(
            f"attribute_not_exists({self.name(n)})" if v is None else f"{self.name(n)} = {self.value(v)}"
            for n, v in expected.items()
        )

    def members(self) -> dict[str, Any]:
        names = {"ExpressionAttributeNames": self._names} if self._names else {}
        return names | ({"ExpressionAttributeValues": self._values} if self._values else {})


def _conflict(error: Any) -> Exception:
    """A :class:`Conflict`, unless trying again cannot help."""
    codes = {reason.get("Code", "None") for reason in error.response.get("CancellationReasons", ())}
    return Conflict(", ".join(sorted(codes))) if codes <= RETRYABLE else error


def _key(key: Key) -> dict[str, Any]:
    return {PARTITION: {"S": key[0]}, SORT: {"S": key[1]}}


def _encode(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bytes):
        return {"B": value}
    if isinstance(value, int | float):
        return {"N": repr(value)}
    if isinstance(value, frozenset):
        return {"NS": [str(number) for number in value]}
    return {"L": [_encode(part) for part in value]}


def _decode(item: Mapping[str, Mapping[str, Any]]) -> Item:
    return {name: _value(*next(iter(typed.items()))) for name, typed in item.items()}


def _value(kind: str, raw: Any) -> Any:
    if kind in ("S", "B"):
        return raw
    if kind == "N":
        return int(raw) if raw.lstrip("-").isdigit() else float(raw)
    if kind == "NS":
        return frozenset(int(number) for number in raw)
    return [_value(*next(iter(part.items()))) for part in raw]


def _batches(things: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(things)
    while some := list(islice(iterator, size)):
        yield some
