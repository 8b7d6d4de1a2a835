"""Detection metrics, worked by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from abeyance.evaluation.detection import average_precision, evaluate_detection, match


def test_the_most_confident_detection_gets_the_face() -> None:
    face = [(0.0, 0.0, 10.0, 10.0)]
    both = [(0.0, 0.0, 10.0, 9.0), (0.0, 0.0, 10.0, 10.0)]
    assert match(face, both, [0.9, 0.8]).tolist() == [0, -1]
    assert match(face, both, [0.8, 0.9]).tolist() == [-1, 0]
    assert match([], both, [0.8, 0.9]).tolist() == [-1, -1]
    assert match(face, [], []).tolist() == []


def test_recall_and_false_positives_by_hand() -> None:
    marked = [[(0, 0, 50, 50), (100, 0, 20, 20)], [(0, 0, 100, 100)], []]
    found = [[(0, 0, 50, 50), (100, 0, 20, 20), (200, 200, 60, 60)], [], [(5, 5, 10, 10)]]
    result = evaluate_detection(marked, found, [[0.9, 0.8, 0.75], [], [0.9]])
    # The small marked face and small detections count neither way.
    assert (result.recall.count, result.recall.trials) == (1, 2)
    assert (result.false_positives, result.precision.value) == (1, 0.5)
    by_size = {size.at_least: (size.recall.count, size.recall.trials) for size in result.sizes}
    assert by_size == {0: (0, 0), 16: (1, 1), 24: (0, 0), 40: (1, 1), 80: (0, 1)}
    assert result.average_precision == 0.5


def test_average_precision_against_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    confidence = generator.random(200)
    right = generator.random(200) < confidence
    assert average_precision(right.tolist(), confidence.tolist(), int(right.sum())) == pytest.approx(
        metrics.average_precision_score(right, confidence)
    )
    assert average_precision([], [], 5) == 0
