"""A table, a bucket and a gallery in this process's memory. One contract suite runs on these and on AWS's."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Unpack

from abeyance.aws.objects import ObjectMissing
from abeyance.aws.table import (
    LAST_SORT,
    PARTITION,
    PRESENT,
    SORT,
    TRANSACTION_LIMIT,
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
from abeyance.gallery.facade import Gallery, Options


class MemoryTable:
    """:class:`~abeyance.aws.table.Table` in a dict. Items never expire."""

    def __init__(self, *, partition: str = PARTITION, sort: str = SORT) -> None:
        self._partition = partition
        self._sort = sort
        self._lock = threading.Lock()
        self._partitions: dict[str, dict[str, Item]] = {}
        self._sorted: dict[str, list[str]] = {}

    def get(self, key: Key) -> Item | None:
        with self._lock:
            item = self._find(key)
            return dict(item) if item is not None else None

    def get_many(
        self, keys: Iterable[Key], *, attributes: Sequence[str] = (), along: Sequence[ReadAlong] = ()
    ) -> dict[Key, Item]:
        for one in along:
            one.accept(one.table.get_many(one.keys))
        wanted = {self._partition, self._sort, *attributes}
        return {
            key: {name: value for name, value in item.items() if not attributes or name in wanted}
            for key in keys
            if (item := self.get(key)) is not None
        }

    def get_transactional(self, keys: Sequence[Key]) -> dict[Key, Item]:
        return self.get_many(keys)

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
        with self._lock:
            order = self._sorted.get(pk, [])
            found = order[bisect_left(order, first) : bisect_right(order, last)]
            found = found[::-1] if descending else found
            items = [dict(self._partitions[pk][sk]) for sk in (found[:limit] if limit else found)]
        for item in items:
            yield {name: item[name] for name in attributes if name in item} if attributes else item

    def scan(self, expect: Expected) -> Iterator[Item]:
        with self._lock:
            items = [dict(item) for partition in self._partitions.values() for item in partition.values()]
        return (item for item in items if _holds(item, expect))

    def transact(self, operations: Sequence[Operation]) -> None:
        keys = [self._key_of(operation) for operation in operations]
        if len(operations) > TRANSACTION_LIMIT or len(set(keys)) < len(keys):
            raise ValueError("more operations than a transaction takes, or two on one item")
        with self._lock:
            found = [self._find(key) for key in keys]
            failed = [
                not self._allows(item, operation) for item, operation in zip(found, operations, strict=True)
            ]
            if any(failed):
                item = found[0] if len(operations) == 1 else None
                raise Conflict(
                    "a condition did not hold", failed=failed, item=dict(item) if item is not None else None
                )
            for key, operation in zip(keys, operations, strict=True):
                self._apply(key, operation)

    def delete_many(self, keys: Iterable[Key]) -> None:
        for key in list(keys):
            self.transact([Delete(key)])

    def _find(self, key: Key) -> Item | None:
        return self._partitions.get(key[0], {}).get(key[1])

    def _allows(self, item: Item | None, operation: Operation) -> bool:
        if isinstance(operation, Put) and operation.absent:
            return item is None
        return _holds(item or {}, operation.expect)

    def _apply(self, key: Key, operation: Operation) -> None:
        if isinstance(operation, Require):
            return
        partition, order = self._partitions.setdefault(key[0], {}), self._sorted.setdefault(key[0], [])
        if isinstance(operation, Delete):
            if partition.pop(key[1], None) is not None:
                del order[bisect_left(order, key[1])]
            return
        if key[1] not in partition:
            insort(order, key[1])
        if isinstance(operation, Put):
            partition[key[1]] = dict(operation.item)
        else:
            partition[key[1]] = _updated(self._key_item(key) | partition.get(key[1], {}), operation)

    def _key_item(self, key: Key) -> Item:
        return {name: part for name, part in zip((self._partition, self._sort), key, strict=True) if name}

    def _key_of(self, operation: Operation) -> Key:
        if isinstance(operation, Put):
            return operation.item[self._partition], operation.item[self._sort] if self._sort else ""
        return operation.key


def _updated(item: Item, operation: Update) -> Item:
    item |= dict(operation.set)
    for name in operation.unset:
        item.pop(name, None)
    for name, added in operation.add.items():
        if isinstance(added, frozenset):
            item[name] = item.get(name, frozenset()) | added
        else:
            item[name] = item.get(name, 0) + added
    for name, numbers in operation.discard.items():
        item[name] = item.get(name, frozenset()) - numbers
        if not item[name]:
            del item[name]
    return item


def _holds(item: Item, expect: Condition) -> bool:
    if not expect:
        return True
    alternatives = expect if isinstance(expect, tuple) else (expect,)
    return any(
        all(_is(item.get(name), wanted) for name, wanted in alternative.items())
        for alternative in alternatives
    )


def _is(value: Any, wanted: Any) -> bool:
    if wanted is PRESENT:
        return value is not None
    if isinstance(wanted, Below):
        return value is not None and bool(value < wanted.value)
    return bool(value == wanted)


class MemoryObjects:
    """:class:`~abeyance.aws.objects.Objects` in a dict."""

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


class InMemoryGallery(Gallery):
    """A :class:`~abeyance.gallery.facade.Gallery` without AWS; its content is gone with the object."""

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__(MemoryTable(), MemoryObjects(), **options)
