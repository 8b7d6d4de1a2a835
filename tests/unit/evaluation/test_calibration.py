"""Calibration on people whose score distribution is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from abeyance.evaluation.calibration import block, calibrate, knots
from abeyance.evaluation.errors import DataInvalid, TooFew
from abeyance.evaluation.templates import MatedPairs
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


def scores_of(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosines of all pairs."""
    scores: NDArray[np.float32] = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
    return scores


def test_a_judged_list_cleans_the_scale_and_the_report_says_of_whom() -> None:
    vectors, labels = groups_of(150)
    again = np.concatenate([vectors, vectors[-20:]])
    people = np.concatenate([np.arange(450), np.arange(430, 450)])
    found = calibrate(
        again,
        labels + labels[-20:],
        model="m",
        anchors={80: 1e-2},
        judged=("list.csv", people),
        levels=[0.999],
        attributes={"age": ["20-29"] * 450 + ["0-2"] * 20},
        repeats=10,
    )
    clean = calibrate(vectors, labels, model="m", anchors={80: 1e-2}, repeats=10)
    assert found.anchors[0].threshold == clean.anchors[0].threshold
    assert found.people == 450
    assert [row.removed for row in found.cleaning.removed["age"]] == [20, 0]
    none, by_cosine = found.alternatives
    assert none.thresholds["80"] is not None
    assert none.thresholds["80"] > found.anchors[0].threshold
    # Within group and age: the copies have another age, so a cosine does not find them.
    assert by_cosine.photos_left_out == 0
    with pytest.raises(DataInvalid, match="not by both"):
        calibrate(again, labels + labels[-20:], model="m", judged=("l", people), same_person=0.6)


def test_the_worst_group_sets_the_scale() -> None:
    vectors, labels = groups_of(250)
    found = calibrate(vectors, labels, model="m", anchors={80: 1e-2, 99: 1e-3}, levels=[0.9], repeats=30)
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
        assert anchor.overall.count == (scores_of(vectors) >= np.float32(anchor.threshold)).sum()
    assert found.pairs == 750 * 749 // 2
    assert found.pairs_within_groups == 3 * 250 * 249 // 2
    assert found.cleaning.how == "nothing left out"
    assert found.cleaning.thresholds["80"] == pytest.approx(found.anchors[0].threshold, abs=2e-4)


def test_fnmr_at_the_anchors_and_the_manifest_block() -> None:
    vectors, labels = groups_of(150)
    scores = np.array([0.1, 0.5, 0.99, -np.inf])
    found = calibrate(
        vectors,
        labels,
        model="m",
        anchors={80: 1e-2},
        mated=[("own", MatedPairs(np.arange(4), np.arange(4), scores, np.arange(4), 2))],
        repeats=10,
    )
    assert found.costs[0].fnmr["80"].count == (scores < found.anchors[0].threshold).sum()
    written = SimilarityCalibration(**{**block(found, "s", "race"), "knots": tuple(map(tuple, found.knots))})
    assert SimilarityScale(written.knots).cosine(80.0) == pytest.approx(found.anchors[0].threshold)
    assert "in the worst group, many" in written.provenance


def test_errors_of_calibration() -> None:
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
