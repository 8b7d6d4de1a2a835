"""The lookup index: what it finds is what the log has, whoever dies while it is written."""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.log_objects import MemoryLogObjects
from tests.logs import Log, decision

from abeyance.ledger import index_files, indexer
from abeyance.ledger.defects import DefectList
from abeyance.ledger.entry import LogEntry, Record, make_entry
from abeyance.ledger.errors import LedgerCorrupt
from abeyance.ledger.index_files import IDS, INDEX, covering, ids_key, merge_ids, search_ids, segment_key
from abeyance.ledger.indexer import Indexer, joinable
from abeyance.ledger.inventory import take_inventory
from abeyance.ledger.lookup import Lookup
from abeyance.ledger.query import IndexRow, Query, row_of
from abeyance.ledger.reading import LogReader

NOW = 1_591_804_800.0  # 2020-06-10T16:00:00Z
QUERIES = [
    Query(),
    Query(tenant="agency-1"),
    Query(tenant="nobody"),
    Query(day="2020-06-09"),
    Query(day="2020-06-10", tenant="agency-0", outcome="deny"),
    Query(day="2020-06-10T11", action="search"),
    Query(day="2020-06"),
    Query(day="2020", action="index"),
    Query(type="DECISION", flag="amazon-2020"),
    Query(id="d-7"),
    Query(id="d-8", tenant="agency-1"),
]


class Killed(BaseException):
    """The end of the process."""


class Bombed(MemoryLogObjects):
    """A log in memory that notes what is read, and ends the process at one of its writes, before or after it."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.writes, self.at, self.after = 0, -1, False

    def get(self, key: str, version: str | None = None) -> bytes | None:
        self.reads.append(key)
        return super().get(key, version)

    def keys(self, prefix: str = "", after: str = "") -> Iterator[str]:
        self.reads.append(prefix)
        return super().keys(prefix, after)

    def replace(self, key: str, data: bytes) -> None:
        self.writes += 1
        if self.writes == self.at and not self.after:
            raise Killed
        super().replace(key, data)
        if self.writes == self.at:
            raise Killed


class Logged:
    """A log with a head, entries of two days of three tenants, and an index that is behind."""

    def __init__(self) -> None:
        self.objects = Bombed()
        self.log = Log(self.objects)

    def append(self, count: int, day: str = "2020-06-10", *, prefix: str = "d-") -> None:
        first = self.log.edge.size
        self.log.append([_entry(prefix, n, day) for n in range(first, first + count)])

    def indexer(self, now: float = NOW) -> Indexer:
        return Indexer(lambda: self.log.edge.size, self.objects, clock=lambda: now)

    def lookup(self, readers: int = 1) -> Lookup:
        return Lookup(self.objects, self.log.edge.size, readers)

    def expected(self, query: Query) -> list[int]:
        entries = LogReader(self.objects, self.log.edge.size).newest()
        return [entry.index for entry in entries if query.fits(row_of(entry))]

    def check(self) -> None:
        for readers in (1, 3):
            for query in QUERIES:
                found = [entry.index for entry in self.lookup(readers).entries(query)]
                assert found == self.expected(query), query


def _entry(prefix: str, number: int, day: str) -> LogEntry:
    body = decision(number, action="index" if number % 5 == 0 else "search")
    if number % 4 == 0:
        body = {"decision": body, "photo": "ab12"}
    kind = "Upload Halted" if number % 7 == 0 else "decision"
    return make_entry(
        Record(f"{prefix}{number}", kind, f"{day}T{number % 24:02d}:00:00Z", body), number.to_bytes(16, "big")
    )


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Logged:
    monkeypatch.setattr(indexer, "LEAST_ENTRIES", 20)
    monkeypatch.setattr(indexer, "MOST_ENTRIES", 40)
    monkeypatch.setattr(index_files, "BLOCK_ROWS", 4)
    return Logged()


def test_a_lookup_finds_what_the_log_has(logged: Logged) -> None:
    logged.check()
    logged.append(30, "2020-06-09")
    logged.append(50)
    assert logged.indexer().index() == indexer.IndexState(80, 80, 2)
    logged.append(15)
    assert logged.indexer(NOW - 86400).index() == indexer.IndexState(80, 95, 0)
    assert logged.lookup().indexed == 80
    logged.check()


def test_few_entries_are_indexed_when_they_have_waited(logged: Logged) -> None:
    logged.append(3)
    first = 1_591_747_200.0  # of the first entry
    assert logged.indexer(first + indexer.WAIT_S - 1).index().indexed == 0
    assert logged.indexer(first + indexer.WAIT_S).index().indexed == 3
    logged.check()


def test_an_empty_log_has_an_empty_index(logged: Logged) -> None:
    assert logged.indexer().index() == indexer.IndexState(0, 0, 0)
    assert list(logged.lookup().entries(Query())) == []
    assert logged.lookup().find("d-1") is None


def test_pages_follow_each_other(logged: Logged) -> None:
    logged.append(20, "2020-06-09")
    logged.append(45)
    logged.indexer().index()
    logged.append(10)
    for query in QUERIES:
        before, found = logged.log.edge.size, list[int]()
        for _ in range(200):
            page = logged.lookup().page(query, before=before, limit=7, most=10_000)
            found += [entry.index for entry in page.entries]
            assert len(page.entries) <= 7
            before = page.before
            if not before:
                break
        assert found == logged.expected(query), query


def test_a_page_says_where_it_stopped_looking(logged: Logged) -> None:
    logged.append(90)
    logged.indexer().index()
    page = logged.lookup().page(Query(outcome="none"), before=90, limit=5, most=5)
    assert (page.entries, page.before) == ((), 80)
    page = logged.lookup().page(Query(outcome="none"), before=80, limit=5, most=20)
    assert (page.entries, page.before) == ((), 40)


def test_whoever_dies_leaves_no_gap_and_nothing_twice(
    monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    monkeypatch.setattr(indexer, "JOINED_FILES", 3)
    del logged
    for after in (False, True):
        for at in range(1, 100):
            one = Logged()
            one.append(30, "2020-06-09")
            one.append(120)
            one.objects.at, one.objects.after = one.objects.writes + at, after
            with contextlib.suppress(Killed):
                one.indexer().index()
                break
            one.objects.at = -1
            one.append(60)  # the log goes on meanwhile
            one.indexer().index()
            assert sorted(row["index"] for row in _athena(one.objects)) == list(range(210))
            assert one.lookup().indexed == 210
            assert [one.lookup().find(f"d-{n}") for n in range(0, 210, 41)] == list(range(0, 210, 41))
        assert at > 15


def _athena(objects: MemoryLogObjects) -> Iterator[dict[str, Any]]:
    """Read as Athena does: every file below the table's place, each one gzip member, its day from its key."""
    for key in objects.keys(index_files.ENTRIES):
        member = zlib.decompressobj(zlib.MAX_WBITS + 16)
        lines = member.decompress(objects.get(key) or b"").splitlines()
        assert (member.eof, member.unused_data) == (True, b"")
        for line in lines:
            row = json.loads(line)
            assert f"day={row['time'][:10]}/" in key
            yield row


