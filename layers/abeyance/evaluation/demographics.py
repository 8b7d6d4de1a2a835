"""Who does it get wrong: error rates by group, how far they lie apart, and whether the data can tell.

Sources: NIST IR 8429 (Grother 2022) for ratios to the best group and to the geometric mean, and for the
matrix within and across groups; Howard et al. 2022 (Evaluating proposed fairness models for face recognition
algorithms) for the Gini coefficient of group rates and for GARBE; Pereira and Marcel 2021 for FDR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from abeyance.evaluation.intervals import CONFIDENCE, Rate, dyadic_rate, people_for, trials_for, wilson
from abeyance.evaluation.pairs import Scan

#: A rate that rests on fewer errors is uncertain by a factor of two or more, and gets no verdict.
LEAST_ERRORS = 10

Verdict = Literal["differs", "no difference found", "too few"]


class GroupRate(msgspec.Struct, frozen=True, kw_only=True):
    """One group's error rate, and where it stands among the groups that have errors enough."""

    group: str
    rate: Rate
    #: Of this group's rate to the lowest and to the geometric mean of the groups that are judged; None if
    #: this one is not.
    ratio_to_best: float | None
    ratio_to_geometric_mean: float | None
    #: Whether there are errors enough to judge; if not, how many more people it would take, as far as the
    #: rate can be told (0: cannot be told).
    judged: bool
    more_people_needed: int


class Differential(msgspec.Struct, frozen=True, kw_only=True):
    """How far the groups lie apart in one error rate. Statistics are over the judged groups only."""

    #: ``fmr``, ``fnmr``, ``failure_to_detect`` or the name of an attribute.
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
    #: What the verdict says, in words, and what it would take to say more.
    says: str


class Matrix(msgspec.Struct, frozen=True, kw_only=True):
    """FMR within (diagonal) and across groups; symmetric."""

    groups: tuple[str, ...]
    fmr: tuple[tuple[float | None, ...], ...]
    false_matches: tuple[tuple[int, ...], ...]
    pairs: tuple[tuple[int, ...], ...]


class Combined(msgspec.Struct, frozen=True, kw_only=True):
    """One number for FMR and FNMR together, over the groups that both were measured for."""

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
    """Gini coefficient of rates with the correction n / (n - 1): 0 all equal, 1 only one group has errors."""
    values = np.asarray(rates, np.float64)
    count, mean = len(values), float(values.mean()) if len(values) else 0.0
    if count < 2 or mean == 0:
        return 0.0
    spread = float(np.abs(values[:, None] - values[None, :]).sum())
    return count / (count - 1) * spread / (2 * count**2 * mean)


def fdr(fmr: Sequence[float], fnmr: Sequence[float], alpha: float = 0.5) -> float:
    """Fairness discrepancy rate (Pereira and Marcel 2021)."""
    return 1 - (alpha * (max(fmr) - min(fmr)) + (1 - alpha) * (max(fnmr) - min(fnmr)))


def garbe(fmr: Sequence[float], fnmr: Sequence[float], alpha: float = 0.5) -> float:
    """Gini aggregation rate for biometric equitability (Howard et al. 2022)."""
    return alpha * gini(fmr) + (1 - alpha) * gini(fnmr)


def within_rates(
    scan: Scan, groups: NDArray[np.int64], count: int, people: NDArray[np.int64], threshold: float
) -> list[Rate]:
    """FMR of pairs of two people of one group, for each of ``count`` groups.

    Parameters
    ----------
    scan
        All pairs of one set, those from ``threshold`` on kept one by one.
    groups, people
        (n,) int, of each row of the set.
    """
    matched = scan.scores >= np.float32(threshold)
    left, right = scan.left[matched], scan.right[matched]
    rates = []
    for group in range(count):
        inside = (groups[left] == group) & (groups[right] == group)
        rates.append(_dyadic(left[inside], right[inside], people, groups == group))
    return rates


def overall_rate(scan: Scan, people: NDArray[np.int64], threshold: float) -> Rate:
    """FMR of all pairs of one set."""
    matched = scan.scores >= np.float32(threshold)
    return _dyadic(scan.left[matched], scan.right[matched], people, np.ones(len(people), bool))


