"""Confidence intervals of error rates whose trials are not independent, because people take part in many trials.

A rate at a fixed threshold gets a Wilson interval at its *effective* number of trials: the number of independent
trials that would vary as much as this rate does, from the variance between people (cluster variance for mated pairs,
which belong to one person; dyadic variance for non-mated pairs, which belong to two). Fogliato, Patil and Perona
(Confidence intervals for error rates in 1:1 matching tasks, IJCV 2024) found that these intervals cover where
intervals over pairs are far too narrow. Anything else, such as an FNMR at an FMR, is bootstrapped over people: a
person who is drawn comes with all of their photos and pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from abeyance.evaluation.arrays import BoolArray, Float32Array, FloatArray, IntArray

CONFIDENCE = 0.95


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """A share of trials, with its interval at 95 % confidence."""

    value: float
    low: float
    high: float
    #: Trials counted by the rate, such as errors, and all trials.
    count: int
    trials: int
    #: Number of independent trials that would vary as much.
    effective: float
    #: People (or images) that the trials come from.
    people: int

    @classmethod
    def of(cls, count: int, trials: int, effective: float, people: int) -> Rate:
        """Return ``count`` of ``trials`` with Wilson's interval; without trials, nothing is known of the rate."""
        value = count / max(1, trials)
        low, high = wilson(value, effective)
        return cls(
            value=value, low=low, high=high, count=count, trials=trials, effective=effective, people=people
        )


def wilson(value: float, trials: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the score interval of a share ``value`` of ``trials`` (Wilson 1927); (0, 1) without trials."""
    if trials <= 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = value + z * z / (2 * trials)
    half = z * math.sqrt(max(0.0, value * (1 - value)) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    low, high = (centre - half) / scale, (centre + half) / scale
    # Rounding must not move the ends of a certain rate.
    return (0.0 if value <= 0 else max(0.0, low)), (1.0 if value >= 1 else min(1.0, high))


def clustered_rate(hits: BoolArray, clusters: IntArray) -> Rate:
    """Return a rate whose trials each belong to one person.

    Parameters
    ----------
    hits
        (n,) bool: the outcome of each trial.
    clusters
        (n,) int: the person of each trial.
    """
    trials, count = len(hits), int(hits.sum())
    if not trials:
        return Rate.of(0, 0, 0.0, 0)
    _, code = np.unique(clusters, return_inverse=True)
    people = int(code.max()) + 1
    value = count / trials
    residuals = np.bincount(code, weights=hits - value)
    variance = float((residuals**2).sum()) / trials**2 * people / max(1, people - 1)
    return Rate.of(count, trials, _effective(value, variance, trials), people)


def dyadic_rate(left: IntArray, right: IntArray, pairs_per_person: IntArray, trials: int) -> Rate:
    """Return a rate whose trials each belong to two people: false matches of non-mated pairs.

    Parameters
    ----------
    left, right
        (k,) int each: the two people of every pair that matched. Where two sets of people are compared, their
        numbers must differ.
    pairs_per_person
        (p,) int: the number of pairs of each person; their sum is twice ``trials``.
    trials
        Number of pairs.

    Notes
    -----
    The variance is that of a mean over dyads (Aronow, Samii and Assenova 2015): the residuals of two pairs
    are taken to be correlated if and only if they share a person. It is never taken to be less than that of
    independent pairs. Without any match, nothing is known about correlation, and pairs count as independent.
    """
    matches = np.bincount(np.concatenate([left, right]), minlength=len(pairs_per_person))
    return dyadic_rate_of(matches, pairs_per_person, trials)


def dyadic_rate_of(matches: IntArray, pairs_per_person: IntArray, trials: int) -> Rate:
    """Return :func:`dyadic_rate` from the number of each person's pairs that matched, (p,) int."""
    people = int((pairs_per_person > 0).sum())
    if trials <= 0:
        return Rate.of(0, 0, 0.0, people)
    count = int(matches.sum()) // 2
    value = count / trials
    residuals = matches - value * pairs_per_person
    own = trials * value * (1 - value)
    # The square of each pair is in the sums of both of its people, and counts once.
    variance = (
        float((residuals.astype(np.float64) ** 2).sum()) * people / max(1, people - 1) - own
    ) / trials**2
    return Rate.of(count, trials, _effective(value, variance, trials), people)


def _effective(value: float, variance: float, trials: int) -> float:
    independent = value * (1 - value) / trials
    if independent <= 0:
        return float(trials)
    return trials * independent / max(variance, independent)


def bootstrap(
    statistic: Callable[..., ArrayLike], *people: int, repeats: int = 500, seed: int = 1
) -> tuple[FloatArray, FloatArray]:
    """Return the percentile interval of a statistic over people drawn again with replacement (Efron 1979).

    Parameters
    ----------
    statistic
        Takes (p,) float32 weights for each of ``people``, the number of times that each person was drawn, and returns
        a number or an array. NaN marks a draw for which the statistic is not defined; it is left out.
    people
        Number of people in each set that is drawn from.

    Returns
    -------
    low, high : NDArray
        float64 of the shape of the statistic; NaN where no draw has a value.

    Notes
    -----
    For rare matches between people the interval is wider than necessary (a pair counts w_i w_j times, which varies
    more than a pair does).
    """
    generator = np.random.default_rng(seed)
    values = np.array(
        [statistic(*(_draw(generator, number) for number in people)) for _ in range(repeats)], np.float64
    )
    defined = ~np.isnan(values).reshape(repeats, -1).all(axis=1)
    if not defined.any():
        return np.full(values.shape[1:], np.nan), np.full(values.shape[1:], np.nan)
    low, high = np.nanquantile(values[defined], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return low, high


def _draw(generator: np.random.Generator, people: int) -> Float32Array:
    """Return the number of times that each of ``people`` is drawn in ``people`` draws: (people,) float32."""
    return np.bincount(generator.integers(0, people, people), minlength=people).astype(np.float32)


def trials_for(rate: float, errors: int = 30) -> int:
    """Return the number of trials in which ``errors`` errors are expected; 0 for a rate of 0.

    Thirty errors put a rate within 30 % of its true value with 90 % confidence (Doddington et al. 2000: the rule of
    30, used by ISO/IEC 19795-1).
    """
    return math.ceil(errors / rate) if rate > 0 else 0


def people_for(pairs: int) -> int:
    """Return the number of people, with one photo each, that make ``pairs`` pairs."""
    return math.ceil((1 + math.sqrt(1 + 8 * pairs)) / 2)
