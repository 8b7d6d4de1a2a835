"""The chain in DynamoDB: it grows by conditional puts in transactions; nothing is changed or deleted.

One table, string keys ``pk`` and ``sk``:

=============  ==================  =========================================================================
pk             sk                  holds
=============  ==================  =========================================================================
``head``       ``head``            ``chain``, ``created``, ``seq``, ``hash``: where the chain ends
``entries``    seq, 16 digits      ``line``: the entry as canonical JSON, the very bytes that are exported
``id#<id>``    ``id``              ``seq`` of the entry with this id, which makes a redelivery harmless
=============  ==================  =========================================================================

One append is one transaction: the head, if it still is what was read; every entry, if its place is free;
every id, if it is new. So a crash leaves the chain before or after it, and of two writers that start from the
same head one is refused and starts again from the new one: the chain cannot fork.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from abeyance.aws.dynamodb import DynamoTable
from abeyance.aws.table import PARTITION, SORT, Conflict, Item, Put
from abeyance.aws.timestamps import utc_now
from abeyance.ledger.chain import (
    Entry,
    Head,
    Record,
    conflict,
    conflict_id,
    content_digest,
    decode_entry,
    follow,
    new_header,
    normalise,
)
from abeyance.ledger.errors import LedgerBusy, LedgerCorrupt, LedgerUnavailable

#: Records in one transaction: 1 + 2 * 30 of its 100 actions, and at most 30 * 65 KiB of its 4 MB.
BATCH: Final = 30
_ATTEMPTS: Final = 12
_BACKOFF_S: Final = 0.02
_MAX_BACKOFF_S: Final = 1.0
_HEAD: Final = ("head", "head")
_ENTRIES: Final = "entries"


class LedgerStore:
    """The ledger in a DynamoDB table.

    Parameters
    ----------
    client
        A low-level ``dynamodb`` client.
    table
        Name of the table, with string keys ``pk`` and ``sk``.
    chain
        Id of the chain if the table is still empty; a random one by default. Ignored once there is a chain.
    clock
        Says when a chain was created. Nothing else here reads it.
    sleep
        Waits between attempts, in seconds.
    """

    def __init__(
        self,
        client: Any,
        table: str,
        *,
        chain: str | None = None,
        clock: Callable[[], datetime] = utc_now,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._table = DynamoTable(client, table, pause=self._back_off)
        self._chain = chain
        self._clock = clock
        self._sleep = sleep
        #: Where the chain ended when this writer last wrote; nobody else may have written since.
        self._last: Head | None = None

    def head(self) -> Head | None:
        """Return the end of the chain, read consistently; ``None`` if nothing was ever appended."""
        with _reaching():
            item = self._table.get(_HEAD)
        return None if item is None else Head(item["chain"], item["created"], item["seq"], item["hash"])

    def append(self, records: Sequence[Record]) -> list[Entry]:
        """Append what is new and return the entry of every record, in order.

        A record whose id is on the ledger with the same type and body is a redelivery: its entry is returned
        and nothing is written, also when both stand in one batch. With another type or body it is a conflict,
        and becomes an entry of type ``conflict`` (see :func:`abeyance.ledger.chain.conflict`): look at the
        type of what returns.

        Every record is checked before the first is written. Up to :data:`BATCH` records are all or nothing;
        more are written in several such steps, and calling again after an error writes only what is missing.

        Raises
        ------
        Inadmissible
            A record must not be on the ledger. Nothing was written.
        LedgerBusy
            Other writers were faster at every attempt.
        LedgerUnavailable
            DynamoDB refused or did not answer. It may have written; append the same records again to find
            out.
        LedgerCorrupt
            The table contradicts itself, such as an id whose entry is missing.
        """
        normal = [normalise(record) for record in records]
        entries: list[Entry] = []
        for start in range(0, len(normal), BATCH):
            entries += self._append(normal[start : start + BATCH])
        return entries

    def read(self, after: int = 0, limit: int = 1000) -> list[Entry]:
        """Return at most ``limit`` entries with ``seq`` above ``after``, ascending; sees every append that returned.

        An entry that is missing in the table is missing in the result: it is for verification to find.
        """
        return [decode_entry(line) for _, line in self._page(after, limit)]

    def lines(self, after: int = 0, through: int | None = None, *, page: int = 1000) -> Iterator[bytes]:
        """Yield every stored entry with ``after < seq <= through`` as canonical JSON, ascending, a page at a time.

        The bytes are as stored, whatever was done to them: it is for verification to find.

        ``through`` is the head at the time of the call if not given.
        """
        if through is None:
            head = self.head()
            through = head.seq if head else 0
        while after < through:
            found = self._page(after, min(page, through - after), through)
            if not found:
                return
            yield from (line for _, line in found)
            after = found[-1][0]

    def find(self, record_id: str) -> Entry | None:
        """Return the entry with this id, or ``None``."""
        return self._known([record_id]).get(record_id)

    def get(self, seq: int) -> Entry | None:
        """Return the entry with this sequence number, or ``None``."""
        return self._entries([seq]).get(seq)

    def _append(self, records: Sequence[Record]) -> list[Entry]:
        for attempt in range(_ATTEMPTS):
            # The first attempt reads nothing: it takes the chain to end where this writer left it, and every record to
            # be new. The transaction goes through only if that is so.
            head, known = self._last, {}
            if attempt or head is None:
                head = self.head() or self._create()
                known = self._known([name for record in records for name in (record.id, conflict_id(record))])
            result, new = _plan(head, records, known)
            if not new:
                return result
            if self._commit(head, new):
                self._last = Head(head.chain, head.created, new[-1].seq, new[-1].hash)
                return result
            self._back_off(attempt)
        raise LedgerBusy(
            f"other writers moved the chain {_ATTEMPTS} times; nothing was written, redeliver the batch"
        )

    def _commit(self, head: Head, new: Sequence[Entry]) -> bool:
        """Write the entries and the new head in one transaction; ``False`` if somebody else was faster."""
        last = new[-1]
        end = Head(head.chain, head.created, last.seq, last.hash)
        operations = [Put(_head_item(end), expect={"seq": head.seq, "hash": head.hash})]
        for entry in new:
            line = {**_key(_ENTRIES, _digits(entry.seq)), "line": entry.canonical.decode()}
            place = {**_key(f"id#{entry.id}", "id"), "seq": entry.seq}
            operations += [Put(line, absent=True), Put(place, absent=True)]
        try:
            with _reaching():
                self._table.transact(operations)
        except Conflict:
            return False
        return True

    def _create(self) -> Head:
        """Start the chain. Of two that try, one wins, and both go on with the winner's."""
        header = new_header(self._chain or secrets.token_hex(8), self._clock())
        item = _head_item(Head(header.chain, header.created, 0, header.genesis))
        with _reaching(), contextlib.suppress(Conflict):
            self._table.transact([Put(item, absent=True)])
        head = self.head()
        if head is None:
            raise LedgerCorrupt("the head of the ledger vanished right after it was written")
        return head

    def _page(self, after: int, limit: int, through: int | None = None) -> list[tuple[int, bytes]]:
        """Return number and line of the entries above ``after``.

        A query can see a transaction half done, and so miss an entry that another writer is just putting in
        front of one that it sees. Such a gap is gone when the query runs again; one that stays is damage, and
        is returned.
        """
        first, last = _digits(after + 1), _digits(10**16 - 1 if through is None else through)
        found: list[tuple[int, bytes]] = []
        for _ in range(4):
            with _reaching():
                items = list(self._table.query(_ENTRIES, first, last, limit=limit))
            found = [(int(item[SORT]), item["line"].encode()) for item in items]
            if [seq for seq, _ in found] == list(range(after + 1, after + 1 + len(found))):
                break
            self._sleep(_BACKOFF_S)
        return found

    def _known(self, ids: Sequence[str]) -> dict[str, Entry]:
        """Return the entries that exist among these ids."""
        items = self._get_many([(f"id#{name}", "id") for name in ids])
        seqs = {item[PARTITION].removeprefix("id#"): item["seq"] for item in items}
        entries = self._entries(list(seqs.values()))
        if missing := set(seqs.values()) - entries.keys():
            raise LedgerCorrupt(f"entry {min(missing)} has an id but is gone; run: abeyance ledger verify")
        return {name: entries[seq] for name, seq in seqs.items()}

    def _entries(self, seqs: Sequence[int]) -> dict[int, Entry]:
        items = self._get_many([(_ENTRIES, _digits(seq)) for seq in seqs])
        return {int(item[SORT]): decode_entry(item["line"]) for item in items}

    def _get_many(self, keys: Sequence[tuple[str, str]]) -> list[Item]:
        try:
            with _reaching():
                return list(self._table.get_many(keys).values())
        except Conflict:
            raise LedgerUnavailable(
                "DynamoDB left keys unprocessed at every attempt; try again later"
            ) from None

    def _back_off(self, attempt: int) -> None:
        self._sleep(random.uniform(0, min(_MAX_BACKOFF_S, _BACKOFF_S * 2**attempt)))


