"""Calibration of the similarity scale (0 to 100) on the scores of non-mated pairs.

The scale is set by false-match rates of the worst group: people of one race and gender, because these are matched
falsely with each other. A group that is too small sets nothing, and is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from abeyance.evaluation.arrays import Float32Array, Int32Array, IntArray
from abeyance.evaluation.demographics import overall_rate, within_rates
from abeyance.evaluation.errors import DataInvalid, TooFew
from abeyance.evaluation.intervals import Rate, bootstrap
from abeyance.evaluation.pairs import PairScan, scan, threshold_at
from abeyance.evaluation.report import fill_template
from abeyance.evaluation.templates import MatedPairs

#: Similarity: highest FMR in the worst group. See docs/adr/0007-similarity-anchors.md.
ANCHORS: Mapping[float, float] = {50.0: 1e-1, 65.0: 1e-2, 80.0: 1e-3, 99.0: 1e-4}
#: A threshold is taken from a group only if at least this many false matches are expected there.
_MIN_EXPECTED_MATCHES = 5
#: Lowest cosine from which pairs are kept one by one; enough for a rate of 1e-2 in any group.
_KEPT_FROM = 0.25


class GroupFmr(msgspec.Struct, frozen=True, kw_only=True):
    """A group's FMR at one anchor, and the cosine at which this group alone would have the anchor's rate."""

    group: str
    fmr: Rate
    own_threshold: float | None


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """One point of the scale."""

    similarity: float
    fmr: float
    threshold: float
    #: Interval of the worst group's threshold, over people.
    threshold_low: float
    threshold_high: float
    worst: str
    #: FMR of all pairs, of all pairs within groups, and of each group, at the threshold.
    overall: Rate
    within: Rate
    groups: tuple[GroupFmr, ...]
    #: Groups below the minimum sample size.
    excluded_groups: tuple[str, ...]


class FnmrAtAnchors(msgspec.Struct, frozen=True, kw_only=True):
    """FNMR of the mated pairs of one source at each anchor."""

    source: str
    pairs: int
    people: int
    dropped_as_same_shot: int
    fnmr: dict[str, Rate]


class Deduplication(msgspec.Struct, frozen=True, kw_only=True):
    """Photos left out because they probably repeat a person, and the scale that results."""

    #: Cosine from which two photos count as one person; None if nothing was left out.
    level: float | None
    photos_left_out: int
    people_with_several: int
    #: Cosine of each anchor; None where every group is too small.
    thresholds: dict[str, float | None]


class CalibrationResult(msgspec.Struct, frozen=True, kw_only=True):
    """A measured scale, and the data that it comes from."""

    model: str
    knots: tuple[tuple[float, float], ...]
    anchors: tuple[Anchor, ...]
    people: int
    pairs: int
    pairs_within_groups: int
    cleaning: Deduplication
    sensitivity: tuple[Deduplication, ...]
    costs: tuple[FnmrAtAnchors, ...]


def block(found: CalibrationResult, source: str, grouping: str) -> dict[str, Any]:
    """Return the ``calibration`` of a model in the manifest: knots, and their provenance in words."""
    provenance = fill_template("provenance", found=found, source=source, grouping=grouping)
    return {"knots": [list(knot) for knot in found.knots], "provenance": " ".join(provenance.split())}


def components(count: int, left: Int32Array, right: Int32Array) -> IntArray:
    """Return the lowest row of each row's connected component: (count,) int64.

    Parameters
    ----------
    left, right
        Rows of each link.
    """
    from scipy.sparse import coo_array  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    links = coo_array((np.ones(len(left), bool), (left, right)), shape=(count, count))
    _, component = connected_components(links, directed=False)
    lowest = np.unique(component, return_index=True)[1]
    return np.asarray(lowest[component], np.int64)


def unique_people(
    vectors: Float32Array, level: float | None, found: PairScan | None = None
) -> tuple[IntArray, int]:
    """Return one photo of each person of a set that is meant to show nobody twice.

    Photos with a cosine of ``level`` or more count as one person, also through others; the first of each person stays.
    Leaving out people, not pairs, leaves out the low scores of the same person as well.

    Parameters
    ----------
    level
        Cosine; None keeps all photos.
    found
        A scan of the vectors that reaches down to ``level``, if there is one.

    Returns
    -------
    rows : NDArray
        Rows that stay, in order.
    several : int
        People with more than one photo.
    """
    if level is None:
        return np.arange(len(vectors)), 0
    if found is None or found.level > level:
        found = scan(vectors, level=level)
    lowest, sizes = np.unique(components(len(vectors), *found.matches(level)), return_counts=True)
    return lowest, int((sizes > 1).sum())


def calibrate(
    vectors: Float32Array,
    labels: Sequence[str],
    *,
    model: str,
    anchors: Mapping[float, float] = ANCHORS,
    same_person: float | None = None,
    alternatives: Sequence[float | None] = (),
    mated: Sequence[tuple[str, MatedPairs]] = (),
    repeats: int = 300,
) -> CalibrationResult:
    """Measure the scale.

    Parameters
    ----------
    vectors
        (n, d) float32, unit length: strangers, one photo each as far as is known.
    labels
        Group of each.
    anchors
        Similarity: FMR. Higher similarities have lower rates.
    same_person
        See :func:`unique_people`.
    alternatives
        Other levels of ``same_person`` to show the scale for.
    mated
        Name and mated pairs of each source, to measure the FNMR at each anchor.

    Raises
    ------
    DataInvalid
        If the rates of the anchors do not fall, or two anchors are at one cosine.
    TooFew
        If every group is too small for one of the anchors.
    """
    points = sorted(anchors.items())
    if any(b >= a for (_, a), (_, b) in pairwise(points)):
        raise DataInvalid("an anchor with a higher similarity needs a lower false-match rate")
    names = sorted(set(labels))
    groups = np.array([names.index(label) for label in labels], np.int64)
    lowest_level = min([x for x in (same_person, *alternatives) if x is not None], default=2.0)
    first = scan(vectors, level=lowest_level)
    rows, several = unique_people(vectors, same_person, first)
    vectors_kept, groups_kept = vectors[rows], groups[rows]
    measured = scan(vectors_kept, groups=groups_kept, group_count=len(names), level=_KEPT_FROM)
    result = tuple(
        _anchor(measured, vectors_kept, groups_kept, names, similarity, fmr, repeats)
        for similarity, fmr in points
    )
    thresholds = {f"{anchor.similarity:g}": anchor.threshold for anchor in result}
    return CalibrationResult(
        model=model,
        knots=knots([(anchor.threshold, anchor.similarity) for anchor in result]),
        anchors=result,
        people=len(rows),
        pairs=measured.total,
        pairs_within_groups=int(measured.within.sum()),
        cleaning=Deduplication(
            level=same_person,
            photos_left_out=len(vectors) - len(rows),
            people_with_several=several,
            thresholds=dict(thresholds),
        ),
        sensitivity=tuple(
            _alternative(vectors, groups, len(names), points, level, first) for level in alternatives
        ),
        costs=tuple(
            FnmrAtAnchors(
                source=name,
                pairs=len(pairs.scores),
                people=len(np.unique(pairs.people)),
                dropped_as_same_shot=pairs.same_shot,
                fnmr={key: pairs.fnmr(threshold) for key, threshold in thresholds.items()},
            )
            for name, pairs in mated
        ),
    )


def knots(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Return the scale as (cosine, similarity): 0 at cosine 0, the anchors, 100 at cosine 1, straight lines between.

    Raises
    ------
    DataInvalid
        If the scale does not rise everywhere.
    """
    scale = ((0.0, 0.0), *points, (1.0, 100.0))
    if any(b[0] <= a[0] or b[1] <= a[1] for a, b in pairwise(scale)):
        raise DataInvalid(
            "the anchors do not give a rising scale: two of them are at one cosine, or outside 0 to 1; "
            "measure on more people, or set fewer anchors"
        )
    return scale


