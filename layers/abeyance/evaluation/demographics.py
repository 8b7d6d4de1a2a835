"""Differentials: error rates by group, their spread, and whether the data can tell the groups apart.

Sources: NIST IR 8429 (Grother 2022) for ratios to the best group and to the geometric mean, and for the matrix within
and across groups; Howard et al. 2022 (Evaluating proposed fairness models for face recognition algorithms) for the
Gini coefficient of group rates and for GARBE; Pereira and Marcel 2021 for FDR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from abeyance.evaluation.arrays import IntArray
from abeyance.evaluation.intervals import CONFIDENCE, Rate, dyadic_rate, people_for, trials_for, wilson
from abeyance.evaluation.pairs import PairScan

#: A rate with fewer errors is uncertain by a factor of two or more, and gets no verdict.
MIN_ERRORS = 10
#: Weight of FMR against FNMR in the measures that join them.
_ALPHA = 0.5
#: Groups in a matrix that can still be read as a plot.
_MAX_READABLE = 16

Verdict = Literal["differs", "no difference found", "too few"]


class GroupRate(msgspec.Struct, frozen=True, kw_only=True):
    """One group's error rate, beside the groups that have enough errors to be judged."""

    group: str
    rate: Rate
    #: Ratios of the rate to the lowest and to the geometric mean of the judged groups; None if not judged.
    ratio_to_best: float | None
    ratio_to_geometric_mean: float | None
    #: Whether there are enough errors to judge.
    judged: bool
    #: People to add until there are, if the rate stays the same: 0 if judged, None if it cannot be estimated.
    more_people_needed: int | None


class Differential(msgspec.Struct, frozen=True, kw_only=True):
    """Spread of one error rate between groups. Statistics are over the judged groups only."""

    #: ``fmr``, ``fnmr`` or ``failure_to_detect``.
    measure: str
    attributes: tuple[str, ...]
    groups: tuple[GroupRate, ...]
    judged: int
    worst: str
    best: str
    max_over_min: float | None
    max_over_geometric_mean: float | None
    gini: float | None
    verdict: Verdict
    #: The verdict in words, and the data that a clearer one would take.
    explanation: str

    @property
    def grouping(self) -> str:
        """The attributes that make the groups, for headings."""
        return " x ".join(self.attributes)


class FmrMatrix(msgspec.Struct, frozen=True, kw_only=True):
    """FMR within (diagonal) and across groups; symmetric."""

    groups: tuple[str, ...]
    fmr: tuple[tuple[float | None, ...], ...]
    false_matches: tuple[tuple[int, ...], ...]
    pairs: tuple[tuple[int, ...], ...]

    @property
    def readable(self) -> bool:
        """True if there are several groups, and few enough of them to read a plot."""
        return 1 < len(self.groups) <= _MAX_READABLE


class CombinedFairness(msgspec.Struct, frozen=True, kw_only=True):
    """Measures that join FMR and FNMR in one number, over the groups that have both."""

    groups: tuple[str, ...]
    #: 1 - (alpha * largest FMR difference + (1 - alpha) * largest FNMR difference).
    fdr: float
    #: alpha * Gini of FMR + (1 - alpha) * Gini of FNMR; 0 is equal.
    garbe: float
    alpha: float
    critique: str = (
        "FDR subtracts rates: where FMRs are small it stays near 1 however many times one group's rate is "
        "another's, and alpha decides what is left. Read the ratios, and use FDR only to compare with papers "
        "that report it."
    )


def gini(rates: Sequence[float]) -> float:
    """Return the Gini coefficient of rates, corrected by n / (n - 1): 0 if all are equal, 1 if only one is not 0."""
    values = np.asarray(rates, np.float64)
    count, mean = len(values), float(values.mean()) if len(values) else 0.0
    if count < 2 or mean == 0:
        return 0.0
    spread = float(np.abs(values[:, None] - values[None, :]).sum())
    return count / (count - 1) * spread / (2 * count**2 * mean)