def _plan(head: Head, records: Sequence[Record], known: dict[str, Entry]) -> tuple[list[Entry], list[Entry]]:
    """Return the entry of every record, and those of them that have to be written on top of ``head``.

    ``known`` has the entries that are there among the records' ids; those to be written are added to it.
    """
    result: list[Entry] = []
    new: list[Entry] = []
    for record in records:
        entry = known.get(record.id)
        if entry is not None and not _same(entry, record):
            record = conflict(record, entry.seq)
            entry = known.get(record.id)
        if entry is None:
            last = new[-1] if new else head
            entry = follow(last.seq, last.hash, record)
            known[entry.id] = entry
            new.append(entry)
        result.append(entry)
    return result, new


def _same(entry: Entry, record: Record) -> bool:
    return content_digest(Record(entry.id, entry.type, entry.time, entry.body)) == content_digest(record)


def _key(pk: str, sk: str) -> Item:
    return {PARTITION: pk, SORT: sk}


def _digits(seq: int) -> str:
    return f"{seq:016d}"


def _head_item(head: Head) -> Item:
    return {**_key(*_HEAD), **msgspec.structs.asdict(head)}


@contextlib.contextmanager
def _reaching() -> Iterator[None]:
    """Turn an error of AWS into :class:`LedgerUnavailable`, without its text, which may quote the request."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
        raise LedgerUnavailable(f"the ledger table did not confirm: {code}") from error
