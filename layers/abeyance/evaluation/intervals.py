"""How sure a rate is, when its trials are not independent because the same people take part in many of them.

Two tools. A rate at a fixed threshold gets a Wilson interval at its *effective* number of trials: the number
of independent trials that would vary as much as this rate does, from the variance between people (cluster
variance for mated pairs, which belong to one person; dyadic variance for non-mated pairs, which belong to
two). Fogliato, Patil and Perona (Confidence intervals for error rates in 1:1 matching tasks, IJCV 2024) found
that this covers where intervals over pairs are far too narrow. Anything else, such as an FNMR at an FMR, is
bootstrapped over people: whoever is drawn comes with all of their photos and pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """A share of trials, with its interval at 95 % confidence."""

    value: float
    low: float
    high: float
    #: Trials that ended so, and all trials.
    count: int
    trials: int
    #: Independent trials that would vary as much.
    effective: float
    #: The people (or images) that the trials came from.
    people: int


def wilson(value: float, trials: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Score interval of a share ``value`` of ``trials`` (Wilson 1927); (0, 1) without trials."""
    if trials <= 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = value + z * z / (2 * trials)
    half = z * math.sqrt(max(0.0, value * (1 - value)) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    low, high = (centre - half) / scale, (centre + half) / scale
    # Rounding must not move the ends of what is certain.
    return (0.0 if value <= 0 else max(0.0, low)), (1.0 if value >= 1 else min(1.0, high))


def clustered_rate(
    hits: NDArray[np.bool_], clusters: NDArray[np.int64], confidence: float = CONFIDENCE
) -> Rate:
    """A rate whose trials each belong to one person.

    Parameters
    ----------
    hits
        (n,) bool, one per trial.
    clusters
        (n,) int, the person of each trial.
    """
    trials, count = len(hits), int(hits.sum())
    if not trials:
        return Rate(value=0.0, low=0.0, high=1.0, count=0, trials=0, effective=0.0, people=0)
    _, code = np.unique(clusters, return_inverse=True)
    people = int(code.max()) + 1
    value = count / trials
    residuals = np.bincount(code, weights=hits - value)
    variance = float((residuals**2).sum()) / trials**2 * people / max(1, people - 1)
    effective = _effective(value, variance, trials)
    low, high = wilson(value, effective, confidence)
    return Rate(
        value=value, low=low, high=high, count=count, trials=trials, effective=effective, people=people
    )


def dyadic_rate(
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    pairs_per_person: NDArray[np.int64],
    trials: int,
    confidence: float = CONFIDENCE,
) -> Rate:
    """A rate whose trials each belong to two people: false matches among pairs of strangers.

    Parameters
    ----------
    left, right
        (k,) int each: the two people of every pair that matched. Two sets of people that are compared with
        each other have numbers of their own.
    pairs_per_person
        (p,) int: in how many pairs each person takes part; their sum is twice ``trials``.
    trials
        Number of pairs.

    Notes
    -----
    The variance is that of a mean over dyads (Aronow, Samii and Assenova 2015): the residuals of two pairs
    are taken to be correlated if and only if they share a person. It is never taken to be less than that of
    independent pairs. Without any match, nothing is known about correlation, and pairs count as independent.
    """
    count = len(left)
    people = int((pairs_per_person > 0).sum())
    if trials <= 0:
        return Rate(value=0.0, low=0.0, high=1.0, count=0, trials=0, effective=0.0, people=people)
    value = count / trials
    matches = np.bincount(left, minlength=len(pairs_per_person)) + np.bincount(
        right, minlength=len(pairs_per_person)
    )
    residuals = matches - value * pairs_per_person
    own = trials * value * (1 - value)
    # Every pair's own square is in the sum of both of its people, and belongs there once.
    variance = (
        float((residuals.astype(np.float64) ** 2).sum()) * people / max(1, people - 1) - own
    ) / trials**2
    effective = _effective(value, variance, trials)
    low, high = wilson(value, effective, confidence)
    return Rate(
        value=value, low=low, high=high, count=count, trials=trials, effective=effective, people=people
    )


def _effective(value: float, variance: float, trials: int) -> float:
    independent = value * (1 - value) / trials
    if independent <= 0:
        return float(trials)
    return trials * independent / max(variance, independent)


def bootstrap(
    statistic: Callable[[NDArray[np.float32]], float],
    people: int,
    *,
    repeats: int = 500,
    seed: int = 1,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Percentile interval of a statistic over people drawn again with replacement (Efron 1979).

    Parameters
    ----------
    statistic
        Of (people,) float32 weights: how often each person was drawn. NaN where it is not defined for a draw;
        those draws are left out.
    people
        How many there are.

    Notes
    -----
    For rare matches between people the interval is wider than it need be (a pair is there w_i w_j times,
    which varies more than a pair does); it errs towards caution.
    """
    generator = np.random.default_rng(seed)
    values = np.array([statistic(draw(generator, people)) for _ in range(repeats)])
    values = values[~np.isnan(values)]
    if not len(values):
        return math.nan, math.nan
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def draw(generator: np.random.Generator, people: int) -> NDArray[np.float32]:
    """How often each of ``people`` is drawn in ``people`` draws: (people,) float32."""
    return np.bincount(generator.integers(0, people, people), minlength=people).astype(np.float32)


def trials_for(rate: float, errors: int = 30) -> int:
    """Trials that it takes to expect ``errors`` of them to fail.

    Thirty errors put a rate within 30 % of its true value with 90 % confidence (Doddington et al. 2000, the
    rule of 30, taken up by ISO/IEC 19795-1).
    """
    return math.ceil(errors / rate) if rate > 0 else 0


def people_for(pairs: int) -> int:
    """People, one photo each, that make ``pairs`` pairs."""
    return math.ceil((1 + math.sqrt(1 + 8 * pairs)) / 2)
