"""Templates in memory: appended in the order of their seq, never moved, and searched block by block.

Blocks only ever grow at their end and lists of dead rows are replaced, not changed, so a search works on the
views that it took while another thread goes on appending.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from abeyance.gallery.port import Block

#: Rows of a full block: large enough that calls cost nothing, small enough that its scores stay in the cache.
ROWS = 16_384
#: Rows that the first block of a small collection has room for.
FIRST_ROWS = 256

_NONE = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A block of templates as a search sees it.

    Attributes
    ----------
    seqs
        (n,) int64, strictly ascending.
    ids
        (n, w) uint8, as in :class:`~abeyance.gallery.port.Block`.
    templates
        (n, d) float32 with exactly the float16 values stored.
    scale
        (n,) float32, 1 / length of the template.
    dead
        (m,) int64, rows that are erased.
    """

    seqs: npt.NDArray[np.int64]
    ids: npt.NDArray[np.uint8]
    templates: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    dead: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.seqs)

    @property
    def nbytes(self) -> int:
        return sum(_base(a).nbytes for a in (self.seqs, self.ids, self.templates, self.scale))


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """All templates of one kind in a collection, as of one moment.

    :meth:`updated` shares memory with the matrix that it is called on, and may fill what that one has as
    room: update only the newest, and one thread at a time.
    """

    blocks: tuple[Rows, ...] = ()

    def __len__(self) -> int:
        return sum(len(rows) - len(rows.dead) for rows in self.blocks)

    @property
    def nbytes(self) -> int:
        """Bytes of memory, with the room for more rows."""
        return sum(rows.nbytes for rows in self.blocks)

    def updated(self, added: Iterable[Block], dead: npt.NDArray[np.int64] | None) -> Matrix:
        """With templates that come after all those that are here, and without some of any of them."""
        blocks = list(self.blocks)
        for block in added:
            start = 0
            while start < len(block.seqs):
                if not blocks or len(blocks[-1]) >= ROWS:
                    blocks.append(_room(min(len(block.seqs) - start, ROWS), block))
                take = min(len(block.seqs) - start, ROWS - len(blocks[-1]))
                blocks[-1] = _extended(blocks[-1], block, start, start + take)
                start += take
        if dead is not None:
            blocks = [_without(rows, dead) for rows in blocks]
        return Matrix(tuple(rows for rows in blocks if len(rows)))


def _without(rows: Rows, dead: npt.NDArray[np.int64]) -> Rows:
    place = np.searchsorted(rows.seqs, dead)
    place = place[place < len(rows)]
    hits = place[np.isin(rows.seqs[place], dead)]
    if not len(hits):
        return rows
    rows = replace(rows, dead=np.union1d(rows.dead, hits))
    return _rebuilt(rows) if len(rows.dead) * 4 > len(rows) else rows


def _base(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.base if isinstance(array.base, np.ndarray) else array


def _room(rows: int, like: Block) -> Rows:
    """An empty block with room for so many rows."""
    return Rows(
        np.empty(rows, dtype=np.int64)[:0],
        np.empty((rows, like.ids.shape[1]), dtype=np.uint8)[:0],
        np.empty((rows, like.templates.shape[1]), dtype=np.float32)[:0],
        np.empty(rows, dtype=np.float32)[:0],
        _NONE,
    )


def _extended(rows: Rows, block: Block, start: int, stop: int) -> Rows:
    old, new = len(rows), len(rows) + stop - start
    columns = []
    for column in (rows.seqs, rows.ids, rows.templates, rows.scale):
        room = _base(column)
        if len(room) < new:
            bigger = np.empty((min(ROWS, max(2 * new, FIRST_ROWS)), *room.shape[1:]), dtype=room.dtype)
            bigger[:old] = column
            room = bigger
        columns.append(room)
    seqs, ids, templates, scale = columns
    seqs[old:new] = block.seqs[start:stop]
    ids[old:new] = block.ids[start:stop]
    added = templates[old:new]
    added[...] = block.templates[start:stop]
    lengths = np.sqrt(np.einsum("ij,ij->i", added, added))
    scale[old:new] = 1 / np.maximum(lengths, np.float32(1e-6))
    return Rows(seqs[:new], ids[:new], templates[:new], scale[:new], rows.dead)


def _rebuilt(rows: Rows) -> Rows:
    keep = np.ones(len(rows), dtype=bool)
    keep[rows.dead] = False
    return Rows(rows.seqs[keep], rows.ids[keep], rows.templates[keep], rows.scale[keep], _NONE)