def _anchor(
    measured: PairScan,
    vectors: Float32Array,
    groups: IntArray,
    names: Sequence[str],
    similarity: float,
    fmr: float,
    repeats: int,
) -> Anchor:
    own = _own_thresholds(measured, fmr)
    large = {group: threshold for group, threshold in enumerate(own) if threshold is not None}
    if not large:
        largest = int(measured.within.sum(axis=1).max(initial=0))
        needed = round(_MIN_EXPECTED_MATCHES / fmr)
        raise TooFew(
            f"similarity {similarity:g} stands for a false-match rate of {fmr:g}, which takes "
            f"{needed:,} pairs within a group; the largest group has {largest:,}",
            have=largest,
            need=needed,
        )
    worst = max(large, key=lambda group: large[group])
    # Rounded up, so that the rate at the published threshold is not higher than the anchor's.
    threshold = float(np.ceil(large[worst] * 1e4) / 1e4)
    low, high = _threshold_interval(vectors[groups == worst], fmr, repeats)
    people = np.arange(len(vectors))
    rates = within_rates(measured, groups, len(names), people, threshold)
    return Anchor(
        similarity=similarity,
        fmr=fmr,
        threshold=threshold,
        threshold_low=low,
        threshold_high=high,
        worst=names[worst],
        overall=overall_rate(measured, people, threshold),
        within=_pooled(rates),
        groups=tuple(
            GroupFmr(group=name, fmr=rate, own_threshold=own_threshold)
            for name, rate, own_threshold in zip(names, rates, own, strict=True)
        ),
        excluded_groups=tuple(name for group, name in enumerate(names) if group not in large),
    )


