"""Snapshot segments: the templates of a fixed span of changes, as one object that loads without parsing.

Layout of version 1, little-endian::

    8 bytes   "ABYSEG01"
    4 bytes   length of the header, uint32
    header    JSON, padded with spaces so that the columns begin at a multiple of 64
    columns   for faces, then for users:  seqs int64 (n,)   ids uint8 (n, 16 | 128)   templates float16 (n, d)
              each padded with zeros to a multiple of 64
    32 bytes  SHA-256 of everything before

The header names the collection's generation, the segment's number and span, the model, the length of a
template and the rows of each kind, so an object under the wrong key is not taken for another.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from abeyance.gallery.model import TemplateKind
from abeyance.gallery.port import ID_BYTES, Block

MAGIC = b"ABYSEG01"
ALIGNMENT = 64
DIGEST = 32


class SegmentCorrupt(Exception):
    """Bytes that are not the segment that was asked for. Read the change log instead."""


class SegmentHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The identity of a segment, and its rows."""

    generation: str
    number: int
    #: First and last seq of the span, both inclusive; not every seq of it has a row.
    first: int
    last: int
    model: str
    dimension: int
    rows: dict[TemplateKind, int] = {}


def encode(header: SegmentHeader, blocks: tuple[Block, ...]) -> bytes:
    """Return the segment's bytes; at most one block of each kind."""
    by_kind = {block.kind: block for block in blocks}
    header = msgspec.structs.replace(header, rows={kind: len(b.seqs) for kind, b in by_kind.items()})
    head = msgspec.json.encode(header)
    head += b" " * (-(len(MAGIC) + 4 + len(head)) % ALIGNMENT)
    parts = [MAGIC, len(head).to_bytes(4, "little"), head]
    for kind in TemplateKind:
        if kind in by_kind:
            block = by_kind[kind]
            for column in (block.seqs.astype("<i8"), block.ids, block.templates.astype("<f2")):
                raw = column.tobytes()
                parts += [raw, bytes(-len(raw) % ALIGNMENT)]
    body = b"".join(parts)
    return body + hashlib.sha256(body).digest()


def decode(body: bytes, expected: SegmentHeader) -> tuple[Block, ...]:
    """Return the blocks of a segment, as read-only views of ``body``.

    Raises
    ------
    SegmentCorrupt
        The bytes are damaged, of another version, or another segment's than ``expected`` (rows aside).
    """
    view = memoryview(body)
    start = len(MAGIC) + 4
    if len(body) < start + DIGEST or view[: len(MAGIC)] != MAGIC:
        raise SegmentCorrupt("no segment of this version")
    if hashlib.sha256(view[:-DIGEST]).digest() != view[-DIGEST:]:
        raise SegmentCorrupt("the checksum does not match")
    offset = start + int.from_bytes(view[len(MAGIC) : start], "little")
    try:
        header = msgspec.json.decode(view[start:offset], type=SegmentHeader)
    except msgspec.DecodeError:
        raise SegmentCorrupt("the header cannot be read") from None
    if msgspec.structs.replace(header, rows={}) != msgspec.structs.replace(expected, rows={}):
        raise SegmentCorrupt("it is another collection's or span's segment")
    blocks = []
    for kind in TemplateKind:
        if kind not in header.rows:
            continue
        n = header.rows[kind]
        seqs, offset = _column(body, offset, "<i8", (n,))
        ids, offset = _column(body, offset, "u1", (n, ID_BYTES[kind]))
        templates, offset = _column(body, offset, "<f2", (n, header.dimension))
        blocks.append(Block(kind, seqs, ids, templates))
    return tuple(blocks)


def without(block: Block, dead: npt.ArrayLike) -> Block:
    """Return the block without the rows of these seqs; the same object if it has none of them."""
    keep = ~np.isin(block.seqs, dead)
    if keep.all():
        return block
    return replace(block, seqs=block.seqs[keep], ids=block.ids[keep], templates=block.templates[keep])


def _column(body: bytes, offset: int, dtype: str, shape: tuple[int, ...]) -> tuple[npt.NDArray[Any], int]:
    count = int(np.prod(shape))
    size = count * np.dtype(dtype).itemsize
    if offset + size > len(body) - DIGEST:
        raise SegmentCorrupt("it is shorter than its header says")
    column = np.frombuffer(body, dtype=dtype, count=count, offset=offset).reshape(shape)
    return column, offset + size + (-size % ALIGNMENT)
