"""Entries of the log, pure: a record becomes a public leaf and a private opening. Reads no clock and no network.

::

    leaf     {"commitments":{"body.tenant":"<base64>",…,"id":"…","time":"…","type":"…"},"format":"abeyance-entry-1"}
    opening  {"record":{"body":{"tenant":"agency",…},"id":"…","time":"…","type":"…"},"seed":"<base64>"}

The leaf is what the Merkle tree covers. It holds no value, only a commitment to each field of
:mod:`abeyance.ledger.fields`: SHA-256 over the canonical JSON ``["<salt>","<field>",<value>]``, the form of SD-JWT's
disclosures (RFC 9901). Who publishes the log can
therefore withhold any field of any entry, and give it to some later with its salt, and the tree still verifies.
The salt of a field is derived from the entry's random seed, so an opening needs no more than the record and the seed.

A member of the body that makes the record too large stands there by digest, ``{"blob":"<sha256>","bytes":n}``, and
is stored beside the log as ``blob/<sha256>``.
"""

from __future__ import annotations

import hashlib
import re
from binascii import b2a_base64
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

import msgspec

from abeyance.aws.timestamps import rfc3339
from abeyance.encoding import decode_base64, encode_base64
from abeyance.ledger.admissible import check_body
from abeyance.ledger.canonical import canonical_json, is_canonical
from abeyance.ledger.errors import Inadmissible, LedgerCorrupt
from abeyance.ledger.fields import BLOB, body_fields, is_member_name

#: Type of the entry that is written when an id comes again with other content; see :func:`conflict_entry`.
CONFLICT: Final = "conflict"
#: Type of the entry that stands for a record that was refused; see :func:`refusal`.
REFUSED: Final = "refused"
#: Largest leaf, and largest record as canonical JSON; C2SP tlog-tiles counts the bytes of an entry in 16 bits.
MAX_ENTRY_BYTES: Final = 60 * 1024
#: Largest body before members are stored by digest. SQS takes messages of 1 MiB.
MAX_BODY_BYTES: Final = 2 * 1024 * 1024
SEED_BYTES: Final = 16
_SALT_BYTES: Final = 16

# None of these contains a character that JSON escapes.
ID_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9._:/@+=#~-]{0,254}"
TYPE_PATTERN: Final = r"[A-Za-z][A-Za-z0-9 ._-]{0,63}"
TIME_PATTERN: Final = (
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z"
)
_RECORD_ID: Final = re.compile(ID_PATTERN.replace("254", "127"))
_TYPE: Final = re.compile(TYPE_PATTERN)
_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_LEAF: Final = re.compile(
    rb'\{"commitments":\{"[ !#-\[\]-~]{1,142}":"[A-Za-z0-9+/]{43}="'
    rb'(?:,"[ !#-\[\]-~]{1,142}":"[A-Za-z0-9+/]{43}=")*\},"format":"abeyance-entry-1"\}'
)


class Record(msgspec.Struct, frozen=True):
    """A record that a producer sends to the ledger.

    Attributes
    ----------
    id
        Unique name of what happened, 1 to 128 of ``A-Z a-z 0-9 . _ : / @ + = # ~ -``. The same id is written
        once.
    type
        ``decision``, or the name of a pipeline event such as ``Upload Halted``.
    time
        RFC 3339 with offset: when it happened, by the producer's clock.
    body
        JSON object; see :func:`abeyance.ledger.admissible.check_body` for what it may hold.
    """

    id: str
    type: str
    time: str
    body: dict[str, Any]


class LogEntry(msgspec.Struct, frozen=True):
    """One entry, ready to be sequenced.

    Attributes
    ----------
    leaf, opening
        The two halves, canonical JSON; see this module.
    id, type, time
        Of the record as it stands in the opening.
    content
        32 bytes over type and body, without seed and time: equal for a redelivery.
    blobs
        SHA-256 (hex) and content of the members that stand in the body by digest. They are stored first.
    """

    leaf: bytes
    opening: bytes
    id: str
    type: str
    time: str
    content: bytes
    blobs: tuple[tuple[str, bytes], ...] = ()


class Opening(msgspec.Struct, frozen=True):
    """An opening, decoded.

    Attributes
    ----------
    members
        Canonical JSON of every member of the body, by its name.
    fields
        Canonical JSON of every field, by its name in the leaf.
    """

    seed: bytes
    id: str
    type: str
    time: str
    members: dict[str, bytes]
    fields: dict[str, bytes]

    def record(self) -> Record:
        """Return the record, its body decoded; members stored by digest stay as they stand."""
        body = {name: msgspec.json.decode(value) for name, value in self.members.items()}
        return Record(self.id, self.type, self.time, body)

    def leaf(self) -> bytes:
        """Return the leaf that this opens."""
        return _leaf(self.seed, self.fields)

    def content(self) -> bytes:
        """Return the digest that :class:`LogEntry` has of the same record."""
        return _content(_join(self.members), self.type)

    def blobs(self) -> list[tuple[str, int]]:
        """Return SHA-256 (hex) and length in bytes of the members that are stored by digest."""
        found = (BLOB.fullmatch(value) for value in self.members.values())
        return [(match[1].decode(), int(match[2])) for match in found if match]

    def disclose(self, field: str) -> Disclosure:
        """Return what shows the value of one field to somebody who has the leaf. Raises ``KeyError``."""
        return Disclosure(encode_base64(_salt(self.seed, field)), field, self.fields[field])


