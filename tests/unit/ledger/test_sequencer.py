"""The sequencer: each entry has one place, whoever dies and whoever is faster."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes import MemoryTable
from tests.log_objects import MemoryLogObjects

from abeyance.ledger.batches import (
    Bundled,
    batch_key,
    decode_entries,
    decode_start,
    encode_batch,
    half_digest,
    start_bytes,
)
from abeyance.ledger.entry import CONFLICT, LogEntry, Record, make_entry, read_opening
from abeyance.ledger.errors import LedgerBusy, LedgerCorrupt
from abeyance.ledger.heads import Head, HeadStore
from abeyance.ledger.identity import LOG, read_identity
from abeyance.ledger.sequencer import Placed, Sequencer
from abeyance.ledger.tiles import TileReader

TIME = "2026-01-01T00:00:00Z"


class Killed(BaseException):
    """The end of the process."""


class Bomb:
    """Kills at one call of AWS, before or after it."""

    def __init__(self, at: int = -1, after: bool = False) -> None:
        self.calls = 0
        self._at, self._after = at, after

    def __call__(self, run: Callable[[], Any]) -> Any:
        self.calls += 1
        if self.calls == self._at and not self._after:
            raise Killed
        answer = run()
        if self.calls == self._at:
            raise Killed
        return answer


class Aws:
    """The stores of a log, whose calls go through a bomb."""

    def __init__(self) -> None:
        self.table, self.objects, self.bomb = MemoryTable(), MemoryLogObjects(), Bomb()
        self.clock = 1000.0
        self._random = random.Random(7)

    def sequencer(self, **options: Any) -> Sequencer:
        aws = self

        class Table:
            def get(self, key: Any) -> Any:
                return aws.bomb(lambda: aws.table.get(key))

            def transact(self, operations: Any) -> None:
                aws.bomb(lambda: aws.table.transact(operations))

        class Objects(MemoryLogObjects):
            def __init__(self) -> None:
                self.stored = aws.objects.stored

            def get(self, key: str, version: str | None = None) -> bytes | None:
                return aws.bomb(lambda: aws.objects.get(key, version))  # type: ignore[no-any-return]

            def put_new(self, key: str, data: bytes) -> bool:
                return aws.bomb(lambda: aws.objects.put_new(key, data))  # type: ignore[no-any-return]

        return Sequencer(
            HeadStore(Table()),  # type: ignore[arg-type]
            Objects(),
            seed=lambda: self._random.randbytes(16),
            clock=lambda: self.clock,
            sleep=lambda _: None,
            **options,
        )

    def head(self) -> Head:
        found = HeadStore(self.table).read()
        assert found is not None
        return found

    def entries(self) -> list[tuple[str, str]]:
        """Id and type of every entry that is integrated."""
        head = self.head()
        tree = TileReader(self.objects, head.integrated)
        assert tree.root() == head.root_bytes
        openings = [read_opening(tree.opening(index)) for index in range(tree.size)]
        assert [one.leaf() for one in openings] == [tree.leaf(index) for index in range(tree.size)]
        return [(one.id, one.type) for one in openings]


def entry(name: str, value: object = 1, kind: str = "decision") -> LogEntry:
    return make_entry(Record(name, kind, TIME, {"value": value}), random.Random(name).randbytes(16))


def places(placed: Sequence[Placed]) -> list[tuple[int, bool]]:
    return [(one.index, one.new) for one in placed]


def test_entries_have_their_places_in_order_and_the_head_moves_once() -> None:
    aws = Aws()
    writer = aws.sequencer()
    assert places(writer.append([entry("a"), entry("b")], 0)) == [(0, True), (1, True)]
    assert places(writer.append([entry("c")], 0)) == [(2, True)]
    assert aws.entries() == [("a", "decision"), ("b", "decision"), ("c", "decision")]
    head = aws.head()
    assert (head.size, head.first, head.integrated) == (3, 2, 3)
    assert read_identity(aws.objects.get(LOG)).origin == head.origin


def test_a_redelivery_keeps_its_place_also_for_another_process() -> None:
    aws = Aws()
    aws.sequencer().append([entry("a"), entry("b")], 0)
    again = aws.sequencer().append([entry("b"), entry("c"), entry("c")], 0)
    assert places(again) == [(1, False), (2, True), (2, False)]
    assert len(aws.entries()) == 3


def test_another_content_under_a_known_id_is_a_conflict_once() -> None:
    aws = Aws()
    first = aws.sequencer()
    first.append([entry("a", 1)], 0)
    for writer in (first, aws.sequencer()):
        (placed,) = writer.append([entry("a", 2)], 0)
        assert (placed.index, placed.entry.type) == (1, CONFLICT)
    assert aws.entries() == [("a", "decision"), (placed.entry.id, CONFLICT)]


def test_how_far_back_a_new_process_looks() -> None:
    """As far as the oldest message was received before; it reads no more batches than that needs."""
    aws = Aws()
    writer = aws.sequencer()
    for number in range(20):
        aws.clock = 1000.0 + 100 * number
        writer.append([entry(f"e{number}")], aws.clock)
    assert places(aws.sequencer().append([entry("e3")], since=1300.0)) == [(3, False)]
    # An id that is older than anything that could be delivered again slips through: readers count it once.
    assert places(aws.sequencer().append([entry("e3")], since=2900.0)) == [(20, True)]
    aws.bomb = Bomb()
    aws.sequencer().append([entry("new")], since=2900.0)
    assert aws.bomb.calls < 20


def _run_with_death(at: int, after: bool) -> tuple[Aws, int]:
    """Append three batches, the second in a process that dies at a call; then whoever comes next does the rest."""
    aws = Aws()
    aws.sequencer().append([entry("a0"), entry("a1")], 0)
    aws.bomb = Bomb(at, after)
    second = [entry("b0"), entry("b1"), entry("a1")]
    with contextlib.suppress(Killed):
        aws.sequencer().append(second, 0)
    calls = aws.bomb.calls
    aws.bomb = Bomb()
    writer = aws.sequencer()
    writer.append(second, 0)
    writer.append([entry("c0")], 0)
    return aws, calls


def test_dead_between_any_two_calls_nothing_is_lost_and_nothing_doubled() -> None:
    _, calls = _run_with_death(-1, after=False)
    assert calls > 8
    for at in range(1, calls + 1):
        for after in (False, True):
            aws, _ = _run_with_death(at, after)
            ids = [name for name, _ in aws.entries()]
            assert sorted(ids) == ["a0", "a1", "b0", "b1", "c0"], (at, after)


def test_dead_at_the_very_first_batch() -> None:
    for at in range(1, 20):
        for after in (False, True):
            aws = Aws()
            aws.bomb = Bomb(at, after)
            with contextlib.suppress(Killed):
                aws.sequencer().append([entry("a")], 0)
            aws.bomb = Bomb()
            aws.sequencer().append([entry("a")], 0)
            assert [name for name, _ in aws.entries()] == ["a"], (at, after)


class _Interrupted(HeadStore):
    """A head at which another sequencer is faster, some times."""

    def __init__(self, table: MemoryTable, others: Iterator[Callable[[], object]]) -> None:
        super().__init__(table)
        self._others = others

    def move(self, before: Head, after: Head) -> bool:
        for other in self._others:
            other()
            break
        return super().move(before, after)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 12), max_size=4), min_size=1, max_size=8))
def test_two_sequencers_at_once(batches: list[list[int]]) -> None:
    """Whenever the other one moves the head, each id has one place, and none is lost."""
    aws = Aws()
    other = aws.sequencer()
    others = iter(
        [(lambda batch=batch: other.append([entry(f"e{n}") for n in batch], 0)) for batch in batches[1::2]]
    )
    first = Sequencer(
        _Interrupted(aws.table, others), aws.objects, clock=lambda: aws.clock, sleep=lambda _: None
    )
    for batch in batches[::2]:
        first.append([entry(f"e{n}") for n in batch], 0)
    for rest in others:
        rest()
    wanted = {f"e{n}" for batch in batches for n in batch}
    if wanted:
        ids = [name for name, _ in aws.entries()]
        assert sorted(ids) == sorted(wanted)


def test_who_is_never_fast_enough_says_so() -> None:
    aws = Aws()
    other = aws.sequencer()
    others = (functools.partial(other.append, [entry(f"x{n}")], 0) for n in range(1000))
    slow = Sequencer(_Interrupted(aws.table, others), aws.objects, sleep=lambda _: None)
    with pytest.raises(LedgerBusy):
        slow.append([entry("a")], 0)


def test_other_tiles_than_the_entries_give_stop_it() -> None:
    aws = Aws()
    aws.sequencer().append([entry("a")], 0)
    aws.objects.stored["tile/0/000.p/1"] = [bytes(32)]
    with pytest.raises(LedgerCorrupt, match="another root"):
        aws.sequencer().append([entry("b")], 0)
    aws = Aws()
    aws.sequencer().append([entry("a")], 0)
    aws.objects.put_new("tile/0/000.p/2", bytes(64))
    with pytest.raises(LedgerCorrupt, match="other content"):
        aws.sequencer().append([entry("b")], 0)


def test_a_changed_batch_is_not_integrated() -> None:
    aws = Aws()
    aws.bomb = Bomb(10**9)
    aws.sequencer().append([entry("a")], 0)
    head = aws.head()
    (key,) = aws.objects.keys("sequenced/")
    pending = Head(origin=head.origin, size=1, first=0, batch=key, digest=head.digest)
    HeadStore(aws.table).move(head, pending)
    aws.objects.stored[key] = [(aws.objects.get(key) or b"") + b" "]
    with pytest.raises(LedgerCorrupt, match="not the one that was sequenced"):
        aws.sequencer().integrate()


def test_batches_are_read_as_they_were_written() -> None:
    made = [entry(f"e{n}") for n in range(5)]
    bundled = [Bundled(one.leaf, one.opening, half_digest(one.id.encode()), one.content[:16]) for one in made]
    data = encode_batch("abeyance/x", 7, "sequenced/before", 12.5, bundled)
    start = decode_start(data[: start_bytes(data[:200])])
    assert (start.origin, start.first, start.count, start.previous, start.after) == (
        *("abeyance/x", 7, 5),
        *("sequenced/before", 12),
    )
    assert start.digests[3] == (half_digest(b"e3"), made[3].content[:16])
    assert decode_entries(data) == [(one.leaf, one.opening) for one in made]
    assert batch_key(7, "ab" * 32) == "sequenced/00000000000000000007-abababababababab"
    for damaged in (data[:-1], data + b"x", data[:40], b""):
        with pytest.raises(LedgerCorrupt):
            decode_entries(damaged)
    with pytest.raises(LedgerCorrupt):
        decode_start(data[: start_bytes(data) - 1])


def chunks(items: Iterable[LogEntry], size: int) -> Iterator[list[LogEntry]]:
    batch: list[LogEntry] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def test_many_batches_of_every_size() -> None:
    aws = Aws()
    sizes, at = [1, 255, 256, 257, 3, 512, 700], 0
    for size in sizes:
        writer = aws.sequencer()
        writer.append([entry(f"e{n}") for n in range(at, at + size)], aws.clock)
        at += size
    assert [name for name, _ in aws.entries()] == [f"e{n}" for n in range(at)]
