"""The ledger as an auditor reads it: entries, proofs, and the verification of the whole chain."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from abeyance.aws.table import Put, Table
from abeyance.console.errors import NotFound
from abeyance.ledger.chain import Entry
from abeyance.ledger.checkpoints import Checkpointer
from abeyance.ledger.export import write_export
from abeyance.ledger.findings import VerificationReport
from abeyance.ledger.merkle import CompactRange, leaf_hash
from abeyance.ledger.note import Checkpoint
from abeyance.ledger.proofs import Proof, prove_inclusion
from abeyance.ledger.query import Query, decision
from abeyance.ledger.store import LedgerStore
from abeyance.ledger.verify import verify_store

PAGE_ENTRIES: Final = 50
#: A search stops after this number of entries, and its page offers to continue.
SEARCHED_ENTRIES: Final = 20_000
#: Verify the chain whenever its page is opened up to this number of entries; a longer one only on request.
VERIFIED_ON_OPEN_ENTRIES: Final = 5_000
_READ_ENTRIES: Final = 500


class SearchPage(msgspec.Struct, frozen=True, kw_only=True):
    """Entries newest first, and the entry to continue before; ``before`` is 0 at the beginning of the ledger."""

    entries: tuple[Entry, ...]
    before: int
    size: int


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """A verification report and when it was made (RFC 3339 UTC)."""

    at: str
    report: VerificationReport


class VerificationStore:
    """The last verification, one item in the reviews table."""

    _KEY: Final = {"pk": "verification", "sk": "last"}

    def __init__(self, table: Table) -> None:
        self._table = table

    def save(self, verification: Verification) -> None:
        """Replace the last verification."""
        self._table.transact([Put({**self._KEY, "body": msgspec.json.encode(verification)})])

    def load(self) -> Verification | None:
        """Return the last verification; None if there was none."""
        item = self._table.get((self._KEY["pk"], self._KEY["sk"]))
        return None if item is None else msgspec.json.decode(item["body"], type=Verification)


class LedgerService:
    """Search, proofs, verification and export of the ledger."""

    def __init__(
        self,
        store: LedgerStore,
        checkpointer: Checkpointer,
        verifications: VerificationStore,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._checkpointer = checkpointer
        self._verifications = verifications
        self._clock = clock

    def search(self, query: Query, action: str = "", before: int = 0) -> SearchPage:
        """Return matching entries, newest first, from below entry ``before`` (0 for the end)."""
        head = self._store.head()
        size = head.seq if head else 0
        top = min(before - 1, size) if before > 0 else size
        lowest = max(0, top - SEARCHED_ENTRIES)
        found: list[Entry] = []
        while top > lowest:
            start = max(lowest, top - _READ_ENTRIES)
            for entry in reversed(self._store.read(start, top - start)):
                if entry.seq <= top and query.fits(entry) and (not action or action in _actions(entry)):
                    found.append(entry)
                    if len(found) == PAGE_ENTRIES:
                        return SearchPage(entries=tuple(found), before=entry.seq, size=size)
            top = start
        return SearchPage(entries=tuple(found), before=top + 1 if top else 0, size=size)

    def entry(self, seq: int) -> Entry:
        """Return one entry; raises :class:`NotFound`."""
        entry = self._store.get(seq) if 0 < seq < 10**15 else None
        if entry is None:
            raise NotFound("There is no entry with this number.")
        return entry

    def proof(self, entry: Entry) -> Proof:
        """Return a proof that the entry is on the ledger; raises ``LedgerError`` if the chain is broken.

        The proof is against the latest checkpoint if that covers the entry, because others may know that one; else
        against the head.
        """
        head = self._store.head()
        if head is None:
            raise NotFound("The ledger is empty.")
        known = self._checkpointer.latest(head.header.origin, head.seq)
        if known is None or known.size < entry.seq:
            tree = CompactRange()
            for one in self._store.read(0, head.seq):
                tree.append(leaf_hash(bytes.fromhex(one.hash)))
            known = Checkpoint(head.header.origin, tree.size, tree.root(), head.hash)
        return prove_inclusion(self._store.lines(0, known.size), entry.canonical, known)

    def verification(self) -> Verification | None:
        """Return the state of the chain: verified now if it is short, else the last verification, if any."""
        head = self._store.head()
        if head is not None and head.seq <= VERIFIED_ON_OPEN_ENTRIES:
            return self.verify()
        return self._verifications.load()

    def verify(self) -> Verification | None:
        """Verify all entries and checkpoints, and save the report; None for an empty ledger."""
        head = self._store.head()
        checkpoints = self._checkpointer.all(head.header.origin) if head else ()
        report = verify_store(self._store, checkpoints=checkpoints)
        if report is None:
            return None
        made = Verification(at=f"{self._clock():%Y-%m-%dT%H:%M:%SZ}", report=report)
        self._verifications.save(made)
        return made

    def export(self) -> bytes:
        """Return the whole ledger with its checkpoints, as ``abeyance ledger verify`` reads it."""
        head, out = self._store.head(), io.BytesIO()
        if head is not None:
            checkpoints = self._checkpointer.all(head.header.origin)
            write_export(out, head.header, self._store.lines(0, head.seq), checkpoints)
        return out.getvalue()

    def since(self, days: int) -> Iterator[Mapping[str, Any]]:
        """Yield entries of the last ``days``, oldest first. Their times come from producers and are nearly ordered."""
        head = self._store.head()
        if head is None:
            return
        start = f"{self._clock() - timedelta(days=days):%Y-%m-%dT%H:%M:%S}"
        low, high = 0, head.seq
        while low < high:  # Find the last entry that is too old.
            middle = (low + high + 1) // 2
            entry = self._store.get(middle)
            if entry is None or entry.time < start:
                low = middle
            else:
                high = middle - 1
        for line in self._store.lines(low, head.seq):
            yield msgspec.json.decode(line)


def _actions(entry: Entry) -> tuple[Any, Any]:
    return entry.body.get("action"), decision(entry).get("action")
