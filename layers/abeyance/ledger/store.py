"""The chain in DynamoDB: it grows by conditional puts in transactions, and nothing here changes or deletes.

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

import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

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
_BACKOFF: Final = 0.02
_MAX_BACKOFF: Final = 1.0
_RETRYABLE: Final = {
    "None",
    "ConditionalCheckFailed",
    "TransactionConflict",
    "ThrottlingError",
    "ProvisionedThroughputExceeded",
}


class LedgerStore:
    """The ledger in a DynamoDB table.

    Parameters
    ----------
    client
        A boto3 ``dynamodb`` client.
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
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._table = table
        self._chain = chain
        self._clock = clock
        self._sleep = sleep
        #: Where the chain ended when this writer last wrote; nobody else may have written since.
        self._last: Head | None = None

    def head(self) -> Head | None:
        """Where the chain ends, read consistently; ``None`` if nothing was ever appended."""
        item = self._call(
            "get_item", TableName=self._table, Key=_key("head", "head"), ConsistentRead=True
        ).get("Item")
        if item is None:
            return None
        return Head(item["chain"]["S"], item["created"]["S"], int(item["seq"]["N"]), item["hash"]["S"])

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
        """At most ``limit`` entries with ``seq`` above ``after``, ascending; sees every append that returned.

        An entry that is missing in the table is missing in the result: it is for verification to find.
        """
        return [_entry(line) for _, line in self._page(after, limit)]

    def lines(self, after: int = 0, through: int | None = None, *, page: int = 1000) -> Iterator[bytes]:
        """Every stored entry with ``after < seq <= through`` as canonical JSON, ascending, a page at a time.

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
        """The entry with this id, or ``None``."""
        return self._known([record_id]).get(record_id)

    def get(self, seq: int) -> Entry | None:
        """The entry with this sequence number, or ``None``."""
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
            self._sleep(random.uniform(0, min(_MAX_BACKOFF, _BACKOFF * 2**attempt)))
        raise LedgerBusy(
            f"other writers moved the chain {_ATTEMPTS} times; nothing was written, redeliver the batch"
        )

    def _commit(self, head: Head, new: Sequence[Entry]) -> bool:
        """Write the entries and the new head in one transaction; ``False`` if somebody else was faster."""
        last = new[-1]
        actions = [
            self._put(
                _head_item(Head(head.chain, head.created, last.seq, last.hash)),
                "seq = :seq AND #hash = :hash",
                ExpressionAttributeNames={"#hash": "hash"},
                ExpressionAttributeValues={":seq": {"N": str(head.seq)}, ":hash": {"S": head.hash}},
            )
        ]
        for entry in new:
            line = {"line": {"S": entry.canonical.decode()}}
            actions.append(
                self._put({**_key("entries", _digits(entry.seq)), **line}, "attribute_not_exists(pk)")
            )
            seq = {"seq": {"N": str(entry.seq)}}
            actions.append(self._put({**_key(f"id#{entry.id}", "id"), **seq}, "attribute_not_exists(pk)"))
        try:
            self._client.transact_write_items(TransactItems=actions)
        except ClientError as error:
            if error.response["Error"]["Code"] == "TransactionCanceledException":
                reasons = {
                    reason.get("Code", "None") for reason in error.response.get("CancellationReasons", [])
                }
                if reasons <= _RETRYABLE:
                    return False
            raise _unavailable(error) from error
        except BotoCoreError as error:
            raise _unavailable(error) from error
        return True

    def _create(self) -> Head:
        """Start the chain. Of two that try, one wins, and both go on with the winner's."""
        header = new_header(self._chain or secrets.token_hex(8), self._clock())
        item = _head_item(Head(header.chain, header.created, 0, header.genesis))
        try:
            self._client.put_item(
                TableName=self._table, Item=item, ConditionExpression="attribute_not_exists(pk)"
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise _unavailable(error) from error
        except BotoCoreError as error:
            raise _unavailable(error) from error
        head = self.head()
        if head is None:
            raise LedgerCorrupt("the head of the ledger vanished right after it was written")
        return head

    def _page(self, after: int, limit: int, through: int | None = None) -> list[tuple[int, bytes]]:
        """Number and line of the entries above ``after``.

        A query can see a transaction half done, and so miss an entry that another writer is just putting in
        front of one that it sees. Such a gap is gone when the query runs again; one that stays is damage, and
        is returned.
        """
        found: list[tuple[int, bytes]] = []
        for _ in range(4):
            found = []
            start: dict[str, Any] = {}
            while len(found) < limit:
                answer = self._call(
                    "query",
                    TableName=self._table,
                    KeyConditionExpression="pk = :pk AND sk BETWEEN :from AND :to",
                    ExpressionAttributeValues={
                        ":pk": {"S": "entries"},
                        ":from": {"S": _digits(after + 1)},
                        ":to": {"S": _digits(10**16 - 1 if through is None else through)},
                    },
                    ConsistentRead=True,
                    Limit=limit - len(found),
                    **start,
                )
                found += [(int(item["sk"]["S"]), item["line"]["S"].encode()) for item in answer["Items"]]
                if "LastEvaluatedKey" not in answer:
                    break
                start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}
            if [seq for seq, _ in found] == list(range(after + 1, after + 1 + len(found))):
                break
            self._sleep(_BACKOFF)
        return found

    def _known(self, ids: Sequence[str]) -> dict[str, Entry]:
        """The entries that exist among these ids."""
        items = self._batch_get([_key(f"id#{name}", "id") for name in dict.fromkeys(ids)])
        seqs = {item["pk"]["S"].removeprefix("id#"): int(item["seq"]["N"]) for item in items}
        entries = self._entries(list(seqs.values()))
        if missing := set(seqs.values()) - entries.keys():
            raise LedgerCorrupt(f"entry {min(missing)} has an id but is gone; run: abeyance ledger verify")
        return {name: entries[seq] for name, seq in seqs.items()}

    def _entries(self, seqs: Sequence[int]) -> dict[int, Entry]:
        items = self._batch_get([_key("entries", _digits(seq)) for seq in dict.fromkeys(seqs)])
        return {int(item["sk"]["S"]): _entry(item["line"]["S"]) for item in items}

    def _batch_get(self, keys: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        for start in range(0, len(keys), 100):
            wanted: dict[str, Any] = {
                self._table: {"Keys": keys[start : start + 100], "ConsistentRead": True}
            }
            for attempt in range(_ATTEMPTS):
                answer = self._call("batch_get_item", RequestItems=wanted)
                items += answer["Responses"].get(self._table, [])
                wanted = answer.get("UnprocessedKeys") or {}
                if not wanted:
                    break
                self._sleep(random.uniform(0, min(_MAX_BACKOFF, _BACKOFF * 2**attempt)))
            else:
                raise LedgerUnavailable("DynamoDB left keys unprocessed at every attempt; try again later")
        return items

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._client, operation)(**arguments)
        except (ClientError, BotoCoreError) as error:
            raise _unavailable(error) from error
        return answer

    def _put(self, item: dict[str, Any], condition: str, **names: Any) -> dict[str, Any]:
        return {"Put": {"TableName": self._table, "Item": item, "ConditionExpression": condition, **names}}


def _plan(head: Head, records: Sequence[Record], known: dict[str, Entry]) -> tuple[list[Entry], list[Entry]]:
    """The entry of every record, and those of them that have to be written on top of ``head``.

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


def _entry(line: bytes | str) -> Entry:
    try:
        return decode_entry(line)
    except msgspec.MsgspecError:
        raise LedgerCorrupt("an entry in the table is damaged; run: abeyance ledger verify") from None


def _same(entry: Entry, record: Record) -> bool:
    return content_digest(Record(entry.id, entry.type, entry.time, entry.body)) == content_digest(record)


def _key(pk: str, sk: str) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _digits(seq: int) -> str:
    return f"{seq:016d}"


def _head_item(head: Head) -> dict[str, Any]:
    fields = msgspec.structs.asdict(head)
    return {**_key("head", "head"), **{k: {"N" if k == "seq" else "S": str(v)} for k, v in fields.items()}}


def _unavailable(error: Exception) -> LedgerUnavailable:
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
    return LedgerUnavailable(f"the ledger table did not confirm: {code}")
