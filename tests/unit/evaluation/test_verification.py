"""Verification metrics: worked by hand, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from abeyance.evaluation.pairs import BINS, PairScan, scan, threshold_at
from abeyance.evaluation.verification import (
    OperatingPoint,
    best_threshold,
    det,
    equal_error_rate,
    fold_accuracy,
    operating_points,
    split_folds,
)


def histogram_of(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.bincount(((scores + 1) * BINS / 2).astype(int), minlength=BINS).astype(np.int64)


def test_best_threshold_by_hand() -> None:
    scores = np.array([0.1, 0.2, 0.6, 0.5, 0.8, 0.9])
    same = np.array([False, False, False, True, True, True])
    # Between 0.2 and 0.5 or between 0.6 and 0.8, one of the six is wrong; the middle of the two is taken.
    assert (scores >= best_threshold(scores, same)).sum() in (3, 4)
    clean = np.array([0.1, 0.2, 0.3, 0.5, 0.8, 0.9])
    assert best_threshold(clean, same) == pytest.approx(0.4)


def test_accuracy_over_folds_by_hand() -> None:
    # In each fold the other fold's threshold is 0.4; one pair of the second fold is on its wrong side.
    scores = np.array([0.2, 0.6, 0.2, 0.6, 0.6])
    same = np.array([False, True, False, True, False])
    found = fold_accuracy(scores, same, np.array([0, 0, 1, 1, 1]), np.arange(5))
    assert found.folds == (1.0, pytest.approx(2 / 3))
    assert found.mean == pytest.approx(5 / 6)
    assert found.standard_deviation == pytest.approx(np.std([1, 2 / 3], ddof=1))
    assert found.low < found.mean < found.high


def test_a_missing_face_is_an_error_in_mated_pairs_only() -> None:
    scores = np.array([0.2, 0.6, 0.2, 0.6, -np.inf, -np.inf])
    same = np.array([False, True, False, True, True, False])
    found = fold_accuracy(scores, same, np.array([0, 0, 1, 1, 1, 1]), np.arange(6))
    assert found.failures == 2
    assert found.folds == (1.0, 0.75)


def test_folds_are_cut_from_the_published_ones() -> None:
    same = np.array([True, False] * 20)
    folds = split_folds(["1"] * 20 + ["2"] * 20, same, 10)
    assert sorted(set(folds.tolist())) == list(range(10))
    assert all(same[folds == fold].sum() == 2 for fold in range(10))
    assert set(folds[:20].tolist()) == set(range(5))
    assert split_folds([str(i) for i in range(40)], same, 10).tolist() == list(range(40))


def test_det_against_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    mated, others = (
        generator.normal(0.6, 0.15, 500).clip(-0.99, 0.99),
        generator.normal(0, 0.2, 5000).clip(-0.99, 0.99),
    )
    curve = det(mated, histogram_of(others), points=4000)
    fpr, fnr, thresholds = metrics.det_curve(np.r_[np.ones(500), np.zeros(5000)], np.r_[mated, others])
    ours = np.interp(thresholds, curve.threshold, curve.fnmr)
    np.testing.assert_allclose(ours, fnr, atol=0.004)
    theirs = np.interp(curve.threshold, thresholds, fpr)
    within = (np.array(curve.threshold) > thresholds[0]) & (np.array(curve.threshold) < thresholds[-1])
    np.testing.assert_allclose(np.array(curve.fmr)[within], theirs[within], atol=0.002)
    equal = fpr[np.argmin(np.abs(fpr - fnr))]
    assert equal_error_rate(mated, histogram_of(others)) == pytest.approx(equal, abs=0.003)


def test_the_det_falls_and_rises() -> None:
    generator = np.random.default_rng(1)
    curve = det(generator.uniform(0, 1, 100), histogram_of(generator.uniform(-1, 0.5, 1000)))
    assert (np.diff(curve.fmr) <= 0).all()
    assert (np.diff(curve.fnmr) >= 0).all()


def people(
    count: int, photos: int, seed: int, noise: float = 0.7
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    of_person = generator.standard_normal((count, 32))
    vectors = np.repeat(of_person, photos, axis=0) + noise * generator.standard_normal((count * photos, 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), np.repeat(np.arange(count), photos)


def mated_of(vectors: NDArray[np.float32], photos: int) -> NDArray[np.float64]:
    return np.einsum("ij,ij->i", vectors[::photos], vectors[1::photos]).astype(np.float64)


def point_of(vectors: NDArray[np.float32], owners: NDArray[np.int64], rate: float) -> OperatingPoint:
    found = scan(vectors, people=owners, level=-1.0)
    mated = mated_of(vectors, 2)
    measured, missing = operating_points(
        mated, np.arange(len(mated)), found, owners, fmrs=[rate, 1e-9], repeats=100
    )
    assert missing[0].fmr == 1e-9
    return measured[0]


def test_fnmr_at_fmr_by_hand() -> None:
    # Scores of strangers 0.01 ... 1.00; at FMR 0.1 the ten highest may match: threshold above 0.90.
    scores = np.arange(1, 101)[::-1] / 101
    numbers = np.arange(100, dtype=np.int32)
    found = PairScan(
        histogram=histogram_of(scores),
        within=np.zeros((0, BINS), np.int64),
        left=numbers,
        right=numbers,
        scores=scores.astype(np.float32),
        level=-1.0,
    )
    mated = np.array([0.5, 0.89, 0.95, 0.97, -np.inf])
    (point,), missing = operating_points(
        mated, np.arange(5), found, np.arange(100), np.arange(100), fmrs=[0.1, 1e-6], repeats=20
    )
    assert point.threshold == pytest.approx(90 / 101, abs=1e-4)
    assert point.false_matches == 10
    assert (point.fnmr.count, point.fnmr.trials) == (3, 5)
    assert missing[0].pairs_needed == 1_000_000


def test_intervals_of_fnmr_at_fmr_cover() -> None:
    """The truth from many people, intervals from few."""
    vectors, owners = people(1500, 2, 99)
    found = scan(vectors, people=owners)
    truth = float((mated_of(vectors, 2) < threshold_at(found.histogram, 0.01)).mean())
    covered = 0
    for seed in range(40):
        point = point_of(*people(80, 2, seed), 0.01)
        covered += point.fnmr.low <= truth <= point.fnmr.high
    assert covered >= 35