def within_rates(
    found: PairScan, groups: IntArray, count: int, people: IntArray, threshold: float
) -> list[Rate]:
    """Return the FMR of pairs of two people of one group, for each of ``count`` groups.

    Parameters
    ----------
    found
        All pairs of one set, those at or above ``threshold`` kept one by one.
    groups, people
        (n,) int: group and person of each row of the set.
    threshold
        Cosine.
    """
    left, right = found.matches(threshold)
    rates = []
    for group in range(count):
        inside = (groups[left] == group) & (groups[right] == group)
        rates.append(_fmr(people[left[inside]], people[right[inside]], people[groups == group]))
    return rates


def overall_rate(
    found: PairScan, people: IntArray, threshold: float, other_people: IntArray | None = None
) -> Rate:
    """Return the FMR of all pairs of one set, or of two sets of different people.

    Parameters
    ----------
    people, other_people
        (n,) and (m,) int: person of each row of the first and of the second set, each numbered from 0.
    """
    left, right = found.matches(threshold)
    if other_people is None:
        return _fmr(people[left], people[right], people)
    ours, others = np.bincount(people), np.bincount(other_people)
    pairs_per_person = np.concatenate([ours * len(other_people), others * len(people)])
    return dyadic_rate(
        people[left], other_people[right] + len(ours), pairs_per_person, len(people) * len(other_people)
    )


