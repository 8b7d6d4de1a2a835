"""Templates in memory: in the order of their seq, never moved, and searched block by block.

A block is either adopted, as the columns of a snapshot segment, or grows at its end. Lists of dead rows are replaced,
not changed, so a search works on the views that it took while another thread goes on appending.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from abeyance.gallery.kernels import Kernel, best_kernel, round_into
from abeyance.gallery.port import Block
from abeyance.gallery.threads import cores, pool

#: Rows of a full block: large enough that the cost of calls is small, small enough that its scores stay in the cache.
BLOCK_ROWS = 16_384
#: Most rows of a stripe.
STRIPE_ROWS = 65_536
#: Rows from which on a block is adopted and not copied.
ADOPTED_ROWS = 2048
#: Rows that are rounded at a time, so that all steps of that happen in the cache.
CHUNK_ROWS = 512
#: The steps of a block reach this far beyond the templates that it begins with, so that later ones fit.
MARGIN = 1.2
#: Rows that the first block of a small collection has memory for.
FIRST_ROWS = 256

#: Least length of a stored template that is taken for a unit vector; rounding to float16 leaves 0.9995.
_UNIT = 0.999

_NONE = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class MatrixBlock:
    """A block of templates with what a search needs.

    Attributes
    ----------
    seqs
        (n,) int64, strictly ascending.
    ids
        (n, w) uint8, as in :class:`~abeyance.gallery.port.Block`.
    templates
        (n, d) float16, as stored.
    rounded
        (n, d) of the kernel's dtype: templates of unit length, rounded to multiples of ``step``.
    step
        The cosine's unit of ``rounded``.
    error
        Length of the longest difference between a unit template and its rounded one.
    dead
        (m,) int64, rows that are erased, ascending.
    capacity
        Rows that the memory behind the columns has room for; 0 where the block does not grow.
    """

    seqs: npt.NDArray[np.int64]
    ids: npt.NDArray[np.uint8]
    templates: npt.NDArray[np.float16]
    rounded: npt.NDArray[Any]
    step: float
    error: float
    dead: npt.NDArray[np.int64]
    capacity: int

    def __len__(self) -> int:
        return len(self.seqs)

    @property
    def nbytes(self) -> int:
        """Bytes of memory, with that for more rows."""
        columns = (self.seqs, self.ids, self.templates, self.rounded)
        return max(self.capacity, len(self)) * sum(c.itemsize * (c.size // max(len(c), 1)) for c in columns)

    def without(self, seqs: npt.NDArray[np.int64]) -> MatrixBlock:
        """Return the block with the rows of these seqs marked as dead, or copied without them if they are many."""
        place = np.searchsorted(self.seqs, seqs)
        place = place[place < len(self)]
        hits = place[np.isin(self.seqs[place], seqs)]
        if not len(hits):
            return self
        dead = np.union1d(self.dead, hits)
        if len(dead) * 4 <= len(self):
            return replace(self, dead=dead)
        keep = np.ones(len(self), dtype=bool)
        keep[dead] = False
        return replace(
            self,
            seqs=self.seqs[keep],
            ids=self.ids[keep],
            templates=self.templates[keep],
            rounded=self.rounded[keep],
            dead=_NONE,
            capacity=int(keep.sum()) if self.capacity else 0,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Stripe:
    """Rounded templates of blocks that lie side by side in memory and have the same step, multiplied at once.

    Attributes
    ----------
    first
        Number of its first block.
    starts
        (k,) row at which each of its blocks begins.
    rounded, step, error, dead
        As of the blocks, for all their rows.
    """

    first: int
    starts: npt.NDArray[np.int64]
    rounded: npt.NDArray[Any]
    step: float
    error: float
    dead: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """All templates of one kind in a collection, as of one moment.

    :meth:`updated` shares memory with the matrix that it is called on, and may fill memory that this one has
    for more rows: update only the newest, and in one thread at a time.
    """

    blocks: tuple[MatrixBlock, ...] = ()
    stripes: tuple[Stripe, ...] = ()
    kernel: Kernel = field(default_factory=best_kernel)

    def __len__(self) -> int:
        return sum(len(block) - len(block.dead) for block in self.blocks)

    @property
    def nbytes(self) -> int:
        """Bytes of memory, with that for more rows."""
        return sum(block.nbytes for block in self.blocks)

    def updated(self, added: Iterable[Block], dead: npt.ArrayLike = ()) -> Matrix:
        """Return the matrix with templates that come after all those that are here, and without the dead ones.

        Large blocks are not copied, and must not change any more.

        Parameters
        ----------
        added
            In ascending order of seq.
        dead
            (m,) seqs of templates that went, of any block.
        """
        blocks: list[MatrixBlock | Future[MatrixBlock]] = list(self.blocks)
        added = list(added)
        adopted = [block for block in added if len(block.seqs) >= ADOPTED_ROWS]
        rows, dimension = sum(len(b.seqs) for b in adopted), adopted[0].templates.shape[1] if adopted else 0
        rounded = np.empty((rows, dimension), dtype=self.kernel.dtype)
        # The same step for all of them, so that they can be multiplied at once.
        highest = max(pool().map(_highest, (block.templates for block in adopted)), default=0.0)
        step = _step(highest, self.kernel)
        for block in added:
            if len(block.seqs) < ADOPTED_ROWS:
                _append(blocks, block, self.kernel)
                continue
            for start in range(0, len(block.seqs), BLOCK_ROWS):
                part = slice(start, min(start + BLOCK_ROWS, len(block.seqs)))
                here, rounded = np.split(rounded, [part.stop - part.start])
                blocks.append(pool().submit(_adopted, block, part, self.kernel, step, here))
        done = [block if isinstance(block, MatrixBlock) else block.result() for block in blocks]
        gone = np.asarray(dead, dtype=np.int64)
        if len(gone):
            done = [block.without(gone) for block in done]
        done = [block for block in done if len(block)]
        return Matrix(tuple(done), tuple(_stripes(done)), self.kernel)


def _stripes(blocks: Sequence[MatrixBlock]) -> Iterator[Stripe]:
    """Yield all blocks in stripes few enough to lose no time between them, and enough for all cores."""
    longest = min(STRIPE_ROWS, max(BLOCK_ROWS, sum(map(len, blocks)) // cores()))
    first, length = 0, 0
    for number, block in enumerate(blocks):
        if length and not (length + len(block) <= longest and _continues(blocks[number - 1], block)):
            yield _stripe(blocks[first:number], first)
            first, length = number, 0
        length += len(block)
    if blocks:
        yield _stripe(blocks[first:], first)


def _continues(one: MatrixBlock, other: MatrixBlock) -> bool:
    """Return whether the second begins in memory where the first ends."""
    return (
        one.step == other.step
        and one.rounded.base is not None
        and one.rounded.base is other.rounded.base
        and one.rounded.ctypes.data + one.rounded.nbytes == other.rounded.ctypes.data
    )


def _stripe(blocks: Sequence[MatrixBlock], first: int) -> Stripe:
    starts = np.cumsum([0, *map(len, blocks)])
    rounded = blocks[0].rounded
    if len(blocks) > 1:
        whole: Any = rounded.base
        offset = (rounded.ctypes.data - whole.ctypes.data) // rounded.strides[0]
        rounded = whole[offset : offset + starts[-1]]
    dead = np.concatenate([block.dead + start for block, start in zip(blocks, starts, strict=False)])
    return Stripe(first, starts[:-1], rounded, blocks[0].step, max(b.error for b in blocks), dead)


def _append(blocks: list[MatrixBlock | Future[MatrixBlock]], block: Block, kernel: Kernel) -> None:
    """Copy a small block to the end of the last one, and into new ones."""
    start = 0
    while start < len(block.seqs):
        last = blocks[-1] if blocks else None
        if not isinstance(last, MatrixBlock) or not last.capacity or len(last) >= BLOCK_ROWS:
            blocks.append(last := _empty(min(len(block.seqs) - start, BLOCK_ROWS), block, kernel))
        take = min(len(block.seqs) - start, BLOCK_ROWS - len(last), CHUNK_ROWS)
        blocks[-1] = _extended(last, block, slice(start, start + take), kernel)
        start += take


def _adopted(block: Block, part: slice, kernel: Kernel, step: float, into: npt.NDArray[Any]) -> MatrixBlock:
    """Return a part of a block with its columns as they are, rounded into ``into``."""
    templates = block.templates[part]
    step, error = _round(templates, kernel, step, into)
    return MatrixBlock(block.seqs[part], block.ids[part], templates, into, step, error, _NONE, 0)


def _empty(rows: int, like: Block, kernel: Kernel) -> MatrixBlock:
    """Return an empty block with memory for so many rows."""
    width, dimension = like.ids.shape[1], like.templates.shape[1]
    return MatrixBlock(
        np.empty(rows, dtype=np.int64)[:0],
        np.empty((rows, width), dtype=np.uint8)[:0],
        np.empty((rows, dimension), dtype=np.float16)[:0],
        np.empty((rows, dimension), dtype=kernel.dtype)[:0],
        _step(0.0, kernel),
        0.0,
        _NONE,
        rows,
    )


def _extended(rows: MatrixBlock, block: Block, part: slice, kernel: Kernel) -> MatrixBlock:
    """Return the rows with a part of a block behind them."""
    old, new = len(rows), len(rows) + part.stop - part.start
    capacity = rows.capacity if rows.capacity >= new else min(BLOCK_ROWS, max(2 * new, FIRST_ROWS))
    seqs, ids, templates, rounded = (
        _memory(column, capacity) for column in (rows.seqs, rows.ids, rows.templates, rows.rounded)
    )
    seqs[old:new] = block.seqs[part]
    ids[old:new] = block.ids[part]
    templates[old:new] = block.templates[part]
    step, error = _round(templates[old:new], kernel, rows.step, rounded[old:new])
    if step > rows.step:
        # A template does not fit the steps of this block: round all of it anew, into memory of its own, since
        # searches may be reading the old.
        rounded = np.empty((capacity, rounded.shape[1]), dtype=kernel.dtype)
        step, error = _round(templates[:new], kernel, step, rounded[:new])
    error = max(error, rows.error)
    return MatrixBlock(
        seqs[:new], ids[:new], templates[:new], rounded[:new], step, error, rows.dead, capacity
    )


def _memory(column: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """Return all the memory behind a column, or a larger copy if that is for fewer than ``rows`` rows."""
    whole = column.base if isinstance(column.base, np.ndarray) else column
    if len(whole) >= rows:
        return whole
    larger = np.empty((rows, *column.shape[1:]), dtype=column.dtype)
    larger[: len(column)] = column
    return larger


def _round(
    templates: npt.NDArray[np.float16], kernel: Kernel, step: float, into: npt.NDArray[Any]
) -> tuple[float, float]:
    """Write templates of unit length in the kernel's numbers; return the step, at least ``step``, and the error."""
    error = 0.0
    for start in range(0, len(templates), CHUNK_ROWS):
        chunk = slice(start, start + CHUNK_ROWS)
        vectors = templates[chunk].astype(np.float32)
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        factors = 1 / np.maximum(lengths, np.float32(1e-6))
        needed = _step(_highest(templates[chunk]), kernel)
        if factors.max() > 1 / _UNIT:
            # Not of unit length as stored, so the numbers become larger.
            units = vectors * factors[:, None]
            needed = _step(float(max(units.max(), -units.min())), kernel)
        if needed > step:
            return _round(templates, kernel, needed * MARGIN, into)
        vectors *= (factors / np.float32(step))[:, None]
        error = max(error, round_into(into[chunk], vectors, kernel) * step)
    return step, error


def _highest(templates: npt.NDArray[np.float16]) -> float:
    """Return the largest magnitude of a number, with room for what scaling to unit length adds."""
    # The bits of a float16 without its sign sort as an integer; with the sign, above all without.
    above = templates.view(np.int16).max(initial=0)
    below = templates.view(np.uint16).max(initial=0) & 0x7FFF
    highest = np.array(max(int(above), int(below)), dtype=np.uint16).view(np.float16)
    return float(highest) / _UNIT


def _step(highest: float, kernel: Kernel) -> float:
    """Return the least step with which numbers up to this fit the kernel's levels."""
    return max(highest, 1e-6) / kernel.levels if kernel.levels else 1.0
