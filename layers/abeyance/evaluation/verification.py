"""Verification (1:1 comparison): DET, FNMR at an FMR, and accuracy over published pairs.

Two photos match if their cosine is at or above the threshold. A photo in which no face was found matches nothing: its
mated pairs are false non-matches, as in NIST's FRTE.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from abeyance.evaluation.arrays import BoolArray, Float32Array, FloatArray, IntArray
from abeyance.evaluation.errors import TooFew
from abeyance.evaluation.intervals import Rate, bootstrap, clustered_rate
from abeyance.evaluation.pairs import PairScan, edge, rate_curve, threshold_at

#: False-match rates to report, where there are enough pairs.
FMRS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
#: A threshold with fewer false matches is marked as uncertain.
MIN_FALSE_MATCHES = 10


class OperatingPoint(msgspec.Struct, frozen=True, kw_only=True):
    """FNMR at one FMR."""

    fmr: float
    #: Cosine, and its interval.
    threshold: float
    threshold_low: float
    threshold_high: float
    fnmr: Rate
    #: False matches at the threshold; few of them make it uncertain.
    false_matches: int
    uncertain: bool


class UnmeasurableFmr(msgspec.Struct, frozen=True, kw_only=True):
    """An FMR that takes more pairs than the data has."""

    fmr: float
    pairs: int
    pairs_needed: int


class FoldAccuracy(msgspec.Struct, frozen=True, kw_only=True):
    """Share of pairs classified correctly, each fold at the threshold that is best on the other folds."""

    mean: float
    #: Between folds, and of the mean (standard deviation / sqrt(folds)), as LFW's protocol reports it.
    standard_deviation: float
    standard_error: float
    low: float
    high: float
    folds: tuple[float, ...]
    thresholds: tuple[float, ...]
    pairs: int
    failures: int


class DetCurve(msgspec.Struct, frozen=True, kw_only=True):
    """Detection error trade-off: (threshold, FMR, FNMR), FMR falling."""

    threshold: tuple[float, ...]
    fmr: tuple[float, ...]
    fnmr: tuple[float, ...]


def fold_accuracy(scores: FloatArray, same: BoolArray, folds: IntArray, clusters: IntArray) -> FoldAccuracy:
    """Return the accuracy over folds (Huang et al. 2007, the protocol of LFW's View 2).

    Parameters
    ----------
    scores
        (n,) cosines; -inf where a face was not found.
    same
        (n,) bool: mated pairs.
    folds
        (n,) int from 0; at least two different ones.
    clusters
        (n,) int: pairs with the same number share a person.
    """
    right = np.zeros(len(scores), bool)
    accuracies, thresholds = [], []
    for fold in np.unique(folds):
        test = folds == fold
        threshold = best_threshold(scores[~test], same[~test])
        right[test] = (scores[test] >= threshold) == same[test]
        accuracies.append(float(right[test].mean()))
        thresholds.append(threshold)
    rate = clustered_rate(right, clusters)
    deviation = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else 0.0
    return FoldAccuracy(
        mean=float(np.mean(accuracies)),
        standard_deviation=deviation,
        standard_error=deviation / np.sqrt(len(accuracies)),
        low=rate.low,
        high=rate.high,
        folds=tuple(accuracies),
        thresholds=tuple(thresholds),
        pairs=len(scores),
        failures=int(np.isneginf(scores).sum()),
    )


def best_threshold(scores: FloatArray, same: BoolArray) -> float:
    """Return the threshold that classifies most pairs correctly; the middle one of several."""
    finite = np.sort(np.unique(scores[np.isfinite(scores)]))
    if not len(finite):
        return 0.0
    # All thresholds between two neighbouring scores classify alike.
    between = np.concatenate([[finite[0] - 1e-3], (finite[1:] + finite[:-1]) / 2, [finite[-1] + 1e-3]])
    mated, others = np.sort(scores[same]), np.sort(scores[~same])
    right = len(mated) - np.searchsorted(mated, between) + np.searchsorted(others, between)
    best = np.flatnonzero(right == right.max())
    return float(between[best].mean())


def split_folds(folds: Sequence[str], same: BoolArray, wanted: int = 10) -> IntArray:
    """Return the fold of each pair: those of the protocol if it has ``wanted`` of them.

    Otherwise each published fold is cut into stretches of neighbours, so that the pairs of one person stay together.

    Returns
    -------
    NDArray
        (n,) int, 0 to ``wanted`` - 1, each with its share of mated and non-mated pairs.
    """
    names = list(dict.fromkeys(folds))
    own = np.array([names.index(fold) for fold in folds])
    if len(names) >= wanted or (len(names) > 1 and wanted % len(names)):
        return own
    parts = wanted // len(names)
    result = np.zeros(len(own), np.int64)
    for fold in range(len(names)):
        for kind in (False, True):
            members = np.flatnonzero((own == fold) & (same == kind))
            result[members] = fold * parts + np.arange(len(members)) * parts // max(1, len(members))
    return result


def det(mated: FloatArray, histogram: IntArray, points: int = 400) -> DetCurve:
    """Return the DET curve, thinned to about ``points`` points evenly spaced along log FMR and FNMR.

    Parameters
    ----------
    mated
        (m,) cosines of mated pairs.
    histogram
        (BINS,) int64 of non-mated pairs; see :mod:`abeyance.evaluation.pairs`.
    """
    thresholds, fmr, fnmr = _error_rates(mated, histogram)
    # One point for each step that is visible on the plot.
    key = np.round(np.log10(np.maximum(fmr, 1e-12)) * points / 16).astype(np.int64) * 10_000 + np.round(
        fnmr * points
    ).astype(np.int64)
    kept = np.flatnonzero(np.diff(key, prepend=key[0] - 1))
    kept = kept[fmr[kept] > 0]
    return DetCurve(
        threshold=tuple(thresholds[kept].tolist()),
        fmr=tuple(fmr[kept].tolist()),
        fnmr=tuple(fnmr[kept].tolist()),
    )


def equal_error_rate(mated: FloatArray, histogram: IntArray) -> float:
    """Return the equal error rate: the mean of FMR and FNMR at the threshold where they are nearest.

    Parameters as for :func:`det`.
    """
    _, fmr, fnmr = _error_rates(mated, histogram)
    nearest = int(np.argmin(np.abs(fmr - fnmr)))
    return float((fmr[nearest] + fnmr[nearest]) / 2)


def _error_rates(mated: FloatArray, histogram: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return threshold, FMR and FNMR at the edge of each bin: (BINS + 1,) float64 each."""
    fmr = rate_curve(histogram)
    thresholds = np.asarray(edge(np.arange(len(fmr))))
    return thresholds, fmr, np.searchsorted(np.sort(mated), thresholds) / max(1, len(mated))


def operating_points(
    mated: FloatArray,
    mated_people: IntArray,
    found: PairScan,
    people_a: IntArray,
    people_b: IntArray | None = None,
    *,
    fmrs: Sequence[float] = FMRS,
    repeats: int = 300,
) -> tuple[list[OperatingPoint], list[UnmeasurableFmr]]:
    """Return FNMR at each FMR, with intervals over people.

    Parameters
    ----------
    mated
        (m,) cosines of mated pairs, -inf where a face was not found.
    mated_people
        (m,) person number of each mated pair, in the numbering of ``people_a``.
    found
        All non-mated pairs; those from the largest FMR on kept one by one.
    people_a, people_b
        (n,) person number of each row of the first set of the scan, and of the second if there is one. The people of
        the second set are others, with numbers of their own from 0.
    """
    measured, missing = measurable_fmrs(found.histogram, fmrs)
    if not measured or not len(mated):
        return [], missing
    count_a = int(max(people_a.max(), mated_people.max())) + 1
    counts = (count_a,) if people_b is None else (count_a, int(people_b.max()) + 1)
    photos_a = np.bincount(people_a, minlength=count_a)
    # Half as many again as the highest FMR needs: a draw may ask for more than the data has above it.
    reach = min(len(found.scores), int(found.total * max(fmrs) * 1.5) + 100)
    left = people_a[found.left[:reach]]
    right = (people_a if people_b is None else people_b)[found.right[:reach]]
    order = np.argsort(mated)
    sorted_mated = mated[order]

    def resampled(weights: Float32Array, others: Float32Array | None = None) -> ArrayLike:
        """Return threshold and FNMR at each FMR."""
        photos = weights * photos_a
        if others is None or people_b is None:
            others = weights
            total = (float(photos.sum()) ** 2 - float((photos**2).sum())) / 2
        else:
            total = float(photos.sum()) * float(others[people_b].sum())
        above = np.cumsum(weights[left] * others[right], dtype=np.float64)
        below = np.concatenate([[0.0], np.cumsum(weights[mated_people][order], dtype=np.float64)])
        results = []
        for fmr, _ in measured:
            allowed = int(np.searchsorted(above, fmr * total * (1 + 1e-9), side="right"))
            threshold = float(found.scores[min(allowed, reach - 1)]) if reach else 1.0
            results.append(
                (threshold, below[np.searchsorted(sorted_mated, threshold)] / max(below[-1], 1e-9))
            )
        return results

    points = []
    limits = bootstrap(resampled, *counts, repeats=repeats)
    for (fmr, threshold), low, high in zip(measured, *(limit.tolist() for limit in limits), strict=True):
        false_matches = len(found.matches(threshold)[0])
        points.append(
            OperatingPoint(
                fmr=fmr,
                threshold=threshold,
                threshold_low=low[0],
                threshold_high=high[0],
                fnmr=widened(clustered_rate(mated < threshold, mated_people), low[1], high[1]),
                false_matches=false_matches,
                uncertain=false_matches < MIN_FALSE_MATCHES,
            )
        )
    return points, missing


def measurable_fmrs(
    histogram: IntArray, fmrs: Sequence[float]
) -> tuple[list[tuple[float, float]], list[UnmeasurableFmr]]:
    """Return (FMR, threshold) of each FMR that the non-mated pairs suffice for, and the others."""
    measured, missing = [], []
    for fmr in sorted(fmrs, reverse=True):
        try:
            measured.append((fmr, threshold_at(histogram, fmr)))
        except TooFew as error:
            missing.append(UnmeasurableFmr(fmr=fmr, pairs=error.have, pairs_needed=error.need))
    return measured, missing


def widened(rate: Rate, low: float, high: float) -> Rate:
    """Return the rate with the wider of two limits on each side.

    The bootstrap includes the uncertainty of the threshold; Wilson's interval does not shrink to nothing where there
    is no error among few pairs.
    """
    return msgspec.structs.replace(rate, low=min(rate.low, low), high=max(rate.high, high))
