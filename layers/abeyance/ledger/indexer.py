"""The indexer: writes the lookup index from the openings of the log, and decides nothing.

::

    how many entries the next segment has, once -> its entries by day -> its directory -> its ids -> ids joined

The first write says of which entries the segment is, so that everything behind it follows from the log, whoever goes on
after a death. The ids come last, and a segment without them is not there for a lookup, which then reads the log itself.
So the index may be behind, and lacks nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

import msgspec

from abeyance.aws.timestamps import parse_moment
from abeyance.ledger.errors import LedgerCorrupt
from abeyance.ledger.index_files import (
    IDS,
    INDEX,
    covering,
    damaged,
    encode_segment,
    ids_key,
    merge_ids,
    parse_ids_key,
    segment_key,
)
from abeyance.ledger.objects import LogObjects
from abeyance.ledger.query import row_of
from abeyance.ledger.reading import LogReader

#: Entries for which a segment is worth its files, and most entries of one, some 100 MB of memory.
LEAST_ENTRIES: Final = 4_096
MOST_ENTRIES: Final = 262_144
#: Age of the oldest entry for which a smaller segment is written, so that Athena sees it.
WAIT_S: Final = 3600.0
#: Files of ids of one magnitude that are joined, entries from which a file is left as it is, and most of a joined one.
JOINED_FILES: Final = 16
LEFT_ENTRIES: Final = 1 << 21
MOST_JOINED: Final = 1 << 22


class IndexState(msgspec.Struct, frozen=True):
    """The extent of an index.

    Attributes
    ----------
    indexed, size
        Entries in the index, and on the log.
    segments
        Segments that this run wrote, or found good.
    repaired
        Keys that were missing or had other content, of which there are new ones now.
    foreign
        Keys that are no part of the index.
    """

    indexed: int
    size: int
    segments: int
    repaired: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


class _Segment(msgspec.Struct):
    count: int


class Indexer:
    """The writer of the lookup index.

    Parameters
    ----------
    size
        Returns the number of integrated entries.
    objects
        The log, of which only the index is written.
    parallel
        Objects that are read at the same time.
    clock
        Epoch seconds.
    """

    def __init__(
        self,
        size: Callable[[], int],
        objects: LogObjects,
        parallel: int = 1,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._size = size
        self._objects = objects
        self._parallel = parallel
        self._clock = clock

    def index(self, within_s: float = float("inf")) -> IndexState:
        """Write the segments that are due, in about a time, and join ids. Running it again changes nothing.

        Raises
        ------
        LedgerCorrupt
            The openings of the log are missing or damaged, or the index is.
        LedgerUnavailable
            AWS refused or did not answer.
        """
        end, segments = self._clock() + within_s, 0
        size = self._size()
        at = sum(count for _, count in self._covering())
        while self._clock() < end and (count := self._due(at, size)):
            for key, data in self._files(at, count, size):
                self._objects.replace(key, data)
            at, segments = at + count, segments + 1
        self._join()
        return IndexState(at, size, segments)

    def rebuild(self) -> IndexState:
        """Make every file of the index again from the log, and write those that are missing or have other content.

        What it reads and writes is the whole index; it may be repeated where it stopped. Raises as :meth:`index` does.
        """
        # Listed before the size is read, so that nobody's later segment looks foreign.
        there = list(self._objects.keys(INDEX))
        size, at = self._size(), 0
        segments: list[tuple[int, int]] = []
        repaired: list[str] = []
        mine: set[str] = set()
        while count := self._due(at, size, repaired):
            mine.add(segment_key(at))
            for key, data in self._files(at, count, size):
                mine.add(key)
                self._repair(key, data, repaired)
            segments.append((at, count))
            at += count
        for key, parts in self._joined(segments):
            mine.add(key)
            self._repair(key, merge_ids(self._objects.get(part) or b"" for part in parts), repaired)
        self._join()
        foreign = tuple(key for key in there if key not in mine)
        return IndexState(at, size, len(segments), tuple(repaired), foreign)

    def _covering(self) -> list[tuple[int, int]]:
        return covering(self._objects.keys(IDS))

    def _due(self, at: int, size: int, repaired: list[str] | None = None) -> int:
        """Return the entries of the segment from ``at`` on, which is fixed with this; 0 while none is due."""
        key = segment_key(at)
        if (count := self._fixed(key, repaired)) is None:
            count = min(size - at, MOST_ENTRIES)
            if repaired is not None:
                count = self._written(at, count)
            if count <= 0 or (count < LEAST_ENTRIES and not self._waited(at, size)):
                return 0
            data = msgspec.json.encode(_Segment(count))
            try:
                self._objects.put_new(key, data)
            except LedgerCorrupt:  # another indexer was faster, or what is there is to be repaired
                if (there := self._fixed(key, repaired)) is not None:
                    count = there
                elif repaired is not None:
                    self._repair(key, data, repaired)
        return count if count <= size - at else 0

    def _fixed(self, key: str, repaired: list[str] | None) -> int | None:
        """Return the entries that a segment was fixed to have; ``None`` if it was not, or is to be repaired."""
        data = self._objects.get(key)
        try:
            count = None if data is None else msgspec.json.decode(data, type=_Segment).count
        except msgspec.MsgspecError:
            count = 0
        if count is None or 0 < count <= MOST_ENTRIES:
            return count
        if repaired is None:
            raise damaged()
        return None

    def _written(self, at: int, most: int) -> int:
        """Return the entries of the segment whose ids are there, though nothing says its size; else ``most``."""
        keys = self._objects.keys(ids_key(at, 0)[:-1])
        return min([count for _, count in map(parse_ids_key, keys) if count], default=most)

    def _waited(self, at: int, size: int) -> bool:
        logged = parse_moment(LogReader(self._objects, size).entry(at).time)
        return self._clock() - logged.timestamp() >= WAIT_S

    def _files(self, first: int, count: int, size: int) -> Iterator[tuple[str, bytes]]:
        reader = LogReader(self._objects, size, self._parallel)
        rows = [row_of(entry) for entry in reader.entries(first, first + count)]
        yield from encode_segment(first, rows).items()

    def _join(self) -> None:
        """Join files of ids of about one size, so that a lookup by id reads few."""
        while group := joinable(self._covering()):
            data = merge_ids(self._objects.get(ids_key(*one)) or b"" for one in group)
            self._objects.replace(ids_key(group[0][0], sum(count for _, count in group)), data)

    def _joined(self, segments: Collection[tuple[int, int]]) -> Iterator[tuple[str, list[str]]]:
        """Yield the files of ids that stand for several segments, each with those of its segments."""
        ends = [first + count for first, count in segments]
        for key in list(self._objects.keys(IDS)):
            first, count = parse_ids_key(key)
            parts = [one for one in segments if first <= one[0] < first + count]
            if len(parts) > 1 and parts[0][0] == first and first + count in ends:
                yield key, [ids_key(*one) for one in parts]

    def _repair(self, key: str, data: bytes, repaired: list[str]) -> None:
        if self._objects.get(key) != data:
            self._objects.replace(key, data)
            repaired.append(key)


def joinable(files: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return files of ids that are worth joining, of those that follow each other; none if there are too few.

    Joined are the last :data:`JOINED_FILES` of one magnitude or below, so that every entry is joined a few times, and
    of any number of entries there are a few dozen files.
    """
    for magnitude in range(LEFT_ENTRIES.bit_length()):
        run: list[tuple[int, int]] = []
        for one in reversed(files):
            if one[1] >= LEFT_ENTRIES or one[1].bit_length() // 4 > magnitude:
                break
            run.insert(0, one)
        if len(run) >= JOINED_FILES:
            total, found = 0, list[tuple[int, int]]()
            for one in run:
                if (total := total + one[1]) > MOST_JOINED:
                    break
                found.append(one)
            return found
    return []
