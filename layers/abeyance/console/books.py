"""The auditor's room: entries of the ledger, proofs of them, and whether the whole chain holds."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from abeyance.console.errors import NotFound
from abeyance.encoding import decode_hex
from abeyance.ledger.chain import Entry
from abeyance.ledger.checkpoints import Checkpointer
from abeyance.ledger.errors import LedgerError
from abeyance.ledger.export import write_export
from abeyance.ledger.findings import Report
from abeyance.ledger.merkle import CompactRange, leaf_hash
from abeyance.ledger.note import Checkpoint
from abeyance.ledger.proofs import Proof, prove_inclusion
from abeyance.ledger.query import Query, decision
from abeyance.ledger.store import LedgerStore
from abeyance.ledger.verify import verify_store

#: Entries of one look through the ledger, and most that a search passes over before it says so.
PAGE: Final = 50
SEARCHED: Final = 20_000
#: Entries up to which the chain is verified whenever its page is opened; a longer one when somebody asks.
VERIFIED_AT_ONCE: Final = 5_000
_STEP: Final = 500


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Entries newest first, and from where to search on; ``before`` is 0 at the beginning of the ledger."""

    entries: tuple[Entry, ...]
    before: int
    size: int


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """A report and when it was made."""

    at: str
    report: Report


class Books:
    """What the ledger pages ask. ``keep`` and ``kept`` store and fetch the last verification."""

    def __init__(
        self,
        store: LedgerStore,
        checkpointer: Checkpointer,
        clock: Callable[[], datetime],
        keep: Callable[[bytes], None],
        kept: Callable[[], bytes | None],
    ) -> None:
        self._store = store
        self._checkpointer = checkpointer
        self._clock = clock
        self._keep = keep
        self._kept = kept

    def search(self, query: Query, action: str = "", before: int = 0) -> Found:
        """Entries that fit, newest first, from below ``before`` (0 for the end)."""
        head = self._store.head()
        size = head.seq if head else 0
        top = min(before - 1, size) if before > 0 else size
        lowest = max(0, top - SEARCHED)
        found: list[Entry] = []
        while top > lowest and len(found) < PAGE:
            start = max(lowest, top - _STEP)
            for entry in reversed(self._store.read(start, top - start)):
                if entry.seq <= top and query.fits(entry) and (not action or _acts(entry, action)):
                    found.append(entry)
                    if len(found) == PAGE:
                        return Found(entries=tuple(found), before=entry.seq, size=size)
            top = start
        return Found(entries=tuple(found), before=top + 1 if top else 0, size=size)

    def entry(self, seq: int) -> Entry:
        """One entry; raises :class:`NotFound`."""
        entry = self._store.get(seq) if 0 < seq < 10**15 else None
        if entry is None:
            raise NotFound("There is no entry of this number.")
        return entry

    def proof(self, entry: Entry) -> Proof:
        """Proof that the entry is on the ledger as it stands now; raises ``LedgerError`` where the chain is broken.

        It is against the latest checkpoint if that covers the entry, because others may know that one; otherwise
        against the head.
        """
        head = self._store.head()
        if head is None:
            raise NotFound("The ledger is empty.")
        known = self._checkpointer.latest(head.header.origin, head.seq)
        if known is None or known.size < entry.seq:
            tree = CompactRange()
            for one in self._store.read(0, head.seq):
                tree.append(leaf_hash(decode_hex(one.hash)))
            known = Checkpoint(head.header.origin, tree.size, tree.root(), head.hash)
        return prove_inclusion(self._store.lines(0, known.size), entry.canonical, known)

    def verification(self) -> Verification | None:
        """The state of the chain: verified now if it is short, else as it was verified last; None if it never was."""
        head = self._store.head()
        if head is not None and head.seq <= VERIFIED_AT_ONCE:
            return self.verify()
        body = self._kept()
        return None if body is None else msgspec.json.decode(body, type=Verification)

    def verify(self) -> Verification | None:
        """Verify everything, and every checkpoint, and keep the report; None for an empty ledger."""
        head = self._store.head()
        checkpoints = self._checkpointer.all(head.header.origin) if head else ()
        report = verify_store(self._store, checkpoints=checkpoints)
        if report is None:
            return None
        made = Verification(at=f"{self._clock():%Y-%m-%dT%H:%M:%SZ}", report=report)
        self._keep(msgspec.json.encode(made))
        return made

    def export(self) -> Iterator[bytes]:
        """The export, piece by piece: entries with their checkpoints, as ``abeyance ledger verify`` reads it."""
        head = self._store.head()
        if head is None:
            return
        out = io.BytesIO()
        write_export(
            out, head.header, self._store.lines(0, head.seq), self._checkpointer.all(head.header.origin)
        )
        out.seek(0)
        while piece := out.read(1 << 16):
            yield piece

    def since(self, days: int) -> Iterator[Mapping[str, Any]]:
        """Entries of the last ``days``, oldest first, as mappings. Times are the producers' and only nearly ordered."""
        head = self._store.head()
        if head is None:
            return
        start = f"{self._clock() - timedelta(days=days):%Y-%m-%dT%H:%M:%S}"
        low, high = 0, head.seq
        while low < high:  # the last entry that is too old
            middle = (low + high + 1) // 2
            entry = self._store.get(middle)
            if entry is None or entry.time < start:
                low = middle
            else:
                high = middle - 1
        for line in self._store.lines(low, head.seq):
            yield msgspec.json.decode(line)


def _acts(entry: Entry, action: str) -> bool:
    return action in (entry.body.get("action"), decision(entry).get("action"))


__all__ = ["Books", "Found", "LedgerError", "Verification"]
