"""Squares cut out of a photo as each attribute model was trained: turned, scaled, sampled finely.

Transforms are (2, 3) matrices from photo to square, pixels whose centres lie at whole numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from abeyance.vision.alignment import similarity_transform

#: Where the five points lie in a chip of dlib's with 150 pixels and a padding of 0.25, measured.
_DLIB_150 = np.array(
    [[46.92, 45.01], [103.84, 45.85], [75.82, 78.05], [50.92, 102.75], [99.96, 103.23]], np.float64
)


def dlib_transform(landmarks: NDArray[np.float32], side: int, padding: float) -> NDArray[np.float32]:
    """Return the transform to a chip of dlib's with ``side`` pixels and ``padding`` of the face's width around it."""
    inside = _DLIB_150 / 150 * 1.5 - 0.25
    target = (inside + padding) / (1 + 2 * padding) * side
    matrix: NDArray[np.float32] = similarity_transform(landmarks[None], target.astype(np.float32))[0]
    return matrix


def square_transform(centre: tuple[float, float], size: float, roll: float, side: int) -> NDArray[np.float32]:
    """Return the transform to a square of ``side`` pixels that shows ``size`` pixels of the photo around ``centre``.

    Parameters
    ----------
    roll
        Tilt of the head in degrees, clockwise; the square is turned with it.
    """
    angle, scale = np.radians(roll), side / max(size, 1e-6)
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    shift = (side - 1) / 2 - turn @ np.array(centre)
    return np.concatenate([turn, shift[:, None]], axis=1).astype(np.float32)


def cut(pixels: NDArray[np.uint8], matrix: NDArray[np.float32], side: int) -> NDArray[np.uint8]:
    """Return (side, side, 3) uint8: the photo through ``matrix``, bilinear, black outside the photo.

    Parameters
    ----------
    pixels
        (h, w, 3) uint8 RGB, upright.

    Notes
    -----
    A square that shows more than two pixels in one is cut from a reduced photo, so that no pixel is skipped.
    """
    from PIL import Image

    turn, shift = matrix[:, :2].astype(np.float64), matrix[:, 2].astype(np.float64)
    if abs(np.linalg.det(turn)) < 1e-12:
        return np.zeros((side, side, 3), np.uint8)
    back = np.linalg.inv(turn)
    origin = -back @ shift
    factor = max(1, int(np.sqrt(abs(np.linalg.det(back))) / 2))
    corners = np.array([[-1, -1], [side, -1], [-1, side], [side, side]]) @ back.T + origin
    height, width = pixels.shape[:2]
    left, top = np.clip(np.floor(corners.min(axis=0)) - factor, 0, [width, height]).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)) + factor + 1, 0, [width, height]).astype(int)
    if right <= left or bottom <= top:
        return np.zeros((side, side, 3), np.uint8)
    part = Image.fromarray(np.ascontiguousarray(pixels[top:bottom, left:right]))
    if factor > 1:
        part = part.reduce(factor)
    # Pillow puts corners, not centres, of pixels at whole numbers.
    start = (origin - [left, top] + 0.5 - back @ [0.5, 0.5]) / factor
    rows = np.column_stack([back / factor, start])
    square = part.transform(
        (side, side), Image.Transform.AFFINE, tuple(rows.ravel().tolist()), Image.Resampling.BILINEAR
    )
    return np.asarray(square)


def back_to_photo(matrix: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (..., k, 2) points of a square as points of the photo."""
    turn, shift = matrix[:, :2].astype(np.float64), matrix[:, 2].astype(np.float64)
    return np.asarray((points - shift) @ np.linalg.inv(turn).T, np.float32)
