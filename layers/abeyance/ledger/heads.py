"""The head of the log: one item that moves, once for a whole batch of entries.

The item says how many entries are sequenced, which object holds the last batch of them, and up to which size the tree
is built. It moves by a conditional put, and only when everything before the new batch is integrated: so at most one
batch waits, and of two sequencers that start from the same head one wins.

::

    size        entries that have their place
    first       index of the first entry of the last batch
    batch       key of the object with the last batch; digest is its SHA-256, hex
    integrated  entries that the tiles hold: ``first`` or ``size``
    root        root of the tree over them, base64
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from abeyance.aws.table import PARTITION, SORT, Condition, Conflict, Put, Table
from abeyance.encoding import decode_base64, encode_base64
from abeyance.ledger.errors import LedgerUnavailable
from abeyance.ledger.merkle import EMPTY_ROOT

_KEY: Final = {PARTITION: "head", SORT: "head"}


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The end of the log; see the module."""

    origin: str
    size: int = 0
    first: int = 0
    batch: str = ""
    digest: str = ""
    integrated: int = 0
    root: str = encode_base64(EMPTY_ROOT)

    @property
    def pending(self) -> bool:
        """True if the last batch is sequenced and not yet integrated."""
        return self.integrated < self.size

    @property
    def root_bytes(self) -> bytes:
        """The root of the tree over the integrated entries, 32 bytes."""
        return decode_base64(self.root)

    def followed_by(self, *, count: int, batch: str, digest: str) -> Head:
        """Return the head after a batch of ``count`` entries. Everything before it has to be integrated."""
        return msgspec.structs.replace(
            self, size=self.size + count, first=self.size, batch=batch, digest=digest
        )

    def integrated_to(self, root: bytes) -> Head:
        """Return the head once its last batch is integrated."""
        return msgspec.structs.replace(self, integrated=self.size, root=encode_base64(root))


class HeadStore:
    """The head in a table. Only the sequencer's role may put it."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def read(self) -> Head | None:
        """Return the head, read consistently; ``None`` before the first entry."""
        with _reaching():
            item = self._table.get((_KEY[PARTITION], _KEY[SORT]))
        return None if item is None else msgspec.convert(item, Head)

    def integrated(self) -> int:
        """Return the number of integrated entries; 0 before the first."""
        head = self.read()
        return head.integrated if head else 0

    def create(self, origin: str) -> Head:
        """Return the head of a new log; of two that create it one wins, and both get the winner's."""
        head = Head(origin=origin)
        return head if self._put(head, absent=True) else self.read() or head

    def move(self, before: Head, after: Head) -> bool:
        """Put ``after`` in the place of ``before``; ``False`` if that is not, or no longer, the head."""
        return self._put(
            after, expect={name: getattr(before, name) for name in ("size", "digest", "integrated")}
        )

    def _put(self, head: Head, *, absent: bool = False, expect: Condition | None = None) -> bool:
        item = {**_KEY, **msgspec.structs.asdict(head)}
        try:
            with _reaching():
                self._table.transact([Put(item, absent=absent, expect=expect or {})])
        except Conflict:
            return False
        return True


@contextlib.contextmanager
def _reaching() -> Iterator[None]:
    """Turn an error of AWS into :class:`LedgerUnavailable`, without its text, which may quote the request."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
        raise LedgerUnavailable(f"the ledger's table did not confirm: {code}") from error
