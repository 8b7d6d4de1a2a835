"""A batch as it is sequenced: one object with every entry of it, stored before the head moves to it.

::

    one line of canonical JSON: origin, first, count, previous (key of the batch before), sequenced (epoch seconds)
    count times 32 bytes: half a digest of the entry's id, half a digest of its content
    count times: leaf and opening, each behind its length (4 bytes, big-endian)

The digests stand in front so that a sequencer recognises a redelivery without reading the entries. Nothing proves by
this object: it is there to be integrated, and once it is, the tiles hold the same bytes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from abeyance.ledger.errors import LedgerCorrupt
from abeyance.ledger.integrate import DIGITS

PREFIX: Final = "sequenced/"
#: The first bytes of the object hold the header and the digests of some 5 000 entries.
START_BYTES: Final = 160 * 1024
_HALF: Final = 16
_LENGTH: Final = struct.Struct(">I")


class Bundled(msgspec.Struct, frozen=True):
    """One entry of a batch: its leaf and its opening, and what a redelivery of it is recognised by."""

    leaf: bytes
    opening: bytes
    id_digest: bytes
    content_digest: bytes


class BatchStart(msgspec.Struct, frozen=True):
    """The beginning of a batch: its header, and the digests of the entries' ids and contents, in order."""

    origin: str
    first: int
    count: int
    previous: str
    sequenced: float
    digests: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def after(self) -> int:
        """Index of the first entry behind this batch."""
        return self.first + self.count


class _Line(msgspec.Struct, frozen=True):
    count: int
    first: int
    origin: str
    previous: str
    sequenced: float


def half_digest(data: bytes) -> bytes:
    """Return 16 bytes of SHA-256: enough to tell ids and contents apart, and half the memory."""
    return hashlib.sha256(data).digest()[:_HALF]


def encode_batch(
    origin: str, first: int, previous: str, sequenced: float, entries: Sequence[Bundled]
) -> bytes:
    """Return the bytes of a batch."""
    line = msgspec.json.encode(_Line(len(entries), first, origin, previous, sequenced), order="sorted")
    parts = [line, b"\n"]
    for entry in entries:
        parts += (entry.id_digest, entry.content_digest)
    for entry in entries:
        parts += (
            _LENGTH.pack(len(entry.leaf)),
            entry.leaf,
            _LENGTH.pack(len(entry.opening)),
            entry.opening,
        )
    return b"".join(parts)


def batch_key(first: int, digest: str) -> str:
    """Return the key of a batch: its place and its content, so that two different ones never share a key."""
    return f"{PREFIX}{first:0{DIGITS}d}-{digest[:16]}"


def start_bytes(start: bytes) -> int:
    """Return how many bytes of a batch hold its header and digests, by its first bytes."""
    end = start.find(b"\n") + 1
    return end + 2 * _HALF * _line(start).count


def decode_start(start: bytes) -> BatchStart:
    """Return the header and the digests of a batch.

    Raises
    ------
    LedgerCorrupt
        Not the beginning of a batch, or not all of it.
    """
    line, at = _line(start), start.find(b"\n") + 1
    end = at + 2 * _HALF * line.count
    if len(start) < end:
        raise LedgerCorrupt("the beginning of a batch is cut off")
    digests = tuple(
        (start[place : place + _HALF], start[place + _HALF : place + 2 * _HALF])
        for place in range(at, end, 2 * _HALF)
    )
    return BatchStart(line.origin, line.first, line.count, line.previous, line.sequenced, digests)


def decode_entries(batch: bytes) -> list[tuple[bytes, bytes]]:
    """Return leaf and opening of every entry of a batch, in order.

    Raises
    ------
    LedgerCorrupt
        The batch is cut off or has more than it says.
    """
    count, at = _line(batch).count, start_bytes(batch)
    parts: list[bytes] = []
    for _ in range(2 * count):
        begin = at + _LENGTH.size
        if begin > len(batch):
            break
        at = begin + _LENGTH.unpack_from(batch, at)[0]
        parts.append(batch[begin:at])
    if len(parts) != 2 * count or at != len(batch):
        raise LedgerCorrupt("a sequenced batch is damaged; run: abeyance ledger verify")
    return list(zip(parts[::2], parts[1::2], strict=True))


def _line(start: bytes) -> _Line:
    try:
        return msgspec.json.decode(start[: start.index(b"\n")], type=_Line)
    except (ValueError, msgspec.MsgspecError):
        raise LedgerCorrupt("a sequenced batch has no header; run: abeyance ledger verify") from None
