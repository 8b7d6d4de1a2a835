"""Comparison of every photo with every other in bounded memory: float32 products, block by block, into a histogram.

312 million scores do not fit into memory, but a histogram so fine that a threshold read from it is exact to one bin
does. The few pairs at and above a level are also kept one by one, for intervals, groups and pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from abeyance.evaluation.arrays import Float32Array, FloatArray, Int32Array, IntArray
from abeyance.evaluation.errors import DataInvalid, TooFew

#: Bins over cosines -1 to 1; one is 3.05e-5 wide. Bin i holds scores from ``edge(i)`` up to ``edge(i + 1)``.
BINS = 65536
_HALF = BINS // 2
#: Scores of one block: 2^21 are 8 MB of products and 16 MB of bin numbers.
_BLOCK_SCORES = 1 << 21
#: Rows and columns of a block that is not kept: 8 MB of products.
_TILE = 1448
_NOT_A_PAIR = np.float32(-2)


@dataclass(frozen=True, slots=True, eq=False)
class PairScan:
    """Scores of all pairs of different people.

    Indices are those of the rows that were compared; a pair within one set counts once.
    """

    #: (BINS,) int64: all pairs.
    histogram: IntArray
    #: (g, BINS) int64: pairs of two people of group g; (0, BINS) if no groups were given.
    within: IntArray
    #: (k,) int32 each, and (k,) float32: the pairs with a score of ``level`` or more, highest first.
    left: Int32Array
    right: Int32Array
    scores: Float32Array
    level: float

    @property
    def total(self) -> int:
        """Number of pairs."""
        return int(self.histogram.sum())

    def matches(self, threshold: float) -> tuple[Int32Array, Int32Array]:
        """Return the rows of the pairs with a score of ``threshold`` or more: (m,) int32 each.

        The threshold must not be lower than ``level``.
        """
        end = int(np.searchsorted(-self.scores, -np.float32(threshold), side="right"))
        return self.left[:end], self.right[:end]


def edge(index: int | IntArray) -> float | FloatArray:
    """Return the lowest score of bin ``index``."""
    return (index - _HALF) / _HALF


def bin_of(score: float) -> int:
    """Return the first bin that holds only scores of ``score`` or more."""
    return int(np.clip(np.ceil(score * _HALF + _HALF - 1e-9), 0, BINS))


def at_or_above(histogram: IntArray, score: float) -> int:
    """Return the number of pairs with ``score`` or more, to one bin."""
    return int(histogram[..., bin_of(score) :].sum())


def histogram_of(scores: FloatArray) -> IntArray:
    """Return the (BINS,) int64 histogram of single scores; those below -1 count as -1."""
    bins = np.clip((np.maximum(scores, -1) + 1) * _HALF, 0, BINS - 1).astype(np.int64)
    return np.bincount(bins, minlength=BINS).astype(np.int64)


def rate_curve(histogram: IntArray) -> FloatArray:
    """Return the share of pairs in bin i or higher: (BINS + 1,) float64; the last is 0."""
    above = np.concatenate([np.cumsum(histogram[::-1])[::-1], [0]])
    return above / max(1, int(above[0]))


def threshold_at(histogram: IntArray, rate: float) -> float:
    """Return the lowest score that at most a share ``rate`` of pairs reaches.

    Raises
    ------
    TooFew
        If there are fewer than 1 / rate pairs, too few to measure such a rate.
    """
    total, needed = int(histogram.sum()), int(np.ceil(1 / rate))
    if total * rate < 1:
        raise TooFew(
            f"a rate of {rate:g} cannot be measured on {total:,} pairs; it takes {needed:,}",
            have=total,
            need=needed,
        )
    curve = rate_curve(histogram)
    return float(edge(int(np.argmax(curve <= rate * (1 + 1e-12)))))


def scan(
    a: Float32Array,
    b: Float32Array | None = None,
    *,
    people: IntArray | None = None,
    groups: IntArray | None = None,
    group_count: int = 0,
    level: float = 2.0,
    max_kept: int = 20_000_000,
) -> PairScan:
    """Compare templates of different people.

    Parameters
    ----------
    a, b
        (n, d) and (m, d) float32, unit length. Without ``b``, every row of ``a`` is compared with every other.
    people
        (n,) int: number of the person of each row of ``a``; pairs of one person are left out. Without it, all rows are
        different people. Not available with ``b``.
    groups, group_count
        (n,) int: group of each row of ``a``, 0 to ``group_count`` - 1, for the histograms within groups. Not
        available with ``b``.
    level
        Pairs at or above this cosine are kept one by one.
    max_kept
        Maximum number of pairs to keep.

    Raises
    ------
    DataInvalid
        If more than ``max_kept`` pairs reach ``level``.
    """
    order = np.arange(len(a)) if groups is None else np.argsort(groups, kind="stable")
    left = np.ascontiguousarray(a[order])
    right = left if b is None else b
    columns_order = order if b is None else np.arange(len(b))
    sorted_groups = None if groups is None else groups[order]
    several_photos = people is not None and len(np.unique(people)) < len(people)
    owners = people[order] if people is not None and several_photos else None
    histogram = np.zeros(BINS, np.int64)
    within = np.zeros((group_count, BINS), np.int64)
    kept = [(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))]
    kept_count = 0
    for start, stop, group in _row_blocks(sorted_groups, len(left), len(right)):
        first = start if b is None else 0
        block = left[start:stop] @ right[first:].T
        if b is None:
            block[:, : stop - start][np.tril_indices(stop - start)] = _NOT_A_PAIR
        if owners is not None:
            block[owners[start:stop, None] == owners[None, first:]] = _NOT_A_PAIR
        if level <= 1:
            row, column = np.nonzero(block >= np.float32(level))
            kept_count += len(row)
            if kept_count > max_kept:
                raise DataInvalid(
                    f"more than {max_kept:,} pairs have a cosine of {level:.3f} or more; choose a higher threshold"
                )
            kept.append(
                (
                    order[row + start].astype(np.int32),
                    columns_order[column + first].astype(np.int32),
                    block[row, column],
                )
            )
        if sorted_groups is None:
            histogram += _count(block)
        else:
            # Blocks start within a group, so its columns come first.
            end = int(np.searchsorted(sorted_groups, group + 1)) - first
            inside = _count(block[:, :end])
            within[group] += inside
            histogram += inside + _count(block[:, end:])
    rows, columns, scores = (np.concatenate(part) for part in zip(*kept, strict=True))
    by_score = np.argsort(-scores, kind="stable")
    return PairScan(histogram, within, rows[by_score], columns[by_score], scores[by_score], level)


def scan_within(vectors: Float32Array, groups: IntArray, group_count: int, level: float = 2.0) -> PairScan:
    """Compare only people of one group with each other, which takes a small part of the time of :func:`scan`.

    Parameters as there; the histogram is that of pairs within groups.
    """
    within = np.zeros((group_count, BINS), np.int64)
    kept = []
    for group in range(group_count):
        rows = np.flatnonzero(groups == group)
        found = scan(vectors[rows], level=level)
        within[group] = found.histogram
        kept.append((rows[found.left], rows[found.right], found.scores))
    left, right, scores = (np.concatenate(part) for part in zip(*kept, strict=True))
    by_score = np.argsort(-scores, kind="stable")
    return PairScan(
        within.sum(axis=0),
        within,
        left[by_score].astype(np.int32),
        right[by_score].astype(np.int32),
        scores[by_score],
        level,
    )


def matches_per_row(vectors: Float32Array, thresholds: Sequence[float]) -> IntArray:
    """Return how many other rows each row matches at each threshold: (thresholds, n) int64.

    It keeps no pair, so that a threshold may be as low as one likes.
    """
    counts = np.zeros((len(thresholds), len(vectors)), np.int64)
    for start in range(0, len(vectors), _TILE):
        rows = slice(start, start + _TILE)
        for first in range(start, len(vectors), _TILE):
            columns = slice(first, first + _TILE)
            block = vectors[rows] @ vectors[columns].T
            if first == start:
                np.fill_diagonal(block, _NOT_A_PAIR)
            for number, threshold in enumerate(thresholds):
                hits = block >= np.float32(threshold)
                counts[number, rows] += np.count_nonzero(hits, axis=1)
                if first != start:
                    counts[number, columns] += np.count_nonzero(hits, axis=0)
    return counts


def _count(block: Float32Array) -> IntArray:
    """Return the (BINS,) int64 histogram of a block, without what is not a pair."""
    # In float32, products may exceed 1; they belong to the last bin. The cast cuts towards zero, so _NOT_A_PAIR falls
    # to -32767 and is clipped into bin 0, which is dropped.
    number = np.multiply(block, np.float32(_HALF)).ravel()
    number += np.float32(_HALF + 1)
    bins = number.astype(np.intp)
    np.clip(bins, 0, BINS, out=bins)
    counts = np.bincount(bins, minlength=BINS + 1).astype(np.int64)
    return counts[1:]


def _row_blocks(groups: IntArray | None, rows: int, columns: int) -> Iterator[tuple[int, int, int]]:
    """Yield ranges of rows, each of one group (-1: no groups), small enough for one block."""
    size = max(1, _BLOCK_SCORES // max(1, columns))
    bounds = [0, rows] if groups is None else [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), rows]
    for begin, end in pairwise(bounds):
        for start in range(begin, end, size):
            yield start, min(start + size, end), -1 if groups is None else int(groups[start])
