"""Lookup: entries by id, day, tenant, action and outcome, newest first, by a few reads.

A lookup proves nothing: it says which entries to look at, and each of them is read from the log and compared with what
was asked. Who has to believe that an entry is on the log takes its receipt; who has to believe that there is no other
one reads the log. What the index does not have yet is read from the end of the log.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from itertools import islice
from typing import Final

import msgspec

from abeyance.ledger.index_files import (
    DIRECTORY,
    ENTRIES,
    IDS,
    SegmentDirectory,
    covering,
    damaged,
    decode_directory,
    decode_rows,
    directory_key,
    ids_key,
    parse_rows_key,
    rows_key,
    search_ids,
)
from abeyance.ledger.objects import LogObjects
from abeyance.ledger.query import IndexRow, Query, row_of
from abeyance.ledger.read_ahead import read_ahead
from abeyance.ledger.reading import LoggedEntry, LogReader, each_once
from abeyance.ledger.tiles import WIDTH

#: Length of a day in a query, and of a month, the least that files are chosen by.
_DAY, _MONTH = len("2020-06-10"), len("2020-06")
#: Segments that are read ahead of their turn, at most.
_AHEAD: Final = 4


class FoundEntries(msgspec.Struct, frozen=True):
    """Some entries, newest first, and the entry to continue before; 0 where nothing more can come."""

    entries: tuple[LoggedEntry, ...]
    before: int


class Lookup:
    """The entries of a log as its index, and behind that its end, has them.

    Parameters
    ----------
    objects
        The log. An export has no index, and is read through.
    size
        A size that the log had: that of a head, or of a checkpoint.
    readers
        Objects that are read at the same time.
    """

    def __init__(self, objects: LogObjects, size: int, readers: int = 1) -> None:
        self._objects = objects
        self._readers = readers
        self._log = LogReader(objects, size, readers)
        self.size = size

    @property
    def indexed(self) -> int:
        """Number of entries that are in the index."""
        return min(self.size, sum(count for _, count in self._ids))

    def find(self, name: str) -> int | None:
        """Return the first entry with this id; ``None`` if there is none.

        Raises
        ------
        LedgerCorrupt
            The index or the log is damaged.
        """

        def search(file: tuple[int, int]) -> list[int]:
            key = ids_key(*file)
            part = functools.partial(self._objects.part, key)
            return search_ids(part, file[1], name)

        found = (index for some in read_ahead(search, self._ids, self._readers) for index in some)
        known = [index for index in sorted(found) if index < self.size]
        for entry in self._log.at(known):
            if entry.id == name:
                return entry.index
        for entry in self._log.entries(self.indexed):
            if entry.id == name:
                return entry.index
        return None

    def entries(self, query: Query) -> Iterator[LoggedEntry]:
        """Return all entries that match, newest first, each id once. Raises as :meth:`find` does."""
        rows = (row for _, _, some in self._chunks(query, self.size) for row in some)
        some = iter(lambda: list(islice(rows, WIDTH)), [])
        return each_once(entry for few in some for entry in self._read(query, few))

    def page(self, query: Query, *, before: int, limit: int, most: int) -> FoundEntries:
        """Return the newest entries that match, from below entry ``before``.

        Parameters
        ----------
        limit
            Most entries of the page.
        most
            Entries to look at; the page then says where to continue.
        """
        found: list[IndexRow] = []
        looked = 0
        for floor, count, rows in self._chunks(query, min(before, self.size)):
            looked += count
            if len(found) + len(rows) >= limit:
                found += rows[: limit - len(found)]
                return self._page(query, found, found[-1].index)
            found += rows
            if looked >= most:
                return self._page(query, found, floor)
        return self._page(query, found, 0)

    def _page(self, query: Query, rows: list[IndexRow], before: int) -> FoundEntries:
        return FoundEntries(tuple(each_once(self._read(query, rows))), before)

    def _read(self, query: Query, rows: list[IndexRow]) -> Iterator[LoggedEntry]:
        """Yield the entries themselves; one that is not what the index says is not found by it."""
        for entry in self._log.at([row.index for row in rows]):
            if query.fits(row_of(entry)):
                yield entry

    def _chunks(self, query: Query, before: int) -> Iterator[tuple[int, int, list[IndexRow]]]:
        """Yield matching entries below ``before``, newest first, some at a time.

        Each time with the lowest entry that was looked at, and how many were.
        """
        if query.id is not None:
            index = self.find(query.id)
            yield 0, 1, [] if index is None or index >= before else self._matching(query, [index])
            return
        rows = map(row_of, self._log.newest(before, self.indexed))
        while some := list(islice(rows, WIDTH)):
            yield some[-1].index, len(some), [row for row in some if query.fits(row)]
        load = functools.partial(self._segment, query)
        for first, found in read_ahead(load, self._segments(query, before), min(self._readers, _AHEAD)):
            match = [row for row in found if row.index < before and query.fits(row)]
            yield first, len(found), sorted(match, key=lambda row: -row.index)

    def _matching(self, query: Query, indices: list[int]) -> list[IndexRow]:
        return [row for row in map(row_of, self._log.at(indices)) if query.fits(row)]

    def _segments(self, query: Query, before: int) -> Iterator[tuple[str, list[str]]]:
        """Yield key of the directory and days of the segments that may match, newest first; no days for all."""
        end = min(before, self.indexed)
        if query.day is None or len(query.day) < _MONTH:
            for key in self._objects.keys(DIRECTORY, directory_key(end)):
                yield key, []
            return
        days: dict[int, list[str]] = {}
        for key in self._objects.keys(f"{ENTRIES}day={query.day[:_DAY]}"):
            if (name := parse_rows_key(key)) and name[1] < end:
                days.setdefault(name[1], []).append(name[0])
        for first in sorted(days, reverse=True):
            yield directory_key(first), days[first]

    def _segment(self, query: Query, one: tuple[str, list[str]]) -> tuple[int, list[IndexRow]]:
        """Return first entry and possible matches of a segment, by a read of its directory and one a day."""
        directory = decode_directory(self._objects.get(one[0]))
        found: list[IndexRow] = []
        for day in one[1] or directory.days:
            found += self._day(directory, day, query.tenant)
        return directory.first, found

    def _day(self, directory: SegmentDirectory, day: str, tenant: str | None) -> list[IndexRow]:
        if day not in directory.days:
            raise damaged()
        start, length, count = directory.range_of(day, tenant)
        key = rows_key(day, directory.first, directory.count)
        return decode_rows(self._objects.part(key, start, length), count) if length else []

    @functools.cached_property
    def _ids(self) -> list[tuple[int, int]]:
        return covering(self._objects.keys(IDS))
