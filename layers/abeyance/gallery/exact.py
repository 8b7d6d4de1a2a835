"""The best templates by cosine, exactly: a fast pass over all of them, and an exact one over those that it leaves.

The fast pass multiplies rounded vectors. With x = X + e and p = P + f, rounded and rest,
``x.p - X.P = e.p + X.f``, so for unit vectors its error is at most ``|e| + (1 + |e|) |f|``. Every template that
could be among the best within that bound is scored again in float64. So results do not depend on the kernel, nor on
how rows lie in blocks, nor on how many threads there are: cosines are exact before they are rounded to float32, and
ties are ordered by id.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from abeyance.gallery.kernels import PackedProbes
from abeyance.gallery.matrix import Matrix, MatrixBlock, Stripe
from abeyance.gallery.model import Candidate, TemplateKind
from abeyance.gallery.threads import cores, pool

#: Scores that are computed at a time, so that they stay in the cache.
PART_SCORES = 2**20
#: Rows of which only the highest score is compared first.
GROUP_ROWS = 64
#: Rows that are scored exactly at a time.
EXACT_ROWS = 4096

_EPSILON = float(np.finfo(np.float32).eps)
#: Lower than any cosine.
_NO_FLOOR = -2.0

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def search(
    matrix: Matrix, kind: TemplateKind, probes: npt.NDArray[np.float32], limit: int, min_cosine: float
) -> list[list[Candidate]]:
    """Return the ``limit`` best templates for each probe, computed on all cores that this process may use.

    Parameters
    ----------
    matrix
        The templates.
    kind
        Faces or users; decides how ids are written.
    probes
        (n, d) float32, not zero; scaled to unit length here.
    limit
        At least 1.
    min_cosine
        Candidates below it are left out.

    Returns
    -------
    list of list of Candidate
        For each probe, best first.
    """
    units = probes.astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    scan = _Scan(matrix, units, limit, min_cosine)
    # NumPy's products have threads of their own, and several at once slow each other down.
    helpers = min(cores(), len(matrix.stripes)) - 1 if matrix.kernel.levels else 0
    helping = [pool().submit(scan.run) for _ in range(helpers)]
    hits = [scan.run()]
    # A helper that is still busy with another search has left this one to the others.
    hits += [helper.result() for helper in helping if not helper.cancel()]
    return scan.answer(_concatenated(hits), kind)


def bounds(rows: MatrixBlock | Stripe, probes: PackedProbes) -> Floats:
    """Return (p,) the largest error of the fast pass's cosines in a block or stripe."""
    # Rounding of float32 arithmetic, generously.
    slack = (rows.rounded.shape[1] + 16) * _EPSILON
    result: Floats = rows.error + (1 + rows.error) * probes.errors + slack
    return result


@dataclass(frozen=True, slots=True, eq=False)
class _Hits:
    """Rows that may be among the best, with bounds on their cosines.

    Attributes
    ----------
    places
        (n,) number of the block times 2**32, plus the row.
    probes
        (n,) number of the probe.
    low, high
        (n,) bounds on the cosine; its float32 value in both once that is known.
    """

    places: Ints
    probes: Ints
    low: Floats
    high: Floats

    def __len__(self) -> int:
        return len(self.places)

    def take(self, which: npt.NDArray[np.bool_] | Ints) -> _Hits:
        return _Hits(self.places[which], self.probes[which], self.low[which], self.high[which])


