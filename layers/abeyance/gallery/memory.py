"""A gallery that lives in this process: the same rules over a dict."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from abeyance.gallery.table import (
    PARTITION,
    SORT,
    TRANSACTION_LIMIT,
    Conflict,
    Delete,
    Item,
    Key,
    ObjectMissing,
    Operation,
    Put,
)
from abeyance.gallery.users import TableGallery


class InMemoryGallery(TableGallery):
    """A :class:`~abeyance.gallery.port.Gallery` without AWS; what it holds is gone with the object."""

    def __init__(self, **rest: Any) -> None:
        super().__init__(MemoryTable(), MemoryObjects(), **rest)


class MemoryTable:
    """:class:`~abeyance.gallery.table.Table` in a dict. Items never expire."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._partitions: dict[str, dict[str, Item]] = {}
        self._sorted: dict[str, list[str]] = {}

    def get(self, key: Key) -> Item | None:
        with self._lock:
            item = self._find(key)
            return dict(item) if item is not None else None

    def get_many(self, keys: Iterable[Key], *, attributes: Sequence[str] = ()) -> dict[Key, Item]:
        found = ((key, self.get(key)) for key in keys)
        wanted = {PARTITION, SORT, *attributes}
        return {
            key: {name: value for name, value in item.items() if not attributes or name in wanted}
            for key, item in found
            if item is not None
        }

    def get_settled(self, keys: Sequence[Key]) -> dict[Key, Item]:
        return self.get_many(keys)

    def query(
        self, pk: str, first: str, last: str, *, limit: int = 0, attributes: Sequence[str] = ()
    ) -> Iterator[Item]:
        with self._lock:
            order = self._sorted.get(pk, [])
            found = order[bisect_left(order, first) : bisect_right(order, last)]
            items = [dict(self._partitions[pk][sk]) for sk in (found[:limit] if limit else found)]
        for item in items:
            yield {name: item[name] for name in attributes if name in item} if attributes else item

    def transact(self, operations: Sequence[Operation]) -> None:
        keys = [_key(operation) for operation in operations]
        if len(operations) > TRANSACTION_LIMIT or len(set(keys)) < len(keys):
            raise ValueError("more operations than a transaction takes, or two on one item")
        with self._lock:
            for key, operation in zip(keys, operations, strict=True):
                self._require(self._find(key), operation)
            for key, operation in zip(keys, operations, strict=True):
                self._apply(key, operation)

    def delete_many(self, keys: Iterable[Key]) -> None:
        for key in list(keys):
            self.transact([Delete(key)])

    def _find(self, key: Key) -> Item | None:
        return self._partitions.get(key[0], {}).get(key[1])

    def _require(self, item: Item | None, operation: Operation) -> None:
        if isinstance(operation, Put):
            if operation.absent and item is not None:
                raise Conflict("the item is there")
        elif any((item or {}).get(name) != value for name, value in operation.expect.items()):
            raise Conflict("the item is not as expected")

    def _apply(self, key: Key, operation: Operation) -> None:
        partition, order = self._partitions.setdefault(key[0], {}), self._sorted.setdefault(key[0], [])
        if isinstance(operation, Delete):
            if partition.pop(key[1], None) is not None:
                del order[bisect_left(order, key[1])]
            return
        if key[1] not in partition:
            insort(order, key[1])
        if isinstance(operation, Put):
            partition[key[1]] = dict(operation.item)
            return
        item = {PARTITION: key[0], SORT: key[1]} | partition.get(key[1], {}) | dict(operation.set)
        for name in operation.unset:
            item.pop(name, None)
        for name, numbers in operation.add.items():
            item[name] = item.get(name, frozenset()) | numbers
        for name, numbers in operation.discard.items():
            item[name] = item.get(name, frozenset()) - numbers
            if not item[name]:
                del item[name]
        partition[key[1]] = item


class MemoryObjects:
    """:class:`~abeyance.gallery.table.Objects` in a dict."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    def put(self, key: str, body: bytes) -> None:
        self._objects[key] = bytes(body)

    def get(self, key: str) -> bytes:
        try:
            return self._objects[key]
        except KeyError:
            raise ObjectMissing(key) from None

    def list(self, prefix: str) -> list[str]:
        return sorted(key for key in tuple(self._objects) if key.startswith(prefix))

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._objects.pop(key, None)


def _key(operation: Operation) -> Key:
    if isinstance(operation, Put):
        return operation.item[PARTITION], operation.item[SORT]
    return operation.key
