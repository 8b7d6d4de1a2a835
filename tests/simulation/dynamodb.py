"""DynamoDB as its documentation says: items, conditions, transactions. Held to moto by the table contract."""

from __future__ import annotations

import functools
import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

Item = dict[str, Any]
Key = tuple[str, str]

_TOKEN = re.compile(
    r"\s*(attribute_not_exists|attribute_exists|begins_with|BETWEEN|AND|OR|[#:\w.]+|<=|>=|=|<|>|\(|\)|,)"
)


class ConditionalCheckFailedException(ClientError):
    """As botocore raises it."""


class TransactionCanceledException(ClientError):
    """As botocore raises it."""


class _Exceptions:
    ConditionalCheckFailedException = ConditionalCheckFailedException
    TransactionCanceledException = TransactionCanceledException
    TransactionInProgressException = type("TransactionInProgressException", (ClientError,), {})
    TransactionConflictException = type("TransactionConflictException", (ClientError,), {})
    ResourceNotFoundException = type("ResourceNotFoundException", (ClientError,), {})


class SimulatedTable:
    """The items of one table, sorted within each partition."""

    def __init__(self, partition: str, sort: str) -> None:
        self.partition = partition
        self.sort = sort
        self.items: dict[str, dict[str, Item]] = {}
        self._order: dict[str, list[str]] = {}

    def key_of(self, item: Mapping[str, Any]) -> Key:
        return item[self.partition]["S"], item[self.sort]["S"] if self.sort else ""

    def get(self, key: Key) -> Item | None:
        return self.items.get(key[0], {}).get(key[1])

    def put(self, item: Item) -> None:
        pk, sk = self.key_of(item)
        partition = self.items.setdefault(pk, {})
        if sk not in partition:
            insort(self._order.setdefault(pk, []), sk)
        partition[sk] = item

    def delete(self, key: Key) -> None:
        if self.items.get(key[0], {}).pop(key[1], None) is not None:
            order = self._order[key[0]]
            del order[bisect_left(order, key[1])]

    def between(self, pk: str, low: str, high: str) -> list[Item]:
        order = self._order.get(pk, [])
        return [self.items[pk][sk] for sk in order[bisect_left(order, low) : bisect_right(order, high)]]

    def all(self) -> Iterator[Item]:
        for partition in self.items.values():
            yield from partition.values()

    def copy(self) -> SimulatedTable:
        """Return a backup."""
        made = SimulatedTable(self.partition, self.sort)
        for item in self.all():
            made.put(dict(item))
        return made