def _dyadic(
    left: NDArray[np.int32], right: NDArray[np.int32], people: NDArray[np.int64], members: NDArray[np.bool_]
) -> Rate:
    photos = np.bincount(people[members], minlength=int(people.max(initial=0)) + 1)
    pairs_per_person = photos * (int(photos.sum()) - photos)
    return dyadic_rate(people[left], people[right], pairs_per_person, int(pairs_per_person.sum()) // 2)


def matrix(
    scan: Scan, groups: NDArray[np.int64], names: Sequence[str], people: NDArray[np.int64], threshold: float
) -> Matrix:
    """FMR within and across groups."""
    size = len(names)
    matched = scan.scores >= np.float32(threshold)
    counts = np.zeros((size, size), np.int64)
    np.add.at(counts, (groups[scan.left[matched]], groups[scan.right[matched]]), 1)
    counts = counts + counts.T - np.diag(np.diag(counts))
    photos = np.bincount(groups, minlength=size)
    pairs = np.outer(photos, photos)
    # A person's photos may have been put in different groups; their pairs are none of strangers.
    own = np.zeros((int(people.max()) + 1, size), np.int64)
    np.add.at(own, (people, groups), 1)
    several = own[own.sum(axis=1) > 1]
    pairs -= several.T @ several
    pairs[np.diag_indices(size)] = (photos**2 - (own**2).sum(axis=0)) // 2
    rates = np.divide(counts, pairs, out=np.full((size, size), np.nan), where=pairs > 0)
    return Matrix(
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
    least_errors: int = LEAST_ERRORS,
    between_pairs: bool = False,
    expected: float = 0.0,
) -> Differential:
    """Compare groups.

    Parameters
    ----------
    rates
        Of each group.
    least_errors
        A group with fewer errors is not judged.
    between_pairs
        The trials are pairs of two people of the group, so that their number grows with the square of it.
    expected
        Rate to plan with for a group without any error.
    """
    judged = [i for i, rate in enumerate(rates) if rate.count >= least_errors and rate.value > 0]
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
            else _people_needed(rate, expected, least_errors, between_pairs),
        )
        for i, (name, rate) in enumerate(zip(names, rates, strict=True))
    )
    best = min(judged, key=lambda i: rates[i].value, default=-1)
    worst = max(judged, key=lambda i: rates[i].value, default=-1)
    several = len(judged) > 1
    verdict, says = _judge(rows, judged, best, worst, least_errors)
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
        says=says,
    )


def combined(fmr: Differential, fnmr: Differential, alpha: float = 0.5) -> Combined | None:
    """FDR and GARBE over the groups that both measures have trials for; None if there are fewer than two."""
    first = {row.group.casefold(): row for row in fmr.groups if row.rate.trials}
    second = {row.group.casefold(): row for row in fnmr.groups if row.rate.trials}
    shared = [key for key in first if key in second]
    if len(shared) < 2:
        return None
    fmrs = [first[key].rate.value for key in shared]
    fnmrs = [second[key].rate.value for key in shared]
    return Combined(
        groups=tuple(first[key].group for key in shared),
        fdr=fdr(fmrs, fnmrs, alpha),
        garbe=garbe(fmrs, fnmrs, alpha),
        alpha=alpha,
    )


def _people_needed(rate: Rate, expected: float, errors: int, between_pairs: bool) -> int:
    """How many more people a group needs, if its rate stays what it is."""
    trials = trials_for(rate.value or expected, errors)
    if not trials:
        return 0
    if between_pairs:
        # Photos of one person do not add strangers, so people are counted as if they had one each.
        return max(1, people_for(trials) - rate.people)
    return max(1, math.ceil(trials * rate.people / max(1, rate.trials)) - rate.people)


def _judge(
    rows: Sequence[GroupRate], judged: Sequence[int], best: int, worst: int, least: int
) -> tuple[Verdict, str]:
    left_out = [row for i, row in enumerate(rows) if i not in judged]
    more = ""
    if left_out:
        needed = max(left_out, key=lambda row: row.more_people_needed)
        more = (
            f" {len(left_out)} of {len(rows)} groups have fewer than {least} errors and are not judged; "
            f"{needed.group} would need about {needed.more_people_needed:,} more people."
        )
    if len(judged) < 2:
        return "too few", f"No verdict: it takes two groups with at least {least} errors each." + more
    # All groups were looked at to find the worst and the best, so each interval is as sure as that asks for.
    sure = 1 - (1 - CONFIDENCE) / len(judged)
    lower = wilson(rows[worst].rate.value, rows[worst].rate.effective, sure)[0]
    upper = wilson(rows[best].rate.value, rows[best].rate.effective, sure)[1]
    ratio = rows[worst].rate.value / rows[best].rate.value
    times = f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"
    if lower > upper:
        return "differs", (
            f"The rate of {rows[worst].group} is {times} times that of {rows[best].group}, and the "
            f"intervals lie apart." + more
        )
    return "no difference found", (
        f"The rates of {rows[worst].group} and {rows[best].group} differ by a factor of {times}, which this "
        "data cannot tell from chance. That is not a finding that they are equal." + more
    )
