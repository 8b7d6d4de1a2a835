"""Templates in memory: in the order of their seq, never moved, and searched block by block.

A block is either adopted, as the columns of a snapshot segment that it came in, or grows at its end. Lists of dead
rows are replaced, not changed, so a search works on the views that it took while another thread goes on appending.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from abeyance.gallery.kernels import Kernel, best_kernel, rounded
from abeyance.gallery.port import Block
from abeyance.gallery.threads import cores, pool

#: Rows of a full block: large enough that calls cost nothing, small enough that its scores stay in the cache.
ROWS = 16_384
#: Rows that are read in one go, at most.
LONGEST = 65_536
#: Rows from which on what comes together stays where it is.
ADOPTED = 2048
#: Rows that are rounded at a time, so that all steps of that happen in the cache.
CHUNK = 512
#: The steps of a block go this far beyond the templates that it begins with, so that later ones fit.
MARGIN = 1.2
#: Rows that the first block of a small collection has room for.
FIRST_ROWS = 256

#: Least length of a stored template for which no closer look is taken; rounding to float16 leaves 0.9995.
_UNIT = 0.999

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
        (m,) int64, rows that are erased, ascending.
    room
        For how many rows there is memory behind the columns; 0 where the block does not grow.
    """

    seqs: npt.NDArray[np.int64]
    ids: npt.NDArray[np.uint8]
    templates: npt.NDArray[np.float16]
    fast: npt.NDArray[Any]
    scale: float
    error: float
    dead: npt.NDArray[np.int64]
    room: int

    def __len__(self) -> int:
        return len(self.seqs)

    @property
    def nbytes(self) -> int:
        columns = (self.seqs, self.ids, self.templates, self.fast)
        return max(self.room, len(self)) * sum(c.itemsize * (c.size // max(len(c), 1)) for c in columns)


@dataclass(frozen=True, slots=True, eq=False)
class Stripe:
    """Rounded templates of blocks that lie side by side in memory and share their steps, read in one go.

    Attributes
    ----------
    first
        Number of its first block.
    starts
        (k,) row at which each of its blocks begins.
    fast, scale, error, dead
        As of the blocks, of all their rows.
    """

    first: int
    starts: npt.NDArray[np.int64]
    fast: npt.NDArray[Any]
    scale: float
    error: float
    dead: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """All templates of one kind in a collection, as of one moment.

    :meth:`updated` shares memory with the matrix that it is called on, and may fill what that one has as
    room: update only the newest, and one thread at a time.
    """

    blocks: tuple[Rows, ...] = ()
    stripes: tuple[Stripe, ...] = ()
    kernel: Kernel = field(default_factory=best_kernel)

    def __len__(self) -> int:
        return sum(len(rows) - len(rows.dead) for rows in self.blocks)

    @property
    def nbytes(self) -> int:
        """Bytes of memory, with the room for more rows."""
        return sum(rows.nbytes for rows in self.blocks)

    def updated(self, added: Iterable[Block], dead: npt.ArrayLike = ()) -> Matrix:
        """With templates that come after all those that are here, and without some of any of them.

        Blocks that are large are not copied, and must not change any more.
        """
        blocks: list[Rows | Future[Rows]] = list(self.blocks)
        added = list(added)
        adopted = [block for block in added if len(block.seqs) >= ADOPTED]
        fast = np.empty(
            (sum(len(b.seqs) for b in adopted), adopted[0].templates.shape[1] if adopted else 0),
            dtype=self.kernel.dtype,
        )
        # The same steps for all of them, so that they can be read in one go.
        scale = _step(max(pool().map(_highest, (b.templates for b in adopted)), default=0.0), self.kernel)
        for block in added:
            if len(block.seqs) < ADOPTED:
                _append(blocks, block, self.kernel)
                continue
            for start in range(0, len(block.seqs), ROWS):
                part = slice(start, min(start + ROWS, len(block.seqs)))
                here, fast = np.split(fast, [part.stop - part.start])
                blocks.append(pool().submit(_adopted, block, part, self.kernel, scale, here))
        done = [rows if isinstance(rows, Rows) else rows.result() for rows in blocks]
        erased = np.asarray(dead, dtype=np.int64)
        if len(erased):
            done = [_without(rows, erased) for rows in done]
        done = [rows for rows in done if len(rows)]
        return Matrix(tuple(done), tuple(_stripes(done)), self.kernel)


def _stripes(blocks: Sequence[Rows]) -> Iterator[Stripe]:
    """All of them, in stripes few enough to lose no time between them, and enough for all cores."""
    most = min(max(sum(map(len, blocks)) // cores(), ROWS), LONGEST)
    first, length = 0, 0
    for number, rows in enumerate(blocks):
        if number and not (length + len(rows) <= most and _adjacent(blocks[number - 1], rows)):
            yield _stripe(blocks[first:number], first)
            first, length = number, 0
        length += len(rows)
    if blocks:
        yield _stripe(blocks[first:], first)


def _adjacent(one: Rows, other: Rows) -> bool:
    """Whether the second is the continuation of the first."""
    return (
        one.scale == other.scale
        and one.fast.base is not None
        and one.fast.base is other.fast.base
        and one.fast.ctypes.data + one.fast.nbytes == other.fast.ctypes.data
    )


def _stripe(blocks: Sequence[Rows], first: int) -> Stripe:
    starts = np.cumsum([0, *map(len, blocks)])
    fast = blocks[0].fast
    if len(blocks) > 1:
        whole: Any = fast.base
        offset = (fast.ctypes.data - whole.ctypes.data) // fast.strides[0]
        fast = whole[offset : offset + starts[-1]]
    dead = np.concatenate([rows.dead + start for rows, start in zip(blocks, starts, strict=False)])
    return Stripe(first, starts[:-1], fast, blocks[0].scale, max(rows.error for rows in blocks), dead)


def _append(blocks: list[Rows | Future[Rows]], block: Block, kernel: Kernel) -> None:
    """Copy a small block to the end of the last one, and into new ones."""
    start = 0
    while start < len(block.seqs):
        last = blocks[-1] if blocks else None
        if not isinstance(last, Rows) or not last.room or len(last) >= ROWS:
            blocks.append(last := _room(min(len(block.seqs) - start, ROWS), block, kernel))
        take = min(len(block.seqs) - start, ROWS - len(last), CHUNK)
        blocks[-1] = _extended(last, block, slice(start, start + take), kernel)
        start += take


def _adopted(block: Block, part: slice, kernel: Kernel, scale: float, fast: npt.NDArray[Any]) -> Rows:
    """Rows of a block as they lie there, rounded into ``fast``."""
    templates = block.templates[part]
    scale, error = _rounded(templates, kernel, scale, fast)
    return Rows(block.seqs[part], block.ids[part], templates, fast, scale, error, _NONE, 0)


def _rounded(
    templates: npt.NDArray[np.float16], kernel: Kernel, scale: float, into: npt.NDArray[Any]
) -> tuple[float, float]:
    """Write templates of unit length in the kernel's numbers; returns the step, at least ``scale``, and the error."""
    error = 0.0
    for start in range(0, len(templates), CHUNK):
        some = slice(start, start + CHUNK)
        vectors = templates[some].astype(np.float32)
        factors = _factors(vectors)
        needed = _step(_highest(templates[some]), kernel)
        if factors.max() > 1 / _UNIT:
            # Not of unit length as stored, so look at what they are.
            units = vectors * factors[:, None]
            needed = _step(float(max(units.max(), -units.min())), kernel)
        if needed > scale:
            return _rounded(templates, kernel, needed * MARGIN, into)
        vectors *= (factors / np.float32(scale))[:, None]
        error = max(error, rounded(vectors, kernel, into[some]) * scale)
    return scale, error


def _highest(templates: npt.NDArray[np.float16]) -> float:
    """Largest magnitude of a number, with room for what scaling to unit length adds."""
    # The bits of a float16 without its sign sort as an integer; with the sign, above all without.
    above = templates.view(np.int16).max(initial=0)
    below = templates.view(np.uint16).max(initial=0) & 0x7FFF
    highest = np.array(max(int(above), int(below)), dtype=np.uint16).view(np.float16)
    return float(highest) / _UNIT


def _step(highest: float, kernel: Kernel) -> float:
    """The least step with which numbers up to this fit the kernel's levels."""
    return max(highest, 1e-6) / kernel.levels if kernel.levels else 1.0


def _factors(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(n,) by what to multiply (n, d) to have unit length."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    factors: npt.NDArray[np.float32] = 1 / np.maximum(lengths, np.float32(1e-6))
    return factors


def _without(rows: Rows, dead: npt.NDArray[np.int64]) -> Rows:
    place = np.searchsorted(rows.seqs, dead)
    place = place[place < len(rows)]
    hits = place[np.isin(rows.seqs[place], dead)]
    if not len(hits):
        return rows
    rows = replace(rows, dead=np.union1d(rows.dead, hits))
    return _rebuilt(rows) if len(rows.dead) * 4 > len(rows) else rows


def _room(rows: int, like: Block, kernel: Kernel) -> Rows:
    """An empty block with room for so many rows."""
    width, dimension = like.ids.shape[1], like.templates.shape[1]
    return Rows(
        np.empty(rows, dtype=np.int64)[:0],
        np.empty((rows, width), dtype=np.uint8)[:0],
        np.empty((rows, dimension), dtype=np.float16)[:0],
        np.empty((rows, dimension), dtype=kernel.dtype)[:0],
        _step(0.0, kernel),
        0.0,
        _NONE,
        rows,
    )


def _extended(rows: Rows, block: Block, part: slice, kernel: Kernel) -> Rows:
    old, new = len(rows), len(rows) + part.stop - part.start
    room = rows.room if rows.room >= new else min(ROWS, max(2 * new, FIRST_ROWS))
    seqs, ids, templates = (_grown(c, room) for c in (rows.seqs, rows.ids, rows.templates))
    seqs[old:new] = block.seqs[part]
    ids[old:new] = block.ids[part]
    templates[old:new] = block.templates[part]
    fast = _grown(rows.fast, room)
    scale, error = _rounded(templates[old:new], kernel, rows.scale, fast[old:new])
    if scale > rows.scale:
        # A template does not fit the steps of this block: round all of it anew, into memory of its own, since
        # searches may be reading the old.
        fast = np.empty((room, fast.shape[1]), dtype=kernel.dtype)
        scale, error = _rounded(templates[:new], kernel, scale, fast[:new])
    error = max(error, rows.error)
    return Rows(seqs[:new], ids[:new], templates[:new], fast[:new], scale, error, rows.dead, room)


def _grown(column: npt.NDArray[Any], room: int) -> npt.NDArray[Any]:
    """All the memory behind a column, at least for ``room`` rows."""
    behind = column.base if isinstance(column.base, np.ndarray) else column
    if len(behind) >= room:
        return behind
    bigger = np.empty((room, *column.shape[1:]), dtype=column.dtype)
    bigger[: len(column)] = column
    return bigger


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
        room=int(keep.sum()) if rows.room else 0,
    )