class Disclosure(msgspec.Struct, frozen=True):
    """The salt (base64), name, and canonical JSON value of one field of a leaf."""

    salt: str
    field: str
    value: bytes

    def opens(self, leaf: bytes) -> bool:
        """Return whether ``leaf`` commits to this value under this name."""
        commitments = read_commitments(leaf)
        return commitments is not None and self.commitment() == commitments.get(self.field, "")

    def commitment(self) -> str | None:
        """Return the commitment to this value under this name, base64; ``None`` if this is no disclosure."""
        if not is_canonical(self.value) or not _is_name(self.field):
            return None
        try:
            salt = encode_base64(decode_base64(self.salt))
        except ValueError:
            return None
        return _commitment(salt.encode(), self.field, self.value).decode()


class _LeafText(msgspec.Struct):
    commitments: dict[str, str]


class _RecordText(msgspec.Struct, forbid_unknown_fields=True):
    body: dict[str, msgspec.Raw]
    id: str
    time: str
    type: str


class _OpeningText(msgspec.Struct, forbid_unknown_fields=True):
    record: _RecordText
    seed: str


_decode_opening: Final = msgspec.json.Decoder(_OpeningText).decode
_decode_leaf: Final = msgspec.json.Decoder(_LeafText).decode


def make_entry(record: Record, seed: bytes) -> LogEntry:
    """Return the entry of a record, which is checked and written as canonical JSON once.

    Its time stands in UTC with six decimals; ``1.0`` becomes ``1`` and ``-0.0`` becomes ``0``.

    Parameters
    ----------
    record
        From a producer.
    seed
        :data:`SEED_BYTES` random bytes that nothing else uses.

    Raises
    ------
    Inadmissible
        See :class:`Record` and :func:`abeyance.ledger.admissible.check_body`; a reserved type or id; or more
        members than a leaf has room for.
    """
    if not isinstance(record.id, str) or not _RECORD_ID.fullmatch(record.id):
        raise Inadmissible("id: 1 to 128 of A-Z a-z 0-9 . _ : / @ + = # ~ - and the first a letter or digit")
    if record.id.startswith(f"{CONFLICT}:") or record.type == CONFLICT:
        raise Inadmissible("the id prefix 'conflict:' and the type 'conflict' are the ledger's own")
    if not isinstance(record.type, str) or not _TYPE.fullmatch(record.type):
        raise Inadmissible("type: 1 to 64 of letters, digits, blank . _ - and the first a letter")
    time = _utc(record.time)
    plain = check_body(record.body)
    if not all(map(is_member_name, record.body)):
        raise Inadmissible(
            "body: a member 'decision.…' has the name of a part of a decision; name it otherwise"
        )
    members = {name: canonical_json(value, plain=plain) for name, value in sorted(record.body.items())}
    return _assemble(record.id, record.type, time, members, seed)


def conflict_entry(entry: LogEntry, index: int, seed: bytes) -> LogEntry:
    """Return the entry to write when the id of ``entry`` is on the log, at ``index``, with other content.

    Neither dropping nor overwriting would be honest, and an error would block the queue behind it for ever.
    So the first entry stays, and the second becomes evidence: an entry of type ``conflict`` with the whole
    record, whose id is derived from the content, so that a redelivered conflict is recognised too.
    Readers must treat it as an alarm and never as the decision that it contains.
    """
    opening = read_opening(entry.opening)
    members = {
        "body": b"{%b}" % _join(opening.members),
        "conflicts_with": b"%d" % index,
        "id": b'"%b"' % entry.id.encode(),
        "type": b'"%b"' % entry.type.encode(),
    }
    made = _assemble(conflict_id(entry), CONFLICT, entry.time, members, seed)
    return msgspec.structs.replace(made, blobs=(*entry.blobs, *made.blobs))


def conflict_id(entry: LogEntry) -> str:
    """Return the id of the conflict entry that this entry would become."""
    return f"{CONFLICT}:{entry.content.hex()[:32]}:{entry.id}"


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


def read_opening(data: bytes) -> Opening:
    """Return an opening from its bytes, if they are in the one form that :func:`make_entry` writes.

    Raises
    ------
    LedgerCorrupt
        Anything else.
    """
    try:
        text = _decode_opening(data)
        record = text.record
        members = {name: bytes(value) for name, value in record.body.items()}
        fields = body_fields(members)
        seed = decode_base64(text.seed)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise LedgerCorrupt("the opening of an entry is damaged; run: abeyance ledger verify") from None
    if len(seed) != SEED_BYTES or not is_canonical(data) or not all(map(is_member_name, members)):
        raise LedgerCorrupt("the opening of an entry is not in its one form; run: abeyance ledger verify")
    for name in ("id", "time", "type"):
        fields[name] = msgspec.json.encode(getattr(record, name))
    return Opening(seed, record.id, record.type, record.time, members, fields)


