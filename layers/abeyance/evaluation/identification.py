"""Identification (1:N search): rank 1, and FNIR at FPIR, for probes searched in a gallery."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from abeyance.evaluation.arrays import BoolArray, Float32Array, FloatArray, IntArray
from abeyance.evaluation.datasets import codes_of
from abeyance.evaluation.errors import DataInvalid
from abeyance.evaluation.intervals import Rate, bootstrap, clustered_rate
from abeyance.evaluation.verification import widened

FPIRS = (1e-1, 1e-2, 1e-3)
RANKS = (1, 5, 10, 20)
_BLOCK_SCORES = 1 << 21


class RankRate(msgspec.Struct, frozen=True, kw_only=True):
    """Share of mated probes whose mate is among the first ``rank`` people, without a threshold."""

    rank: int
    rate: Rate


class OpenSetPoint(msgspec.Struct, frozen=True, kw_only=True):
    """FNIR at one FPIR: mates missed at the threshold that a share ``fpir`` of non-mated probes reaches."""

    fpir: float
    threshold: float
    fnir: Rate
    #: Non-mated probes at or above the threshold.
    false_positives: int


class FixedThreshold(msgspec.Struct, frozen=True, kw_only=True):
    """FNIR and FPIR at a fixed threshold."""

    threshold: float
    fnir: Rate
    fpir: Rate


class FpirBySize(msgspec.Struct, frozen=True, kw_only=True):
    """Share of non-mated probes with a candidate at a threshold, by the size of the gallery."""

    threshold: float
    sizes: tuple[int, ...]
    measured: tuple[Rate, ...]
    #: 1 - (1 - FMR)^size, from the FMR of these probes and this gallery.
    modelled: tuple[float, ...]


class Identification(msgspec.Struct, frozen=True, kw_only=True):
    """Results of a search of all probes in one gallery."""

    gallery_photos: int
    gallery_people: int
    mated_probes: int
    non_mated_probes: int
    ranks: tuple[RankRate, ...]
    open_set: tuple[OpenSetPoint, ...]
    fixed: tuple[FixedThreshold, ...]
    by_size: tuple[FpirBySize, ...]
    #: FPIRs that take more non-mated probes.
    unmeasurable: tuple[float, ...]


def identify(
    gallery: Float32Array,
    gallery_people: Sequence[str],
    probes: Float32Array,
    probe_people: Sequence[str],
    probe_found: BoolArray,
    *,
    thresholds: Sequence[float] = (),
    fpirs: Sequence[float] = FPIRS,
) -> Identification:
    """Search every probe.

    Parameters
    ----------
    gallery, probes
        (n, d) and (m, d) float32, unit length.
    gallery_people, probe_people
        Person of each photo. A probe is mated if its person is in the gallery.
    probe_found
        (m,) bool: a face was found. A probe without a face finds nobody, which is a miss if it is mated.
    thresholds
        Cosines at which to measure FNIR and FPIR.

    Raises
    ------
    DataInvalid
        If there are no probes, or the gallery is empty.

    Notes
    -----
    A mate counts as found if its score is at or above the threshold and no other person has a higher score (FNIR at
    rank 1, as in NIST's FRTE 1:N).
    """
    if not len(gallery) or not len(probes):
        raise DataInvalid("identification needs at least one photo in the gallery and one probe")
    names = {person: number for number, person in enumerate(dict.fromkeys(gallery_people))}
    owners = np.array([names[person] for person in gallery_people])
    wanted = np.array([names.get(person, -1) for person in probe_people])
    own, best, rank = _search(gallery, owners, probes, wanted, len(names))
    own[~probe_found], best[~probe_found], rank[~probe_found] = -np.inf, -np.inf, len(names) + 1
    people = codes_of(probe_people)
    mated = wanted >= 0
    others = ~mated
    # The score at which the mate would be reported first; -inf if another person ranks higher.
    hit = np.where(rank == 1, own, -np.inf)

    def fnir_at(fpir: float, drawn: Float32Array) -> float:
        weights = drawn[people].astype(np.float64)
        if not (weights[mated].any() and weights[others].any()):
            return np.nan
        threshold = _threshold(best[others], weights[others], fpir)
        return float(weights[mated][hit[mated] < threshold].sum() / weights[mated].sum())

    open_set, unmeasurable = [], []
    for fpir in fpirs:
        if others.sum() * fpir < 1 or not mated.any():
            unmeasurable.append(fpir)
            continue
        threshold = _threshold(best[others], np.ones(int(others.sum())), fpir)
        fnir = clustered_rate(hit[mated] < threshold, people[mated])
        low, high = bootstrap(partial(fnir_at, fpir), int(people.max()) + 1)
        open_set.append(
            OpenSetPoint(
                fpir=fpir,
                threshold=threshold,
                fnir=widened(fnir, *((0.0, 1.0) if np.isnan(low) else (float(low), float(high)))),
                false_positives=int((best[others] >= threshold).sum()),
            )
        )
    return Identification(
        gallery_photos=len(gallery),
        gallery_people=len(names),
        mated_probes=int(mated.sum()),
        non_mated_probes=int(others.sum()),
        ranks=tuple(
            RankRate(rank=r, rate=clustered_rate(rank[mated] <= r, people[mated]))
            for r in RANKS
            if r <= len(names) and mated.any()
        ),
        open_set=tuple(open_set),
        fixed=tuple(
            FixedThreshold(
                threshold=t,
                fnir=clustered_rate(hit[mated] < t, people[mated]),
                fpir=clustered_rate(best[others] >= t, people[others]),
            )
            for t in thresholds
        ),
        by_size=tuple(
            _by_size(gallery, probes[others & probe_found], people[others & probe_found], t)
            for t in thresholds
        )
        if (others & probe_found).any()
        else (),
        unmeasurable=tuple(unmeasurable),
    )


def _by_size(gallery: Float32Array, probes: Float32Array, people: IntArray, threshold: float) -> FpirBySize:
    """Measure FPIR on parts of the gallery, each within the next, people in an order drawn once."""
    count = len(gallery)
    shuffled = gallery[np.random.default_rng(0).permutation(count)]
    first: IntArray = np.full(len(probes), count, np.int64)
    matches = 0
    size = max(1, _BLOCK_SCORES // count)
    for start in range(0, len(probes), size):
        hits = probes[start : start + size] @ shuffled.T >= np.float32(threshold)
        matches += int(np.count_nonzero(hits))
        found = hits.any(axis=1)
        first[start : start + size][found] = hits[found].argmax(axis=1)
    fmr = matches / (count * len(probes))
    sizes = sorted({max(1, round(count / 2**step)) for step in range(8)})
    return FpirBySize(
        threshold=threshold,
        sizes=tuple(sizes),
        measured=tuple(clustered_rate(first < size, people) for size in sizes),
        modelled=tuple(1 - (1 - fmr) ** size for size in sizes),
    )


def _search(
    gallery: Float32Array, owners: IntArray, probes: Float32Array, wanted: IntArray, people: int
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Return the best score of each probe's mate (-inf without one), the best of anybody, and the rank of the mate."""
    order = np.argsort(owners, kind="stable")
    starts = np.searchsorted(owners[order], np.arange(people))
    sorted_gallery = np.ascontiguousarray(gallery[order])
    own = np.full(len(probes), -np.inf)
    best = np.empty(len(probes))
    rank = np.full(len(probes), people + 1, np.int64)
    size = max(1, _BLOCK_SCORES // len(gallery))
    for start in range(0, len(probes), size):
        part = slice(start, min(start + size, len(probes)))
        # The score of a person is that of the nearest photo.
        scores = np.maximum.reduceat(probes[part] @ sorted_gallery.T, starts, axis=1)
        best[part] = scores.max(axis=1)
        rows = np.flatnonzero(wanted[part] >= 0)
        mine = scores[rows, wanted[part][rows]]
        own[start + rows] = mine
        # A tie counts against the mate.
        rank[start + rows] = (scores[rows] >= mine[:, None]).sum(axis=1)
    return own, best, rank


def _threshold(scores: FloatArray, weights: NDArray[np.floating], fpir: float) -> float:
    """Return the lowest threshold that at most a share ``fpir`` of the weighted non-mated probes reaches."""
    order = np.argsort(-scores)
    above = np.cumsum(weights[order])
    allowed = int(np.searchsorted(above, fpir * above[-1] * (1 + 1e-9), side="right"))
    return float(np.nextafter(scores[order][min(allowed, len(scores) - 1)], np.inf))
