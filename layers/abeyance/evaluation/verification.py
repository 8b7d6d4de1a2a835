"""Are these two photos of one person? ROC, DET, FNMR at an FMR, and accuracy over published pairs.

Two photos match if their cosine is at or above the threshold. A photo in which no face was found matches
nothing: its mated pairs are false non-matches, as in NIST's FRTE.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from abeyance.evaluation.errors import TooFew
from abeyance.evaluation.intervals import Rate, clustered_rate, draw
from abeyance.evaluation.pairs import Scan, edge, rate_curve, threshold_at

#: False-match rates that are reported, where there are pairs enough.
RATES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
#: A threshold that rests on fewer false matches than this is marked as uncertain.
FEW = 10


class Operating(msgspec.Struct, frozen=True, kw_only=True):
    """FNMR at one FMR."""

    fmr: float
    #: Cosine, and its interval.
    threshold: float
    threshold_low: float
    threshold_high: float
    fnmr: Rate
    #: False matches that the threshold rests on; few of them make an uncertain one.
    false_matches: int
    uncertain: bool


class Unmeasurable(msgspec.Struct, frozen=True, kw_only=True):
    """An FMR that the data is too small for."""

    fmr: float
    pairs: int
    pairs_needed: int


class Accuracy(msgspec.Struct, frozen=True, kw_only=True):
    """Share of pairs that are told right, each fold at the threshold that is best on the other folds."""

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


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """DET: (threshold, FMR, FNMR), FMR falling."""

    threshold: tuple[float, ...]
    fmr: tuple[float, ...]
    fnmr: tuple[float, ...]


def fold_accuracy(
    scores: NDArray[np.float64],
    same: NDArray[np.bool_],
    folds: NDArray[np.int64],
    clusters: NDArray[np.int64],
) -> Accuracy:
    """Accuracy over folds (Huang et al. 2007, the protocol of LFW's View 2).

    Parameters
    ----------
    scores
        (n,) cosines; -inf where a face was not found.
    same
        (n,) bool.
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
    return Accuracy(
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


def best_threshold(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    """The threshold with the most pairs told right; the middle one where several do as well."""
    finite = np.sort(np.unique(scores[np.isfinite(scores)]))
    if not len(finite):
        return 0.0
    # Between two neighbouring scores, every threshold tells alike.
    between = np.concatenate([[finite[0] - 1e-3], (finite[1:] + finite[:-1]) / 2, [finite[-1] + 1e-3]])
    mated, others = np.sort(scores[same]), np.sort(scores[~same])
    right = len(mated) - np.searchsorted(mated, between) + np.searchsorted(others, between)
    best = np.flatnonzero(right == right.max())
    return float(between[best].mean())


def split_folds(folds: Sequence[str], same: NDArray[np.bool_], wanted: int = 10) -> NDArray[np.int64]:
    """Folds to test on: those of the protocol if it has ``wanted`` of them, else each of its own cut into
    stretches of neighbours, so that the pairs of one person stay together.

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


def det(mated: NDArray[np.float64], histogram: NDArray[np.int64], points: int = 400) -> Curve:
    """The DET curve, thinned to about ``points`` points evenly spaced along log FMR and FNMR."""
    fmr = rate_curve(histogram)
    thresholds = np.asarray(edge(np.arange(len(fmr))))
    fnmr = np.searchsorted(np.sort(mated), thresholds) / max(1, len(mated))
    # One point per step that can be seen on the plot.
    key = np.round(np.log10(np.maximum(fmr, 1e-12)) * points / 16).astype(np.int64) * 10_000 + np.round(
        fnmr * points
    ).astype(np.int64)
    kept = np.flatnonzero(np.diff(key, prepend=key[0] - 1))
    kept = kept[fmr[kept] > 0]
    return Curve(
        threshold=tuple(thresholds[kept].tolist()),
        fmr=tuple(fmr[kept].tolist()),
        fnmr=tuple(fnmr[kept].tolist()),
    )


def equal_error_rate(mated: NDArray[np.float64], histogram: NDArray[np.int64]) -> float:
    """Where FMR and FNMR are equal: the mean of the two at the threshold where they are nearest."""
    fmr = rate_curve(histogram)
    fnmr = np.searchsorted(np.sort(mated), np.asarray(edge(np.arange(len(fmr))))) / max(1, len(mated))
    nearest = int(np.argmin(np.abs(fmr - fnmr)))
    return float((fmr[nearest] + fnmr[nearest]) / 2)


def operating_points(
    mated: NDArray[np.float64],
    mated_people: NDArray[np.int64],
    scan: Scan,
    photos_a: NDArray[np.int64],
    photos_b: NDArray[np.int64] | None = None,
    *,
    rates: Sequence[float] = RATES,
    repeats: int = 300,
    seed: int = 1,
) -> tuple[list[Operating], list[Unmeasurable]]:
    """FNMR at each FMR, with intervals over people.

    Parameters
    ----------
    mated
        (m,) cosines of mated pairs, -inf where a face was not found.
    mated_people
        (m,) person number of each mated pair, in the numbering of ``photos_a``.
    scan
        All non-mated pairs; those from the largest rate on kept one by one.
    photos_a, photos_b
        (n,) person number of each row of the scan's first set, and of its second if there was one; the second
        set's people are others and have numbers of their own, from 0.
    """
    measured: list[Operating] = []
    missing: list[Unmeasurable] = []
    levels: list[tuple[float, float]] = []
    for rate in sorted(rates, reverse=True):
        try:
            levels.append((rate, threshold_at(scan.histogram, rate)))
        except TooFew as error:
            missing.append(Unmeasurable(fmr=rate, pairs=error.have, pairs_needed=error.need))
    if not levels or not len(mated):
        return measured, missing
    draws = _draws(mated, mated_people, scan, photos_a, photos_b, [rate for rate, _ in levels], repeats, seed)
    for (rate, threshold), (thresholds, fnmrs) in zip(levels, draws, strict=True):
        plain = clustered_rate(mated < threshold, mated_people)
        low, high = np.quantile(fnmrs, [0.025, 0.975])
        count = int((scan.scores >= np.float32(threshold)).sum())
        # The bootstrap knows what the threshold's own uncertainty adds; Wilson knows that no error among few
        # pairs does not mean none. The wider limit counts on each side.
        fnmr = msgspec.structs.replace(
            plain, low=min(plain.low, float(low)), high=max(plain.high, float(high))
        )
        around = np.quantile(thresholds, [0.025, 0.975])
        measured.append(
            Operating(
                fmr=rate,
                threshold=threshold,
                threshold_low=float(around[0]),
                threshold_high=float(around[1]),
                fnmr=fnmr,
                false_matches=count,
                uncertain=count < FEW,
            )
        )
    return measured, missing


def _draws(
    mated: NDArray[np.float64],
    mated_people: NDArray[np.int64],
    scan: Scan,
    photos_a: NDArray[np.int64],
    photos_b: NDArray[np.int64] | None,
    rates: Sequence[float],
    repeats: int,
    seed: int,
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Threshold and FNMR at each rate, for people drawn again: (repeats,) each."""
    generator = np.random.default_rng(seed)
    people_a = int(max(photos_a.max(), mated_people.max())) + 1
    people_b = int(photos_b.max()) + 1 if photos_b is not None else 0
    size_a = np.bincount(photos_a, minlength=people_a)
    # Half as many again as the highest rate needs: a draw may ask for more than the data has above it.
    reach = min(len(scan.scores), int(scan.total * max(rates) * 1.5) + 100)
    left = photos_a[scan.left[:reach]]
    right = (photos_a if photos_b is None else photos_b)[scan.right[:reach]]
    order = np.argsort(mated)
    results = [(np.empty(repeats), np.empty(repeats)) for _ in rates]
    for number in range(repeats):
        weights = draw(generator, people_a)
        if photos_b is None:
            other = weights
            whole = float((weights * size_a).sum())
            total = (whole**2 - float(((weights * size_a) ** 2).sum())) / 2
        else:
            other = draw(generator, people_b)
            total = float((weights * size_a).sum()) * float(other[photos_b].sum())
        above = np.cumsum(weights[left] * other[right], dtype=np.float64)
        share = weights[mated_people][order]
        below = np.concatenate([[0.0], np.cumsum(share, dtype=np.float64)])
        for rate, (thresholds, fnmrs) in zip(rates, results, strict=True):
            allowed = int(np.searchsorted(above, rate * total * (1 + 1e-9), side="right"))
            threshold = scan.scores[min(allowed, reach - 1)] if reach else np.float32(1)
            thresholds[number] = threshold
            fnmrs[number] = below[np.searchsorted(mated[order], threshold)] / max(below[-1], 1e-9)
    return results
