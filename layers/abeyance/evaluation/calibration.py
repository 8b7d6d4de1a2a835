"""What a similarity means: from the scores of strangers to the scale of 0 to 100.

The scale is set by false-match rates of the worst group: strangers of one race and gender, because those are
the strangers who are taken for each other. A group that the data cannot speak for sets nothing and is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from abeyance.evaluation.clusters import Spread
from abeyance.evaluation.demographics import overall_rate, within_rates
from abeyance.evaluation.errors import DataInvalid, TooFew
from abeyance.evaluation.intervals import Rate, clustered_rate, draw, wilson
from abeyance.evaluation.pairs import Scan, scan, threshold_at

#: Similarity: highest FMR in the worst group. See docs/adr/0007-similarity-anchors.md.
ANCHORS: Mapping[float, float] = {50.0: 1e-1, 65.0: 1e-2, 80.0: 1e-3, 99.0: 1e-4}
#: A threshold is taken from a group only if at least so many false matches are expected there.
LEAST_EXPECTED = 5
#: Lowest cosine from which pairs are kept one by one; enough for a rate of 1e-2 in any group.
KEPT_FROM = 0.25


class GroupAt(msgspec.Struct, frozen=True, kw_only=True):
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
    groups: tuple[GroupAt, ...]
    #: Groups too small to have a say.
    unheard: tuple[str, ...]


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """FNMR of mated pairs of one source at each anchor."""

    source: str
    pairs: int
    people: int
    dropped_as_same_shot: int
    fnmr: dict[str, Rate]


class Cleaning(msgspec.Struct, frozen=True, kw_only=True):
    """What was left out because it is probably the same person twice, and what the scale is otherwise."""

    #: Cosine from which two photos count as one person; None if nothing was left out.
    level: float | None
    photos_left_out: int
    people_with_several: int
    #: Cosine of each anchor; null where no group can say.
    thresholds: dict[str, float | None]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A calibration."""

    model: str
    knots: tuple[tuple[float, float], ...]
    anchors: tuple[Anchor, ...]
    people: int
    pairs: int
    pairs_within_groups: int
    cleaning: Cleaning
    sensitivity: tuple[Cleaning, ...]
    costs: tuple[Cost, ...]
    #: Calibration by clusters beside the plain scale, where it was asked for.
    clusters: tuple[Spread, ...] = ()


def block(found: Result, source: str, grouping: str) -> dict[str, Any]:
    """The ``calibration`` of a model in the manifest: knots, and in words what they rest on."""
    words = [
        f"{found.people} photos of {source}, {found.pairs} pairs of strangers, {found.pairs_within_groups} of them "
        f"within groups by {grouping}"
        + (
            ""
            if found.cleaning.level is None
            else f" ({found.cleaning.photos_left_out} photos left out as repeated people, cosine "
            f"{found.cleaning.level:g} and more)"
        )
        + "."
    ]
    for anchor in found.anchors:
        worst = next(row for row in anchor.groups if row.group == anchor.worst).fmr
        words.append(
            f"{anchor.similarity:g}: cosine {anchor.threshold:.4f} ({anchor.threshold_low:.3f} to "
            f"{anchor.threshold_high:.3f}), FMR {worst.value:.2e} ({worst.low:.1e} to {worst.high:.1e}, "
            f"{worst.count} of {worst.trials} pairs) in the worst group, {anchor.worst}; "
            f"{anchor.within.value:.2e} within all groups, {anchor.overall.value:.2e} of all pairs."
        )
        if anchor.similarity >= 80:
            each = ", ".join(
                f"{row.group} {row.fmr.value:.1e} ({row.fmr.low:.0e} to {row.fmr.high:.0e})"
                for row in anchor.groups
            )
            words.append(f"By group at {anchor.similarity:g}: {each}.")
    for cost in found.costs:
        missed = ", ".join(f"{100 * rate.value:.2f} % at {key}" for key, rate in cost.fnmr.items())
        words.append(f"Missed of {cost.pairs} mated pairs of {cost.source}: {missed}.")
    return {"knots": [list(knot) for knot in found.knots], "provenance": " ".join(words)}


