"""Intersection over union, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from abeyance.vision.boxes import iou


def test_iou_by_hand() -> None:
    # Squares of 10, shifted by 5: 50 shared of 150.
    found = iou(np.array([[0.0, 0, 10, 10]]), np.array([[5.0, 0, 10, 10], [20, 20, 5, 5], [0, 0, 10, 10]]))
    np.testing.assert_allclose(found, [[1 / 3, 0, 1]])


def test_one_box_is_a_matrix_of_one_row() -> None:
    one = (0.0, 0.0, 2.0, 2.0)
    assert iou(one, one).tolist() == [[1.0]]
    assert iou(one, (1.0, 0.0, 2.0, 2.0)) == pytest.approx(1 / 3)
    assert iou(one, (5.0, 5.0, 1.0, 1.0)).tolist() == [[0.0]]


def test_empty_boxes_share_nothing() -> None:
    assert iou((1.0, 1.0, 0.0, 0.0), (1.0, 1.0, 0.0, 0.0)).tolist() == [[0.0]]
    assert iou((0.0, 0.0, 1.0, 1.0), np.empty((0, 4))).shape == (1, 0)
