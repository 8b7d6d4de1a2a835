"""What searchers read: the change log, and the snapshots that spare them most of it.

A snapshot is a row of segments, each the templates of ``span`` consecutive changes. The log stays the truth:
a segment that is missing or damaged is read from the log instead. An erasure that is committed notes the
erased seqs as ``pending`` in META, until every segment that held them has been written anew under another key
and the old object is gone; a reader leaves out what is pending. So an erased template is in no search from
the commit on, and in no object once the erasing call has returned; after a crash, the next erasing call,
``compact`` or ``settle`` finishes it.

DynamoDB isolates a transaction from each single read, not from a query as a whole: META may already show a
change of which a log item is not yet to be seen. Hence the care for gaps among the latest seqs.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from abeyance.gallery.changelog import ATTRIBUTES, Log
from abeyance.gallery.collections import Collections, object_prefix
from abeyance.gallery.core import ATTEMPTS
from abeyance.gallery.errors import GalleryBusy
from abeyance.gallery.items import END, Meta, log_key, segment_key
from abeyance.gallery.model import CollectionRef
from abeyance.gallery.port import Block, Changes, Position
from abeyance.gallery.segments import Header, SegmentCorrupt, decode, encode, without
from abeyance.gallery.table import (
    SORT,
    Conflict,
    Item,
    Key,
    ObjectMissing,
    Objects,
    Table,
    Update,
)

A = TypeVar("A")
R = TypeVar("R")

logger = logging.getLogger(__name__)

#: Of this many of the latest seqs, an item may belong to a transaction that is still being written.
WINDOW = 256
#: Segments that are loaded at the same time.
PARALLEL = 16


class Snapshots(Collections):
    """The part of :class:`~abeyance.gallery.port.Gallery` that searchers and snapshots need.

    Parameters
    ----------
    auto_compact
        Writers make segments when there are enough changes for one.
    """

    def __init__(self, table: Table, objects: Objects, *, auto_compact: bool = True, **rest: Any) -> None:
        super().__init__(table, objects, **rest)
        self._auto_compact = auto_compact
        self._compacting = threading.Lock()

    def changes(self, ref: CollectionRef, after: Position | None = None) -> Changes:
        meta = self.meta(ref)
        if after is not None and after.generation == meta.generation and after.seq <= meta.seq:
            if after.seq == meta.seq:
                return Changes(False, after, meta.model, meta.dimension)
            # Further behind than a segment, segments are quicker.
            if after.seq >= meta.covered or meta.seq - after.seq < meta.span:
                log = self.read_log(meta, after.seq)
                if len(log.seen) == meta.seq - after.seq:
                    return _changes(meta, log.blocks(), log.dead, reset=False)
        return self._load(meta)

    def compact(self, ref: CollectionRef) -> int:
        self.settle(ref)
        written = 0
        while (meta := self.meta(ref)).seq - meta.covered >= meta.span + _window(meta):
            if not self._write_segment(meta):
                break
            written += 1
        return written

    def tend(self, ref: CollectionRef, meta: Meta, seq: int) -> None:
        """After a write: make segments if it is time. Never fails; the write is done, and the log is enough."""
        if not self._auto_compact or seq - meta.covered < meta.span + _window(meta):
            return
        if not self._compacting.acquire(blocking=False):
            return
        try:
            self.compact(ref)
        except Exception:
            logger.exception("compaction failed; searches go on from the change log")
        finally:
            self._compacting.release()

    def settle(self, ref: CollectionRef) -> None:
        """Take everything that is pending out of the segments."""
        meta = self.meta(ref)
        if meta.uploading:
            # Left by a crash, or by a writer at work, which then notices and goes on.
            self._remove_others(meta, meta.covered // meta.span, "")
        while meta.pending:
            pending = np.array(sorted(meta.pending), dtype=np.int64)
            for number in np.unique((pending - 1) // meta.span):
                self._rewrite(meta, int(number), pending)
            done = Update(meta.key, discard={"pending": meta.pending}, expect={"generation": meta.generation})
            self._retry(self.table.transact, [done])
            meta = self.meta(ref)

    # Reading

    def _query_log(self, meta: Meta, first: int, last: int) -> Iterable[Item]:
        if first > last:
            return ()
        pk, start = log_key(meta.pk, first)
        return self.table.query(pk, start, log_key(pk, last)[1], attributes=ATTRIBUTES)

    def read_log(self, meta: Meta, after: int) -> Log:
        """The log after a seq; what is missing in it has expired."""
        log = Log(meta.dimension).take(self._query_log(meta, after + 1, meta.seq))
        recent = range(max(after, meta.seq - _window(meta)) + 1, meta.seq + 1)
        self._take_settled(meta, log, set(recent).difference(log.seen))
        return log

    def _take_settled(self, meta: Meta, log: Log, missing: Iterable[int]) -> None:
        keys: list[Key] = [log_key(meta.pk, seq) for seq in sorted(missing)]
        for start in range(0, len(keys), 100):
            some = keys[start : start + 100]
            log.take(self._retry(self.table.get_settled, some).values())

    def _load(self, meta: Meta) -> Changes:
        """The whole collection, from segments and the log behind them."""
        items = {int(item[SORT][2:]): item for item in self.table.query(meta.pk, "G#", f"G#{END}")}
        numbers = range(meta.covered // meta.span)
        with ThreadPoolExecutor(PARALLEL) as pool:
            loading = pool.map(lambda number: self._segment(meta, number, items.get(number))[0], numbers)
            log = self.read_log(meta, meta.covered)
            blocks = [block for segment in loading for block in segment]
        return _changes(meta, (*blocks, *log.blocks()), [*log.dead, *meta.pending], reset=True)

    def _segment(self, meta: Meta, number: int, item: Item | None) -> tuple[tuple[Block, ...], bool]:
        """A segment's blocks, and whether they come from its object (or else from the log)."""
        for _ in range(2):
            if item is None:
                break
            try:
                return decode(self.objects.get(item["object"]), self._header(meta, number)), True
            except SegmentCorrupt as problem:
                logger.warning("segment %d of a collection is damaged (%s); reading the log", number, problem)
                break
            except ObjectMissing:
                # It may have been written anew since the item was read.
                item = self.table.get(segment_key(meta.pk, number))
        header = self._header(meta, number)
        return Log(meta.dimension).take(self._query_log(meta, header.first, header.last)).blocks(), False

    # Writing

    def _header(self, meta: Meta, number: int) -> Header:
        return Header(
            generation=meta.generation,
            number=number,
            first=number * meta.span + 1,
            last=(number + 1) * meta.span,
            model=meta.model,
            dimension=meta.dimension,
        )

    def _write_segment(self, meta: Meta) -> bool:
        """Make the next segment; false when another writer did, or erasures kept coming."""
        header = self._header(meta, meta.covered // meta.span)
        blocks = Log(meta.dimension).take(self._query_log(meta, header.first, header.last)).blocks()
        since = meta.seq - _window(meta)
        try:
            self.table.transact([Update(meta.key, set={"uploading": 1}, expect=_unmoved(meta))])
        except Conflict:
            return False
        for _ in range(ATTEMPTS):
            # What was erased since the span was read, or is about to show as erased.
            log = self.read_log(meta, since)
            blocks = tuple(without(block, np.array(log.dead, dtype=np.int64)) for block in blocks)
            move = Update(
                meta.key,
                set={"covered": header.last},
                unset=("uploading",),
                expect=_unmoved(meta) | {"erasures": meta.erasures},
            )
            if self._commit_segment(meta, header, blocks, move=move):
                return True
            since = meta.seq
            meta = self.meta(meta.ref)
            if meta.covered >= header.last or meta.generation != header.generation:
                return False
        return False

    def _rewrite(self, meta: Meta, number: int, dead: Any) -> None:
        """Write a segment without these seqs, unless it is, and remove its other objects."""
        for _ in range(ATTEMPTS):
            key = segment_key(meta.pk, number)
            item = self._retry(self.table.get_settled, [key]).get(key)
            if item is None:
                return
            blocks, intact = self._segment(meta, number, item)
            kept = tuple(without(block, dead) for block in blocks)
            if intact and all(a is b for a, b in zip(blocks, kept, strict=True)):
                self._remove_others(meta, number, item["object"])
                return
            if self._commit_segment(meta, self._header(meta, number), kept, old=item["object"]):
                return
        raise GalleryBusy("other erasures changed the snapshot each time; try again after a moment")

    def _commit_segment(
        self,
        meta: Meta,
        header: Header,
        blocks: tuple[Block, ...],
        *,
        move: Update | None = None,
        old: str = "",
    ) -> bool:
        """Upload a segment, make the table point to it, and remove what lay there before.

        False if META could not make the ``move``, or the segment was no longer the ``old`` object.
        """
        name = f"{self._prefix(meta, header.number)}{uuid.uuid4().hex}.seg"
        body = encode(header, blocks)
        self.objects.put(name, body)
        key = segment_key(meta.pk, header.number)
        fields = {"object": name, "rows": sum(len(b.seqs) for b in blocks), "bytes": len(body)}
        point = Update(key, set=fields, expect={"object": old or None})
        try:
            self.table.transact([point, move] if move else [point])
        except Conflict:
            self.objects.delete([name])
            return False
        if not self._remove_others(meta, header.number, name):
            # An erasure swept it away in the moment before the table pointed to it.
            self.objects.put(name, body)
        return True

    def _remove_others(self, meta: Meta, number: int, current: str) -> bool:
        """Delete all objects of a segment but one; returns whether that one is there."""
        names = self.objects.list(self._prefix(meta, number))
        self.objects.delete([name for name in names if name != current])
        return current in names

    def _prefix(self, meta: Meta, number: int) -> str:
        return f"{object_prefix(meta.ref, meta.generation)}{number:010d}/"

    def _retry(self, action: Callable[[A], R], argument: A) -> R:
        for attempt in range(ATTEMPTS):
            try:
                return action(argument)
            except Conflict:
                self.pause(attempt)
        raise GalleryBusy("others are changing the same items; try again after a moment")


def _window(meta: Meta) -> int:
    return min(WINDOW, meta.span)


def _unmoved(meta: Meta) -> dict[str, Any]:
    """What META is expected to be where the next segment is still to be made."""
    return {"generation": meta.generation, "covered": meta.covered}


def _changes(meta: Meta, blocks: tuple[Block, ...], dead: list[int], *, reset: bool) -> Changes:
    return Changes(
        reset,
        Position(meta.generation, meta.seq),
        meta.model,
        meta.dimension,
        blocks,
        np.array(dead, dtype=np.int64) if dead else None,
    )
