"""The best by cosine, exactly: a fast pass over everything, and an exact one over what it leaves.

The fast pass multiplies rounded vectors. With x = X + e and p = P + f, rounded and rest,
``x.p - X.P = e.p + X.f``, so for unit vectors it is off by at most ``|e| + (1 + |e|) |f|``. Whatever could be
among the best within that bound is scored again in float64. So results do not depend on the kernel, nor on how
rows lie in blocks, nor on how many threads there are: cosines are exact before they are rounded to float32, and
ties go by id.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from abeyance.gallery.kernels import Probes
from abeyance.gallery.matrix import Matrix, Rows, Stripe
from abeyance.gallery.model import Candidate, Kind
from abeyance.gallery.port import Block
from abeyance.gallery.threads import cores, pool

#: Scores that are worked on at a time, so that they stay in the cache.
SCORES = 2**20
#: Rows of which only the highest score is compared first.
GROUP = 64
#: Rows that are scored exactly at a time.
EXACTLY = 4096

_EPSILON = float(np.finfo(np.float32).eps)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def search(
    matrix: Matrix, kind: Kind, probes: npt.NDArray[np.float32], limit: int, min_cosine: float
) -> list[list[Candidate]]:
    """The ``limit`` best templates for each probe, on all cores that this process may use.

    Parameters
    ----------
    matrix
        Where to look.
    kind
        Of what the ids are.
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
    exact = probes.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    scan = _Scan(matrix, exact, limit, min_cosine)
    # NumPy's products have threads of their own, and several at once get in each other's way.
    helpers = min(cores(), len(matrix.stripes)) - 1 if matrix.kernel.levels else 0
    helping = [pool().submit(scan.run) for _ in range(helpers)]
    found = [scan.run()]
    # Whoever is still busy with another search has left this one to the others.
    found += [helper.result() for helper in helping if not helper.cancel()]
    return scan.answer(_together(found), kind)


def bounds(rows: Rows | Stripe, probes: Probes) -> Floats:
    """(p,) how far the fast pass can be from the cosine, in a block or stripe."""
    # Rounding of float32 arithmetic, generously.
    slack = (rows.fast.shape[1] + 16) * _EPSILON
    found: Floats = rows.error + (1 + rows.error) * probes.errors + slack
    return found


def oracle(
    blocks: Sequence[Block], probes: npt.NDArray[np.float32], limit: int, min_cosine: float
) -> list[list[Candidate]]:
    """The same answer in the most obvious way: every template against every probe. For tests."""
    answers = []
    for probe in probes.astype(np.float64):
        every = [
            Candidate(_name(block.kind, raw.tobytes()), float(cosine))
            for block in blocks
            for raw, cosine in zip(
                block.ids, _cosines(block.templates, probe / np.linalg.norm(probe)), strict=True
            )
        ]
        every.sort(key=lambda candidate: (-candidate.cosine, candidate.face_id))
        answers.append([c for c in every if c.cosine >= min_cosine][:limit])
    return answers


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """Rows that may be among the best, and between what their cosines lie.

    Attributes
    ----------
    places
        (n,) number of the block times 2**32, plus the row.
    probes
        (n,) for which probe.
    low, high
        (n,) bounds on the cosine; its float32 value in both once that is known.
    """

    places: Ints
    probes: Ints
    low: Floats
    high: Floats

    def __len__(self) -> int:
        return len(self.places)

    def of(self, which: npt.NDArray[np.bool_] | Ints) -> _Found:
        return _Found(self.places[which], self.probes[which], self.low[which], self.high[which])