def test_two_indexers_agree(logged: Logged) -> None:
    logged.append(25)
    first, second = logged.indexer(), logged.indexer()
    files = first._files(0, first._due(0, 25), 25)
    logged.append(20)
    assert second.index().indexed == 45
    for key, data in files:
        logged.objects.replace(key, data)
    assert sorted(row["index"] for row in _athena(logged.objects)) == list(range(45))
    logged.check()


def test_an_id_that_is_there_twice_is_found_first(logged: Logged) -> None:
    logged.append(30)
    again = _entry("d-", 7, "2020-06-10")
    logged.log.append([again])
    logged.append(29)
    logged.indexer().index()
    logged.log.append([_entry("d-", 59, "2020-06-10"), again])
    assert (logged.lookup().find("d-7"), logged.lookup().find("d-59")) == (7, 59)
    assert logged.lookup().find("d-1000") is None
    assert Lookup(logged.objects, 30).find("d-59") is None


def test_a_lookup_reads_little(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer, "MOST_ENTRIES", 300)
    for _ in range(5):
        logged.append(290)
        logged.indexer().index()
    logged.objects.reads.clear()
    assert logged.lookup().find("d-1234") == 1234
    assert [key for key in logged.objects.reads if key.startswith("opening/")] == ["opening/004"]
    logged.objects.reads.clear()
    page = logged.lookup().page(Query(tenant="agency-1", day="2020-06-10"), before=9999, limit=20, most=9999)
    assert len(page.entries) == 20
    assert len([key for key in logged.objects.reads if key.startswith("opening/")]) <= 2
    assert len([key for key in logged.objects.reads if key.startswith("index/directory/")]) == 1


def test_the_days_since_a_moment_are_read_and_no_others(logged: Logged) -> None:
    for day in range(1, 9):
        logged.append(256, f"2020-06-{day:02d}")
    # The first of its bundle has no time: it misleads no search.
    logged.log.append([_entry("odd-", 1, "1970-01-01")])
    logged.append(255, "2020-06-09")
    logged.append(256, "2020-06-10")
    logged.objects.reads.clear()
    reader = LogReader(logged.objects, logged.log.edge.size)
    start = reader.first_since("2020-06-09T00:00:00")
    assert start == 2048 - 256
    assert sum(entry.time >= "2020-06-09" for entry in reader.entries(start)) == 255 + 256
    assert len(set(logged.objects.reads)) <= 6


