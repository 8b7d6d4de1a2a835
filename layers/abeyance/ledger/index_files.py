"""The files of the lookup index, pure: where entries are found by id, day, tenant, action and outcome.

::

    index/segments/<first>                               how many entries the segment from ``first`` on has
    index/entries/day=<day>/<first>-<count>.json.gz      a line of JSON for each of its entries of that day
    index/directory/<10^20 - 1 - first>                  where in those files each tenant begins; newest first
    index/ids/<first>-<count>                            half digests of ids, sorted, each with the entry's index

The lines are sorted by tenant and entry. Every so many, the compression begins anew (``Z_FULL_FLUSH``), so that a
lookup reads some kilobytes of a file; and yet it is one gzip member, because not every reader goes on behind the first,
and Athena reads it whole. Digests are uniform, so that one read finds one among millions. A file of ids may stand for
those of several segments.

Nothing here proves anything. It follows from the openings of the log, has no field that they lack, and is made again
from them: see :mod:`abeyance.ledger.indexer`.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import struct
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from abeyance.ledger.errors import LedgerCorrupt
from abeyance.ledger.integrate import DIGITS
from abeyance.ledger.query import IndexRow

INDEX: Final = "index/"
ENTRIES: Final = f"{INDEX}entries/"
DIRECTORY: Final = f"{INDEX}directory/"
IDS: Final = f"{INDEX}ids/"
SEGMENTS: Final = f"{INDEX}segments/"
#: Entries that are unpacked together.
BLOCK_ROWS: Final = 2048
#: Of a gzip member without a name (RFC 1952, section 2.3).
_HEADER_BYTES: Final = 10
_DIGEST_BYTES: Final = 8
_ID: Final = struct.Struct(">8sQ")
_LAST: Final = 10**DIGITS - 1
_ROWS_KEY: Final = re.compile(
    rf"{ENTRIES}day=([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})/([0-9]{{{DIGITS}}})-([1-9][0-9]*)\.json\.gz"
)
_IDS_KEY: Final = re.compile(rf"{IDS}([0-9]{{{DIGITS}}})-([1-9][0-9]*)")


class IndexBlock(msgspec.Struct, frozen=True, array_like=True):
    """A part of a file of entries that is unpacked by itself: tenant of the first of its entries, and their number."""

    tenant: str
    rows: int
    bytes: int


class SegmentDirectory(msgspec.Struct, frozen=True):
    """A segment's files of entries: the blocks of each day."""

    first: int
    count: int
    days: dict[str, tuple[IndexBlock, ...]]

    def range_of(self, day: str, tenant: str | None) -> tuple[int, int, int]:
        """Return first byte, length and entries of the part of a day's file that has all of a tenant, or of any."""
        blocks = self.days[day]
        low, high = 0, len(blocks)
        if tenant is not None:
            starts = [block.tenant for block in blocks]
            low = max(0, bisect_left(starts, tenant) - 1)
            high = next((at for at, start in enumerate(starts) if start > tenant), high)
        sizes = [block.bytes for block in blocks]
        return _HEADER_BYTES + sum(sizes[:low]), sum(sizes[low:high]), sum(b.rows for b in blocks[low:high])


def segment_key(first: int) -> str:
    """Return the key of the object that says how many entries a segment has."""
    return f"{SEGMENTS}{first:0{DIGITS}d}"


def directory_key(first: int) -> str:
    """Return the key of a segment's directory; later segments sort before earlier ones."""
    return f"{DIRECTORY}{_LAST - first:0{DIGITS}d}"


def rows_key(day: str, first: int, count: int) -> str:
    """Return the key of a segment's entries of one day."""
    return f"{ENTRIES}day={day}/{first:0{DIGITS}d}-{count}.json.gz"


def parse_rows_key(key: str) -> tuple[str, int, int] | None:
    """Return day, first entry and number of entries of the segment; ``None`` for another key."""
    match = _ROWS_KEY.fullmatch(key)
    return (match[1], int(match[2]), int(match[3])) if match else None


def ids_key(first: int, count: int) -> str:
    """Return the key of the ids of ``count`` entries."""
    return f"{IDS}{first:0{DIGITS}d}-{count}"


def parse_ids_key(key: str) -> tuple[int, int]:
    """Return first entry and number of entries of a file of ids; both 0 for another key."""
    match = _IDS_KEY.fullmatch(key)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def covering(keys: Iterable[str]) -> list[tuple[int, int]]:
    """Return the fewest files of ids that follow each other from entry 0: first entry, and number of entries."""
    longest: dict[int, int] = {}
    for first, count in map(parse_ids_key, keys):
        if count:
            longest[first] = max(count, longest.get(first, 0))
    found, at = [], 0
    while at in longest:
        found.append((at, longest[at]))
        at += longest[at]
    return found


