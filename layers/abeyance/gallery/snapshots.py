"""Snapshots, which spare a searcher most of the change log.

A snapshot is a row of segments, each the templates of ``span`` consecutive changes. The log stays the truth:
a segment that is missing or damaged is read from the log instead. An erasure that is committed notes the
erased seqs as ``pending`` in META, until every segment that held them has been written anew under another key
and the old object is gone; a reader leaves out what is pending. So an erased template is in no search from
the commit on, and in no object once the erasing call has returned; after a crash, the next erasing call or
``compact`` finishes it.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from abeyance.aws.dynamodb import ATTEMPTS
from abeyance.aws.objects import ObjectMissing
from abeyance.aws.table import LAST_SORT, SORT, Conflict, Item, Update
from abeyance.gallery.changelog import ChangeLog, window
from abeyance.gallery.errors import GalleryBusy
from abeyance.gallery.items import Meta, segment_key
from abeyance.gallery.model import Collection, CollectionRef
from abeyance.gallery.port import Block, Changes
from abeyance.gallery.segments import SegmentCorrupt, SegmentHeader, decode, encode, without
from abeyance.gallery.storage import Storage, Written

logger = logging.getLogger(__name__)

#: Segments that are loaded at the same time.
PARALLEL = 16


class SnapshotStore:
    """The snapshots of a gallery's collections, and the changes that searchers read.

    Parameters
    ----------
    storage, log
        The gallery's.
    auto_compact
        Let writers write segments when there are enough changes for one.
    """

    def __init__(self, storage: Storage, log: ChangeLog, *, auto_compact: bool = True) -> None:
        self._storage = storage
        self._log = log
        self._auto_compact = auto_compact
        self._compacting = threading.Lock()

    def changes(self, ref: CollectionRef, after: Collection | None = None) -> Changes:
        meta = self._storage.meta(ref)
        if after is not None and after.generation == meta.public_generation and after.seq <= meta.seq:
            if after.seq == meta.seq:
                return Changes(False, meta.public())
            # Further behind than a segment, segments are quicker.
            if after.seq >= meta.covered or meta.seq - after.seq < meta.span:
                log = self._log.read(meta, after.seq)
                if len(log.seqs) == meta.seq - after.seq:
                    return Changes(False, meta.public(), log.blocks(), log.dead)
        return self._load(meta)

    def compact(self, ref: CollectionRef) -> int:
        """Write snapshot segments of the older changes, and finish erasures that a crash interrupted.

        Writers call it by themselves now and then. Returns how many segments this call wrote.
        """
        self.finish_erasures(ref)
        written = 0
        while self._is_due(meta := self._storage.meta(ref), meta.seq) and self._write_next(meta):
            written += 1
        return written

    def compact_if_due(self, written: Written[Any]) -> None:
        """Write segments after a write, if it is time. Never fails: the write is done, and the log is enough."""
        if not self._auto_compact or not self._is_due(written.meta, written.seq):
            return
        if not self._compacting.acquire(blocking=False):
            return
        try:
            self.compact(written.meta.ref)
        except Exception:
            logger.exception("compaction failed; searches go on from the change log")
        finally:
            self._compacting.release()

    def finish_erasures(self, ref: CollectionRef) -> None:
        """Remove every erased template from the segments."""
        meta = self._storage.meta(ref)
        if meta.uploading:
            # Left by a crash, or by a writer at work, which then notices and goes on.
            self._remove_others(meta, meta.covered // meta.span, "")
        while meta.pending:
            for number in sorted({(seq - 1) // meta.span for seq in meta.pending}):
                self._rewrite(meta, number, sorted(meta.pending))
            done = Update(meta.key, discard={"pending": meta.pending}, expect={"generation": meta.generation})
            self._storage.retry(self._storage.table.transact, [done])
            meta = self._storage.meta(ref)

    def renew(self, ref: CollectionRef) -> None:
        """Make searchers read a collection anew after its table was restored from a backup.

        Its seq went back, so a searcher could take changes from now on for those that it knows. Snapshots of after
        the backup are deleted. Nobody may write to the collection meanwhile.
        """
        meta = self._storage.meta(ref)
        restored = Update(
            meta.key, set={"restored": uuid.uuid4().hex[:8]}, expect={"generation": meta.generation}
        )
        self._storage.table.transact([restored])
        items = self._storage.table.query(meta.pk, "G#", f"G#{LAST_SORT}", attributes=("object",))
        known = {item["object"] for item in items}
        objects = self._storage.objects
        objects.delete([n for n in objects.list(meta.prefix) if n not in known])

    # Reading

    def _load(self, meta: Meta) -> Changes:
        """Read the whole collection, from segments and the log behind them."""
        items = self._storage.table.query(meta.pk, "G#", f"G#{LAST_SORT}")
        known = {int(item[SORT][2:]): item for item in items}
        numbers = range(meta.covered // meta.span)
        with ThreadPoolExecutor(PARALLEL) as pool:
            loading = pool.map(lambda number: self._read(meta, number, known.get(number))[0], numbers)
            log = self._log.read(meta, meta.covered)
            blocks = [block for segment in loading for block in segment]
        return Changes(True, meta.public(), (*blocks, *log.blocks()), [*log.dead, *meta.pending])

    def _read(self, meta: Meta, number: int, item: Item | None) -> tuple[tuple[Block, ...], bool]:
        """Return a segment's blocks, and whether they come from its object (or else from the log)."""
        header = _header(meta, number)
        for _ in range(2):
            if item is None:
                break
            try:
                return decode(self._storage.objects.get(item["object"]), header), True
            except SegmentCorrupt as problem:
                logger.warning("segment %d of a collection is damaged (%s); reading the log", number, problem)
                break
            except ObjectMissing:
                # It may have been written anew since the item was read.
                item = self._storage.table.get(segment_key(meta.pk, number))
        return self._log.read_span(meta, header.first, header.last).blocks(), False

    # Writing

    def _is_due(self, meta: Meta, seq: int) -> bool:
        return seq - meta.covered >= meta.span + window(meta)

    def _write_next(self, meta: Meta) -> bool:
        """Write the next segment; return False when another writer did, or erasures kept coming."""
        header = _header(meta, meta.covered // meta.span)
        blocks = self._log.read_span(meta, header.first, header.last).blocks()
        since = meta.seq - window(meta)
        unmoved = {"generation": meta.generation, "covered": meta.covered}
        try:
            self._storage.table.transact([Update(meta.key, set={"uploading": 1}, expect=unmoved)])
        except Conflict:
            return False
        for _ in range(ATTEMPTS):
            # Erased since the span was read, or about to show as erased.
            dead = self._log.read(meta, since).dead
            blocks = tuple(without(block, dead) for block in blocks)
            move = Update(
                meta.key,
                set={"covered": header.last},
                unset=("uploading",),
                expect=unmoved | {"erasures": meta.erasures},
            )
            if self._commit(meta, header, blocks, move=move):
                return True
            since = meta.seq
            meta = self._storage.meta(meta.ref)
            if meta.covered >= header.last or meta.generation != header.generation:
                return False
        return False

    def _rewrite(self, meta: Meta, number: int, dead: Sequence[int]) -> None:
        """Write a segment without these seqs, unless it is, and remove its other objects."""
        key, header = segment_key(meta.pk, number), _header(meta, number)
        for _ in range(ATTEMPTS):
            item = self._storage.retry(self._storage.table.get_transactional, [key]).get(key)
            if item is None:
                return
            blocks, intact = self._read(meta, number, item)
            kept = tuple(without(block, dead) for block in blocks)
            if intact and all(a is b for a, b in zip(blocks, kept, strict=True)):
                self._remove_others(meta, number, item["object"])
                return
            if self._commit(meta, header, kept, old=item["object"]):
                return
        raise GalleryBusy("other erasures changed the snapshot each time; try again after a moment")

    def _commit(
        self,
        meta: Meta,
        header: SegmentHeader,
        blocks: tuple[Block, ...],
        *,
        move: Update | None = None,
        old: str = "",
    ) -> bool:
        """Upload a segment, make the table point to it, and remove its older objects.

        Returns False if META could not make the ``move``, or the segment was no longer the ``old`` object.
        """
        name = f"{_prefix(meta, header.number)}{uuid.uuid4().hex}.seg"
        body = encode(header, blocks)
        self._storage.objects.put(name, body)
        fields = {"object": name, "rows": sum(len(b.seqs) for b in blocks), "bytes": len(body)}
        point = Update(segment_key(meta.pk, header.number), set=fields, expect={"object": old or None})
        try:
            self._storage.table.transact([point, move] if move else [point])
        except Conflict:
            self._storage.objects.delete([name])
            return False
        if not self._remove_others(meta, header.number, name):
            # An erasure deleted it in the moment before the table pointed to it.
            self._storage.objects.put(name, body)
        return True

    def _remove_others(self, meta: Meta, number: int, current: str) -> bool:
        """Delete all objects of a segment but one; return whether that one is there."""
        objects = self._storage.objects
        names = objects.list(_prefix(meta, number))
        objects.delete([name for name in names if name != current])
        return current in names


def _prefix(meta: Meta, number: int) -> str:
    return f"{meta.prefix}{number:010d}/"


def _header(meta: Meta, number: int) -> SegmentHeader:
    return SegmentHeader(
        generation=meta.generation,
        number=number,
        first=number * meta.span + 1,
        last=(number + 1) * meta.span,
        model=meta.model,
        dimension=meta.dimension,
    )
