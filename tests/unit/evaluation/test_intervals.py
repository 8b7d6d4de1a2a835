"""Intervals: hand-worked values, and coverage on simulated people."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abeyance.evaluation.intervals import (
    bootstrap,
    clustered_rate,
    dyadic_rate,
    people_for,
    trials_for,
    wilson,
)


def test_wilson_is_the_textbook_interval() -> None:
    # 10 of 100: (0.1 + 1.92073/100 +- 1.95996 sqrt(0.09/100 + 0.960365/10000)) / 1.0384146
    low, high = wilson(0.1, 100)
    assert low == pytest.approx(0.05523, abs=1e-5)
    assert high == pytest.approx(0.17437, abs=1e-5)


def test_wilson_without_errors_or_trials() -> None:
    assert wilson(0.0, 100) == pytest.approx((0.0, 0.037), abs=1e-3)
    assert wilson(1.0, 100)[1] == 1.0
    assert wilson(0.5, 0) == (0.0, 1.0)


@given(st.integers(1, 10_000), st.data())
def test_wilson_holds_the_rate(trials: int, data: st.DataObject) -> None:
    rate = data.draw(st.integers(0, trials)) / trials
    low, high = wilson(rate, trials)
    assert 0 <= low <= rate <= high <= 1


def test_one_trial_a_person_is_a_plain_wilson_interval() -> None:
    hits = np.arange(1000) < 100
    rate = clustered_rate(hits, np.arange(1000))
    assert rate.value == 0.1
    assert rate.effective == pytest.approx(1000, rel=2e-3)


def test_ten_equal_trials_a_person_count_as_one() -> None:
    hits = np.repeat(np.arange(100) < 20, 10)
    rate = clustered_rate(hits, np.repeat(np.arange(100), 10))
    assert (rate.count, rate.trials, rate.people) == (200, 1000, 100)
    assert rate.effective == pytest.approx(100, rel=0.02)


def test_clustered_intervals_cover() -> None:
    """Beta-binomial: people differ, trials of one person are alike; plain Wilson over trials would cover 70 %."""
    generator = np.random.default_rng(5)
    owners = np.repeat(np.arange(120), 8)
    covered = 0
    for _ in range(300):
        chance = generator.beta(1, 9, 120)
        rate = clustered_rate(generator.random(len(owners)) < chance[owners], owners)
        covered += rate.low <= 0.1 <= rate.high
    assert 0.91 <= covered / 300 <= 0.99


def test_dyadic_intervals_cover() -> None:
    """Pairs of people with person effects: some people match many."""
    generator = np.random.default_rng(6)
    people, threshold = 120, 2.2
    left, right = np.triu_indices(people, 1)
    spread = np.sqrt(0.2 + 0.2 + 1)
    from statistics import NormalDist

    truth = 1 - NormalDist().cdf(threshold / spread)
    covered = naive = 0
    for _ in range(300):
        effect = generator.normal(0, np.sqrt(0.2), people)
        match = effect[left] + effect[right] + generator.normal(0, 1, len(left)) > threshold
        rate = dyadic_rate(left[match], right[match], np.full(people, people - 1), len(left))
        covered += rate.low <= truth <= rate.high
        low, high = wilson(rate.value, rate.trials)
        naive += low <= truth <= high
    assert 0.9 <= covered / 300 <= 0.99
    assert naive / 300 < 0.7


def test_dyadic_variance_by_hand() -> None:
    # Three people, three pairs, one match (0, 1): p = 1/3; residuals of the people: 1 - 2/3, 1 - 2/3, -2/3,
    # squares 1/9 + 1/9 + 4/9 = 2/3, times 3/2 people correction = 1; own squares 3 * 2/9 = 2/3;
    # variance (1 - 2/3) / 9 = 1/27, less than independent pairs' 2/9/3 = 2/27, so that counts.
    rate = dyadic_rate(np.array([0]), np.array([1]), np.array([2, 2, 2]), 3)
    assert rate.value == pytest.approx(1 / 3)
    assert rate.effective == pytest.approx(3)


def test_bootstrap_of_people_covers() -> None:
    """The mean over people with several values each."""
    generator = np.random.default_rng(7)
    covered = 0
    for trial in range(150):
        of_person = generator.normal(1, 1, 60)
        values = of_person[:, None] + generator.normal(0, 0.3, (60, 4))

        def mean(weights: np.ndarray, values: np.ndarray = values) -> float:
            return float((weights[:, None] * values).sum() / (weights.sum() * 4))

        low, high = bootstrap(mean, 60, repeats=200, seed=trial)
        covered += low <= 1 <= high
    assert 0.89 <= covered / 150 <= 0.99


def test_bootstrap_leaves_out_draws_without_a_value() -> None:
    assert all(np.isnan(bootstrap(lambda weights: float("nan"), 5, repeats=3)))


def test_rule_of_thirty() -> None:
    assert trials_for(0.01) == 3000
    assert trials_for(0.0) == 0
    assert people_for(3) == 3
    assert people_for(4) == 4
    assert people_for(1_000_000) == 1415
