"""One pass over the entries of a log: every leaf against its hash, every tile against those below it.

Where something is wrong the walk goes on with what the tree has, so that one change gives one defect at its place and
not a million behind it. That changes only how much is reported: a log with any defect is broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256

from abeyance.ledger.defects import DefectKind, DefectList
from abeyance.ledger.entry import is_leaf
from abeyance.ledger.errors import LedgerCorrupt
from abeyance.ledger.merkle import CompactRange
from abeyance.ledger.objects import LogObjects
from abeyance.ledger.read_ahead import read_ahead
from abeyance.ledger.tiles import (
    ENTRIES,
    HEIGHT,
    WIDTH,
    TileName,
    decode_bundle,
    read_tile,
    split_hashes,
)


class TreeWalk:
    """The tree so far, while its leaves come by.

    Parameters
    ----------
    objects
        The log.
    size
        Number of entries that are there.
    defects
        Takes what is found.
    readers
        Reads under way at once.
    """

    def __init__(self, objects: LogObjects, size: int, defects: DefectList, readers: int = 1) -> None:
        self._objects = objects
        self._size = size
        self._defects = defects
        self._readers = readers
        #: Of every level of tiles, the hashes of the tile that is being filled; that of level 0 is handed over whole.
        self._rows: list[list[bytes]] = []
        #: Of every level but 0, the stored hashes of that tile.
        self._stored: list[list[bytes]] = []
        #: The present bundle's hashes, and the index of its first.
        self._bundle: list[bytes] = []
        self._first = 0

    def bundles(self, progress: Callable[[int], None] | None = None) -> Iterator[tuple[int, int]]:
        """Yield first and last size of the tree within every bundle; between two, :meth:`root` gives any of them.

        The first is that before the bundle, the last that behind it.
        """
        count = -(-self._size // WIDTH)
        for number, (leaves, tile) in enumerate(read_ahead(self._load, range(count), self._readers)):
            self._bundle = self._check(number, leaves, tile)
            last = self._first + len(self._bundle)
            yield self._first, last
            if len(self._bundle) == WIDTH:
                self._push(0, number, CompactRange.of(self._bundle).root())
                self._bundle, self._first = [], last
            if progress and not number & 0xF:
                progress(last)

    def root(self, size: int) -> bytes:
        """Return the root of the tree of this size, which lies within the present bundle; 32 bytes."""
        nodes = [node for row in reversed(self._rows) for node in CompactRange.of(row).nodes]
        tree = CompactRange(self._first, nodes)
        tree.extend(self._bundle[: size - self._first])
        return tree.root()

    def _load(self, number: int) -> tuple[list[bytes] | LedgerCorrupt, list[bytes] | LedgerCorrupt]:
        width = min(WIDTH, self._size - number * WIDTH)
        return (
            self._read(TileName(ENTRIES, number, width), decode_bundle),
            self._read(TileName("tile/0", number, width), split_hashes),
        )

    def _read(self, name: TileName, decode: Callable[[bytes], list[bytes]]) -> list[bytes] | LedgerCorrupt:
        try:
            return read_tile(self._objects, name, decode)
        except LedgerCorrupt as error:
            return error

    def _check(
        self, number: int, leaves: list[bytes] | LedgerCorrupt, tile: list[bytes] | LedgerCorrupt
    ) -> list[bytes]:
        """Return the hashes of a bundle's leaves, as the tree has them."""
        first = number * WIDTH
        width = min(WIDTH, self._size - first)
        if isinstance(tile, LedgerCorrupt):
            self._damaged(TileName("tile/0", number, width), first)
        if isinstance(leaves, LedgerCorrupt):
            self._damaged(TileName(ENTRIES, number, width), first)
            return [bytes(32)] * width if isinstance(tile, LedgerCorrupt) else tile
        computed = [sha256(b"\x00" + leaf).digest() for leaf in leaves]
        for index, leaf in enumerate(leaves, first):
            if not is_leaf(leaf):
                self._defects.add(DefectKind.DAMAGED, "the entry does not have the form of one", index=index)
        if isinstance(tile, LedgerCorrupt) or tile == computed:
            return computed
        for index, (have, want) in enumerate(zip(computed, tile, strict=True), first):
            if have != want:
                what = "the entry does not have the hash that the tree has for it"
                self._defects.add(DefectKind.ALTERED, what, index=index)
        return tile

    def _push(self, level: int, number: int, root: bytes) -> None:
        """Take the root of a full tile into the tile above it."""
        above, place = divmod(number, WIDTH)
        if level == len(self._rows):
            self._rows.append([])
            self._stored.append([])
        if place == 0:
            self._stored[level] = self._stored_tile(level + 1, above)
        stored = self._stored[level]
        if place < len(stored) and stored[place] != root:
            name = TileName(f"tile/{level + 1}", above, self._width(level + 1, above))
            below = TileName(f"tile/{level}", number, WIDTH)
            first = number * WIDTH << HEIGHT * level
            what = (
                f"it has another hash for {below}; entries {first} to {first + (WIDTH << HEIGHT * level) - 1}"
            )
            self._defects.add(DefectKind.WRONG_TILE, what, key=str(name), index=first)
            root = stored[place]
        self._rows[level].append(root)
        if len(self._rows[level]) == WIDTH:
            full, self._rows[level] = self._rows[level], []
            self._push(level + 1, above, CompactRange.of(full).root())

    def _stored_tile(self, level: int, number: int) -> list[bytes]:
        name = TileName(f"tile/{level}", number, self._width(level, number))
        read = self._read(name, split_hashes)
        if isinstance(read, LedgerCorrupt):
            self._damaged(name, number * WIDTH << HEIGHT * level)
            return []
        return read

    def _width(self, level: int, number: int) -> int:
        return min(WIDTH, (self._size >> HEIGHT * level) - number * WIDTH)

    def _damaged(self, name: TileName, index: int) -> None:
        there = self._objects.get(str(name)) is not None
        kind = DefectKind.DAMAGED if there else DefectKind.MISSING
        self._defects.add(kind, f"the object is {kind.value}", key=str(name), index=index)
