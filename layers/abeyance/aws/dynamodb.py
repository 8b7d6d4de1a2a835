"""The port of a table on DynamoDB: one codec, one batch get, one way to send a transaction."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from abeyance.aws.table import (
    LAST_SORT,
    PARTITION,
    PRESENT,
    SORT,
    Below,
    Condition,
    Conflict,
    Delete,
    Expected,
    Item,
    Key,
    Operation,
    Put,
    ReadAlong,
    Require,
    Update,
)

#: Reasons for which a cancelled transaction may succeed when it is tried again.
RETRYABLE: Final = frozenset(
    {
        "ConditionalCheckFailed",
        "TransactionConflict",
        "ThrottlingError",
        "ProvisionedThroughputExceeded",
        "None",
    }
)
#: Attempts at keys that DynamoDB leaves unprocessed.
ATTEMPTS: Final = 8
BACKOFF_S: Final = 0.05


def back_off(attempt: int) -> None:
    """Sleep before another attempt, with full jitter; the first attempt's number is 0."""
    time.sleep(random.uniform(0, BACKOFF_S * 2 ** (attempt + 1)))


class DynamoTable:
    """:class:`~abeyance.aws.table.Table` on DynamoDB.

    Parameters
    ----------
    client
        A low-level DynamoDB client.
    name
        Name of the table.
    partition, sort
        Names of the key attributes; an empty ``sort`` for a table without a sort key.
    pause
        Waits before attempt n + 1 at what DynamoDB left unprocessed.
    """

    def __init__(
        self,
        client: Any,
        name: str,
        *,
        partition: str = PARTITION,
        sort: str = SORT,
        pause: Callable[[int], None] = back_off,
    ) -> None:
        self._client = client
        self._name = name
        self._partition = partition
        self._sort = sort
        self._pause = pause

    def get(self, key: Key) -> Item | None:
        answer = self._client.get_item(TableName=self._name, Key=self._key(key), ConsistentRead=True)
        return decode(answer["Item"]) if "Item" in answer else None

    def get_many(
        self, keys: Iterable[Key], *, attributes: Sequence[str] = (), along: Sequence[ReadAlong] = ()
    ) -> dict[Key, Item]:
        own = (self, list(dict.fromkeys(keys)), attributes)
        others = {one.table: one for one in along if isinstance(one.table, DynamoTable)}
        if others:
            theirs = [(table, list(dict.fromkeys(one.keys)), ()) for table, one in others.items()]
            try:
                found, *rest = self._get_across([own, *theirs])
            except Exception:  # noqa: BLE001 - another table's trouble, of any kind, is not this one's
                return self._get_across([own])[0]
            for one, items in zip(others.values(), rest, strict=True):
                one.accept(items)
            return found
        return self._get_across([own])[0]

    def _get_across(
        self, reads: Sequence[tuple[DynamoTable, Sequence[Key], Sequence[str]]]
    ) -> list[dict[Key, Item]]:
        """Return for each table those of its items that exist, a hundred of any table in a request."""
        found: dict[str, dict[Key, Item]] = {table._name: {} for table, _, _ in reads}
        tables = {table._name: table for table, _, _ in reads}
        shapes = {table._name: table._read_shape(attributes) for table, _, attributes in reads}
        wanted = [(table._name, key) for table, keys, _ in reads for key in keys]
        for some in batches(wanted, 100):
            request: dict[str, Any] = {}
            for name, key in some:
                request.setdefault(name, {"Keys": [], **shapes[name]})["Keys"].append(tables[name]._key(key))
            for answer in self._until_processed(self._client.batch_get_item, "UnprocessedKeys", request):
                for name, items in answer["Responses"].items():
                    found[name] |= {tables[name]._key_of(item): item for item in map(decode, items)}
        return [found[table._name] for table, _, _ in reads]

    def _read_shape(self, attributes: Sequence[str]) -> dict[str, Any]:
        """Return how each of a batch's items is read: consistently, and whole or some attributes."""
        shape: dict[str, Any] = {"ConsistentRead": True}
        if attributes:
            wanted = dict.fromkeys(filter(None, (self._partition, self._sort, *attributes)))
            names = {f"#a{n}": name for n, name in enumerate(wanted)}
            shape |= {"ProjectionExpression": ", ".join(names), "ExpressionAttributeNames": names}
        return shape

    def get_transactional(self, keys: Sequence[Key]) -> dict[Key, Item]:
        reads = [{"Get": {"TableName": self._name, "Key": self._key(key)}} for key in keys]
        try:
            answer = self._client.transact_get_items(TransactItems=reads)
        except self._client.exceptions.TransactionCanceledException as error:
            raise _conflict(error) from error
        items = (decode(found["Item"]) for found in answer["Responses"] if found.get("Item"))
        return {self._key_of(item): item for item in items}

    def query(
        self,
        pk: str,
        first: str = "",
        last: str = LAST_SORT,
        *,
        limit: int = 0,
        attributes: Sequence[str] = (),
        descending: bool = False,
    ) -> Iterator[Item]:
        expression = _Expression()
        condition = f"{expression.name(self._partition)} = {expression.value(pk)}"
        if first or last != LAST_SORT:
            # DynamoDB takes no empty key value; a sort key is never empty, so a space sorts first.
            low, high = expression.value(first or " "), expression.value(last)
            condition += f" AND {expression.name(self._sort)} BETWEEN {low} AND {high}"
        request: dict[str, Any] = {
            "TableName": self._name,
            "KeyConditionExpression": condition,
            "ConsistentRead": True,
            **({"ProjectionExpression": ", ".join(map(expression.name, attributes))} if attributes else {}),
            **({"ScanIndexForward": False} if descending else {}),
            **expression.members(),
        }
        left = limit
        while True:
            if limit:
                request["Limit"] = left
            answer = self._client.query(**request)
            yield from map(decode, answer["Items"])
            left -= len(answer["Items"])
            if "LastEvaluatedKey" not in answer or (limit and left <= 0):
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def scan(self, expect: Expected) -> Iterator[Item]:
        expression = _Expression()
        filters = {"FilterExpression": expression.condition(expect), **expression.members()}
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._name, ConsistentRead=True, **filters
        )
        return (decode(item) for page in pages for item in page["Items"])

    def transact(self, operations: Sequence[Operation]) -> None:
        if len(operations) == 1 and not isinstance(operations[0], Require):
            return self._send(operations[0])
        client = self._client
        items = [{_VERBS[type(operation)]: self._request(operation)} for operation in operations]
        try:
            client.transact_write_items(TransactItems=items)
        except client.exceptions.TransactionCanceledException as error:
            raise _conflict(error) from error
        except client.exceptions.TransactionInProgressException as error:
            raise Conflict("the same transaction is under way") from error
        return None

    def delete_many(self, keys: Iterable[Key]) -> None:
        for some in batches(keys, 25):
            request = [{"DeleteRequest": {"Key": self._key(key)}} for key in some]
            items = {self._name: request}
            for _ in self._until_processed(self._client.batch_write_item, "UnprocessedItems", items):
                pass

    def _until_processed(self, call: Callable[..., Any], left: str, items: Any) -> Iterator[Any]:
        """Yield the answers to a batch call, which is made again for what it leaves unprocessed."""
        for attempt in range(ATTEMPTS):
            answer = call(RequestItems=items)
            yield answer
            items = answer.get(left)
            if not items:
                return
            self._pause(attempt)
        raise Conflict("DynamoDB left items unprocessed at every attempt")

    def _send(self, operation: Operation) -> None:
        client = self._client
        verb = {Put: client.put_item, Delete: client.delete_item}.get(type(operation), client.update_item)
        request = self._request(operation)
        if "ConditionExpression" in request:
            request["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        try:
            verb(**request)
        except client.exceptions.ConditionalCheckFailedException as error:
            item = error.response.get("Item")
            raise Conflict(
                "a condition did not hold", failed=[True], item=decode(item) if item else None
            ) from error
        except client.exceptions.TransactionConflictException as error:
            raise Conflict("a transaction is under way on the item") from error

    def _request(self, operation: Operation) -> dict[str, Any]:
        expression = _Expression()
        request: dict[str, Any] = {"TableName": self._name}
        expect = operation.expect
        if isinstance(operation, Put):
            request["Item"] = encode(operation.item)
            expect = {self._partition: None} if operation.absent else expect
        else:
            request["Key"] = self._key(operation.key)
        if expect:
            request["ConditionExpression"] = expression.condition(expect)
        if isinstance(operation, Update):
            request["UpdateExpression"] = expression.update(operation)
        return request | expression.members()

    def _key(self, key: Key) -> dict[str, Any]:
        return {
            name: {"S": part} for name, part in zip((self._partition, self._sort), key, strict=True) if name
        }

    def _key_of(self, item: Item) -> Key:
        return item[self._partition], item[self._sort] if self._sort else ""


_VERBS: Final[dict[type, str]] = {Put: "Put", Delete: "Delete", Update: "Update", Require: "ConditionCheck"}


class _Expression:
    """The placeholders of one request's expressions."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._values: dict[str, Any] = {}

    def name(self, attribute: str) -> str:
        return self._names.setdefault(attribute, f"#n{len(self._names)}")

    def value(self, value: Any) -> str:
        placeholder = f":v{len(self._values)}"
        self._values[placeholder] = encode_value(value)
        return placeholder

    def condition(self, expect: Condition) -> str:
        alternatives = expect if isinstance(expect, tuple) else (expect,)
        return " OR ".join(
            " AND ".join(self._clause(name, wanted) for name, wanted in alternative.items())
            for alternative in alternatives
        )

    def update(self, operation: Update) -> str:
        clauses = {
            "SET": [f"{self.name(name)} = {self.value(value)}" for name, value in operation.set.items()],
            "REMOVE": [self.name(name) for name in operation.unset],
            "ADD": [f"{self.name(name)} {self.value(value)}" for name, value in operation.add.items()],
            "DELETE": [f"{self.name(name)} {self.value(value)}" for name, value in operation.discard.items()],
        }
        return " ".join(f"{verb} {', '.join(parts)}" for verb, parts in clauses.items() if parts)

    def members(self) -> dict[str, Any]:
        names = {placeholder: attribute for attribute, placeholder in self._names.items()}
        return ({"ExpressionAttributeNames": names} if names else {}) | (
            {"ExpressionAttributeValues": self._values} if self._values else {}
        )

    def _clause(self, attribute: str, wanted: Any) -> str:
        name = self.name(attribute)
        if wanted is None:
            return f"attribute_not_exists({name})"
        if wanted is PRESENT:
            return f"attribute_exists({name})"
        if isinstance(wanted, Below):
            return f"{name} < {self.value(wanted.value)}"
        return f"{name} = {self.value(wanted)}"


def _conflict(error: Any) -> Exception:
    """Return a :class:`Conflict`, or the error itself where another attempt cannot help."""
    codes = [reason.get("Code", "None") for reason in error.response.get("CancellationReasons", ())]
    if not set(codes) <= RETRYABLE:
        return error  # type: ignore[no-any-return]
    failed = [code == "ConditionalCheckFailed" for code in codes]
    return Conflict(", ".join(sorted(set(codes))), failed=failed)


def encode(item: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return an item as DynamoDB's JSON writes it."""
    return {name: encode_value(value) for name, value in item.items()}


def decode(item: Mapping[str, Mapping[str, Any]]) -> Item:
    """Return an item from DynamoDB's JSON."""
    return {name: _value(*next(iter(typed.items()))) for name, typed in item.items()}


def encode_value(value: Any) -> dict[str, Any]:
    """Return one attribute value as DynamoDB's JSON writes it."""
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bytes):
        return {"B": value}
    if isinstance(value, int | float):
        return {"N": repr(value)}
    if isinstance(value, frozenset):
        return {"NS": [str(number) for number in value]}
    return {"L": [encode_value(part) for part in value]}


def _value(kind: str, raw: Any) -> Any:
    if kind in ("S", "B"):
        return raw
    if kind == "N":
        return int(raw) if raw.lstrip("-").isdigit() else float(raw)
    if kind == "NS":
        return frozenset(int(number) for number in raw)
    return [_value(*next(iter(part.items()))) for part in raw]


def batches(things: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield the things in their order, ``size`` at a time."""
    iterator = iter(things)
    while some := list(islice(iterator, size)):
        yield some
