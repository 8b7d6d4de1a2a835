"""Boxes: ``x, y, width, height`` of an axis-parallel rectangle, x to the right, y down."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def iou(a: ArrayLike, b: ArrayLike) -> NDArray[np.floating[Any]]:
    """Return the intersection over union of every box of ``a`` with every box of ``b``.

    Parameters
    ----------
    a, b
        (n, 4) and (m, 4) boxes in one frame and one unit; (4,) is one box.

    Returns
    -------
    NDArray
        (n, m) values from 0 to 1; 0 where both boxes are empty.
    """
    return overlaps(a, b)[0]


def overlaps(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Return :func:`iou`, and the intersection over the smaller box, of every box of ``a`` with every box of ``b``."""
    first, second = np.atleast_2d(a)[:, None], np.atleast_2d(b)[None]
    low = np.maximum(first[..., :2], second[..., :2])
    sides = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:]) - low
    np.maximum(sides, 0, out=sides)
    shared = sides[..., 0] * sides[..., 1]
    areas = first[..., 2] * first[..., 3], second[..., 2] * second[..., 3]
    return _ratio(shared, areas[0] + areas[1] - shared), _ratio(shared, np.minimum(*areas))


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.floating[Any]]:
    result: NDArray[np.floating[Any]] = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return result
