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
    shared, first, second = _areas(a, b)
    return _ratio(shared, first + second - shared)


def overlap_of_smaller(a: ArrayLike, b: ArrayLike) -> NDArray[np.floating[Any]]:
    """Return the intersection over the smaller box, of every box of ``a`` with every box of ``b``, as :func:`iou`."""
    shared, first, second = _areas(a, b)
    return _ratio(shared, np.minimum(first, second))


def _areas(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the areas of each intersection (n, m), and of the boxes (n, 1) and (1, m)."""
    first, second = np.atleast_2d(a)[:, None], np.atleast_2d(b)[None]
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    return shared, np.prod(first[..., 2:], axis=2), np.prod(second[..., 2:], axis=2)


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.floating[Any]]:
    result: NDArray[np.floating[Any]] = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return result
