"""Faces cut out and turned so that eyes, nose and mouth always lie at the same place.

A template is comparable with another only if both chips were cut this way, so the name of the alignment is
part of an embedder's identity.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Side of a chip in pixels.
CHIP = 112
#: Where the five points go, in chip pixels: the convention of ArcFace (Deng et al. 2019), which SFace shares.
TARGET = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ],
    np.float32,
)
TARGET.flags.writeable = False


def similarity_transform(
    source: NDArray[np.float32], target: NDArray[np.float32] = TARGET
) -> NDArray[np.float32]:
    """Least-squares rotation, scale and shift of points onto points (Umeyama 1991, in two dimensions).

    Parameters
    ----------
    source
        (n, k, 2) points, k at least 2.
    target
        (k, 2) points.

    Returns
    -------
    NDArray
        (n, 2, 3) float32 matrices M with ``target ~ M @ [x, y, 1]``. Points that all coincide give scale 0.
    """
    # In the plane, a rotation with scale is a complex factor, and the least-squares one is a quotient of two
    # sums.
    points = source[..., 0].astype(np.float64) + 1j * source[..., 1].astype(np.float64)
    goal = target[:, 0].astype(np.float64) + 1j * target[:, 1].astype(np.float64)
    middle = points.mean(axis=-1, keepdims=True)
    spread = points - middle
    power = (np.abs(spread) ** 2).sum(axis=-1)
    product = (np.conj(spread) * (goal - goal.mean())).sum(axis=-1)
    factor = np.divide(product, power, out=np.zeros_like(product), where=power > 1e-12)
    shift = goal.mean() - factor * middle[..., 0]
    matrix = np.empty((*factor.shape, 2, 3), np.float32)
    matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 0, 2] = factor.real, -factor.imag, shift.real
    matrix[..., 1, 0], matrix[..., 1, 1], matrix[..., 1, 2] = factor.imag, factor.real, shift.imag
    return matrix


def tilt(landmarks: NDArray[np.float32]) -> float:
    """How far a face is tilted in the photo, in degrees; positive is clockwise.

    Eyes and corners of the mouth lie on lines across the head, which nodding and turning leave level.
    """
    along = landmarks[1] - landmarks[0] + landmarks[4] - landmarks[3]
    return float(np.degrees(np.arctan2(along[1], along[0])))


def align(pixels: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Cut out aligned faces.

    Parameters
    ----------
    pixels
        (h, w, 3) uint8 RGB, upright.
    landmarks
        (n, 5, 2), or (5, 2) for one face: right eye, left eye, nose, right and left mouth corner, in pixels.

    Returns
    -------
    NDArray
        (n, 112, 112, 3) uint8 RGB chips, sampled bilinearly; what lies outside the photo is black. A face
        more than six times as large as its chip is first averaged down by a whole factor, or sampling would
        skip most of its pixels.
    """
    points = np.asarray(landmarks, np.float32).reshape(-1, 5, 2)
    chips = np.empty((len(points), CHIP, CHIP, 3), np.uint8)
    for chip, matrix in zip(chips, similarity_transform(points), strict=True):
        chip[...] = warp(pixels, matrix, CHIP)
    return chips


def warp(pixels: NDArray[np.uint8], matrix: NDArray[np.float32], side: int) -> NDArray[np.uint8]:
    """A square of ``side`` pixels, seen through the (2, 3) transform from photo to square; bilinear."""
    (a, b, tx), (c, d, ty) = matrix.astype(np.float64)
    determinant = a * d - b * c
    if abs(determinant) < 1e-12:
        return np.zeros((side, side, 3), np.uint8)
    grid = np.arange(side)
    # The inverse of the transform on a grid is an outer sum, because it is affine.
    x = ((d * (grid - tx))[None, :] - (b * (grid - ty))[:, None]) / determinant
    y = ((a * (grid - ty))[:, None] - (c * (grid - tx))[None, :]) / determinant
    # A third of the reduction is left to bilinear sampling, as OpenCV leaves all of it.
    factor = max(1, int(abs(determinant) ** -0.5 / 3))
    part, left, top = _surroundings(pixels, x, y, frame=2 * factor)
    x, y = x - left, y - top
    if factor > 1:
        part = _averaged(part, factor)
        # Centres of pixels lie at whole numbers, so that of a block lies half a block less half a pixel
        # further.
        x, y = (x + 0.5) / factor - 0.5, (y + 0.5) / factor - 0.5
    return _sample(part, x.ravel().astype(np.float32), y.ravel().astype(np.float32)).reshape(side, side, 3)


def _sample(pixels: NDArray[np.uint8], x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(n, 3) values at n points, bilinear; points outside take the value of the nearest border pixel."""
    height, width = pixels.shape[:2]
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    column, row = np.minimum(x.astype(np.intp), width - 2), np.minimum(y.astype(np.intp), height - 2)
    right, down = x - column, y - row
    corner = row * width + column
    values = np.empty((len(x), 3), np.uint8)
    # One plane after the other: numpy gathers single bytes several times faster than triples.
    for channel, plane in enumerate(np.ascontiguousarray(pixels.reshape(-1, 3).T)):
        upper = plane.take(corner).astype(np.float32)
        upper += (plane.take(corner + 1) - upper) * right
        lower = plane.take(corner + width).astype(np.float32)
        lower += (plane.take(corner + width + 1) - lower) * right
        values[:, channel] = upper + (lower - upper) * down + np.float32(0.5)
    return values


def _surroundings(
    pixels: NDArray[np.uint8], x: NDArray[np.float64], y: NDArray[np.float64], frame: int
) -> tuple[NDArray[np.uint8], int, int]:
    """The part of the photo that the points lie in, framed in black, and where its corner lies."""
    height, width = pixels.shape[:2]
    left, right = max(0, int(np.floor(x.min()))), min(width, int(np.floor(x.max())) + 2)
    top, bottom = max(0, int(np.floor(y.min()))), min(height, int(np.floor(y.max())) + 2)
    # All points may lie outside.
    right, bottom = max(left, right), max(top, bottom)
    part = np.zeros((bottom - top + 2 * frame, right - left + 2 * frame, 3), np.uint8)
    part[frame : frame + bottom - top, frame : frame + right - left] = pixels[top:bottom, left:right]
    return part, left - frame, top - frame


def _averaged(pixels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Blocks of ``factor`` x ``factor`` pixels as one."""
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).reduce(factor))