class _Scan:
    """One search. Threads that run it take stripe after stripe, and tell each other what is too low by now."""

    def __init__(self, matrix: Matrix, exact: Floats, limit: int, min_cosine: float) -> None:
        self._blocks = matrix.blocks
        self._stripes = matrix.stripes
        self._kernel = matrix.kernel
        self._exact = exact
        self._packed: Probes = matrix.kernel.packed(exact)
        self._limit = limit
        self._min = min_cosine
        #: Lower than any score.
        self._lowest = np.int32(-(2**31)) if matrix.kernel.levels else np.float32(-np.inf)
        self._lock = threading.Lock()
        #: (p,) what is below it for certain is not among the best.
        self._floors = np.full(len(exact), max(min_cosine, -2.0))
        self._numbers: Iterator[int] = iter(range(len(self._stripes)))
        #: Rows that are found before they are sifted.
        self._many = max(4096, 128 * len(exact), 4 * limit * len(exact))

    def run(self) -> _Found:
        """Search stripes until none is left."""
        found: list[_Found] = []
        count, room = 0, self._many
        # One thread gets each number: the iterator is C code and never lets go of the interpreter.
        for number in self._numbers:
            stripe = self._stripes[number]
            step = max(GROUP, SCORES // len(self._exact) // GROUP * GROUP)
            for start in range(0, len(stripe.fast), step):
                part = self._look(stripe, slice(start, min(start + step, len(stripe.fast))))
                if not len(part):
                    continue
                found.append(part)
                count += len(part)
                if count > room:
                    found = [self._sifted(_together(found))]
                    count = len(found[0])
                    room = max(self._many, 2 * count)
        return _together(found)

    def answer(self, found: _Found, kind: Kind) -> list[list[Candidate]]:
        """What is best of everything that was found."""
        found = self._best(self._above(found))
        found = found.of(found.low >= self._min)
        names = [_name(kind, self._id(place)) for place in found.places.tolist()]
        cosines = found.low.tolist()
        ends = np.searchsorted(found.probes, np.arange(len(self._exact) + 1)).tolist()
        return [[Candidate(names[n], cosines[n]) for n in range(begin, end)] for begin, end in pairwise(ends)]

    def _look(self, stripe: Stripe, part: slice) -> _Found:
        """Rows of a part of a stripe that may be among the best."""
        scores = self._kernel.dots(stripe.fast[part], self._packed)
        if len(stripe.dead):
            first, last = np.searchsorted(stripe.dead, (part.start, part.stop))
            scores[stripe.dead[first:last] - part.start] = self._lowest
        worth = stripe.scale * self._packed.scales
        off = bounds(stripe, self._packed)
        many = len(self._exact)
        rest = len(scores) % GROUP
        # Side by side, the columns of which only the highest is compared first.
        grouped = scores[: len(scores) - rest].reshape(GROUP, -1)
        highest = grouped.max(axis=0)
        floors = self._as_scores(off, worth)
        hits = np.flatnonzero(highest.reshape(-1, many) >= floors)
        if len(hits) > 4 * self._limit * many and len(highest) >= self._limit * many:
            # So many rows are at least that good.
            good = np.partition(highest.reshape(-1, many), -self._limit, axis=0)[-self._limit]
            self._raise(good * worth - off)
            floors = self._as_scores(off, worth)
            hits = np.flatnonzero(highest.reshape(-1, many) >= floors)
        columns = grouped.take(hits, axis=1)
        within, hit = np.divmod(np.flatnonzero(columns >= floors[hits % many]), max(len(hits), 1))
        places, found = within * len(highest) + hits[hit], columns[within, hit]
        if rest:
            end = scores[len(scores) - rest :]
            last_hits = np.flatnonzero(end >= floors)
            places = np.concatenate([places, last_hits + grouped.size])
            found = np.concatenate([found, end.ravel()[last_hits]])
        at, probe = np.divmod(places, many)
        if len(stripe.dead):
            alive = found > self._lowest
            at, probe, found = at[alive], probe[alive], found[alive]
        cosines, off = found * worth[probe], off[probe]
        at += part.start
        block = np.searchsorted(stripe.starts, at, side="right") - 1
        places = ((block + stripe.first) << 32) + at - stripe.starts[block]
        return _Found(places, probe, cosines - off, cosines + off)

    def _as_scores(self, off: Floats, worth: Floats) -> npt.NDArray[np.generic]:
        """The floors in the kernel's own numbers, so that most rows are done after one comparison."""
        floors = (self._floors - off) / worth
        if self._kernel.levels:
            floors = np.minimum(np.maximum(np.floor(floors), -(2**31)), 2**31 - 1)
        return floors.astype(self._lowest.dtype)

    def _raise(self, floors: Floats) -> None:
        with self._lock:
            self._floors = np.maximum(self._floors, floors)

    def _above(self, found: _Found) -> _Found:
        """Without the rows that so many others are better than."""
        order = np.lexsort((-found.low, found.probes))
        counts = np.bincount(found.probes, minlength=len(self._exact))
        enough = np.flatnonzero(counts >= self._limit)
        floors = np.full(len(self._exact), -2.0)
        floors[enough] = found.low[order[(np.cumsum(counts) - counts)[enough] + self._limit - 1]]
        self._raise(floors)
        return found.of(found.high >= self._floors[found.probes])

    def _sifted(self, found: _Found) -> _Found:
        """Fewer, if need be by their exact cosines: many templates may be as good as equal."""
        found = self._above(found)
        return self._best(found) if len(found) > self._many else found

    def _best(self, found: _Found) -> _Found:
        """The best by exact cosines, in the order of the answer."""
        if not len(found):
            return found
        exact = np.empty(len(found))
        order = np.argsort(found.places)
        for start in range(0, len(order), EXACTLY):
            some = order[start : start + EXACTLY]
            templates = self._templates(found.places[some])
            exact[some] = _cosines(templates, self._exact[found.probes[some]])
        found = self._above(_Found(found.places, found.probes, exact, exact))
        if not len(found):
            return found
        ids = np.array([self._words(place) for place in found.places.tolist()], dtype=np.uint64)
        order = np.lexsort((*ids.reshape(len(found), -1).T[::-1], -found.low, found.probes))
        counts = np.bincount(found.probes, minlength=len(self._exact))
        rank = np.arange(len(found)) - np.repeat(np.cumsum(counts) - counts, counts)
        return found.of(order[rank < self._limit])

    def _templates(self, places: Ints) -> npt.NDArray[np.float16]:
        """(n, d) templates at ascending places."""
        numbers = places >> 32
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        return np.concatenate(
            [
                self._blocks[numbers[start]].templates[places[start:end] & (2**32 - 1)]
                for start, end in zip(starts, [*starts[1:], len(places)], strict=True)
            ]
        )

    def _id(self, place: int) -> bytes:
        ids: npt.NDArray[np.uint8] = self._blocks[place >> 32].ids
        raw: bytes = ids[place & (2**32 - 1)].tobytes()
        return raw

    def _words(self, place: int) -> npt.NDArray[np.uint64]:
        """An id in numbers that compare as its bytes do."""
        return np.frombuffer(self._id(place), dtype=">u8")


def _together(found: Sequence[_Found]) -> _Found:
    if len(found) == 1:
        return found[0]
    empty = np.empty(0, dtype=np.int64), np.empty(0)
    return _Found(
        np.concatenate([empty[0], *(f.places for f in found)]),
        np.concatenate([empty[0], *(f.probes for f in found)]),
        np.concatenate([empty[1], *(f.low for f in found)]),
        np.concatenate([empty[1], *(f.high for f in found)]),
    )


def _cosines(templates: npt.NDArray[np.floating], probes: Floats) -> npt.NDArray[np.float32]:
    """(n,) float32 from (n, d) templates and a unit probe, (d,), or one for each, (n, d)."""
    rows = templates.astype(np.float64)
    lengths = np.sqrt((rows * rows).sum(axis=1))
    cosines: Floats = (rows * probes).sum(axis=1) / np.maximum(lengths, 1e-6)
    return cosines.astype(np.float32)


def _name(kind: Kind, raw: bytes) -> str:
    return str(uuid.UUID(bytes=raw)) if kind is Kind.FACE else raw.rstrip(b"\0").decode()
