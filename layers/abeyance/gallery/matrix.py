"""Templates in memory: appended in the order of their seq, never moved, and searched block by block.

Blocks only ever grow at their end and lists of dead rows are replaced, not changed, so a search works on the
views that it took while another thread goes on appending.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from abeyance.gallery.kernels import Kernel, best_kernel, rounded
from abeyance.gallery.port import Block

#: Rows of a full block: large enough that calls cost nothing, small enough that its scores stay in the cache.
ROWS = 16_384
#: Rows that are rounded at a time, so that all steps of that happen in the cache.
CHUNK = 1024
#: The steps of a block go this far beyond the templates that it begins with, so that later ones fit.
MARGIN = 1.2
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
        (n, d) float16, as stored.
    fast
        (n, d) of the kernel's dtype: templates of unit length, rounded.
    scale
        What one step of ``fast`` is worth.
    error
        Longest difference between a unit template and its rounded one.
    dead
        (m,) int64, rows that are erased.
    """

    seqs: npt.NDArray[np.int64]
    ids: npt.NDArray[np.uint8]
    templates: npt.NDArray[np.float16]
    fast: npt.NDArray[Any]
    scale: float
    error: float
    dead: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.seqs)

    @property
    def nbytes(self) -> int:
        return sum(_base(a).nbytes for a in (self.seqs, self.ids, self.templates, self.fast))


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """All templates of one kind in a collection, as of one moment.

    :meth:`updated` shares memory with the matrix that it is called on, and may fill what that one has as
    room: update only the newest, and one thread at a time.
    """

    blocks: tuple[Rows, ...] = ()
    kernel: Kernel = field(default_factory=best_kernel)

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
                    blocks.append(_room(min(len(block.seqs) - start, ROWS), block, self.kernel))
                take = min(len(block.seqs) - start, ROWS - len(blocks[-1]), CHUNK)
                blocks[-1] = _extended(blocks[-1], block, slice(start, start + take), self.kernel)
                start += take
        if dead is not None:
            blocks = [_without(rows, dead) for rows in blocks]
        return Matrix(tuple(rows for rows in blocks if len(rows)), self.kernel)


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


def _room(rows: int, like: Block, kernel: Kernel) -> Rows:
    """An empty block with room for so many rows."""
    width, dimension = like.ids.shape[1], like.templates.shape[1]
    return Rows(
        np.empty(rows, dtype=np.int64)[:0],
        np.empty((rows, width), dtype=np.uint8)[:0],
        np.empty((rows, dimension), dtype=np.float16)[:0],
        np.empty((rows, dimension), dtype=kernel.dtype)[:0],
        0.0,
        0.0,
        _NONE,
    )


def _extended(rows: Rows, block: Block, part: slice, kernel: Kernel) -> Rows:
    old, new = len(rows), len(rows) + part.stop - part.start
    seqs, ids, templates = (_grown(c, old, new) for c in (rows.seqs, rows.ids, rows.templates))
    seqs[old:new] = block.seqs[part]
    ids[old:new] = block.ids[part]
    templates[old:new] = block.templates[part]
    units = unit(templates[old:new])
    highest = float(max(units.max(), -units.min()))
    if kernel.levels and highest > rows.scale * kernel.levels:
        # A template does not fit the steps of this block: round all of it anew, into memory of its own, since
        # searches may be reading the old.
        scale = highest * MARGIN / kernel.levels
        room = np.empty((len(templates), units.shape[1]), dtype=kernel.dtype)
        error = rounded(unit(templates[:new]) if old else units, kernel, scale, room[:new])
        return Rows(seqs[:new], ids[:new], templates[:new], room[:new], scale, error, rows.dead)
    scale = rows.scale if kernel.levels else 1.0
    room = _grown(rows.fast, old, new)
    error = max(rows.error, rounded(units, kernel, scale, room[old:new]))
    return Rows(seqs[:new], ids[:new], templates[:new], room[:new], scale, error, rows.dead)


def _grown(column: npt.NDArray[Any], old: int, new: int) -> npt.NDArray[Any]:
    """The memory behind a column, with room for ``new`` rows; its first ``old`` are the column's."""
    room = _base(column)
    if len(room) >= new:
        return room
    bigger = np.empty((min(ROWS, max(2 * new, FIRST_ROWS)), *room.shape[1:]), dtype=room.dtype)
    bigger[:old] = column
    return bigger


def unit(templates: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    """(n, d) float32 of unit length."""
    vectors = templates.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    vectors *= (1 / np.maximum(lengths, np.float32(1e-6)))[:, None]
    return vectors


def _rebuilt(rows: Rows) -> Rows:
    keep = np.ones(len(rows), dtype=bool)
    keep[rows.dead] = False
    return replace(
        rows,
        seqs=rows.seqs[keep],
        ids=rows.ids[keep],
        templates=rows.templates[keep],
        fast=rows.fast[keep],
        dead=_NONE,
    )
