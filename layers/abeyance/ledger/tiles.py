"""Tiles and bundles of the log (C2SP tlog-tiles): the paths, the codec, and reading a tree from them.

::

    tile/<L>/<N>          hashes 256 N to 256 N + 255 of the tree's level 8 L, 32 bytes each
    tile/entries/<N>      leaves 256 N to 256 N + 255, each behind its length in 16 bits, big-endian
    opening/<N>           the openings of the same entries, in the same form; not for the public

``<N>`` is written in groups of three digits, all but the last behind an ``x``: 1234067 is ``x001/x234/067``. The
rightmost tile of a level has fewer than 256 hashes, and its width behind the number: ``067.p/12``.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from abeyance.ledger.errors import LedgerCorrupt
from abeyance.ledger.merkle import EMPTY_ROOT, CompactRange, consistency_ranges, inclusion_ranges
from abeyance.ledger.objects import LogObjects

#: Hashes of a full tile, and entries of a full bundle.
WIDTH: Final = 256
HEIGHT: Final = 8
HASH_BYTES: Final = 32
ENTRIES: Final = "tile/entries"
OPENINGS: Final = "opening"
_CACHED_TILES: Final = 64

_NAME: Final = re.compile(
    r"(tile/(?:[0-9]|[1-5][0-9]|6[0-3])|tile/entries|opening)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?"
)


class TileName(NamedTuple):
    """The parsed key of a tile or bundle: ``row`` is ``tile/<L>``, :data:`ENTRIES` or :data:`OPENINGS`."""

    row: str
    number: int
    width: int

    def __str__(self) -> str:
        number, digits = self.number, f"{self.number % 1000:03d}"
        while number := number // 1000:
            digits = f"x{number % 1000:03d}/{digits}"
        return f"{self.row}/{digits}" + (f".p/{self.width}" if self.width < WIDTH else "")

    @property
    def level(self) -> int | None:
        """Level of a tile of hashes; ``None`` for a bundle."""
        level = self.row.removeprefix("tile/")
        return int(level) if level.isdecimal() else None


def hash_tile(level: int, number: int, width: int = WIDTH) -> str:
    """Return the key of a tile of hashes."""
    return str(TileName(f"tile/{level}", number, width))


def parse_tile_name(key: str) -> TileName | None:
    """Return the parts of a key; ``None`` if it is not the one spelling of a tile's or bundle's key."""
    match = _NAME.fullmatch(key)
    if match is None:
        return None
    number = int(match[2].replace("x", "").replace("/", ""))
    name = TileName(match[1], number, int(match[3] or WIDTH))
    return name if str(name) == key else None


def encode_bundle(items: Iterable[bytes]) -> bytes:
    """Return entries one behind the other, each with its length in front.

    Raises ``OverflowError`` for one of more than 65535 bytes.
    """
    parts: list[bytes] = []
    for item in items:
        parts += (len(item).to_bytes(2, "big"), item)
    return b"".join(parts)


def decode_bundle(data: bytes) -> list[bytes]:
    """Return the entries of a bundle.

    Raises
    ------
    LedgerCorrupt
        The lengths do not add up.
    """
    items: list[bytes] = []
    at, end = 0, len(data)
    while at + 2 <= end:
        start = at + 2
        at = start + (data[at] << 8 | data[at + 1])
        items.append(data[start:at])
    if at != end:
        raise LedgerCorrupt("a bundle of entries is cut off or has something behind its end")
    return items


def split_hashes(data: bytes) -> list[bytes]:
    """Return the hashes of a tile. Raises :class:`LedgerCorrupt` if it is not made of whole ones."""
    if not data or len(data) % HASH_BYTES:
        raise LedgerCorrupt("a tile is not made of hashes of 32 bytes")
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


class TileReader:
    """A tree of ``size`` leaves as it is stored, read tile by tile and only as far as needed.

    Nothing that it returns is verified, beyond the form: compare roots, or verify the proofs made from it.

    Parameters
    ----------
    objects
        The log.
    size
        Number of leaves.
    stored
        Number of leaves of a tree that is stored, of which this one is the beginning; by default the same. The log had
        this size at some time, so that its partial tiles are there.
    """

    def __init__(self, objects: LogObjects, size: int, stored: int | None = None) -> None:
        self._objects = objects
        self.size = size
        self._stored = size if stored is None else stored
        self._tiles: OrderedDict[TileName, list[bytes]] = OrderedDict()

    def hashes(self, level: int, index: int) -> list[bytes]:
        """Return the hashes of a tile, as many as it has in this tree."""
        return self._read(f"tile/{level}", index, HEIGHT * level, split_hashes)

    def leaves(self, index: int) -> list[bytes]:
        """Return the leaves of a bundle, as many as it has in this tree."""
        return self._read(ENTRIES, index, 0, decode_bundle)

    def openings(self, index: int) -> list[bytes]:
        """Return the openings of a bundle, as many as it has in this tree."""
        return self._read(OPENINGS, index, 0, decode_bundle)

    def leaf(self, index: int) -> bytes:
        """Return one leaf."""
        return self.leaves(index // WIDTH)[index % WIDTH]

    def opening(self, index: int) -> bytes:
        """Return one opening."""
        return self.openings(index // WIDTH)[index % WIDTH]

    def compact(self, low: int = 0, high: int | None = None) -> CompactRange:
        """Return leaves ``low`` to ``high`` as a compact range; ``low`` is a multiple of its largest subtree."""
        high = self.size if high is None else high
        nodes, at = [], low
        for level in reversed(range((high - low).bit_length())):
            if (high - low) >> level & 1:
                nodes.append(self._node(level, at >> level))
                at += 1 << level
        return CompactRange(high - low, nodes)

    def root(self) -> bytes:
        """Return the root of the tree, 32 bytes."""
        return self.compact().root() if self.size else EMPTY_ROOT

    def inclusion(self, index: int) -> list[bytes]:
        """Return the proof that leaf ``index`` is in this tree (RFC 9162, section 2.1.3)."""
        return [self.compact(*part).root() for part in inclusion_ranges(index, self.size)]

    def consistency(self, first: int) -> list[bytes]:
        """Return the proof that the tree of ``first`` leaves begins this one (RFC 9162, section 2.1.4)."""
        if first in (0, self.size):
            return []
        return [self.compact(*part).root() for part in consistency_ranges(first, self.size)]

    def _node(self, level: int, index: int) -> bytes:
        """Root of the complete subtree of ``2**level`` leaves with this index."""
        tile_level, rest = divmod(level, HEIGHT)
        first = index << rest
        hashes = self.hashes(tile_level, first // WIDTH)[first % WIDTH :][: 1 << rest]
        return CompactRange.of(hashes).root()

    def _read(self, row: str, index: int, shift: int, decode: Callable[[bytes], list[bytes]]) -> list[bytes]:
        width, stored = (min(WIDTH, (size >> shift) - index * WIDTH) for size in (self.size, self._stored))
        if width <= 0:
            raise LedgerCorrupt(f"{TileName(row, index, WIDTH)} lies behind the end of the log")
        name = TileName(row, index, stored)
        if name in self._tiles:
            self._tiles.move_to_end(name)
            return self._tiles[name]
        items = read_tile(self._objects, name, decode)[:width]
        self._tiles[name] = items
        if len(self._tiles) > _CACHED_TILES:
            self._tiles.popitem(last=False)
        return items


def read_tile(objects: LogObjects, name: TileName, decode: Callable[[bytes], list[bytes]]) -> list[bytes]:
    """Return the items of a tile or bundle; those of a partial one from the full one where only that is there.

    Raises
    ------
    LedgerCorrupt
        The object is missing, damaged, or has fewer items than its name says.
    """
    data = objects.get(str(name))
    if data is None and name.width < WIDTH:
        data = objects.get(str(name._replace(width=WIDTH)))
    if data is None:
        raise LedgerCorrupt(f"{name} is missing; run: abeyance ledger verify")
    items = decode(data)
    if len(items) not in (name.width, WIDTH):
        raise LedgerCorrupt(f"{name} has {len(items)} items; run: abeyance ledger verify")
    return items[: name.width]
