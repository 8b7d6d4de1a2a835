"""The calls of AWS by a stage, and their units of DynamoDB, counted in its own clients."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from abeyance.cost.demand import EVENT_PUT, TRANSACTED

_KIB = 1024
#: A stage, and whether it gets full batches.
Key = tuple[str, bool]
#: Hands an event to a stage.
Invoke = Callable[[], dict[str, Any]]

#: Counted beside the calls: units of DynamoDB.
WRITTEN, READ = "write units", "read units"
#: Counted beside requests, and none themselves.
_NO_REQUESTS = frozenset({WRITTEN, READ, EVENT_PUT, TRANSACTED})
#: The calls of one invocation by name.
Calls = Counter[str]


class CallCounter:
    """A counter in the stages' own clients."""

    def __init__(self, aws: Any) -> None:
        from abeyance.aws.clients import client

        self._dynamodb = aws.client("dynamodb")
        self._current: Calls | None = None
        #: Of each invocation.
        self.calls: dict[Key, list[Calls]] = defaultdict(list)
        self.event_bytes = 0
        for service in ("s3", "dynamodb", "events", "sqs"):
            emitter = client(service).meta.events
            emitter.register("provide-client-params", self._remember)
            emitter.register("after-call", self._count)

    def run(self, key: Key, invoke: Invoke) -> dict[str, Any]:
        """Invoke a stage, and count its calls."""
        self._current = Calls()
        answer = invoke()
        self.calls[key].append(self._current)
        self._current = None
        return answer

    def requests(self, stage: str, full: bool) -> float:
        """Return the requests of a stage's invocation: one message, or a full batch."""
        found = self.calls[stage, full]
        requests = sum(found, Calls())
        return sum(count for name, count in requests.items() if name not in _NO_REQUESTS) / max(1, len(found))

    def _remember(self, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["abeyance"] = params

    def _count(self, parsed: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        if self._current is None:
            return
        service, operation = model.service_model.service_name, model.name
        self._current[f"{service}.{operation}"] += 1
        asked = context.get("abeyance", {})
        if operation == "PutEvents":
            self._current[EVENT_PUT] += len(asked["Entries"])
            self.event_bytes += sum(len(entry["Detail"]) for entry in asked["Entries"])
        if service != "dynamodb":
            return
        if operation == "TransactWriteItems":
            # Each of its items takes time of its own.
            self._current[TRANSACTED] += len(asked["TransactItems"])
            for action in asked["TransactItems"]:
                self._current[WRITTEN] += 2 * self._units(next(iter(action.values())))
        elif operation in ("PutItem", "UpdateItem", "DeleteItem"):
            self._current[WRITTEN] += self._units(asked)
        elif operation == "BatchGetItem":
            items = [item for found in parsed.get("Responses", {}).values() for item in found]
            wanted = sum(len(table["Keys"]) for table in asked["RequestItems"].values())
            # A missing item costs a unit as well.
            self._current[READ] += sum(_read(item) for item in items) + wanted - len(items)
        elif operation == "GetItem":
            self._current[READ] += _read(parsed.get("Item", {}))
        elif operation == "TransactGetItems":
            self._current[READ] += sum(2 * _read(one.get("Item", {})) for one in parsed.get("Responses", []))
        elif operation == "Query":
            self._current[READ] += max(1, math.ceil(sum(map(size_of, parsed.get("Items", []))) / (4 * _KIB)))

    def _units(self, action: Mapping[str, Any]) -> int:
        """Return the write units of one item; of an update, those of the whole item after it."""
        item = action.get("Item")
        if item is None:
            item = self._dynamodb.get_item(TableName=action["TableName"], Key=action["Key"]).get("Item", {})
        return max(1, math.ceil(size_of(item) / _KIB))


def _read(item: Mapping[str, Any]) -> int:
    """Return the units of a consistent read."""
    return max(1, math.ceil(size_of(item) / (4 * _KIB)))


def size_of(item: Mapping[str, Any]) -> int:
    """Return the bytes as DynamoDB counts them: names and values."""
    return sum(len(name) + _value(value) for name, value in item.items())


def _value(value: Mapping[str, Any]) -> int:
    kind, held = next(iter(value.items()))
    match kind:
        case "S":
            return len(held.encode())
        case "B":
            return len(held)
        case "N":
            return len(held) // 2 + 1
        case "M":
            return 3 + size_of(held)
        case "L":
            return 3 + sum(1 + _value(one) for one in held)
        case "SS" | "NS" | "BS":
            return sum(map(len, held))
        case _:
            return 1