def components(count: int, left: NDArray[np.int32], right: NDArray[np.int32]) -> NDArray[np.int64]:
    """Which rows are linked, directly or through others: (count,) the lowest row of each row's component."""
    parent = np.arange(count)

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = int(parent[row])
        return row

    for a, b in zip(left.tolist(), right.tolist(), strict=True):
        first, second = root(a), root(b)
        parent[max(first, second)] = min(first, second)
    return np.array([root(row) for row in range(count)], np.int64)


def unique_people(
    vectors: NDArray[np.float32], level: float | None, found: Scan | None = None
) -> tuple[NDArray[np.int64], int]:
    """One photo of each person of a set that is meant to hold no person twice, but does.

    Photos with a cosine of ``level`` or more are taken to show one person, also through others; the first of
    each person stays. Leaving out people, not pairs, takes away the low scores of the same person as well.

    Returns
    -------
    rows : NDArray
        Those that stay, in order.
    several : int
        People who had more than one photo.
    """
    if level is None:
        return np.arange(len(vectors)), 0
    seen = found if found is not None and found.level <= level else scan(vectors, level=level)
    linked = seen.scores >= np.float32(level)
    roots = components(len(vectors), seen.left[linked], seen.right[linked])
    sizes = np.bincount(roots, minlength=len(vectors))
    return np.unique(roots), int((sizes > 1).sum())