def _fmr(left: IntArray, right: IntArray, people: IntArray) -> Rate:
    """Return the FMR of the pairs of a set with these ``people``, of which ``left`` and ``right`` matched."""
    photos = np.bincount(people)
    pairs_per_person = photos * (len(people) - photos)
    return dyadic_rate(left, right, pairs_per_person, int(pairs_per_person.sum()) // 2)


def matrix(
    found: PairScan, groups: IntArray, names: Sequence[str], people: IntArray, threshold: float
) -> FmrMatrix:
    """Return the FMR within and across groups; parameters as for :func:`within_rates`."""
    size = len(names)
    left, right = found.matches(threshold)
    counts = np.zeros((size, size), np.int64)
    np.add.at(counts, (groups[left], groups[right]), 1)
    counts = counts + counts.T - np.diag(np.diag(counts))
    photos = np.bincount(groups, minlength=size)
    pairs = np.outer(photos, photos)
    # The photos of a person may be in different groups; their pairs are mated.
    own = np.zeros((int(people.max()) + 1, size), np.int64)
    np.add.at(own, (people, groups), 1)
    several = own[own.sum(axis=1) > 1]
    pairs -= several.T @ several
    pairs[np.diag_indices(size)] = (photos**2 - (own**2).sum(axis=0)) // 2
    rates = np.divide(counts, pairs, out=np.full((size, size), np.nan), where=pairs > 0)
    return FmrMatrix(
        groups=tuple(names),
        fmr=tuple(tuple(None if math.isnan(v) else float(v) for v in row) for row in rates),
        false_matches=tuple(tuple(row) for row in counts.tolist()),
        pairs=tuple(tuple(row) for row in pairs.tolist()),
    )


def differential(
    measure: str,
    attributes: Sequence[str],
    names: Sequence[str],
    rates: Sequence[Rate],
    *,
    min_errors: int = MIN_ERRORS,
    between_pairs: bool = False,
    expected: float = 0.0,
) -> Differential:
    """Compare groups.

    Parameters
    ----------
    names, rates
        Name and rate of each group.
    min_errors
        A group with fewer errors is not judged.
    between_pairs
        The trials are pairs of two people of the group, so that their number grows with the square of the people.
    expected
        Rate to plan with for a group without any error.
    """
    judged = [i for i, rate in enumerate(rates) if rate.count >= min_errors and rate.value > 0]
    values = [rates[i].value for i in judged]
    mean = math.exp(sum(map(math.log, values)) / len(values)) if values else 0.0
    lowest = min(values, default=0.0)
    rows = tuple(
        GroupRate(
            group=name,
            rate=rate,
            ratio_to_best=rate.value / lowest if i in judged else None,
            ratio_to_geometric_mean=rate.value / mean if i in judged else None,
            judged=i in judged,
            more_people_needed=0
            if i in judged
            else _people_needed(rate, expected, min_errors, between_pairs),
        )
        for i, (name, rate) in enumerate(zip(names, rates, strict=True))
    )
    best = min(judged, key=lambda i: rates[i].value, default=-1)
    worst = max(judged, key=lambda i: rates[i].value, default=-1)
    several = len(judged) > 1
    verdict, explanation = _judge(rows, judged, best, worst, min_errors)
    return Differential(
        measure=measure,
        attributes=tuple(attributes),
        groups=rows,
        judged=len(judged),
        worst=names[worst] if judged else "",
        best=names[best] if judged else "",
        max_over_min=rates[worst].value / lowest if several else None,
        max_over_geometric_mean=rates[worst].value / mean if several else None,
        gini=gini(values) if several else None,
        verdict=verdict,
        explanation=explanation,
    )


def combined(fmr: Differential, fnmr: Differential) -> CombinedFairness | None:
    """Return FDR and GARBE over the groups with trials in both measures; None if there are fewer than two."""
    first = {row.group.casefold(): row for row in fmr.groups if row.rate.trials}
    second = {row.group.casefold(): row for row in fnmr.groups if row.rate.trials}
    shared = [key for key in first if key in second]
    if len(shared) < 2:
        return None
    fmrs = [first[key].rate.value for key in shared]
    fnmrs = [second[key].rate.value for key in shared]
    return CombinedFairness(
        groups=tuple(first[key].group for key in shared),
        fdr=1 - (_ALPHA * float(np.ptp(fmrs)) + (1 - _ALPHA) * float(np.ptp(fnmrs))),
        garbe=_ALPHA * gini(fmrs) + (1 - _ALPHA) * gini(fnmrs),
        alpha=_ALPHA,
    )


def _people_needed(rate: Rate, expected: float, errors: int, between_pairs: bool) -> int | None:
    """Return the number of people to add until ``errors`` errors are expected, or None if it cannot be estimated."""
    trials = trials_for(rate.value or expected, errors)
    if not trials or (not rate.trials and not between_pairs):
        return None
    if between_pairs:
        # More photos of one person add no strangers, so people count as if they had one photo each.
        return max(1, people_for(trials) - rate.people)
    return max(1, math.ceil(trials * rate.people / rate.trials) - rate.people)


def _judge(
    rows: Sequence[GroupRate], judged: Sequence[int], best: int, worst: int, min_errors: int
) -> tuple[Verdict, str]:
    others = [row for i, row in enumerate(rows) if i not in judged]
    more = ""
    if others:
        more = f" {len(others)} of {len(rows)} groups have fewer than {min_errors} errors and are not judged"
        largest = max(others, key=lambda row: row.more_people_needed or 0)
        if largest.more_people_needed:
            more += f"; {largest.group} would need about {largest.more_people_needed:,} more people"
        more += "."
    if len(judged) < 2:
        return "too few", f"No verdict: it takes two groups with at least {min_errors} errors each." + more
    high, low = rows[worst], rows[best]
    # The worst and the best are selected from all groups, so their intervals are corrected for that (Bonferroni).
    confidence = 1 - (1 - CONFIDENCE) / len(judged)
    lower = wilson(high.rate.value, high.rate.effective, confidence)[0]
    upper = wilson(low.rate.value, low.rate.effective, confidence)[1]
    ratio = high.rate.value / low.rate.value
    times = f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"
    if lower > upper:
        return "differs", (
            f"The rate of {high.group} is {times} times that of {low.group}, and their intervals do not overlap."
            + more
        )
    return "no difference found", (
        f"The rates of {high.group} and {low.group} differ by a factor of {times}, which may be chance in this data. "
        "That is not a finding that they are equal." + more
    )
