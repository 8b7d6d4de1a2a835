"""The port of a DynamoDB table: items by key, conditions and transactions. It is small, so that its fake is exact.

Items are plain dicts of ``str``, ``int``, ``float``, ``bytes``, lists of ``str`` or ``float`` and frozensets of
``int`` (never empty: DynamoDB has no empty set). Every read is strongly consistent. The adapters are
:class:`~abeyance.aws.dynamodb.DynamoTable` and a fake for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

PARTITION: Final = "pk"
SORT: Final = "sk"
#: Epoch seconds after which DynamoDB may drop the item.
TTL: Final = "expires"
#: Most operations of one transaction.
TRANSACTION_LIMIT: Final = 100
#: Sorts after every character of a sort key.
LAST_SORT: Final = "\U0010ffff"

#: Partition and sort key; the sort key is empty for a table without one.
Key: TypeAlias = tuple[str, str]
Item: TypeAlias = dict[str, Any]


class Conflict(Exception):
    """A condition that did not hold, or another transaction under way on the same items. Nothing changed.

    ``failed`` has, for each operation in order, whether its own condition did not hold. ``item`` is the item that
    stands in the way of a single operation, where DynamoDB returns it.
    """

    def __init__(self, message: str, *, failed: Sequence[bool] = (), item: Item | None = None) -> None:
        super().__init__(message)
        self.failed = tuple(failed)
        self.item = item


@dataclass(frozen=True, slots=True)
class Below:
    """A condition: the attribute is there and sorts before ``value``."""

    value: str | int


class _Present:
    def __repr__(self) -> str:
        return "PRESENT"


#: A condition: the attribute is there.
PRESENT: Final = _Present()

#: Attributes and what each must be: a value, ``None`` (absent), :data:`PRESENT` or :class:`Below`.
Expected: TypeAlias = Mapping[str, Any]
#: One set of expectations, or alternatives of which one must hold.
Condition: TypeAlias = Expected | tuple[Expected, ...]


@dataclass(frozen=True, slots=True)
class Put:
    """Write a whole item; with ``absent``, only where there is none."""

    item: Item
    absent: bool = False
    expect: Condition = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove an item, if it is there; with ``expect``, only if the condition holds."""

    key: Key
    expect: Condition = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Update:
    """Change some attributes of an item, and create it where there is none, if the condition holds."""

    key: Key
    set: Mapping[str, Any] = field(default_factory=dict)
    unset: Sequence[str] = ()
    #: Numbers to add: one to a number (0 where there is none), a set of them to a number set.
    add: Mapping[str, int | frozenset[int]] = field(default_factory=dict)
    #: Numbers to take from number sets.
    discard: Mapping[str, frozenset[int]] = field(default_factory=dict)
    expect: Condition = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Require:
    """Change nothing, but let the transaction fail unless the condition holds."""

    key: Key
    expect: Condition


Operation: TypeAlias = Put | Delete | Update | Require


@dataclass(frozen=True, slots=True)
class ReadAlong:
    """Items of another table, to be read in the request that reads a table's own.

    ``accept`` is given those that exist. It is not called where they could not be read: then whoever needs them reads
    them, and meets the error.
    """

    table: Table
    keys: Sequence[Key]
    accept: Callable[[Mapping[Key, Item]], None]


class Table(Protocol):
    """A table with a string partition key and, mostly, a string sort key."""

    def get(self, key: Key) -> Item | None:
        """Return one item."""
        ...

    def get_many(
        self, keys: Iterable[Key], *, attributes: Sequence[str] = (), along: Sequence[ReadAlong] = ()
    ) -> dict[Key, Item]:
        """Return those items that exist, or the keys and some attributes of them.

        Each is read by itself: together they are not a snapshot. Items of other tables are read ``along`` with them,
        in the same requests. If that fails for whatever reason, these items are read alone.
        """
        ...

    def get_transactional(self, keys: Sequence[Key]) -> dict[Key, Item]:
        """Return those items that exist (at most 100 keys), all as of one moment.

        Raises :class:`Conflict` while a transaction is under way on them.
        """
        ...

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
        """Yield items of a partition with first <= sk <= last, ascending; at most ``limit`` if that is not 0."""
        ...

    def scan(self, expect: Expected) -> Iterator[Item]:
        """Yield the items of the whole table whose attributes equal ``expect``, in no order."""
        ...

    def transact(self, operations: Sequence[Operation]) -> None:
        """Do all or nothing. Raises :class:`Conflict`."""
        ...

    def delete_many(self, keys: Iterable[Key]) -> None:
        """Delete without conditions, in no order."""
        ...
