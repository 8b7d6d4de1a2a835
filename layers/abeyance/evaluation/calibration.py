"""Calibration of the similarity scale (0 to 100) on the scores of non-mated pairs.

The scale is set by false-match rates of the worst group: people of one race and gender, because these are matched
falsely with each other. A group that is too small sets nothing, and is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from abeyance.evaluation.arrays import Float32Array, IntArray
from abeyance.evaluation.cleaning import Cleaning, describe_cleaning, people_by_cosine
from abeyance.evaluation.datasets import codes_of
from abeyance.evaluation.demographics import within_rates
from abeyance.evaluation.errors import DataInvalid, TooFew
from abeyance.evaluation.intervals import Rate, bootstrap, dyadic_rate_of
from abeyance.evaluation.pairs import matches_per_row, scan, scan_within, threshold_at
from abeyance.evaluation.report import fill_template
from abeyance.evaluation.templates import MatedPairs

#: Similarity: highest FMR in the worst group. See docs/adr/0007-similarity-anchors.md.
ANCHORS: Mapping[float, float] = {50.0: 1e-1, 65.0: 1e-2, 80.0: 1e-3, 99.0: 1e-4}
#: A threshold is taken from a group only if at least this many false matches are expected there.
MIN_EXPECTED_MATCHES = 5


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


class CalibrationResult(msgspec.Struct, frozen=True, kw_only=True):
    """A measured scale, and the data that it comes from."""

    model: str
    knots: tuple[tuple[float, float], ...]
    anchors: tuple[Anchor, ...]
    people: int
    pairs: int
    pairs_within_groups: int
    cleaning: Cleaning
    #: The scale that other ways of cleaning would give.
    alternatives: tuple[Cleaning, ...]
    costs: tuple[FnmrAtAnchors, ...]


def block(found: CalibrationResult, source: str, grouping: str) -> dict[str, Any]:
    """Return the ``calibration`` of a model in the manifest: knots, and their provenance in words."""
    provenance = fill_template("provenance", found=found, source=source, grouping=grouping)
    return {"knots": [list(knot) for knot in found.knots], "provenance": " ".join(provenance.split())}


def calibrate(
    vectors: Float32Array,
    labels: Sequence[str],
    *,
    model: str,
    anchors: Mapping[float, float] = ANCHORS,
    judged: tuple[str, IntArray] | None = None,
    same_person: float | None = None,
    levels: Sequence[float] = (),
    attributes: Mapping[str, Sequence[str]] | None = None,
    mated: Sequence[tuple[str, MatedPairs]] = (),
    repeats: int = 300,
    tick: Callable[[str, int], None] = lambda _step, _steps: None,
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
    judged
        Name of a list of judged pairs, and the (n,) person of each photo by it; one photo of each person stays.
    same_person
        Cosine of :func:`abeyance.evaluation.cleaning.people_by_cosine`, in place of a list.
    levels
        Cosines to show the scale for as well. The scale with nothing left out is shown in any case.
    attributes
        Attribute: group of each photo, to report the cleaning by and to keep it within.
    mated
        Name and mated pairs of each source, to measure the FNMR at each anchor.
    tick
        Called with the step that begins, and the number of steps.

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
    reported = dict(attributes or {}) or {"group": labels}
    blocks = codes_of([" / ".join(row) for row in zip(labels, *reported.values(), strict=True)])
    if judged and same_person is not None:
        raise DataInvalid("people are left out by a judged list or by a cosine, not by both")
    rules = _rules(judged, same_person, levels)
    lowest = min([level for _, _, level in rules if level is not None], default=2.0)
    steps = 2 + len(rules) + len(points)
    tick("pairs within groups", steps)
    near = scan_within(vectors, groups, len(names), lowest)
    cleanings: list[Cleaning] = []
    rows = kept_within = np.empty(0, np.int64)
    for how, people, level in rules:
        tick(how, steps)
        if level is not None:
            people = people_by_cosine(vectors, level, blocks, near)
        stay, cleaning = describe_cleaning(
            how, np.arange(len(vectors)) if people is None else people, reported
        )
        # Thresholds come from pairs within groups alone, which are a small part of all pairs.
        within = scan_within(vectors[stay], groups[stay], len(names)).within
        thresholds = {f"{s:g}": _highest(_own_thresholds(within, fmr)) for s, fmr in points}
        if not cleanings:
            rows, kept_within = stay, within
        cleanings.append(msgspec.structs.replace(cleaning, thresholds=thresholds))
    vectors, groups = vectors[rows], groups[rows]
    chosen = {similarity: _worst(kept_within, names, similarity, fmr) for similarity, fmr in points}
    tick("all pairs", steps)
    levels = [threshold for _, threshold in chosen.values()]
    matches = matches_per_row(vectors, levels)
    measured = scan_within(vectors, groups, len(names), min(levels))
    result = []
    for number, (similarity, fmr) in enumerate(points):
        tick(f"similarity {similarity:g}", steps)
        worst, threshold = chosen[similarity]
        low, high = _threshold_interval(vectors[groups == worst], fmr, repeats)
        rates = within_rates(measured, groups, len(names), np.arange(len(vectors)), threshold)
        own = _own_thresholds(measured.within, fmr)
        result.append(
            Anchor(
                similarity=similarity,
                fmr=fmr,
                threshold=threshold,
                threshold_low=low,
                threshold_high=high,
                worst=names[worst],
                overall=dyadic_rate_of(
                    matches[number], np.full(len(rows), len(rows) - 1), len(rows) * (len(rows) - 1) // 2
                ),
                within=_pooled(rates),
                groups=tuple(
                    GroupFmr(group=name, fmr=rate, own_threshold=level)
                    for name, rate, level in zip(names, rates, own, strict=True)
                ),
                excluded_groups=tuple(name for name, level in zip(names, own, strict=True) if level is None),
            )
        )
    published = {f"{anchor.similarity:g}": anchor.threshold for anchor in result}
    return CalibrationResult(
        model=model,
        knots=knots([(anchor.threshold, anchor.similarity) for anchor in result]),
        anchors=tuple(result),
        people=len(rows),
        pairs=len(rows) * (len(rows) - 1) // 2,
        pairs_within_groups=int(measured.within.sum()),
        cleaning=cleanings[0],
        alternatives=tuple(cleanings[1:]),
        costs=tuple(
            FnmrAtAnchors(
                source=name,
                pairs=len(pairs.scores),
                people=len(np.unique(pairs.people)),
                dropped_as_same_shot=pairs.same_shot,
                fnmr={key: pairs.fnmr(threshold) for key, threshold in published.items()},
            )
            for name, pairs in mated
        ),
    )


def _rules(
    judged: tuple[str, IntArray] | None, same_person: float | None, levels: Sequence[float]
) -> list[tuple[str, IntArray | None, float | None]]:
    """Return (words, people of the judged list, cosine) of each way of cleaning, the one that is used first."""
    used = [(f"judged list {judged[0]}", judged[1], None)] if judged else []
    none = [("nothing left out", None, None)]
    by_cosine = [
        (f"cosine {level:g} and more on average, within group and age", None, level)
        for level in dict.fromkeys([*([] if same_person is None else [same_person]), *levels])
    ]
    return (
        [*used, *none, *by_cosine] if used or same_person is None else [by_cosine[0], *none, *by_cosine[1:]]
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


def _worst(within: IntArray, names: Sequence[str], similarity: float, fmr: float) -> tuple[int, float]:
    """Return the group with the highest threshold at this FMR, and that threshold.

    Raises
    ------
    TooFew
        If every group is too small.
    """
    own = _own_thresholds(within, fmr)
    large = {group: threshold for group, threshold in enumerate(own) if threshold is not None}
    if not large:
        largest = int(within.sum(axis=1).max(initial=0))
        needed = round(MIN_EXPECTED_MATCHES / fmr)
        raise TooFew(
            f"similarity {similarity:g} stands for a false-match rate of {fmr:g}, which takes "
            f"{needed:,} pairs within a group; the largest group has {largest:,}",
            have=largest,
            need=needed,
        )
    worst = max(large, key=lambda group: large[group])
    # Rounded up, so that the rate at the published threshold is not higher than the anchor's.
    return worst, float(np.ceil(large[worst] * 1e4) / 1e4)


def _own_thresholds(within: IntArray, fmr: float) -> list[float | None]:
    """Return the threshold at which each group has this FMR; None if the group is too small."""
    return [
        threshold_at(histogram, fmr) if histogram.sum() * fmr >= MIN_EXPECTED_MATCHES else None
        for histogram in within
    ]


def _highest(thresholds: Sequence[float | None]) -> float | None:
    return max((threshold for threshold in thresholds if threshold is not None), default=None)


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