class _Scan:
    """One search. Threads that run it take stripe after stripe, and share the floors below which rows are dropped."""

    def __init__(self, matrix: Matrix, probes: Floats, limit: int, min_cosine: float) -> None:
        self._blocks = matrix.blocks
        self._stripes = matrix.stripes
        self._probes = probes
        self._packed = matrix.kernel.packed(probes)
        self._limit = limit
        self._min_cosine = min_cosine
        #: Lower than any score.
        self._lowest = np.iinfo(np.int32).min if self._packed.scores is np.int32 else -np.inf
        self._lock = threading.Lock()
        #: (p,) a row whose cosine is certainly below it is not among the best.
        self._floors = np.full(len(probes), max(min_cosine, _NO_FLOOR))
        self._numbers: Iterator[int] = iter(range(len(self._stripes)))
        #: Hits that are collected before they are pruned.
        self._prune_at = max(4096, 128 * len(probes), 4 * limit * len(probes))

    def run(self) -> _Hits:
        """Search stripes until none is left."""
        hits: list[_Hits] = []
        count, prune_at = 0, self._prune_at
        step = max(GROUP_ROWS, PART_SCORES // len(self._probes) // GROUP_ROWS * GROUP_ROWS)
        # One thread gets each number: the iterator is C code and never releases the interpreter.
        for number in self._numbers:
            stripe = self._stripes[number]
            for start in range(0, len(stripe.rounded), step):
                part = self._scan_part(stripe, slice(start, min(start + step, len(stripe.rounded))))
                if not len(part):
                    continue
                hits.append(part)
                count += len(part)
                if count > prune_at:
                    hits = [self._pruned(_concatenated(hits))]
                    count = len(hits[0])
                    prune_at = max(self._prune_at, 2 * count)
        return _concatenated(hits)

    def answer(self, hits: _Hits, kind: TemplateKind) -> list[list[Candidate]]:
        """Return the best of all hits, for each probe."""
        hits = self._best(self._above_floors(hits))
        hits = hits.take(hits.low >= self._min_cosine)
        ids = [id_text(kind, self._id(place)) for place in hits.places.tolist()]
        cosines = hits.low.tolist()
        ends = np.searchsorted(hits.probes, np.arange(len(self._probes) + 1)).tolist()
        return [[Candidate(ids[n], cosines[n]) for n in range(begin, end)] for begin, end in pairwise(ends)]

    def _scan_part(self, stripe: Stripe, part: slice) -> _Hits:
        """Return the rows of a part of a stripe that may be among the best."""
        scores = self._packed.dots(stripe.rounded[part])
        if len(stripe.dead):
            first, last = np.searchsorted(stripe.dead, (part.start, part.stop))
            scores[stripe.dead[first:last] - part.start] = self._lowest
        steps = stripe.step * self._packed.steps
        errors = bounds(stripe, self._packed)
        count = len(self._probes)
        rest = len(scores) % GROUP_ROWS
        # Side by side, the columns of which only the highest is compared first.
        grouped = scores[: len(scores) - rest].reshape(GROUP_ROWS, -1)
        highest = grouped.max(axis=0)
        floors = self._floor_scores(errors, steps)
        columns = np.flatnonzero(highest.reshape(-1, count) >= floors)
        if len(columns) > 4 * self._limit * count and len(highest) >= self._limit * count:
            # So many rows are at least that good.
            good = np.partition(highest.reshape(-1, count), -self._limit, axis=0)[-self._limit]
            self._raise_floors(good * steps - errors)
            floors = self._floor_scores(errors, steps)
            columns = np.flatnonzero(highest.reshape(-1, count) >= floors)
        candidates = grouped.take(columns, axis=1)
        within, column = np.divmod(
            np.flatnonzero(candidates >= floors[columns % count]), max(len(columns), 1)
        )
        places, found = within * len(highest) + columns[column], candidates[within, column]
        if rest:
            end = scores[len(scores) - rest :]
            last_places = np.flatnonzero(end >= floors)
            places = np.concatenate([places, last_places + grouped.size])
            found = np.concatenate([found, end.ravel()[last_places]])
        rows, probes = np.divmod(places, count)
        if len(stripe.dead):
            alive = found > self._lowest
            rows, probes, found = rows[alive], probes[alive], found[alive]
        cosines, errors = found * steps[probes], errors[probes]
        rows += part.start
        block = np.searchsorted(stripe.starts, rows, side="right") - 1
        places = ((block + stripe.first) << 32) + rows - stripe.starts[block]
        return _Hits(places, probes, cosines - errors, cosines + errors)

    def _floor_scores(self, errors: Floats, steps: Floats) -> npt.NDArray[np.generic]:
        """Return the floors in the kernel's own numbers, so that most rows are done after one comparison."""
        floors = (self._floors - errors) / steps
        if self._packed.scores is np.int32:
            floors = np.minimum(np.maximum(np.floor(floors), -(2**31)), 2**31 - 1)
        return floors.astype(self._packed.scores)

    def _raise_floors(self, floors: Floats) -> None:
        with self._lock:
            self._floors = np.maximum(self._floors, floors)

    def _above_floors(self, hits: _Hits) -> _Hits:
        """Raise the floors to the worst of the best hits, and drop the hits below them."""
        order = np.lexsort((-hits.low, hits.probes))
        counts = np.bincount(hits.probes, minlength=len(self._probes))
        enough = np.flatnonzero(counts >= self._limit)
        floors = np.full(len(self._probes), _NO_FLOOR)
        floors[enough] = hits.low[order[(np.cumsum(counts) - counts)[enough] + self._limit - 1]]
        self._raise_floors(floors)
        return hits.take(hits.high >= self._floors[hits.probes])

    def _pruned(self, hits: _Hits) -> _Hits:
        """Return fewer hits, if need be by their exact cosines: many templates may be nearly equal."""
        hits = self._above_floors(hits)
        return self._best(hits) if len(hits) > self._prune_at else hits

    def _best(self, hits: _Hits) -> _Hits:
        """Return the best by exact cosines, in the order of the answer."""
        if not len(hits):
            return hits
        cosines = np.empty(len(hits))
        order = np.argsort(hits.places)
        for start in range(0, len(order), EXACT_ROWS):
            some = order[start : start + EXACT_ROWS]
            cosines[some] = _cosines(self._templates(hits.places[some]), self._probes[hits.probes[some]])
        hits = self._above_floors(_Hits(hits.places, hits.probes, cosines, cosines))
        if not len(hits):
            return hits
        # Ids as numbers that compare as their bytes do.
        ids = np.frombuffer(b"".join(map(self._id, hits.places.tolist())), dtype=">u8")
        words = ids.astype(np.uint64).reshape(len(hits), -1)
        order = np.lexsort((*words.T[::-1], -hits.low, hits.probes))
        counts = np.bincount(hits.probes, minlength=len(self._probes))
        rank = np.arange(len(hits)) - np.repeat(np.cumsum(counts) - counts, counts)
        return hits.take(order[rank < self._limit])

    def _templates(self, places: Ints) -> npt.NDArray[np.float16]:
        """Return (n, d) templates at ascending places."""
        numbers = places >> 32
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        return np.concatenate(
            [
                self._blocks[numbers[start]].templates[places[start:end] & (2**32 - 1)]
                for start, end in zip(starts, [*starts[1:], len(places)], strict=True)
            ]
        )

    def _id(self, place: int) -> bytes:
        raw: bytes = self._blocks[place >> 32].ids[place & (2**32 - 1)].tobytes()
        return raw


def _concatenated(hits: Sequence[_Hits]) -> _Hits:
    if len(hits) == 1:
        return hits[0]
    none = _Hits(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0))
    columns = [(h.places, h.probes, h.low, h.high) for h in (none, *hits)]
    return _Hits(*map(np.concatenate, zip(*columns, strict=True)))


def _cosines(templates: npt.NDArray[np.floating], probes: Floats) -> npt.NDArray[np.float32]:
    """Return (n,) float32 from (n, d) templates and a unit probe, (d,), or one for each, (n, d)."""
    rows = templates.astype(np.float64)
    lengths = np.sqrt((rows * rows).sum(axis=1))
    cosines: Floats = (rows * probes).sum(axis=1) / np.maximum(lengths, 1e-6)
    return cosines.astype(np.float32)


def id_text(kind: TemplateKind, raw: bytes) -> str:
    """Return an id as a caller writes it, from its bytes in a :class:`~abeyance.gallery.port.Block`."""
    return str(uuid.UUID(bytes=raw)) if kind is TemplateKind.FACE else raw.rstrip(b"\0").decode()