def test_a_rebuild_repairs_what_was_lost_and_changed_and_names_what_is_foreign(
    logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer, "JOINED_FILES", 3)
    for _ in range(5):
        logged.append(25)
        logged.indexer().index()
    good = {key: logged.objects.get(key) for key in logged.objects.keys(INDEX)}
    assert logged.indexer().rebuild() == indexer.IndexState(125, 125, 5)
    for change in (lambda data: data[:-1], lambda data: b"{}"):
        for key, data in good.items():
            logged.objects.stored[key] = [change(data)]
        state = logged.indexer().rebuild()
        assert {key: logged.objects.get(key) for key in logged.objects.keys(INDEX)} == good
        assert set(state.repaired) == set(good)
        logged.check()
    for key in good:
        del logged.objects.stored[key]
    assert logged.indexer().rebuild().indexed == 125
    assert sorted(row["index"] for row in _athena(logged.objects)) == list(range(125))
    logged.check()
    forged = index_files.rows_key("2020-06-10", 7, 3)
    logged.objects.replace(forged, gzip.compress(b""))
    assert logged.indexer().rebuild().foreign == (forged,)


def test_an_index_that_lies_finds_nothing_that_is_not_there(logged: Logged) -> None:
    logged.append(40)
    logged.indexer().index()
    rows = map(row_of, LogReader(logged.objects, 40).entries())
    lies = [IndexRow(row.index, row.id, row.time, row.type, "innocent") for row in rows]
    for name, data in index_files.encode_segment(0, lies).items():
        logged.objects.replace(name, data)
    assert list(logged.lookup().entries(Query(tenant="innocent"))) == []


@pytest.mark.parametrize("data", [b"x", b""])
@pytest.mark.parametrize("prefix", [IDS, index_files.ENTRIES, index_files.DIRECTORY])
def test_a_damaged_index_says_what_to_do(logged: Logged, prefix: str, data: bytes) -> None:
    logged.append(40)
    logged.indexer().index()
    (key,) = logged.objects.keys(prefix)
    logged.objects.replace(key, data)
    with pytest.raises(LedgerCorrupt, match="index --rebuild"):
        logged.lookup().find("d-1") if prefix == IDS else list(logged.lookup().entries(Query()))


def test_a_segment_of_no_size_is_an_error(logged: Logged) -> None:
    logged.append(40)
    logged.objects.replace(segment_key(0), b'{"count":0}')
    with pytest.raises(LedgerCorrupt, match="index --rebuild"):
        logged.indexer().index()
    assert logged.indexer().rebuild().repaired[0] == segment_key(0)


def test_verification_takes_the_index_for_no_part_of_the_log(logged: Logged) -> None:
    logged.append(40)
    logged.indexer().index()
    logged.objects.replace(ids_key(0, 40), b"anything")
    defects = DefectList()
    take_inventory(logged.objects, defects)
    assert defects.found == 0


@given(st.sets(st.integers(0, 5000), max_size=400), st.integers(0, 5000))
@settings(max_examples=60, deadline=None)
def test_an_id_is_found_wherever_its_digest_stands(numbers: set[int], other: int) -> None:
    rows = [IndexRow(n, f"d-{n}", "2020-06-10T00:00:00.000000Z", "decision") for n in sorted(numbers)]
    data = index_files.encode_segment(0, rows)[ids_key(0, len(rows))]
    data = merge_ids([data[: len(data) // 32 * 16], data[len(data) // 32 * 16 :]])

    def part(first: int, length: int) -> bytes:
        return data[first : first + length]

    for number in numbers | {other}:
        assert search_ids(part, len(rows), f"d-{number}") == ([number] if number in numbers else [])


def test_digests_that_are_not_uniform_are_searched_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_files, "id_digest", lambda name: int(name).to_bytes(8, "big"))
    rows = [IndexRow(n, str(n // 3), "2020-06-10T00:00:00.000000Z", "decision") for n in range(3000)]
    data = index_files.encode_segment(0, rows)[ids_key(0, 3000)]
    for number in (0, 1, 500, 998, 999):
        found = search_ids(lambda first, length: data[first : first + length], 3000, str(number))
        assert found == [3 * number, 3 * number + 1, 3 * number + 2]


@given(st.lists(st.integers(1, 300_000), max_size=120))
@settings(max_examples=60, deadline=None)
def test_files_of_ids_stay_few_and_cover_everything(counts: list[int]) -> None:
    keys, at = list[str](), 0
    for count in counts:
        keys.append(ids_key(at, count))
        at += count
        while group := joinable(covering(keys)):
            assert len(group) > 1
            assert sum(size for _, size in group) <= indexer.MOST_JOINED
            keys.append(ids_key(group[0][0], sum(size for _, size in group)))
    files = covering(keys)
    assert sum(size for _, size in files) == at
    assert len(files) <= 6 * indexer.JOINED_FILES + at // (indexer.LEFT_ENTRIES // 16)