def encode_segment(first: int, rows: Sequence[IndexRow]) -> dict[str, bytes]:
    """Return keys and contents of a segment's files, in the order in which to write them."""
    days: dict[str, list[IndexRow]] = {}
    for row in rows:
        days.setdefault(row.time[:10], []).append(row)
    files: dict[str, bytes] = {}
    blocks: dict[str, tuple[IndexBlock, ...]] = {}
    for day, found in sorted(days.items()):
        found.sort(key=lambda row: (row.tenant, row.index))
        files[rows_key(day, first, len(rows))], blocks[day] = _encode_rows(found)
    files[directory_key(first)] = msgspec.json.encode(SegmentDirectory(first, len(rows), blocks))
    files[ids_key(first, len(rows))] = b"".join(
        sorted(_ID.pack(id_digest(row.id), row.index) for row in rows)
    )
    return files


def decode_directory(data: bytes | None) -> SegmentDirectory:
    """Return a directory from its content. Raises :class:`LedgerCorrupt`."""
    try:
        return msgspec.json.decode(data or b"", type=SegmentDirectory)
    except msgspec.MsgspecError:
        raise damaged() from None


def decode_rows(data: bytes | None, count: int) -> list[IndexRow]:
    """Return the ``count`` entries in some blocks. Raises :class:`LedgerCorrupt`."""
    try:
        lines = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data or b"").splitlines()
        rows = [_decode_row(line) for line in lines]
    except (zlib.error, msgspec.MsgspecError):
        raise damaged() from None
    if len(rows) != count:
        raise damaged()
    return rows


def merge_ids(files: Iterable[bytes]) -> bytes:
    """Return the ids of several files as those of one."""
    return b"".join(
        sorted(data[at : at + _ID.size] for data in files for at in range(0, len(data), _ID.size))
    )


def id_digest(name: str) -> bytes:
    """Return the part of an id's SHA-256 that stands in the index."""
    return hashlib.sha256(name.encode()).digest()[:_DIGEST_BYTES]


def search_ids(part: Callable[[int, int], bytes | None], count: int, name: str) -> list[int]:
    """Return the entries that may have an id, ascending, mostly by one read.

    Parameters
    ----------
    part
        Reads from the file: first byte and length.
    count
        Number of entries in the file.
    name
        The id.

    Raises
    ------
    LedgerCorrupt
        The file has fewer entries.
    """
    digest = id_digest(name)
    # Six standard deviations of where a uniform digest stands among so many.
    margin = int(3 * count**0.5) + 16
    place = int.from_bytes(digest, "big") * count >> 8 * _DIGEST_BYTES
    low, high = max(0, place - margin), min(count, place + margin)
    records: list[bytes] = []
    at, end = low, high
    while at < end:
        data = part(at * _ID.size, (end - at) * _ID.size) or b""
        if len(data) != (end - at) * _ID.size:
            raise damaged()
        read = [data[start : start + _ID.size] for start in range(0, len(data), _ID.size)]
        records = read + records if at < low or not records else records + read
        low, high = min(low, at), max(high, end)
        if low and records[0][:_DIGEST_BYTES] >= digest:
            at, end = max(0, low - margin), low
        elif high < count and records[-1][:_DIGEST_BYTES] <= digest:
            at, end = high, min(count, high + margin)
        else:
            break
    begin = bisect_left(records, digest)
    return [
        _ID.unpack(record)[1]
        for record in itertools.takewhile(lambda one: one.startswith(digest), records[begin:])
    ]


def damaged() -> LedgerCorrupt:
    """Return the error for a file of the index that is missing or damaged, which the log is not for that."""
    return LedgerCorrupt("the lookup index is damaged; run: abeyance ledger index --rebuild")


_encode: Final = msgspec.json.Encoder().encode
_decode_row: Final = msgspec.json.Decoder(IndexRow).decode


def _encode_rows(rows: Sequence[IndexRow]) -> tuple[bytes, tuple[IndexBlock, ...]]:
    """Return the lines of some entries as one gzip member, and where its blocks are."""
    packing = zlib.compressobj(wbits=zlib.MAX_WBITS + 16)
    data, blocks = b"", list[IndexBlock]()
    for at in range(0, len(rows), BLOCK_ROWS):
        some = rows[at : at + BLOCK_ROWS]
        packed = packing.compress(b"".join(_encode(row) + b"\n" for row in some))
        packed += packing.flush(zlib.Z_FULL_FLUSH)
        blocks.append(IndexBlock(some[0].tenant, len(some), len(packed) - (0 if at else _HEADER_BYTES)))
        data += packed
    return data + packing.flush(), tuple(blocks)