class SimulatedDynamoDB:
    """The low-level client. ``call`` wraps each call, so that it can fail."""

    exceptions = _Exceptions

    def __init__(self, call: Callable[[str, Callable[[], Any]], Any]) -> None:
        self.tables: dict[str, SimulatedTable] = {}
        self._call = call

    def create(self, name: str, partition: str = "pk", sort: str = "sk") -> SimulatedTable:
        """Create a table; not an operation of the service."""
        return self.tables.setdefault(name, SimulatedTable(partition, sort))

    def get_item(self, *, TableName: str, Key: Item, **_: Any) -> dict[str, Any]:
        return self._call("GetItem", lambda: self._get(TableName, Key))

    def put_item(self, *, TableName: str, Item: Item, **how: Any) -> dict[str, Any]:
        return self._call(
            "PutItem", lambda: self._write("Put", {"TableName": TableName, "Item": Item, **how})
        )

    def update_item(self, *, TableName: str, Key: Item, **how: Any) -> dict[str, Any]:
        return self._call(
            "UpdateItem", lambda: self._write("Update", {"TableName": TableName, "Key": Key, **how})
        )

    def delete_item(self, *, TableName: str, Key: Item, **how: Any) -> dict[str, Any]:
        return self._call(
            "DeleteItem", lambda: self._write("Delete", {"TableName": TableName, "Key": Key, **how})
        )

    def batch_get_item(self, *, RequestItems: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            responses = {}
            for name, wanted in RequestItems.items():
                table, attributes = self.tables[name], _projection(wanted)
                keys = [_key(table, key) for key in wanted["Keys"]]
                if len(keys) > 100 or len(set(keys)) < len(keys):
                    raise _error("ValidationException", "BatchGetItem")
                found = (table.get(key) for key in keys)
                responses[name] = [_project(item, attributes) for item in found if item]
            return {"Responses": responses, "UnprocessedKeys": {}}

        return self._call("BatchGetItem", run)

    def batch_write_item(self, *, RequestItems: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            for name, requests in RequestItems.items():
                for request in requests:
                    table = self.tables[name]
                    if "DeleteRequest" in request:
                        table.delete(_key(table, request["DeleteRequest"]["Key"]))
                    else:
                        table.put(dict(request["PutRequest"]["Item"]))
            return {"UnprocessedItems": {}}

        return self._call("BatchWriteItem", run)

    def transact_get_items(self, *, TransactItems: list[Any], **_: Any) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            gets = [one["Get"] for one in TransactItems]
            return {"Responses": [self._get(get["TableName"], get["Key"]) for get in gets]}

        return self._call("TransactGetItems", run)

    def transact_write_items(self, *, TransactItems: list[Any], **_: Any) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            if not 0 < len(TransactItems) <= 100:
                raise _error("ValidationException", "TransactWriteItems")
            actions = [next(iter(one.items())) for one in TransactItems]
            reasons = [
                {"Code": "None" if self._holds(request) else "ConditionalCheckFailed"}
                for _, request in actions
            ]
            if any(reason["Code"] != "None" for reason in reasons):
                raise TransactionCanceledException(
                    {
                        "Error": {"Code": "TransactionCanceledException", "Message": ""},
                        "CancellationReasons": reasons,
                    },
                    "TransactWriteItems",
                )
            for verb, request in actions:
                self._apply(verb, request)
            return {}

        return self._call("TransactWriteItems", run)

    def query(self, *, TableName: str, KeyConditionExpression: str, **how: Any) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            table = self.tables[TableName]
            names, values = _placeholders(how)
            pk, low, high = _key_range(KeyConditionExpression, table, names, values)
            found = table.between(pk, low, high)
            if not how.get("ScanIndexForward", True):
                found = found[::-1]
            if start := how.get("ExclusiveStartKey"):
                after = table.key_of(start)
                found = found[[table.key_of(item) for item in found].index(after) + 1 :]
            limit = how.get("Limit") or len(found)
            more = {"LastEvaluatedKey": _only_key(table, found[limit - 1])} if limit < len(found) else {}
            attributes = _projection(how)
            return {"Items": [_project(item, attributes) for item in found[:limit]], **more}

        return self._call("Query", run)

    def scan(self, *, TableName: str, **how: Any) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            expression = how.get("FilterExpression", "")
            found = [item for item in self.tables[TableName].all() if _satisfies(item, expression, how)]
            return {"Items": [dict(item) for item in found], "Count": len(found)}

        return self._call("Scan", run)

    def get_paginator(self, operation: str) -> Any:
        method = getattr(self, operation)

        class Paginator:
            def paginate(self, **arguments: Any) -> Iterator[dict[str, Any]]:
                while True:
                    page = method(**arguments)
                    yield page
                    if "LastEvaluatedKey" not in page:
                        return
                    arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]

        return Paginator()

    def _get(self, name: str, key: Item) -> dict[str, Any]:
        table = self.tables[name]
        item = table.get(_key(table, key))
        return {} if item is None else {"Item": dict(item)}

    def _current(self, request: Mapping[str, Any]) -> Item | None:
        table = self.tables[request["TableName"]]
        return table.get(table.key_of(request["Item"]) if "Item" in request else _key(table, request["Key"]))

    def _holds(self, request: Mapping[str, Any]) -> bool:
        return _satisfies(self._current(request) or {}, request.get("ConditionExpression", ""), request)

    def _write(self, verb: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if not self._holds(request):
            current = self._current(request)
            old = {"Item": current} if current and "ReturnValuesOnConditionCheckFailure" in request else {}
            raise ConditionalCheckFailedException(
                {"Error": {"Code": "ConditionalCheckFailedException", "Message": ""}, **old}, verb
            )
        self._apply(verb, request)
        return {"Attributes": self._current(request)} if request.get("ReturnValues") == "ALL_NEW" else {}

    def _apply(self, verb: str, request: Mapping[str, Any]) -> None:
        table = self.tables[request["TableName"]]
        if verb == "Put":
            table.put(dict(request["Item"]))
        elif verb == "Delete":
            table.delete(_key(table, request["Key"]))
        elif verb == "Update":
            names, values = _placeholders(request)
            item = dict(table.get(_key(table, request["Key"])) or request["Key"])
            table.put(_updated(item, request["UpdateExpression"], names, values))


def _error(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}}, operation)


def _key(table: SimulatedTable, key: Mapping[str, Any]) -> Key:
    return table.key_of(key)


def _only_key(table: SimulatedTable, item: Item) -> Item:
    return {name: item[name] for name in (table.partition, table.sort) if name}


def _placeholders(request: Mapping[str, Any]) -> tuple[Mapping[str, str], Mapping[str, Any]]:
    return request.get("ExpressionAttributeNames", {}), request.get("ExpressionAttributeValues", {})


