"""Every photo against every other, in bounded memory: blocks of float32 products into a histogram of integers.

312 million pairs do not fit in memory as scores, but they do as a histogram so fine that nothing is lost: a
threshold read from it is exact to one bin. The few pairs at and above a level are also kept one by one,
because who matches whom falsely is what intervals, groups and pictures are made from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from abeyance.evaluation.errors import DataInvalid, TooFew

#: Bins over cosines -1 to 1; one is 3.05e-5 wide. Bin i holds scores from ``edge(i)`` up to ``edge(i + 1)``.
BINS = 65536
_HALF = BINS // 2
#: Scores of one block: 2^21 are 8 MB of products and 16 MB of bin numbers.
_BLOCK = 1 << 21
_NOT_A_PAIR = np.float32(-2)

Tick = Callable[[int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """Scores of all pairs of different people.

    Indices are those of the rows that went in; a pair within one set is there once.
    """

    #: (BINS,) int64, all pairs.
    histogram: NDArray[np.int64]
    #: (g, BINS) int64: pairs of two people of group g; (0, BINS) if no groups were given.
    within: NDArray[np.int64]
    #: (k,) int32 each, and (k,) float32: the pairs with a score of ``level`` or more, highest first.
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    scores: NDArray[np.float32]
    level: float

    @property
    def total(self) -> int:
        """Number of pairs."""
        return int(self.histogram.sum())


def edge(index: int | NDArray[np.int64]) -> float | NDArray[np.float64]:
    """Lowest score of bin ``index``."""
    return (index - _HALF) / _HALF


def bin_of(score: float) -> int:
    """First bin whose scores are all ``score`` or more."""
    return int(np.clip(np.ceil(score * _HALF + _HALF - 1e-9), 0, BINS))


def at_or_above(histogram: NDArray[np.int64], score: float) -> int:
    """Pairs with ``score`` or more, to one bin."""
    return int(histogram[..., bin_of(score) :].sum())


def rate_curve(histogram: NDArray[np.int64]) -> NDArray[np.float64]:
    """(BINS + 1,) float64: share of pairs in bin i or higher; the last is 0."""
    above = np.concatenate([np.cumsum(histogram[::-1])[::-1], [0]])
    return above / max(1, int(above[0]))


def threshold_at(histogram: NDArray[np.int64], rate: float) -> float:
    """Lowest score that at most a share ``rate`` of pairs reaches.

    Raises
    ------
    TooFew
        If there are fewer than 1 / rate pairs, so that such a rate cannot be seen.
    """
    total = int(histogram.sum())
    if total * rate < 1:
        raise TooFew(
            f"a rate of {rate:g} cannot be measured on {total:,} pairs; it takes {int(np.ceil(1 / rate)):,}",
            have=total,
            need=int(np.ceil(1 / rate)),
        )
    curve = rate_curve(histogram)
    return float(edge(int(np.argmax(curve <= rate * (1 + 1e-12)))))


def scan(
    a: NDArray[np.float32],
    b: NDArray[np.float32] | None = None,
    *,
    persons_a: Sequence[str] | None = None,
    persons_b: Sequence[str] | None = None,
    groups_a: NDArray[np.int64] | None = None,
    groups_b: NDArray[np.int64] | None = None,
    group_count: int = 0,
    level: float = 2.0,
    most: int = 20_000_000,
    tick: Tick | None = None,
) -> Scan:
    """Compare people.

    Parameters
    ----------
    a, b
        (n, d) and (m, d) float32, unit length. Without ``b``, every row of ``a`` is compared with every other.
    persons_a, persons_b
        Who each row is; pairs of one person are left out. Without them, all rows are different people.
    groups_a, groups_b, group_count
        Group of each row, 0 to ``group_count`` - 1, for the histograms within groups; without ``b`` only
        ``groups_a``.
    level
        Pairs at or above this cosine are kept one by one.
    most
        Most pairs to keep; more is an error, because it means that ``level`` is far too low.
    tick
        Called with the number of scores after each block.

    Raises
    ------
    DataInvalid
        If more than ``most`` pairs reach ``level``.
    """
    symmetric = b is None
    order_a = _order(groups_a, len(a))
    order_b = order_a if b is None else _order(groups_b, len(b))
    left = np.ascontiguousarray(a[order_a])
    right = left if b is None else np.ascontiguousarray(b[order_b])
    codes_a, codes_b = _codes(persons_a, None if symmetric else persons_b, order_a, order_b, symmetric)
    sorted_a = groups_a[order_a] if groups_a is not None else None
    groups_right = groups_a if symmetric else groups_b
    sorted_b = groups_right[order_b] if groups_right is not None else None

    histogram = np.zeros(BINS, np.int64)
    within = np.zeros((group_count if sorted_a is not None else 0, BINS), np.int64)
    rows: list[NDArray[np.int32]] = []
    columns: list[NDArray[np.int32]] = []
    scores: list[NDArray[np.float32]] = []
    kept = 0
    for start, stop, group in _row_blocks(sorted_a, len(left), len(right)):
        first = start if symmetric else 0
        block = left[start:stop] @ right[first:].T
        if symmetric:
            block[:, : stop - start][np.tril_indices(stop - start)] = _NOT_A_PAIR
        if codes_a is not None and codes_b is not None:
            block[codes_a[start:stop, None] == codes_b[None, first:]] = _NOT_A_PAIR
        if level <= 1:
            row, column = np.nonzero(block >= np.float32(level))
            kept += len(row)
            if kept > most:
                raise DataInvalid(
                    f"more than {most:,} pairs have a cosine of {level:.3f} or more; choose a higher threshold"
                )
            rows.append(order_a[row + start].astype(np.int32))
            columns.append(order_b[column + first].astype(np.int32))
            scores.append(block[row, column])
        if group >= 0 and sorted_b is not None:
            low, high = (int(i) - first for i in np.searchsorted(sorted_b, [group, group + 1]))
            low = max(low, 0)
            inside = _count(block[:, low:high])
            within[group] += inside
            histogram += inside + _count(block[:, :low]) + _count(block[:, high:])
        else:
            histogram += _count(block)
        if tick:
            tick(block.size)
    found = np.concatenate(scores) if scores else np.empty(0, np.float32)
    order = np.argsort(-found, kind="stable")
    empty = np.empty(0, np.int32)
    return Scan(
        histogram=histogram,
        within=within,
        left=(np.concatenate(rows) if rows else empty)[order],
        right=(np.concatenate(columns) if columns else empty)[order],
        scores=found[order],
        level=level,
    )


def _count(block: NDArray[np.float32]) -> NDArray[np.int64]:
    """(BINS,) int64 of the scores of a block; what is not a pair is not counted."""
    # In float32, products near 1 may exceed it; they belong to the last bin. The cast cuts towards zero, so
    # what is no pair (-2) falls to -32768 and is lifted into a bin of its own.
    number = np.multiply(block, np.float32(_HALF)).ravel()
    number += np.float32(_HALF + 1)
    bins = number.astype(np.intp)
    np.clip(bins, 0, BINS, out=bins)
    counts = np.bincount(bins, minlength=BINS + 1).astype(np.int64)
    return counts[1:]


def _order(groups: NDArray[np.int64] | None, count: int) -> NDArray[np.intp]:
    return np.arange(count) if groups is None else np.argsort(groups, kind="stable")


def _codes(
    persons_a: Sequence[str] | None,
    persons_b: Sequence[str] | None,
    order_a: NDArray[np.intp],
    order_b: NDArray[np.intp],
    symmetric: bool,
) -> tuple[NDArray[np.int32] | None, NDArray[np.int32] | None]:
    """Persons as numbers, or None where no two rows can be one person."""
    if persons_a is None or (not symmetric and persons_b is None):
        return None, None
    numbers: dict[str, int] = {}
    codes_a = np.array([numbers.setdefault(p, len(numbers)) for p in persons_a], np.int32)[order_a]
    if symmetric:
        return (codes_a, codes_a) if len(numbers) < len(codes_a) else (None, None)
    known = len(numbers)
    assert persons_b is not None
    codes_b = np.array([numbers.setdefault(p, len(numbers)) for p in persons_b], np.int32)[order_b]
    return (codes_a, codes_b) if (codes_b < known).any() else (None, None)


def _row_blocks(groups: NDArray[np.int64] | None, rows: int, columns: int) -> Iterator[tuple[int, int, int]]:
    """Ranges of rows, each of one group (-1: no groups), small enough for one block."""
    size = max(1, _BLOCK // max(1, columns))
    bounds = [0, rows] if groups is None else [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), rows]
    for begin, end in pairwise(bounds):
        for start in range(begin, end, size):
            yield start, min(start + size, end), -1 if groups is None else int(groups[start])
