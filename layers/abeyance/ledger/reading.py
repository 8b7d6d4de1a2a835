"""Entries as people and programs read them: by index, in order, or newest first; each id once.

Nothing here is verified: a proof or ``abeyance ledger verify`` does that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from abeyance.ledger.entry import read_opening
from abeyance.ledger.objects import LogObjects
from abeyance.ledger.tiles import WIDTH, TileReader


class LoggedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry as it stands on the log; ``index`` is its place, from 0. ``body`` is decoded."""

    index: int
    id: str
    type: str
    time: str
    body: dict[str, Any]


class LogReader:
    """The entries of a log of ``size`` entries.

    Parameters
    ----------
    objects
        The log.
    size
        A size that the log had: that of a head, or of a checkpoint.
    """

    def __init__(self, objects: LogObjects, size: int) -> None:
        self._tree = TileReader(objects, size)
        self.size = size

    def entry(self, index: int) -> LoggedEntry:
        """Return one entry. Raises ``LedgerCorrupt`` if it is missing or damaged."""
        return _read(index, self._tree.opening(index))

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[LoggedEntry]:
        """Yield the entries with ``start <= index < stop``, in order."""
        stop = self.size if stop is None else min(stop, self.size)
        for number in range(start // WIDTH, -(-stop // WIDTH)):
            for index, opening in enumerate(self._tree.openings(number), number * WIDTH):
                if start <= index < stop:
                    yield _read(index, opening)

    def newest(self, stop: int | None = None) -> Iterator[LoggedEntry]:
        """Yield the entries with ``index < stop``, the newest first."""
        stop = self.size if stop is None else min(stop, self.size)
        for number in reversed(range(-(-stop // WIDTH))):
            openings = list(enumerate(self._tree.openings(number), number * WIDTH))
            for index, opening in reversed(openings):
                if index < stop:
                    yield _read(index, opening)

    def first_since(self, time: str) -> int:
        """Return an index before which every entry is older than ``time`` (RFC 3339, UTC), by some 20 reads.

        Times come from producers and are nearly in the order of the log: entries that came late lie behind it.
        """
        low, high = 0, -(-self.size // WIDTH)
        while low < high:  # the first bundle whose first entry is not too old
            middle = (low + high) // 2
            if self.entry(middle * WIDTH).time < time:
                low = middle + 1
            else:
                high = middle
        return max(0, low - 1) * WIDTH


def each_once(entries: Iterator[LoggedEntry]) -> Iterator[LoggedEntry]:
    """Yield the entries without repetitions: a redelivery that was not recognised counts once in every reading."""
    seen: set[str] = set()
    for entry in entries:
        if entry.id not in seen:
            seen.add(entry.id)
            yield entry


def _read(index: int, opening: bytes) -> LoggedEntry:
    read = read_opening(opening)
    return LoggedEntry(index=index, id=read.id, type=read.type, time=read.time, body=read.record().body)
