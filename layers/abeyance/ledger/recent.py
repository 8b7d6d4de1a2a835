"""The ids of recent entries, by which a redelivery is recognised: no table row an entry, a few megabytes of memory.

Whoever sequences remembers what it sequenced. What another sequencer did meanwhile, or this one in an earlier process,
is read from the beginnings of the batch objects, which name each other backwards. It goes back :data:`LOOKBACK_S`, or
as far as the oldest redelivered message was first received, and no further than :data:`MOST_ENTRIES`. What is older
slips through: an entry that is there twice counts once in every reading.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from abeyance.ledger.batches import BatchStart
from abeyance.ledger.heads import Head

#: A producer that died, and is run again by its queue, repeats itself within this time.
LOOKBACK_S: Final = 900.0
#: Entries to remember, some 40 MB; at a thousand a second, three minutes.
MOST_ENTRIES: Final = 200_000
#: Clocks of two processes may differ by so much.
SKEW_S: Final = 60.0


class RecentIds:
    """A window over the newest batches; each id with its place and half a digest of its content.

    Parameters
    ----------
    start
        Reads the beginning of a batch object by its key.
    most
        Entries to remember.
    """

    def __init__(self, start: Callable[[str], BatchStart], most: int = MOST_ENTRIES) -> None:
        self._start = start
        self._most = most
        self._window: deque[BatchStart] = deque()
        self._places: dict[bytes, tuple[int, bytes]] = {}

    def find(self, id_digest: bytes) -> tuple[int, bytes] | None:
        """Return place and content of the entry with this id, if it is in the window: the first, if it is twice."""
        return self._places.get(id_digest)

    def add(self, batch: BatchStart) -> None:
        """Remember the batch that follows the newest one."""
        self._window.append(batch)
        for index, (name, content) in enumerate(batch.digests, batch.first):
            self._places.setdefault(name, (index, content))
        while len(self._window) > 1 and len(self._places) > self._most:
            self._forget(self._window.popleft())

    def cover(self, head: Head, since: float) -> None:
        """Make the window reach from the head back to ``since`` (epoch seconds), or as far as it may."""
        self._catch_up(head)
        while self._window and len(self._places) < self._most:
            oldest = self._window[0]
            if not oldest.previous or oldest.sequenced < since - SKEW_S:
                return
            older = self._start(oldest.previous)
            self._window.appendleft(older)
            for index, (name, content) in enumerate(older.digests, older.first):
                known = self._places.get(name)
                if known is None or known[0] > index:
                    self._places[name] = (index, content)

    def _catch_up(self, head: Head) -> None:
        """Read what was sequenced behind the window's end, newest first, and add it in order."""
        known = self._window[-1].after if self._window else -1
        if known > head.size:
            self._window.clear()
            self._places.clear()
            known = -1
        newer: list[BatchStart] = []
        key, count = head.batch, 0
        while key and count < self._most and (newer[-1].first if newer else head.size) > known:
            newer.append(self._start(key))
            key, count = newer[-1].previous, count + newer[-1].count
            if known < 0:
                break
        if newer and newer[-1].first > known >= 0:  # too far behind: what is between is not remembered
            self._window.clear()
            self._places.clear()
        for batch in reversed(newer):
            self.add(batch)

    def _forget(self, batch: BatchStart) -> None:
        for index, (name, _) in enumerate(batch.digests, batch.first):
            if self._places.get(name, (-1,))[0] == index:
                del self._places[name]
