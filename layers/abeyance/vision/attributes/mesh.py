"""The face mesh: 468 points in three dimensions, and the pose, mouth and landmarks that follow from them.

The numbers of points are those of MediaPipe's face mesh (Kartynnik et al., Real-time facial surface geometry
from monocular video on mobile GPUs, 2019). Its x and y are pixels of a square cut around the face, its z grows
away from the camera, in about the same unit. Names count sides as the viewer sees them, as Rekognition does:
``eyeLeft`` is on the left of the photo, the person's own right.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

POINTS: Final = 468
#: Side of the model's input in pixels, and its extent in the photo as a multiple of the longer side of the box.
SIDE: Final = 192
MARGIN: Final = 1.5

#: Rekognition's 30 landmarks as points of the mesh; an eye's centre and its pupil are the mean of its rim.
LANDMARKS: Final[dict[str, list[int]]] = json.loads(Path(__file__).with_name("landmarks.json").read_bytes())

#: Pairs that a head at rest has level, from the photo's left to its right.
_ACROSS: Final = ((33, 263), (127, 356), (234, 454), (61, 291), (70, 300))
#: From the forehead down to the chin, past everything that moves.
_DOWN: Final = ((10, 152), (151, 200), (9, 199))
#: Pitch in degrees of the line down the face in frontal official portraits (median of 233).
_LEVEL_DEG: Final = -7.3

#: Inner rims of the lips, upper and lower, and the inner corners.
_LIPS: Final = ((82, 87), (13, 14), (312, 317))
_LIP_CORNERS: Final = (78, 308)


def pose(mesh: NDArray[np.float32]) -> tuple[float, float, float]:
    """Return yaw, pitch and roll in degrees, signs as in :class:`abeyance.vision.quality.FaceQuality`.

    Parameters
    ----------
    mesh
        (468, 3) points in a frame that is not turned against the photo.
    """
    across = np.mean([mesh[b] - mesh[a] for a, b in _ACROSS], axis=0)
    down = np.mean([mesh[b] - mesh[a] for a, b in _DOWN], axis=0)
    across, down = across / np.linalg.norm(across), down / np.linalg.norm(down)
    roll = np.arctan2(across[1], across[0])
    # As if the head were not tilted.
    cosine, sine = np.cos(roll), np.sin(roll)
    level = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    across, down = level @ across, level @ down
    yaw = np.arctan2(across[2], across[0])
    turned = np.cos(yaw) * down[2] - np.sin(yaw) * down[0]
    pitch = np.arctan2(-turned, down[1])
    return float(np.degrees(yaw)), float(np.degrees(pitch)) - _LEVEL_DEG, float(np.degrees(roll))


def mouth_openness(mesh: NDArray[np.float32]) -> float:
    """Return the distance of the lips' inner rims over the width of the mouth."""
    left, right = _LIP_CORNERS
    width = float(np.linalg.norm(mesh[left] - mesh[right]))
    return float(np.mean([np.linalg.norm(mesh[a] - mesh[b]) for a, b in _LIPS])) / max(width, 1e-6)


def landmarks(mesh: NDArray[np.float32]) -> dict[str, tuple[float, float]]:
    """Return the 30 landmarks by Rekognition's names, x and y in the frame of the mesh."""
    return {name: _middle(mesh, points) for name, points in LANDMARKS.items()}


def _middle(mesh: NDArray[np.float32], points: Sequence[int]) -> tuple[float, float]:
    if len(points) == 1:
        # Most are; a mean of NumPy takes fifty times as long.
        return float(mesh[points[0], 0]), float(mesh[points[0], 1])
    return float(mesh[points, 0].mean()), float(mesh[points, 1].mean())
