"""SimilarityCalibration on people whose score distribution is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from abeyance.evaluation.calibration import block, calibrate, components, knots, unique_people
from abeyance.evaluation.clusters import ClusteredScale, compare, fit, held_out
from abeyance.evaluation.errors import DataInvalid, TooFew
from abeyance.evaluation.pairs import scan
from abeyance.vision.models.manifest import SimilarityCalibration
from abeyance.vision.similarity import SimilarityScale


def groups_of(count: int, seed: int = 0) -> tuple[NDArray[np.float32], list[str]]:
    """Three groups; people of the last look much more alike than those of the first."""
    generator = np.random.default_rng(seed)
    vectors, labels = [], []
    for name, alike in (("few", 0.2), ("some", 0.5), ("many", 0.9)):
        centre = generator.standard_normal(32)
        rows = alike * centre + generator.standard_normal((count, 32))
        vectors.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        labels += [name] * count
    return np.concatenate(vectors).astype(np.float32), labels


def test_components_link_through_others() -> None:
    roots = components(6, np.array([1, 2, 4]), np.array([2, 3, 5]))
    assert roots.tolist() == [0, 1, 1, 1, 4, 4]


def test_repeated_people_are_left_out_with_their_low_scores() -> None:
    vectors, _ = groups_of(100)
    again = vectors[:10] + 0.02 * np.random.default_rng(1).standard_normal((10, 32)).astype(np.float32)
    again /= np.linalg.norm(again, axis=1, keepdims=True)
    rows, several = unique_people(np.concatenate([vectors, again]), 0.95)
    assert several == 10
    assert rows.tolist() == list(range(300))
    assert len(unique_people(vectors, None)[0]) == 300


def test_the_worst_group_sets_the_scale() -> None:
    vectors, labels = groups_of(250)
    found = calibrate(
        vectors, labels, model="m", anchors={80: 1e-2, 99: 1e-3}, alternatives=[None, 0.9], repeats=30
    )
    assert {anchor.worst for anchor in found.anchors} == {"many"}
    for anchor in found.anchors:
        worst = next(row for row in anchor.groups if row.group == "many").fmr
        assert worst.value <= anchor.fmr
        assert all(row.fmr.value <= worst.value for row in anchor.groups)
        # Straight from the scores: no lower cosine on the grid would do.
        many = vectors[500:]
        scores = (many @ many.T)[np.triu_indices(250, 1)]
        assert (
            (scores >= anchor.threshold).mean()
            <= anchor.fmr
            < (scores >= anchor.threshold - 2e-4).mean() + 1e-4
        )
        assert anchor.threshold_low < anchor.threshold < anchor.threshold_high
    assert found.pairs == 750 * 749 // 2
    assert found.pairs_within_groups == 3 * 250 * 249 // 2
    assert found.sensitivity[0].thresholds["80"] == pytest.approx(found.anchors[0].threshold, abs=2e-4)


def test_what_it_costs_and_the_block_of_the_manifest() -> None:
    vectors, labels = groups_of(150)
    scores = np.array([0.1, 0.5, 0.99, -np.inf])
    found = calibrate(
        vectors,
        labels,
        model="m",
        anchors={80: 1e-2},
        mated=[("own", scores, np.arange(4), 2)],
        repeats=10,
    )
    assert found.costs[0].fnmr["80"].count == (scores < found.anchors[0].threshold).sum()
    written = SimilarityCalibration(**{**block(found, "s", "race"), "knots": tuple(map(tuple, found.knots))})
    assert SimilarityScale(written.knots).cosine(80.0) == pytest.approx(found.anchors[0].threshold)
    assert "in the worst group, many" in written.provenance


def test_what_cannot_be_calibrated() -> None:
    vectors, labels = groups_of(30)
    with pytest.raises(TooFew) as caught:
        calibrate(vectors, labels, model="m", anchors={99: 1e-5})
    assert caught.value.need == 500_000
    with pytest.raises(DataInvalid, match="lower false-match rate"):
        calibrate(vectors, labels, model="m", anchors={80: 1e-2, 99: 1e-1})
    with pytest.raises(DataInvalid, match="rising"):
        knots([(0.5, 80), (0.5, 99)])
    with pytest.raises(DataInvalid, match="rising"):
        knots([(-0.1, 80)])


def test_a_clustered_scale_is_a_false_match_rate() -> None:
    pytest.importorskip("sklearn")
    vectors, _ = groups_of(300)
    scale = fit(vectors, 3)
    found = scan(vectors, level=-1.0)
    clusters = scale.cluster(vectors)
    scores = scale.score(found.scores, clusters[found.left], clusters[found.right])
    for cluster in range(3):
        inside = (clusters[found.left] == cluster) & (clusters[found.right] == cluster)
        both = (clusters[found.left] == cluster) | (clusters[found.right] == cluster)
        # A cluster's own calibration holds for the pairs that it takes part in.
        own = scale.score(found.scores[both], *(np.full(both.sum(), cluster),) * 2)
        assert (own >= 2).mean() == pytest.approx(0.01, rel=0.2)
        assert inside.any()
    table = scale.matrix(vectors[:5] @ vectors[:7].T, clusters[:5], clusters[:7])
    one = scale.score((vectors[:5] @ vectors[:7].T)[:, 3], clusters[:5], np.full(5, clusters[3]))
    np.testing.assert_allclose(table[:, 3], one)
    assert np.isfinite(scores).all()


def test_a_clustered_line_goes_on_beyond_its_ends() -> None:
    scale = ClusteredScale(np.eye(1, 2, dtype=np.float32), np.array([[0.0, 0.1, 0.2, 0.3]]))
    cosine = np.array([-0.1, 0.0, 0.15, 0.3, 0.4], np.float32)
    zero = np.zeros(5, np.int64)
    np.testing.assert_allclose(scale.score(cosine, zero, zero), [-0.4, 0.3, 1.5, 3, 4], atol=1e-5)


def test_clusters_on_people_held_out() -> None:
    """Groups that cluster are what this is made for: here it has to narrow the spread."""
    pytest.importorskip("sklearn")
    vectors, labels = groups_of(400)
    codes = np.array([["few", "some", "many"].index(label) for label in labels])
    generator = np.random.default_rng(3)
    again = vectors + 0.25 * generator.standard_normal(vectors.shape).astype(np.float32)
    again /= np.linalg.norm(again, axis=1, keepdims=True)
    plain, clustered = held_out(vectors, codes, vectors, again, clusters=[3], fnmrs=[0.3])
    assert (plain.method, clustered.method) == ("cosine", "3 clusters")
    assert plain.fnmr == pytest.approx(0.3, abs=0.01)
    assert clustered.worst_over_geometric_mean < plain.worst_over_geometric_mean
    with pytest.raises(TooFew):
        fit(vectors[:50], 3)


def test_compare_counts_each_pair_once() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    mated = np.array([[1, 0]], np.float32)
    found = compare(vectors, np.array([0, 0, 1, 1]), mated, mated, None, 0.0)
    assert found.overall_fmr == pytest.approx(2 / 6)
    assert found.worst_fmr == 1
    assert found.max_over_min == 1
