"""The sequencer: gives entries their places, a whole batch with one conditional write, and integrates what has one.

::

    read the head -> integrate what waits -> drop redeliveries -> store the batch -> move the head -> integrate -> mark

Two may run at once: the head moves for one of them, and the other takes the next place. It may die between any two
steps: before the head moved, nothing happened, and the queue delivers again; after it, the batch is on the log, and
whoever comes next integrates it, to the same bytes.
"""

from __future__ import annotations

import hashlib
import random
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from abeyance.aws.timestamps import utc_now
from abeyance.ledger.batches import (
    START_BYTES,
    BatchStart,
    Bundled,
    batch_key,
    decode_entries,
    decode_start,
    encode_batch,
    half_digest,
    start_bytes,
)
from abeyance.ledger.entry import SEED_BYTES, LogEntry, blob_key, conflict_entry
from abeyance.ledger.errors import LedgerBusy, LedgerCorrupt
from abeyance.ledger.heads import Head, HeadStore
from abeyance.ledger.identity import LOG, new_identity, read_identity
from abeyance.ledger.integrate import TreeEdge, plan, read_edge
from abeyance.ledger.objects import LogObjects
from abeyance.ledger.recent import RecentIds

#: Attempts at the head, where another sequencer was faster.
ATTEMPTS: Final = 12
#: Attempts for which the other sequencer is left to integrate what it sequenced; then this one does it.
_PATIENT_ATTEMPTS: Final = 3
_BACKOFF_S: Final = 0.25


def random_seed() -> bytes:
    """Return the seed of a new entry."""
    return bytes.fromhex(secrets.token_hex(SEED_BYTES))


class Placed(msgspec.Struct, frozen=True):
    """An entry and its place; ``new`` is false for a redelivery, whose place it had already."""

    index: int
    entry: LogEntry
    new: bool


class Sequencer:
    """The writer of the log: the head in a table, everything else in a bucket.

    Parameters
    ----------
    heads, objects
        The head, and the bucket of the log.
    seed
        Makes the random seed of an entry.
    clock
        Epoch seconds; says when a batch was sequenced, for the search of redeliveries.
    sleep
        Waits before another attempt, in seconds.
    """

    def __init__(
        self,
        heads: HeadStore,
        objects: LogObjects,
        *,
        seed: Callable[[], bytes] = random_seed,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._heads = heads
        self._objects = objects
        self._seed = seed
        self._clock = clock
        self._sleep = sleep
        self._recent = RecentIds(self._start)
        self._edge = TreeEdge()

    def append(self, entries: Sequence[LogEntry], since: float) -> list[Placed]:
        """Give every entry its place and return it, in order.

        An entry whose id has a place with the same content is a redelivery, also within the batch, and nothing is
        written for it. With another content it becomes an entry of type ``conflict``: look at what returns.

        Parameters
        ----------
        entries
            From :func:`abeyance.ledger.entry.make_entry`.
        since
            Epoch seconds at which the first of these may have been received before.

        Raises
        ------
        LedgerBusy
            Other sequencers were faster at every attempt.
        LedgerUnavailable
            AWS refused or did not answer. Some may have places; append the same again to find out.
        LedgerCorrupt
            The log contradicts itself, such as a tile with other bytes than the entries give.
        """
        for attempt in range(ATTEMPTS):
            head = self._heads.read() or self._create()
            if head.pending and attempt >= _PATIENT_ATTEMPTS:
                head = self._integrated(head)
            if not head.pending:
                self._recent.cover(head, since)
                placed = self._place(head, entries)
                new = [one.entry for one in placed if one.new]
                if not new or self._sequence(head, new):
                    return placed
            self._sleep(random.uniform(0.1, _BACKOFF_S))
        raise LedgerBusy(f"other sequencers moved the head {ATTEMPTS} times; redeliver the batch")

    def integrate(self) -> Head | None:
        """Integrate what a sequencer left that died, and return the head; ``None`` for a log without entries."""
        head = self._heads.read()
        return None if head is None else self._integrated(head)

    def _place(self, head: Head, entries: Sequence[LogEntry]) -> list[Placed]:
        here: dict[bytes, tuple[int, bytes]] = {}
        placed: list[Placed] = []
        for entry in entries:
            name, content = _digests(entry)
            known = here.get(name) or self._recent.find(name)
            if known is not None and known[1] != content:
                entry = conflict_entry(entry, known[0], self._seed())
                name, content = _digests(entry)
                known = here.get(name) or self._recent.find(name)
            if known is None:
                here[name] = known = (head.size + len(here), content)
                placed.append(Placed(known[0], entry, new=True))
            else:
                placed.append(Placed(known[0], entry, new=False))
        return placed

    def _sequence(self, head: Head, entries: Sequence[LogEntry]) -> bool:
        """Store the batch and move the head over it; ``False`` if another sequencer was faster."""
        self._objects.put_all(
            (blob_key(digest), content) for entry in entries for digest, content in entry.blobs
        )
        bundled = [Bundled(entry.leaf, entry.opening, *_digests(entry)) for entry in entries]
        batch = encode_batch(head.origin, head.size, head.batch, self._clock(), bundled)
        digest = hashlib.sha256(batch).hexdigest()
        key = batch_key(head.size, digest)
        self._objects.put_new(key, batch)
        after = head.followed_by(count=len(entries), batch=key, digest=digest)
        if not self._heads.move(head, after):
            return False
        self._recent.add(decode_start(batch[: start_bytes(batch)]))
        self._finish(after, [(entry.leaf, entry.opening) for entry in entries])
        return True

    def _integrated(self, head: Head) -> Head:
        """Return the head with its last batch integrated, whoever sequenced it."""
        if not head.pending:
            return head
        batch = self._objects.get(head.batch)
        if batch is None or hashlib.sha256(batch).hexdigest() != head.digest:
            raise LedgerCorrupt(f"the batch of entry {head.first} is not the one that was sequenced")
        return self._finish(head, decode_entries(batch))

    def _finish(self, head: Head, pairs: Sequence[tuple[bytes, bytes]]) -> Head:
        """Integrate the head's last batch and mark it; another sequencer may do the same meanwhile."""
        edge = self._edge if self._edge.size == head.first else read_edge(self._objects, head.first)
        if edge.root() != head.root_bytes:
            raise LedgerCorrupt(
                f"the tiles of the first {head.first} entries have another root than the head"
            )
        written, after = plan(edge, pairs)
        self._objects.put_all(written)
        self._edge = after
        done = head.integrated_to(after.root())
        return done if self._heads.move(head, done) else self._heads.read() or done

    def _create(self) -> Head:
        """Start the log. Its name is written once; of two that try, both go on with what is there."""
        name = self._objects.get(LOG)
        if name is None:
            name = new_identity(secrets.token_hex(8), utc_now()).canonical
            try:
                self._objects.put_new(LOG, name)
            except LedgerCorrupt:  # another one was faster
                name = self._objects.get(LOG)
        return self._heads.create(read_identity(name).origin)

    def _start(self, key: str) -> BatchStart:
        start = self._objects.part(key, 0, START_BYTES)
        if start is not None and start_bytes(start) > len(start):
            start = self._objects.part(key, 0, start_bytes(start))
        if start is None:
            raise LedgerCorrupt("a sequenced batch is gone; run: abeyance ledger verify")
        return decode_start(start)


def _digests(entry: LogEntry) -> tuple[bytes, bytes]:
    return half_digest(entry.id.encode()), entry.content[:16]
