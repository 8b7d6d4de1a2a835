"""Alignment: faces cut out and turned so that eyes, nose and mouth always lie at the same place.

Two templates are comparable only if both chips were aligned in the same way, so the name of the alignment is part of an
embedder's identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from abeyance.vision.image import Photo

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

#: Pixels that are averaged at once.
_BAND_PX = 2_000_000


def similarity_transform(
    source: NDArray[np.float32], target: NDArray[np.float32] = TARGET
) -> NDArray[np.float32]:
    """Return the least-squares rotation, scale and shift of points onto points (Umeyama 1991, in two dimensions).

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
    """Return the tilt of a face in the photo in degrees; positive is clockwise.

    Eyes and corners of the mouth lie on lines across the head, which stay level when it nods or turns.
    """
    along = landmarks[1] - landmarks[0] + landmarks[4] - landmarks[3]
    return float(np.degrees(np.arctan2(along[1], along[0])))


def align(pixels: NDArray[np.uint8] | Photo, landmarks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return aligned chips of faces.

    Parameters
    ----------
    pixels
        (h, w, 3) uint8 RGB, upright; or a photo, of which a reduced copy is used for faces that are large enough.
    landmarks
        (n, 5, 2), or (5, 2) for one face: right eye, left eye, nose, right and left mouth corner, in pixels.

    Returns
    -------
    NDArray
        (n, 112, 112, 3) uint8 RGB chips, sampled bilinearly; pixels outside the photo are black. A face more than six
        times as large as its chip is first averaged down by a whole factor, or sampling would skip most of its pixels.
    """
    points = np.asarray(landmarks, np.float32).reshape(-1, 5, 2)
    chips = np.empty((len(points), CHIP, CHIP, 3), np.uint8)
    for chip, matrix in zip(chips, similarity_transform(points), strict=True):
        chip[...] = warp(pixels, matrix, CHIP)
    return chips


def warp(pixels: NDArray[np.uint8] | Photo, matrix: NDArray[np.float32], side: int) -> NDArray[np.uint8]:
    """Return a square of ``side`` pixels, sampled bilinearly through the (2, 3) transform from photo to square."""
    (a, b, tx), (c, d, ty) = matrix.astype(np.float64)
    determinant = a * d - b * c
    if abs(determinant) < 1e-12:
        return np.zeros((side, side, 3), np.uint8)
    # The inverse of the transform on a grid is an outer sum, because it is affine: x and y of rows and of columns.
    grid = np.arange(side)
    down, across = (grid - ty) / determinant, (grid - tx) / determinant
    places = np.stack([-b * down, d * across, a * down, -c * across])
    reduction = abs(determinant) ** -0.5
    if not isinstance(pixels, np.ndarray):
        pixels, reduced = pixels.reduced(reduction)
        places, reduction = _in_blocks(places, reduced), reduction / reduced
    # A third of the reduction is left to bilinear sampling, as OpenCV leaves all of it.
    factor = max(1, int(reduction / 3))
    left, right = _between(places[0], places[1])
    top, bottom = _between(places[2], places[3])
    height, width = pixels.shape[:2]
    if factor > 1 or left < 0 or top < 0 or right >= width - 1 or bottom >= height - 1:
        pixels, left, top = _surroundings(pixels, (left, right), (top, bottom), frame=factor + 1)
        places -= np.array([left, 0, top, 0])[:, None]
        if factor > 1:
            pixels, places = averaged(pixels, factor), _in_blocks(places, factor)
        height, width = pixels.shape[:2]
        # The square may reach far outside; all is black there.
        x = np.clip(np.add.outer(places[0], places[1]), 0, np.nextafter(width - 1, 0))
        y = np.clip(np.add.outer(places[2], places[3]), 0, np.nextafter(height - 1, 0))
    else:
        x, y = np.add.outer(places[0], places[1]), np.add.outer(places[2], places[3])
    return _sample(pixels, x.ravel(), y.ravel()).reshape(side, side, 3)


def _in_blocks(places: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Return places in a photo reduced by ``factor`` along each side; see :func:`warp` for their order.

    Centres of pixels lie at whole numbers, so the centre of a block lies half a block less half a pixel further. A
    place is the sum of two numbers, so each gets half of that.
    """
    return (places + 0.25) / factor - 0.25 if factor > 1 else places


def _between(rows: NDArray[np.float64], columns: NDArray[np.float64]) -> tuple[int, int]:
    """Return the whole pixels around the outer sum."""
    low, high = rows.min() + columns.min(), rows.max() + columns.max()
    return int(np.floor(low)), int(np.floor(high))


def _sample(pixels: NDArray[np.uint8], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return (n, 3) values at n points, bilinear; every point has a pixel at its right and below."""
    width, flat = pixels.shape[1], np.ascontiguousarray(pixels).reshape(-1)
    column, row = x.astype(np.intp), y.astype(np.intp)
    right, down = (x - column).astype(np.float32), (y - row).astype(np.float32)
    # Taken from the bytes of the photo, so that only the pixels in use are copied and converted.
    corner = (row * width + column) * 3
    values = np.empty((len(x), 3), np.uint8)
    for channel in range(3):
        upper = _mixed(flat[channel:], corner, right)
        lower = _mixed(flat[channel + 3 * width :], corner, right)
        lower -= upper
        lower *= down
        upper += lower
        upper += np.float32(0.5)
        values[:, channel] = upper
    return values


def _mixed(plane: NDArray[np.uint8], at: NDArray[np.intp], right: NDArray[np.float32]) -> NDArray[np.float32]:
    here = plane.take(at).astype(np.float32)
    there = plane[3:].take(at).astype(np.float32)
    there -= here
    there *= right
    here += there
    return here


def _surroundings(
    pixels: NDArray[np.uint8], across: tuple[int, int], down: tuple[int, int], frame: int
) -> tuple[NDArray[np.uint8], int, int]:
    """Return the part of the photo with the points and ``frame`` pixels around it, and the place of its corner.

    Pixels outside the photo are black.
    """
    height, width = pixels.shape[:2]
    # Outside the photo one pixel of black stands for all of it.
    left, right = max(-frame - 1, across[0] - frame), min(width + frame + 1, across[1] + 2 + frame)
    top, bottom = max(-frame - 1, down[0] - frame), min(height + frame + 1, down[1] + 2 + frame)
    part = np.zeros((max(bottom - top, 2), max(right - left, 2), 3), np.uint8)
    inside = pixels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if inside.size:
        part[max(-top, 0) :, max(-left, 0) :][: inside.shape[0], : inside.shape[1]] = inside
    return part, left, top


def averaged(pixels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return pixels in which blocks of ``factor`` x ``factor`` have become one; those at the edge may be smaller."""
    from PIL import Image

    height, width = pixels.shape[:2]
    blocks = np.empty((-(-height // factor), -(-width // factor), 3), np.uint8)
    # In bands, because Pillow makes a copy with four bytes a pixel of all that it gets.
    rows = max(1, _BAND_PX // (width * factor))
    for top in range(0, len(blocks), rows):
        band = Image.fromarray(pixels[top * factor : (top + rows) * factor])
        blocks[top : top + rows] = np.asarray(band.reduce(factor))
    return blocks
