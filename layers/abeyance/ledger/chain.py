"""The hash chain, pure: records become entries, each bound to all before it. Reads no clock and no network.

::

    header  {"chain":"…","created":"…","format":"abeyance-ledger-1"}
               |  genesis = SHA-256(canonical header)
               v
    entry 1 {"body":{…},"hash":h1,"id":"…","prev":genesis,"seq":1,"time":"…","type":"…"}
               |  h1 = SHA-256(canonical entry without "hash")
               v
    entry 2 {"body":{…},"hash":h2,"id":"…","prev":h1,     "seq":2,…}

Canonical is RFC 8785 (JCS), so anybody can recompute a hash from one line of an export with common tools. The
bytes under a hash say which kind they are: a header starts with ``{"chain"``, an entry with ``{"body"``, and
the Merkle tree (:mod:`abeyance.ledger.merkle`) prefixes leaves and nodes with 0x00 and 0x01, which start no
JSON text. The random chain id in the genesis makes the hashes of two ledgers differ even where their entries
are the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec
import rfc8785

from abeyance.aws.timestamps import rfc3339
from abeyance.ledger.admissible import check_body
from abeyance.ledger.entry import Record as Record
from abeyance.ledger.errors import Inadmissible, LedgerCorrupt

FORMAT: Final = "abeyance-ledger-1"
#: Type of the entry that is written when an id comes again with other content; see :func:`conflict`.
CONFLICT: Final = "conflict"
#: Type of the entry that stands for a record that was refused; see :func:`refusal`.
REFUSED: Final = "refused"
#: Largest body, in bytes of canonical JSON; thirty of them fit into one DynamoDB transaction of 4 MB.
MAX_BODY_BYTES: Final = 64 * 1024

#: Largest sequence number: the largest exact integer of canonical JSON.
MAX_SEQ: Final = 2**53 - 1

# These patterns contain no character that JSON escapes. Verification relies on it: behind the body, an entry
# has exactly one spelling.
CHAIN_PATTERN: Final = r"[a-z0-9][a-z0-9.-]{0,62}"
ID_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9._:/@+=#~-]{0,254}"
TYPE_PATTERN: Final = r"[A-Za-z][A-Za-z0-9 ._-]{0,63}"
TIME_PATTERN: Final = (
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z"
)
_RECORD_ID: Final = re.compile(ID_PATTERN.replace("254", "127"))
_TYPE: Final = re.compile(TYPE_PATTERN)
_CHAIN: Final = re.compile(CHAIN_PATTERN)
_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)


class Header(msgspec.Struct, frozen=True):
    """First line of an export, and what the first entry is bound to."""

    chain: str
    created: str
    format: str = FORMAT

    @property
    def canonical(self) -> bytes:
        """The header as one line of canonical JSON, without newline."""
        return rfc8785.dumps({"chain": self.chain, "created": self.created, "format": self.format})

    @property
    def genesis(self) -> str:
        """Hex SHA-256 of the canonical header: the ``prev`` of the first entry."""
        return hashlib.sha256(self.canonical).hexdigest()

    @property
    def origin(self) -> str:
        """Name of this chain in checkpoints."""
        return f"abeyance/{self.chain}"


class Entry(msgspec.Struct, frozen=True):
    """One link of the chain: ``seq`` from 1, ``time`` in UTC with six decimals, ``prev`` and ``hash`` in
    hex."""

    seq: int
    time: str
    id: str
    type: str
    body: dict[str, Any]
    prev: str
    hash: str

    @property
    def canonical(self) -> bytes:
        """The entry as one line of canonical JSON, without newline: what is stored and exported."""
        return rfc8785.dumps(msgspec.structs.asdict(self))


class Head(msgspec.Struct, frozen=True):
    """The end of a chain: ``seq`` 0 and the genesis hash while it is empty."""

    chain: str
    created: str
    seq: int
    hash: str

    @property
    def header(self) -> Header:
        """The header of the chain that this is the head of."""
        return Header(self.chain, self.created)


class EntrySource(Protocol):
    """The part of :class:`abeyance.ledger.store.LedgerStore` that verification and checkpoints read."""

    def head(self) -> Head | None: ...

    def lines(self, after: int = 0, through: int | None = None) -> Iterator[bytes]: ...


_entry_decoder: Final = msgspec.json.Decoder(Entry)


def new_header(chain: str, created: datetime) -> Header:
    """Return the header of a new chain.

    Raises
    ------
    Inadmissible
        ``chain`` is not 1 to 63 of ``a-z 0-9 . -``, or ``created`` has no time zone.
    """
    if not _CHAIN.fullmatch(chain):
        raise Inadmissible("chain: the id is 1 to 63 of a-z 0-9 . - and starts with a letter or digit")
    if created.tzinfo is None:
        raise Inadmissible("created: needs a time zone")
    return Header(chain, rfc3339(created, "microseconds"))


def normalise(record: Record) -> Record:
    """Return the record as it will stand on the ledger: checked, its time in UTC, its body with canonical numbers.

    Idempotent. ``1.0`` becomes ``1`` and ``-0.0`` becomes ``0``, as RFC 8785 writes them.

    Raises
    ------
    Inadmissible
        See :class:`Record` and :func:`abeyance.ledger.admissible.check_body`; also a type or id that is
        reserved.
    """
    if not isinstance(record.id, str) or not _RECORD_ID.fullmatch(record.id):
        raise Inadmissible("id: 1 to 128 of A-Z a-z 0-9 . _ : / @ + = # ~ - and the first a letter or digit")
    if record.id.startswith(f"{CONFLICT}:") or record.type == CONFLICT:
        raise Inadmissible("the id prefix 'conflict:' and the type 'conflict' are the ledger's own")
    if not isinstance(record.type, str) or not _TYPE.fullmatch(record.type):
        raise Inadmissible("type: 1 to 64 of letters, digits, blank . _ - and the first a letter")
    time = _utc(record.time)
    check_body(record.body)
    body = rfc8785.dumps(record.body)
    if len(body) > MAX_BODY_BYTES:
        raise Inadmissible(f"body: {len(body)} bytes of canonical JSON; at most {MAX_BODY_BYTES} are allowed")
    return Record(record.id, record.type, time, msgspec.json.decode(body))


def content_digest(record: Record) -> str:
    """Return the hex SHA-256 over type and body of a normalised record: equal for a redelivery.

    The time is left out: a stage that runs again after a crash sends the same record with a later time.
    """
    return hashlib.sha256(rfc8785.dumps({"body": record.body, "type": record.type})).hexdigest()


def entry_hash(*, seq: int, time: str, id: str, type: str, body: dict[str, Any], prev: str) -> str:
    """Return the hex SHA-256 over the canonical JSON of an entry without its ``hash``."""
    without: dict[str, Any] = {"body": body, "id": id, "prev": prev, "seq": seq, "time": time, "type": type}
    return hashlib.sha256(rfc8785.dumps(without)).hexdigest()


def follow(seq: int, prev: str, record: Record) -> Entry:
    """Return the entry that follows entry ``seq`` with hash ``prev``; the first follows 0 and the genesis."""
    fields: dict[str, Any] = {
        "seq": seq + 1,
        "time": record.time,
        "id": record.id,
        "type": record.type,
        "body": record.body,
        "prev": prev,
    }
    return Entry(**fields, hash=entry_hash(**fields))


def conflict(record: Record, seq: int) -> Record:
    """Return the record to write when the id of ``record`` is on the ledger, at ``seq``, with other content.

    Neither dropping nor overwriting would be honest, and an error would block the queue behind it for ever.
    So the first entry stays, and the second becomes evidence: an entry of type ``conflict`` with the whole
    record, whose id is derived from the content, so that a redelivered conflict is again written once.
    Readers must treat it as an alarm and never as the decision that it contains.
    """
    return Record(
        id=conflict_id(record),
        type=CONFLICT,
        time=record.time,
        body={"conflicts_with": seq, "id": record.id, "type": record.type, "body": record.body},
    )


def conflict_id(record: Record) -> str:
    """Return the id of the conflict entry that this record would become."""
    return f"{CONFLICT}:{content_digest(record)[:32]}:{record.id}"


def refusal(record: Record, error: Inadmissible) -> Record:
    """Return the record to write in place of an inadmissible one: that it came, and why it was refused.

    Nothing of the body and no free text is kept. The id is derived from the record's, so a redelivery is
    written once. The time is the record's if it is a time; otherwise the Unix epoch, which sorts it before
    everything real.
    """
    try:
        time = _utc(record.time)
    except Inadmissible:
        time = "1970-01-01T00:00:00.000000Z"
    name = f"{REFUSED}:{record.id}"
    if not isinstance(record.id, str) or not _RECORD_ID.fullmatch(name):
        name = f"{REFUSED}:{hashlib.sha256(repr(record.id).encode()).hexdigest()[:32]}"
    body = {"why": str(error)[:500]}
    if isinstance(record.type, str) and _TYPE.fullmatch(record.type):
        body["type"] = record.type
    return Record(id=name, type=REFUSED, time=time, body=body)


def decode_entry(line: bytes | str) -> Entry:
    """Return an entry from its line, its form and hash unchecked: :mod:`abeyance.ledger.verify` does that.

    Raises
    ------
    LedgerCorrupt
        Not an entry.
    """
    try:
        return _entry_decoder.decode(line)
    except msgspec.MsgspecError:
        raise LedgerCorrupt("an entry is damaged; to find where, run: abeyance ledger verify") from None


def _utc(text: Any) -> str:
    if not isinstance(text, str) or not _RFC3339.fullmatch(text):
        raise Inadmissible("time: must be RFC 3339 with seconds and offset, such as 2020-06-10T00:00:00Z")
    try:
        return rfc3339(datetime.fromisoformat(text), "microseconds")
    except (ValueError, OverflowError):
        raise Inadmissible("time: no such date or time of day") from None
