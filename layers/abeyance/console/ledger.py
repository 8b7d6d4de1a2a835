"""The ledger as an auditor reads it: entries, receipts, the verification of the whole, and exports in pieces."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from abeyance.aws.table import Put, Table
from abeyance.console.errors import NotFound
from abeyance.ledger.defects import LedgerReport
from abeyance.ledger.exporting import ZipWriter, export_log
from abeyance.ledger.heads import HeadStore
from abeyance.ledger.lookup import Lookup
from abeyance.ledger.objects import LogObjects
from abeyance.ledger.opened import open_log, with_opened
from abeyance.ledger.policy import Policy
from abeyance.ledger.query import Query
from abeyance.ledger.reading import LoggedEntry, LogReader, each_once
from abeyance.ledger.receipts import Receipt, make_receipt, read_checkpoint
from abeyance.ledger.tiles import WIDTH
from abeyance.ledger.verification import verify_log

PAGE_ENTRIES: Final = 50
#: A search stops after it looked at this number of entries, and its page offers to continue.
SEARCHED_ENTRIES: Final = 200_000
#: Verify the log whenever its page is opened up to this number of entries; a longer one only on request.
VERIFIED_ON_OPEN_ENTRIES: Final = 5_000
#: Entries of one piece of an export; Lambda's answers have at most 6 MB, in base64.
PIECE_ENTRIES: Final = 4 * WIDTH


class SearchPage(msgspec.Struct, frozen=True, kw_only=True):
    """Entries newest first, and the entry to continue before; ``before`` is 0 at the beginning of the log."""

    entries: tuple[LoggedEntry, ...]
    before: int
    size: int

    @property
    def pieces(self) -> int:
        """Number of pieces of an export."""
        return -(-self.size // PIECE_ENTRIES)


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """A verification report and when it was made (RFC 3339 UTC)."""

    at: str
    report: LedgerReport


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
    """Search, receipts, verification and export of the ledger.

    Parameters
    ----------
    heads, objects
        The log, which is only read.
    policy
        Returns who is believed, by the name of the log.
    verifications
        Where the last verification is kept.
    clock
        Aware wall clock.
    readers
        Objects of the log that are read at the same time.
    """

    def __init__(
        self,
        heads: HeadStore,
        objects: LogObjects,
        policy: Callable[[str], Policy],
        verifications: VerificationStore,
        clock: Callable[[], datetime],
        readers: int = 1,
    ) -> None:
        self._readers = readers
        self._heads = heads
        self._objects = objects
        self._policy = policy
        self._verifications = verifications
        self._clock = clock

    def search(self, query: Query, before: int = 0) -> SearchPage:
        """Return matching entries, newest first, from below entry ``before`` (0 for the end)."""
        lookup = Lookup(self._objects, self._heads.integrated(), self._readers)
        page = lookup.page(query, before=before or lookup.size, limit=PAGE_ENTRIES, most=SEARCHED_ENTRIES)
        return SearchPage(entries=page.entries, before=page.before, size=lookup.size)

    def entry(self, index: int) -> LoggedEntry:
        """Return one entry; raises :class:`NotFound`."""
        reader = self._reader()
        if not 0 <= index < reader.size:
            raise NotFound("There is no entry with this number.")
        return reader.entry(index)

    def receipt(self, index: int) -> Receipt:
        """Return a receipt of an entry with all its fields, against the latest checkpoint.

        Raises
        ------
        LedgerError
            No checkpoint covers the entry yet, or the log contradicts itself.
        """
        return make_receipt(self._objects, read_checkpoint(self._objects), index)

    def policy(self, origin: str) -> Policy:
        """Return who is believed about the log of this name."""
        return self._policy(origin)

    def verification(self) -> Verification | None:
        """Return the state of the log: verified now if it is short, else the last verification, if any."""
        head = self._heads.read()
        if head is not None and head.integrated <= VERIFIED_ON_OPEN_ENTRIES:
            return self.verify()
        return self._verifications.load()

    def verify(self) -> Verification | None:
        """Verify all objects, entries and checkpoints, and save the report; None for an empty log."""
        head = self._heads.read()
        if head is None or not head.integrated:
            return None
        now = self._clock()
        report = verify_log(self._objects, self._policy(head.origin), now=now)
        report = with_opened(report, open_log(self._objects, report.size))
        made = Verification(at=f"{now:%Y-%m-%dT%H:%M:%SZ}", report=report)
        self._verifications.save(made)
        return made

    def export(self, piece: int) -> bytes:
        """Return a piece of an export, from 0, as a zip file: unpacked into one folder, the pieces are the log.

        Raises :class:`NotFound` behind the last piece, and ``LedgerError`` while there is no checkpoint.
        """
        checkpoint, first = read_checkpoint(self._objects), piece * PIECE_ENTRIES
        if not 0 <= first < checkpoint.size:
            raise NotFound("The export has no such piece.")
        out = io.BytesIO()
        writer = ZipWriter(out)
        export_log(self._objects, checkpoint, writer.put, first=first, stop=first + PIECE_ENTRIES)
        writer.close()
        return out.getvalue()

    def since(self, days: int) -> Iterator[Mapping[str, Any]]:
        """Yield entries of the last ``days``, oldest first; older ones are not read."""
        reader = self._reader()
        start = f"{self._clock() - timedelta(days=days):%Y-%m-%dT%H:%M:%S}"
        for entry in each_once(reader.entries(reader.first_since(start))):
            if entry.time >= start:
                yield msgspec.structs.asdict(entry)

    def _reader(self) -> LogReader:
        return LogReader(self._objects, self._heads.integrated(), self._readers)
