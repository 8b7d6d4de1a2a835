"""Entries as people and programs read them: by index, in order, or newest first; each id once.

Nothing here is verified: a proof or ``abeyance ledger verify`` does that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import msgspec

from abeyance.ledger.entry import read_opening
from abeyance.ledger.objects import LogObjects
from abeyance.ledger.read_ahead import read_ahead
from abeyance.ledger.tiles import OPENINGS, WIDTH, TileName, TileReader, decode_bundle, read_tile


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
    readers
        Bundles that are read at the same time.
    """

    def __init__(self, objects: LogObjects, size: int, readers: int = 1) -> None:
        self._objects = objects
        self._readers = readers
        self._tree = TileReader(objects, size)
        self.size = size

    def entry(self, index: int) -> LoggedEntry:
        """Return one entry. Raises ``LedgerCorrupt`` if it is missing or damaged."""
        return _read(index, self._tree.opening(index))

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[LoggedEntry]:
        """Yield the entries with ``start <= index < stop``, in order."""
        stop = self.size if stop is None else min(stop, self.size)
        for number, openings in self._bundles(range(start // WIDTH, -(-stop // WIDTH))):
            for index, opening in enumerate(openings, number * WIDTH):
                if start <= index < stop:
                    yield _read(index, opening)

    def newest(self, stop: int | None = None, start: int = 0) -> Iterator[LoggedEntry]:
        """Yield the entries with ``start <= index < stop``, the newest first."""
        stop = self.size if stop is None else min(stop, self.size)
        for number, openings in self._bundles(reversed(range(start // WIDTH, -(-stop // WIDTH)))):
            for index, opening in reversed(list(enumerate(openings, number * WIDTH))):
                if start <= index < stop:
                    yield _read(index, opening)

    def at(self, indices: Sequence[int]) -> Iterator[LoggedEntry]:
        """Yield some entries, in the order given; each bundle is read once for neighbours."""
        groups = [(number, list(some)) for number, some in groupby(indices, lambda index: index // WIDTH)]
        bundles = self._bundles(number for number, _ in groups)
        for (first, openings), (_, some) in zip(bundles, groups, strict=True):
            for index in some:
                yield _read(index, openings[index - first * WIDTH])

    def first_since(self, time: str) -> int:
        """Return an index before which every entry is older than ``time`` (RFC 3339, UTC), by some 20 reads.

        Times come from producers and are nearly in the order of the log: entries that came late lie behind it. A
        message that had no time, or a wrong one, misleads nobody among 255 others; one from the future costs reads.
        """
        low, high = 0, -(-self.size // WIDTH)
        while low < high:  # the first bundle with an entry that is not too old
            middle = (low + high) // 2
            if max(read_opening(one).time for one in self._tree.openings(middle)) < time:
                low = middle + 1
            else:
                high = middle
        return max(0, low - 1) * WIDTH

    def _bundles(self, numbers: Iterable[int]) -> Iterator[tuple[int, list[bytes]]]:
        """Yield bundles of openings by their numbers, in the order given."""

        def load(number: int) -> tuple[int, list[bytes]]:
            name = TileName(OPENINGS, number, min(WIDTH, self.size - number * WIDTH))
            return number, read_tile(self._objects, name, decode_bundle)

        return read_ahead(load, numbers, self._readers)


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