def _projection(request: Mapping[str, Any]) -> list[str]:
    names = request.get("ExpressionAttributeNames", {})
    expression = request.get("ProjectionExpression", "")
    return [names.get(part.strip(), part.strip()) for part in expression.split(",") if part.strip()]


def _project(item: Item, attributes: list[str]) -> Item:
    return {name: item[name] for name in attributes if name in item} if attributes else dict(item)


@functools.lru_cache(maxsize=4096)
def _tokens(expression: str) -> tuple[str, ...]:
    return tuple(_TOKEN.findall(expression))


@functools.lru_cache(maxsize=4096)
def _clauses(expression: str) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """Return alternatives of clauses, each (operator, operand ...). Parentheses group only a function's arguments."""
    tokens = list(_tokens(expression))
    alternatives: list[list[tuple[str, ...]]] = [[]]
    while tokens:
        first = tokens.pop(0)
        if first == "OR":
            alternatives.append([])
        elif first == "AND":
            continue
        elif first in ("attribute_not_exists", "attribute_exists", "begins_with"):
            end = tokens.index(")")
            arguments = [token for token in tokens[1:end] if token != ","]
            del tokens[: end + 1]
            alternatives[-1].append((first, *arguments))
        else:
            operator = tokens.pop(0)
            operands = [tokens.pop(0)]
            if operator == "BETWEEN":
                tokens.pop(0)
                operands.append(tokens.pop(0))
            alternatives[-1].append((operator, first, *operands))
    return tuple(tuple(one) for one in alternatives)


def _satisfies(item: Item, expression: str, request: Mapping[str, Any]) -> bool:
    if not expression:
        return True
    names, values = _placeholders(request)
    return any(
        all(_clause_holds(item, clause, names, values) for clause in alternative)
        for alternative in _clauses(expression)
    )


def _clause_holds(
    item: Item, clause: tuple[str, ...], names: Mapping[str, str], values: Mapping[str, Any]
) -> bool:
    operator, attribute, *operands = clause
    have = item.get(names.get(attribute, attribute))
    if operator == "attribute_not_exists":
        return have is None
    if have is None:
        return False
    if operator == "attribute_exists":
        return True
    wanted = [values[operand] for operand in operands]
    if operator == "=":
        return bool(_comparable(have) == _comparable(wanted[0]))
    if operator == "begins_with":
        return bool(have["S"].startswith(wanted[0]["S"]))
    if operator == "BETWEEN":
        return bool(_comparable(wanted[0]) <= _comparable(have) <= _comparable(wanted[1]))
    left, right = _comparable(have), _comparable(wanted[0])
    return bool({"<": left < right, ">": left > right, "<=": left <= right, ">=": left >= right}[operator])


def _comparable(value: Mapping[str, Any]) -> Any:
    kind, raw = next(iter(value.items()))
    if kind == "N":
        return float(raw) if "." in raw or "e" in raw else int(raw)
    return sorted(raw) if kind in ("NS", "SS") else raw


def _key_range(
    expression: str, table: SimulatedTable, names: Mapping[str, str], values: Mapping[str, Any]
) -> tuple[str, str, str]:
    pk, low, high = "", "", "\U0010ffff"
    ((*clauses,),) = _clauses(expression)
    for operator, attribute, *operands in clauses:
        wanted = [values[operand]["S"] for operand in operands]
        if names.get(attribute, attribute) == table.partition:
            pk = wanted[0]
        elif operator == "BETWEEN":
            low, high = wanted
        elif operator == "begins_with":
            low, high = wanted[0], wanted[0] + "\U0010ffff"
        elif operator in ("=", ">="):
            low = wanted[0]
            high = wanted[0] if operator == "=" else high
        else:
            raise NotImplementedError(operator)
    return pk, low, high


def _updated(item: Item, expression: str, names: Mapping[str, str], values: Mapping[str, Any]) -> Item:
    verb = ""
    tokens = [token for token in _tokens(expression) if token != ","]
    while tokens:
        token = tokens.pop(0)
        if token in ("SET", "REMOVE", "ADD", "DELETE"):
            verb = token
            continue
        name = names.get(token, token)
        if verb == "REMOVE":
            item.pop(name, None)
            continue
        if verb == "SET":
            tokens.pop(0)
            item[name] = values[tokens.pop(0)]
            continue
        value = values[tokens.pop(0)]
        if verb == "ADD" and "N" in value:
            item[name] = {"N": str(int(item.get(name, {"N": "0"})["N"]) + int(value["N"]))}
            continue
        have = set(item.get(name, {"NS": []})["NS"])
        after = have | set(value["NS"]) if verb == "ADD" else have - set(value["NS"])
        if after:
            item[name] = {"NS": sorted(after)}
        else:
            item.pop(name, None)
    return item
