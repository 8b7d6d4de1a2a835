"""Openness of the eyes: MediaPipe's iris model on a square around each eye.

The numbers of points are those of its eye contour (Ablavatski et al., Real-time pupil tracking from monocular video for
digital puppetry, 2020): 0 to 8 along the lower lid from corner to corner, 9 to 15 along the upper one between them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from abeyance.vision.attributes.crops import cut, square_transform

#: Corners of the person's right and left eye in the mesh.
_CORNERS: Final = ((33, 133), (263, 362))
#: Extent of the square in the photo as a multiple of the distance between the corners, and side of the model's input.
_MARGIN: Final = 2.3
_SIDE: Final = 64


def cut_eyes(pixels: NDArray[np.uint8], mesh: NDArray[np.float32]) -> list[NDArray[np.uint8]]:
    """Return two (64, 64, 3) uint8 squares: the person's right eye, and the left one mirrored, as the model takes them.

    Parameters
    ----------
    mesh
        (468, 3) points in pixels of the photo.
    """
    squares = []
    for outer, inner in _CORNERS:
        first, second = mesh[outer, :2], mesh[inner, :2]
        if outer != _CORNERS[0][0]:
            first, second = second, first
        across = second - first
        centre = (first + second) / 2
        roll = float(np.degrees(np.arctan2(across[1], across[0])))
        size = _MARGIN * float(np.hypot(*across))
        squares.append(
            cut(pixels, square_transform((float(centre[0]), float(centre[1])), size, roll, _SIDE), _SIDE)
        )
    return [squares[0], np.ascontiguousarray(squares[1][:, ::-1])]


def openness(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean distance of the lids over the width of the eye, of the more open eye: (n,) float64.

    Parameters
    ----------
    points
        (n, 2, 76, 3) points of both eyes.
    """
    contour = points[..., :2].astype(np.float64)
    lower, upper = contour[..., 1:8, :], contour[..., 9:16, :]
    gaps = np.linalg.norm(upper - lower, axis=-1).mean(axis=-1)
    widths = np.linalg.norm(contour[..., 8, :] - contour[..., 0, :], axis=-1)
    return np.asarray((gaps / np.maximum(widths, 1e-6)).max(axis=-1))
