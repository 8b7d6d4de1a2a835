"""The little that a gallery asks of a table and of an object store, so that a fake can be small and exact.

Items are plain dicts of ``str``, ``int``, ``float``, ``bytes``, lists of ``str`` or ``float`` and frozensets of
``int`` (never empty: DynamoDB has no empty set). Every read is strongly consistent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

PARTITION = "pk"
SORT = "sk"
#: Epoch seconds after which DynamoDB may drop the item.
TTL = "expires"
#: Most operations of one transaction (DynamoDB's limit).
TRANSACTION_LIMIT = 100

Key: TypeAlias = tuple[str, str]
Item: TypeAlias = dict[str, Any]


class Conflict(Exception):
    """A condition did not hold, or another transaction is under way on the same items. Nothing changed."""


class ObjectMissing(Exception):
    """The object store has nothing under that key."""


@dataclass(frozen=True, slots=True)
class Put:
    """Write a whole item; with ``absent``, only where there is none."""

    item: Item
    absent: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove an item, if it is there; with ``expect``, only if those attributes are as said."""

    key: Key
    expect: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Update:
    """Change some attributes of an item, if those of ``expect`` are as said (``None``: are absent)."""

    key: Key
    set: Mapping[str, Any] = field(default_factory=dict)
    unset: Sequence[str] = ()
    #: Numbers to add to, or take from, number sets.
    add: Mapping[str, frozenset[int]] = field(default_factory=dict)
    discard: Mapping[str, frozenset[int]] = field(default_factory=dict)
    expect: Mapping[str, Any] = field(default_factory=dict)


Operation: TypeAlias = Put | Delete | Update


class Table(Protocol):
    """A table with a string partition key and a string sort key."""

    def get(self, key: Key) -> Item | None:
        """One item."""
        ...

    def get_many(self, keys: Iterable[Key], *, attributes: Sequence[str] = ()) -> dict[Key, Item]:
        """Those items that exist, or the keys and some attributes of them.

        Each is read by itself: not one picture in time.
        """
        ...

    def get_settled(self, keys: Sequence[Key]) -> dict[Key, Item]:
        """Those items that exist, once no transaction is under way on them (at most 100 keys).

        Raises :class:`Conflict` when one stays under way.
        """
        ...

    def query(
        self, pk: str, first: str, last: str, *, limit: int = 0, attributes: Sequence[str] = ()
    ) -> Iterator[Item]:
        """Items of a partition with first <= sk <= last, ascending; at most ``limit`` if that is not 0."""
        ...

    def transact(self, operations: Sequence[Operation]) -> None:
        """All or nothing. Raises :class:`Conflict`."""
        ...

    def delete_many(self, keys: Iterable[Key]) -> None:
        """Delete without conditions, in no order."""
        ...


class Objects(Protocol):
    """A bucket, of which a gallery uses what lies under its own prefixes."""

    def put(self, key: str, body: bytes) -> None:
        """Write an object."""
        ...

    def get(self, key: str) -> bytes:
        """Read an object. Raises :class:`ObjectMissing`."""
        ...

    def list(self, prefix: str) -> list[str]:
        """Keys under a prefix."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; one that is not there is no error. Raises if any could not be deleted."""
        ...
