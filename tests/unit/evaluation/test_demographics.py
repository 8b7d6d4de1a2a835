"""Differentials: worked by hand, and against fairlearn."""

from __future__ import annotations

import numpy as np
import pytest

from abeyance.evaluation.demographics import (
    CombinedFairness,
    combined,
    differential,
    gini,
    matrix,
    overall_rate,
    within_rates,
)
from abeyance.evaluation.intervals import Rate, clustered_rate
from abeyance.evaluation.pairs import scan
from abeyance.evaluation.prediction_accuracy import prediction_accuracy


def rate(count: int, trials: int, people: int = 100) -> Rate:
    return Rate.of(count, trials, trials, people)


def test_gini_by_hand() -> None:
    assert gini([0.2, 0.2, 0.2]) == 0
    assert gini([0.0, 0.0, 0.3]) == pytest.approx(1.0)
    # Differences 1, 2, 3 of 1, 2, 4, each twice: 12 / (2 * 9 * 7/3) = 2/7; times 3/2.
    assert gini([1, 2, 4]) == pytest.approx(3 / 7)
    assert gini([0.1]) == 0


def test_fdr_and_garbe_by_hand() -> None:
    def both(fmr: tuple[int, int], fnmr: tuple[int, int]) -> CombinedFairness:
        """Join the measures of two groups with these errors of 1000 trials."""
        first, second = (
            differential(measure, ["race"], ["a", "b"], [rate(count, 1000) for count in errors])
            for measure, errors in (("fmr", fmr), ("fnmr", fnmr))
        )
        joined = combined(first, second)
        assert joined is not None
        return joined

    assert both((1, 4), (10, 50)).fdr == pytest.approx(1 - (0.5 * 0.003 + 0.5 * 0.04))
    assert both((1, 3), (20, 20)).garbe == pytest.approx(0.5 * 0.5)


def test_ratios_by_hand() -> None:
    found = differential(
        "fmr", ["race"], ["a", "b", "c"], [rate(100, 10_000), rate(400, 10_000), rate(200, 10_000)]
    )
    assert (found.best, found.worst, found.judged) == ("a", "b", 3)
    assert found.max_over_min == pytest.approx(4)
    assert found.max_over_geometric_mean == pytest.approx(2)
    assert [row.ratio_to_best for row in found.groups] == pytest.approx([1, 4, 2])
    assert found.verdict == "differs"


def test_small_groups_get_the_number_of_people_they_need() -> None:
    found = differential(
        "fmr", ["race"], ["large", "small"], [rate(100, 100_000, 448), rate(2, 2_000, 64)], between_pairs=True
    )
    assert found.verdict == "too few"
    assert found.max_over_min is None
    small = found.groups[1]
    assert not small.judged
    # Ten errors at 1e-3 take 10 000 pairs, which 142 people make.
    assert small.more_people_needed == 142 - 64
    assert "78 more people" in found.explanation


def test_a_group_without_errors_is_planned_with_the_overall_rate() -> None:
    found = differential("fnmr", ["gender"], ["a", "b"], [rate(0, 100), rate(50, 1000, 500)], expected=0.05)
    assert found.groups[0].more_people_needed == 200 - 100
    assert found.verdict == "too few"


def test_a_group_without_trials_gets_no_number_of_people() -> None:
    nobody = clustered_rate(np.zeros(0, bool), np.zeros(0, np.int64))
    found = differential("fnmr", ["gender"], ["a", "b"], [rate(50, 1000), nobody])
    assert found.groups[1].more_people_needed is None
    assert "more people" not in found.explanation
    never = differential("fnmr", ["gender"], ["a", "b"], [rate(0, 100), rate(0, 100)])
    assert [row.more_people_needed for row in never.groups] == [None, None]
    assert "more people" not in never.explanation


def test_a_difference_that_could_be_chance_gets_no_verdict() -> None:
    found = differential("fnmr", ["gender"], ["a", "b"], [rate(20, 1000), rate(25, 1000)])
    assert found.verdict == "no difference found"
    assert "not a finding that they are equal" in found.explanation


def test_equal_groups_rarely_differ() -> None:
    generator = np.random.default_rng(3)
    told = 0
    for _ in range(200):
        rates = [clustered_rate(generator.random(2000) < 0.02, np.arange(2000)) for _ in range(6)]
        told += differential("fnmr", ["race"], list("abcdef"), rates).verdict == "differs"
    assert told / 200 < 0.05


def test_within_rates_and_matrix_by_hand() -> None:
    # Four people on two axes: group 0 points along x, group 1 along y, one of group 1 leans to x.
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0.8, 0.6]], np.float32)
    groups, people = np.array([0, 0, 1, 1]), np.arange(4)
    found = scan(vectors, level=-1.0)
    within = within_rates(found, groups, 2, people, 0.7)
    assert [(r.count, r.trials) for r in within] == [(1, 1), (0, 1)]
    assert overall_rate(found, people, 0.7).count == 3
    table = matrix(found, groups, ["x", "y"], people, 0.7)
    assert table.pairs == ((1, 4), (4, 1))
    assert table.false_matches == ((1, 2), (2, 0))
    assert table.fmr == ((1.0, 0.5), (0.5, 0.0))


def test_matrix_leaves_out_pairs_of_one_person() -> None:
    vectors = np.eye(4, dtype=np.float32)
    people = np.array([0, 0, 1, 2])
    found = scan(vectors, people=people, level=-1.0)
    table = matrix(found, np.array([0, 1, 0, 1]), ["x", "y"], people, 0.5)
    assert table.pairs == ((1, 3), (3, 1))
    assert found.total == 5


def test_combined_needs_two_shared_groups() -> None:
    fmr = differential("fmr", ["race"], ["White", "Black"], [rate(10, 1000), rate(30, 1000)])
    fnmr = differential("fnmr", ["race"], ["white", "black"], [rate(10, 100), rate(20, 100)])
    both = combined(fmr, fnmr)
    assert both is not None
    assert both.fdr == pytest.approx(1 - (0.5 * 0.02 + 0.5 * 0.1))
    assert "Read the ratios" in both.critique
    assert combined(fmr, differential("fnmr", ["race"], ["other"], [rate(1, 10)])) is None


def test_rates_against_fairlearn() -> None:
    metrics = pytest.importorskip("fairlearn.metrics")
    generator = np.random.default_rng(4)
    groups = generator.integers(0, 3, 3000)
    missed = generator.random(3000) < np.array([0.02, 0.05, 0.1])[groups]
    frame = metrics.MetricFrame(
        metrics=metrics.false_negative_rate,
        y_true=np.ones(3000, int),
        y_pred=(~missed).astype(int),
        sensitive_features=groups,
    )
    rates = [clustered_rate(missed[groups == g], np.flatnonzero(groups == g)) for g in range(3)]
    found = differential("fnmr", ["race"], ["0", "1", "2"], rates)
    assert [row.rate.value for row in found.groups] == pytest.approx(frame.by_group.tolist())
    assert found.max_over_min == pytest.approx(1 / frame.ratio())


def test_prediction_accuracy_by_hand() -> None:
    pytest.importorskip("fairlearn")
    found = prediction_accuracy(
        "gender",
        ["Male", "Male", "Female", "Female", "Male"],
        ["male", "female", "female", "female", ""],
        ["race"],
        ["a", "a", "b", "b", "b"],
    )
    assert found.overall.value == pytest.approx(0.75)
    assert {group: r.value for group, r in found.by_group.items()} == {"a": 0.5, "b": 1.0}
    assert (found.difference, found.ratio, found.unanswered) == (0.5, 0.5, 1)
