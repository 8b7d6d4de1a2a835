"""Integration, pure but for the port: a sequenced batch becomes bundles and tiles. Anybody may repeat it.

The tree grows at its right edge only. What an integration needs of the log is that edge: the partial tile of every
level and the partial bundle, some 25 kB whatever the size. The objects that it writes follow from the edge and the
batch alone, so whoever integrates the same batch again, after a crash or beside another writer, writes the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from abeyance.ledger.merkle import CompactRange, leaf_hash
from abeyance.ledger.objects import LogObjects
from abeyance.ledger.tiles import (
    ENTRIES,
    HEIGHT,
    OPENINGS,
    WIDTH,
    TileName,
    decode_bundle,
    encode_bundle,
    hash_tile,
    read_tile,
    split_hashes,
)

#: Digits of a size or an index in a key, so that keys sort by it.
DIGITS: Final = 20


class TreeEdge(msgspec.Struct, frozen=True):
    """The right edge of a log: all that integration needs.

    Attributes
    ----------
    size
        Number of entries.
    hashes
        For every level of tiles from 0, the hashes of its partial tile; empty where the last tile is full.
    leaves, openings
        The entries of the partial bundle.
    """

    size: int = 0
    hashes: tuple[tuple[bytes, ...], ...] = ()
    leaves: tuple[bytes, ...] = ()
    openings: tuple[bytes, ...] = ()

    def tree(self) -> CompactRange:
        """Return the whole tree as a compact range."""
        nodes: list[bytes] = []
        for row in reversed(self.hashes):
            nodes += CompactRange.of(row).nodes
        return CompactRange(self.size, nodes)

    def root(self) -> bytes:
        """Return the root of the tree, 32 bytes."""
        return self.tree().root()


def read_edge(objects: LogObjects, size: int) -> TreeEdge:
    """Return the right edge of a log that had this size once, by one read a level and two for the bundles.

    Raises
    ------
    LedgerCorrupt
        An object is missing or damaged.
    """
    rows: list[tuple[bytes, ...]] = []
    level = 0
    while count := size >> HEIGHT * level:
        index, width = divmod(count, WIDTH)
        name = TileName(f"tile/{level}", index, width)
        rows.append(tuple(read_tile(objects, name, split_hashes)) if width else ())
        level += 1
    index, width = divmod(size, WIDTH)
    if not width:
        return TreeEdge(size, tuple(rows))
    leaves, openings = (
        tuple(read_tile(objects, TileName(row, index, width), decode_bundle)) for row in (ENTRIES, OPENINGS)
    )
    return TreeEdge(size, tuple(rows), leaves, openings)


def plan(edge: TreeEdge, pairs: Sequence[tuple[bytes, bytes]]) -> tuple[list[tuple[str, bytes]], TreeEdge]:
    """Return the objects that integrate a batch, and the edge afterwards.

    Parameters
    ----------
    edge
        Of the log before.
    pairs
        Leaf and opening of every entry, in order.

    Returns
    -------
    objects
        Keys and contents. Every object is new or has the same bytes already.
    edge
        Of the log after.
    """
    leaves, openings = zip(*pairs, strict=True) if pairs else ((), ())
    first = edge.size // WIDTH
    written, tail_leaves = _fill(ENTRIES, first, edge.leaves, leaves)
    more, tail_openings = _fill(OPENINGS, first, edge.openings, openings)
    written += more
    rows: list[tuple[bytes, ...]] = []
    grown: list[bytes] = [leaf_hash(leaf) for leaf in leaves]
    level, old = 0, edge.size
    while grown or level < len(edge.hashes):
        before = edge.hashes[level] if level < len(edge.hashes) else ()
        row = [*before, *grown]
        number = old // WIDTH
        changed, grown = bool(grown), []
        for at in range(0, len(row) - WIDTH + 1, WIDTH):
            full = row[at : at + WIDTH]
            written.append((hash_tile(level, number), b"".join(full)))
            grown.append(CompactRange.of(full).root())
            number += 1
        rest = row[len(row) - len(row) % WIDTH :]
        if rest and changed:
            written.append((hash_tile(level, number, len(rest)), b"".join(rest)))
        rows.append(tuple(rest))
        level, old = level + 1, old // WIDTH
    return written, TreeEdge(edge.size + len(pairs), tuple(rows), tail_leaves, tail_openings)


def integrate(objects: LogObjects, edge: TreeEdge, pairs: Sequence[tuple[bytes, bytes]]) -> TreeEdge:
    """Write the objects of :func:`plan`, and return the edge afterwards. Calling it again changes nothing.

    Raises
    ------
    LedgerCorrupt
        An object is there with other content. Some may have been written.
    """
    written, after = plan(edge, pairs)
    objects.put_all(written)
    return after


def _fill(
    row: str, number: int, before: tuple[bytes, ...], new: Sequence[bytes]
) -> tuple[list[tuple[str, bytes]], tuple[bytes, ...]]:
    """Return the bundles that new items make behind those of the partial one, and the partial one afterwards."""
    items = (*before, *new)
    written = [
        (str(TileName(row, number + at // WIDTH, len(part))), encode_bundle(part))
        for at in range(0, len(items), WIDTH)
        if new and (part := items[at : at + WIDTH])
    ]
    return written, items[len(items) - len(items) % WIDTH :]