def calibrate(
    vectors: NDArray[np.float32],
    labels: Sequence[str],
    *,
    model: str,
    anchors: Mapping[float, float] = ANCHORS,
    same_person: float | None = None,
    alternatives: Sequence[float | None] = (),
    mated: Sequence[tuple[str, NDArray[np.float64], NDArray[np.int64], int]] = (),
    repeats: int = 300,
) -> Result:
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
        Other levels to show the scale for.
    mated
        (name, (m,) cosines, (m,) person numbers, pairs dropped as the same shot) of each source of mated pairs.

    Raises
    ------
    DataInvalid
        If the anchors do not fall, or two of them come out at one cosine.
    TooFew
        If no group can say where an anchor is.
    """
    points = sorted(anchors.items())
    if any(b >= a for (_, a), (_, b) in pairwise(points)):
        raise DataInvalid("an anchor with a higher similarity needs a lower false-match rate")
    names = sorted(set(labels))
    groups = np.array([names.index(label) for label in labels], np.int64)
    first = scan(vectors, level=min([x for x in (same_person, *alternatives) if x is not None], default=2.0))
    rows, several = unique_people(vectors, same_person, first)
    measured = _scan_of(vectors, groups, rows, len(names))
    people, inside = np.arange(len(rows)), groups[rows]
    result = []
    for similarity, rate in points:
        own = _own_thresholds(measured, rate)
        heard = [i for i, threshold in enumerate(own) if threshold is not None]
        if not heard:
            largest = int(measured.within.sum(axis=1).max(initial=0))
            raise TooFew(
                f"similarity {similarity:g} stands for a false-match rate of {rate:g}, which takes "
                f"{round(LEAST_EXPECTED / rate):,} pairs within a group; the largest group has {largest:,}",
                have=largest,
                need=round(LEAST_EXPECTED / rate),
            )
        worst = max(heard, key=lambda i: own[i] or 0.0)
        # Rounded up, so that the published number keeps what it promises.
        threshold = float(np.ceil((own[worst] or 0.0) * 1e4) / 1e4)
        low, high = _threshold_interval(vectors[rows][inside == worst], rate, repeats)
        rates = within_rates(measured, inside, len(names), people, threshold)
        result.append(
            Anchor(
                similarity=similarity,
                fmr=rate,
                threshold=threshold,
                threshold_low=low,
                threshold_high=high,
                worst=names[worst],
                overall=overall_rate(measured, people, threshold),
                within=_sum(rates),
                groups=tuple(
                    GroupAt(group=name, fmr=value, own_threshold=mine)
                    for name, value, mine in zip(names, rates, own, strict=True)
                ),
                unheard=tuple(names[i] for i in range(len(names)) if i not in heard),
            )
        )
    thresholds = {f"{a.similarity:g}": a.threshold for a in result}
    return Result(
        model=model,
        knots=knots([(a.threshold, a.similarity) for a in result]),
        anchors=tuple(result),
        people=len(rows),
        pairs=measured.total,
        pairs_within_groups=int(measured.within.sum()),
        cleaning=Cleaning(
            level=same_person,
            photos_left_out=len(vectors) - len(rows),
            people_with_several=several,
            thresholds=dict(thresholds),
        ),
        sensitivity=tuple(
            _otherwise(vectors, groups, len(names), points, level, first) for level in alternatives
        ),
        costs=tuple(
            Cost(
                source=name,
                pairs=len(scores),
                people=len(np.unique(owners)),
                dropped_as_same_shot=dropped,
                fnmr={key: clustered_rate(scores < t, owners) for key, t in thresholds.items()},
            )
            for name, scores, owners, dropped in mated
        ),
    )


def knots(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """The scale as (cosine, similarity): 0 at cosine 0, the anchors, 100 at cosine 1, straight lines between.

    Raises
    ------
    DataInvalid
        If it would not rise everywhere.
    """
    scale = ((0.0, 0.0), *points, (1.0, 100.0))
    if any(b[0] <= a[0] or b[1] <= a[1] for a, b in pairwise(scale)):
        raise DataInvalid(
            "the anchors do not give a rising scale: two of them lie at one cosine, or outside 0 to 1; "
            "measure on more people, or set fewer anchors"
        )
    return scale


def _scan_of(
    vectors: NDArray[np.float32], groups: NDArray[np.int64], rows: NDArray[np.int64], count: int
) -> Scan:
    return scan(vectors[rows], groups_a=groups[rows], group_count=count, level=KEPT_FROM)


def _own_thresholds(measured: Scan, rate: float) -> list[float | None]:
    return [
        threshold_at(histogram, rate) if histogram.sum() * rate >= LEAST_EXPECTED else None
        for histogram in measured.within
    ]


def _otherwise(
    vectors: NDArray[np.float32],
    groups: NDArray[np.int64],
    count: int,
    points: Sequence[tuple[float, float]],
    level: float | None,
    found: Scan,
) -> Cleaning:
    rows, several = unique_people(vectors, level, found)
    measured = scan(vectors[rows], groups_a=groups[rows], group_count=count)
    return Cleaning(
        level=level,
        photos_left_out=len(vectors) - len(rows),
        people_with_several=several,
        thresholds={
            f"{similarity:g}": max(
                (t for t in _own_thresholds(measured, rate) if t is not None), default=None
            )
            for similarity, rate in points
        },
    )


def _threshold_interval(vectors: NDArray[np.float32], rate: float, repeats: int) -> tuple[float, float]:
    """Over people of one group drawn again."""
    size = len(vectors)
    highest = min(size * (size - 1) // 2, int(size * (size - 1) / 2 * min(1.0, rate * 4)) + 50)
    every = scan(vectors, level=-1.0, most=max(size * size, 1))
    left, right, scores = every.left[:highest], every.right[:highest], every.scores[:highest]
    generator = np.random.default_rng(1)
    values = []
    for _ in range(repeats):
        weights = draw(generator, size)
        total = (float(weights.sum()) ** 2 - float((weights**2).sum())) / 2
        above = np.cumsum(weights[left] * weights[right], dtype=np.float64)
        values.append(scores[min(int(np.searchsorted(above, rate * total, side="right")), highest - 1)])
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _sum(rates: Sequence[Rate]) -> Rate:
    """All groups together; people are of one group each, so the groups are independent."""
    trials, count = sum(r.trials for r in rates), sum(r.count for r in rates)
    value = count / max(1, trials)
    # Effective numbers add up as variances do.
    variance = sum(
        r.value * (1 - r.value) / r.effective * (r.trials / trials) ** 2 for r in rates if r.effective
    )
    effective = value * (1 - value) / variance if variance > 0 else float(trials)
    low, high = wilson(value, effective)
    return Rate(
        value=value,
        low=low,
        high=high,
        count=count,
        trials=trials,
        effective=effective,
        people=sum(r.people for r in rates),
    )