def _own_thresholds(measured: PairScan, fmr: float) -> list[float | None]:
    """Return the threshold at which each group has this FMR; None if the group is too small."""
    return [
        threshold_at(histogram, fmr) if histogram.sum() * fmr >= _MIN_EXPECTED_MATCHES else None
        for histogram in measured.within
    ]


def _alternative(
    vectors: Float32Array,
    groups: IntArray,
    count: int,
    points: Sequence[tuple[float, float]],
    level: float | None,
    found: PairScan,
) -> Deduplication:
    """Return the thresholds of the anchors for another level of :func:`unique_people`."""
    rows, several = unique_people(vectors, level, found)
    measured = scan(vectors[rows], groups=groups[rows], group_count=count)
    return Deduplication(
        level=level,
        photos_left_out=len(vectors) - len(rows),
        people_with_several=several,
        thresholds={
            f"{similarity:g}": max((t for t in _own_thresholds(measured, fmr) if t is not None), default=None)
            for similarity, fmr in points
        },
    )


def _threshold_interval(vectors: Float32Array, fmr: float, repeats: int) -> tuple[float, float]:
    """Return the interval of the threshold at an FMR within one group, over people drawn again."""
    size = len(vectors)
    pairs = size * (size - 1) // 2
    highest = min(pairs, int(size * (size - 1) / 2 * min(1.0, fmr * 4)) + 50)
    found = scan(vectors, level=-1.0, max_kept=max(size * size, 1))
    left, right, scores = found.left[:highest], found.right[:highest], found.scores[:highest]

    def statistic(weights: Float32Array) -> float:
        total = (float(weights.sum()) ** 2 - float((weights**2).sum())) / 2
        above = np.cumsum(weights[left] * weights[right], dtype=np.float64)
        return float(scores[min(int(np.searchsorted(above, fmr * total, side="right")), highest - 1)])

    low, high = bootstrap(statistic, size, repeats=repeats)
    return float(low), float(high)


def _pooled(rates: Sequence[Rate]) -> Rate:
    """Return the rate of all groups together; each person is in one group, so the groups are independent."""
    trials, count = sum(r.trials for r in rates), sum(r.count for r in rates)
    value = count / max(1, trials)
    # The variance of the pooled rate is the sum of the variances of its weighted parts.
    variance = sum(
        r.value * (1 - r.value) / r.effective * (r.trials / trials) ** 2 for r in rates if r.effective
    )
    effective = value * (1 - value) / variance if variance > 0 else float(trials)
    return Rate.of(count, trials, effective, sum(r.people for r in rates))