def is_leaf(data: bytes) -> bool:
    """Return whether ``data`` has the form of a leaf: canonical, and nothing but commitments."""
    return len(data) <= MAX_ENTRY_BYTES and _LEAF.fullmatch(data) is not None and is_canonical(data)


def read_commitments(leaf: bytes) -> dict[str, str] | None:
    """Return the commitments of a leaf, base64, by the name of their field; ``None`` if it has not a leaf's form."""
    return _decode_leaf(leaf).commitments if is_leaf(leaf) else None


def blob_value(content: bytes) -> tuple[str, dict[str, Any]]:
    """Return the key of an object for ``content``, and the value that stands in a body for it.

    A producer that stores the object itself can name a document of any size.
    """
    digest = sha256(content).hexdigest()
    return blob_key(digest), {"blob": digest, "bytes": len(content)}


def blob_key(digest: str) -> str:
    """Return the key of the object with this SHA-256 (hex)."""
    return f"blob/{digest}"


def _assemble(name: str, kind: str, time: str, members: dict[str, bytes], seed: bytes) -> LogEntry:
    if len(seed) != SEED_BYTES:
        raise ValueError(f"the seed of an entry has {SEED_BYTES} bytes")
    blobs = _outsource(members)
    body = _join(members)
    own = {"id": b'"%b"' % name.encode(), "time": b'"%b"' % time.encode(), "type": b'"%b"' % kind.encode()}
    leaf = _leaf(seed, {**body_fields(members), **own})
    if len(leaf) > MAX_ENTRY_BYTES:
        raise Inadmissible(f"body: {len(members)} members are more than a leaf has room for; nest some")
    text = b'{"record":{"body":{%b},"id":%b,"time":%b,"type":%b},"seed":"%b"}'
    opening = text % (body, *own.values(), _base64(seed))
    return LogEntry(leaf, opening, name, kind, time, _content(body, kind), blobs)


def _outsource(members: dict[str, bytes]) -> tuple[tuple[str, bytes], ...]:
    """Replace the largest members by their digests until the record has room; return them."""
    size = sum(len(member) + len(value) + 4 for member, value in members.items()) + 512
    if size <= MAX_ENTRY_BYTES:
        return ()
    if size > MAX_BODY_BYTES:
        raise Inadmissible(f"body: {size} bytes of canonical JSON; at most {MAX_BODY_BYTES} are allowed")
    blobs = []
    for member, value in sorted(members.items(), key=lambda item: -len(item[1])):
        digest = sha256(value).hexdigest()
        members[member] = b'{"blob":"%b","bytes":%d}' % (digest.encode(), len(value))
        size += len(members[member]) - len(value)
        blobs.append((digest, value))
        if size <= MAX_ENTRY_BYTES:
            return tuple(blobs)
    raise Inadmissible(f"body: {len(members)} members are more than an entry has room for; nest some")


def _join(members: Mapping[str, bytes]) -> bytes:
    """Return the members of a canonical JSON object; their names have to be in order."""
    return b",".join([b'"%b":%b' % (name.encode(), value) for name, value in members.items()])


def _leaf(seed: bytes, fields: Mapping[str, bytes]) -> bytes:
    commitments = [
        b'"%b":"%b"' % (field.encode(), _commitment(_base64(_salt(seed, field)), field, fields[field]))
        for field in sorted(fields)
    ]
    return b'{"commitments":{%b},"format":"abeyance-entry-1"}' % b",".join(commitments)


def _salt(seed: bytes, field: str) -> bytes:
    """Derive a salt: the one-step KDF of NIST SP 800-56C, section 4.1, with SHA-256 and one round."""
    return sha256(b"\x00\x00\x00\x01" + seed + field.encode()).digest()[:_SALT_BYTES]


def _commitment(salt: bytes, field: str, value: bytes) -> bytes:
    return _base64(sha256(b'["%b","%b",%b]' % (salt, field.encode(), value)).digest())


def _content(body: bytes, kind: str) -> bytes:
    return sha256(b'{"body":{%b},"type":"%b"}' % (body, kind.encode())).digest()


def _base64(data: bytes) -> bytes:
    return b2a_base64(data, newline=False)


def _is_name(field: str) -> bool:
    return re.fullmatch(r"[ !#-\[\]-~]{1,142}", field) is not None


def _utc(text: Any) -> str:
    if not isinstance(text, str) or not _RFC3339.fullmatch(text):
        raise Inadmissible("time: must be RFC 3339 with seconds and offset, such as 2020-06-10T00:00:00Z")
    try:
        return rfc3339(datetime.fromisoformat(text), "microseconds")
    except (ValueError, OverflowError):
        raise Inadmissible("time: no such date or time of day") from None
