"""Comparison of all pairs in blocks, against a comparison pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from abeyance.evaluation import pairs as module
from abeyance.evaluation.errors import DataInvalid, TooFew
from abeyance.evaluation.pairs import BINS, at_or_above, bin_of, edge, rate_curve, scan, threshold_at


def unit(count: int, seed: int = 0, dimension: int = 16) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_bins_and_edges() -> None:
    assert edge(0) == -1
    assert edge(BINS // 2) == 0
    assert bin_of(-1) == 0
    assert bin_of(0.5) == BINS * 3 // 4
    assert bin_of(0.5 + 1e-7) == BINS * 3 // 4 + 1
    assert bin_of(2) == BINS


@pytest.mark.parametrize("block", [7, 1000, 1 << 21])
def test_all_pairs_of_one_set(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(module, "_BLOCK_SCORES", block)
    vectors = unit(60)
    groups = np.random.default_rng(1).integers(0, 3, 60)
    found = scan(vectors, groups=groups, group_count=3, level=0.3)
    left, right = np.triu_indices(60, 1)
    scores = np.einsum("ij,ij->i", vectors[left], vectors[right])
    assert found.total == len(scores) == 1770
    for group in range(3):
        inside = (groups[left] == group) & (groups[right] == group)
        assert found.within[group].sum() == inside.sum()
        assert at_or_above(found.within[group], 0.25) == pytest.approx((scores[inside] >= 0.25).sum(), abs=0)
    assert at_or_above(found.histogram, 0.25) == (scores >= 0.25).sum()
    expected = {(a, b) for a, b, s in zip(left, right, scores, strict=True) if s >= 0.3}
    kept = {(min(a, b), max(a, b)) for a, b in zip(found.left.tolist(), found.right.tolist(), strict=True)}
    assert kept == expected
    assert (np.diff(found.scores) <= 0).all()
    dots = np.einsum("ij,ij->i", vectors[found.left], vectors[found.right])
    np.testing.assert_allclose(found.scores, dots, atol=1e-6)


def test_pairs_of_one_person_are_left_out() -> None:
    vectors = unit(30)
    assert scan(vectors, people=np.arange(30) // 3).total == 30 * 29 // 2 - 10 * 3
    assert scan(vectors, people=np.arange(30)).total == 30 * 29 // 2


def test_all_pairs_of_two_sets() -> None:
    a, b = unit(40, 1), unit(50, 2)
    found = scan(a, b, level=0.4)
    assert found.total == 2000
    scores = a @ b.T
    assert len(found.scores) == (scores >= 0.4).sum()
    assert at_or_above(found.histogram, 0.0) == (scores >= 0).sum()
    left, right = found.matches(0.5)
    assert len(left) == (scores >= 0.5).sum() < len(found.scores)
    assert (scores[left, right] >= 0.5).all()


def test_equal_and_opposite_templates_are_counted() -> None:
    vectors = np.array([[1, 0], [1, 0], [-1, 0]], np.float32)
    found = scan(vectors)
    assert found.histogram[-1] == 1
    assert found.histogram[0] == 2


def test_threshold_by_hand() -> None:
    histogram = np.zeros(BINS, np.int64)
    histogram[[100, 200, 300, 400]] = 25
    # A quarter of the pairs reaches bin 400; half reaches bin 300.
    assert threshold_at(histogram, 0.25) == edge(301)
    assert threshold_at(histogram, 0.3) == edge(301)
    assert threshold_at(histogram, 0.5) == edge(201)
    assert rate_curve(histogram)[300] == 0.5
    with pytest.raises(TooFew) as caught:
        threshold_at(histogram, 0.001)
    assert (caught.value.have, caught.value.need) == (100, 1000)


def test_too_many_pairs_to_keep() -> None:
    with pytest.raises(DataInvalid, match="higher threshold"):
        scan(unit(50), level=-1.0, max_kept=100)
