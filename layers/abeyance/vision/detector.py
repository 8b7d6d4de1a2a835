"""Faces in a photo, with YuNet (Wu, Peng, Yu: YuNet, a tiny millisecond-level face detector, 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from abeyance.vision.alignment import CHIP, TARGET, similarity_transform, tilt, warp
from abeyance.vision.image import Photo
from abeyance.vision.session import open_session

_STRIDES = (8, 16, 32)
_NMS_OVERLAP = 0.3
#: Candidates that enter non-maximum suppression: more than any photo has faces.
_MOST_CANDIDATES = 5000
#: Longest side of the second look.
_FAR_SIDE = 640
#: From this size on, in pixels of the first look, a face is located better from afar.
_LARGE = 400
#: Degrees of tilt, as drawn too level, from which on a face is looked at again, and those from which on that counts.
_TILTED = 2.5
_WORTH_IT = 9.0
#: How often at most: each look finds about half of what is left of the tilt.
_MOST_TURNS = 5
#: Side of the picture that it is looked at in, where its points are put in it, and how certain it has to be.
_PATCH = 160
_PATCH_POINTS = TARGET * np.float32(0.8) + np.float32((_PATCH - 0.8 * CHIP) / 2)
_PATCH_CONFIDENCE = 0.5

#: Scores (n,), boxes (n, 4) as x, y, width, height, points (n, 5, 2); all float32.
_Found: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face, in pixels of the upright image; x runs right, y runs down, (0, 0) is the top left corner."""

    #: x, y, width, height. A face at the border may reach outside the image.
    box: tuple[float, float, float, float]
    #: (5, 2) float32: right eye, left eye, nose tip, right and left mouth corner. Sides are the person's own.
    landmarks: NDArray[np.float32]
    #: 0 to 1.
    confidence: float

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        return self.box[2] * self.box[3]


class Detector:
    """Finds faces. One detector may be used from several threads at once.

    A photo is looked at twice: once with its longest side at most ``longest_side``, and once at 640 pixels,
    because the network sees no face that fills more than some 600 pixels. The second look costs a fifth of
    the first, and is left out where the photo is no larger than that.

    Tilted faces are looked at again, turned upright by what is known, because the network draws the points of a
    tilted face too level: at 30 degrees it reports some 13, and a face aligned by that is recognised half as often.

    Parameters
    ----------
    model
        Path of the converted model, or an open session.
    longest_side
        Pixels of the first look; a larger photo is scaled down for it. 0 looks once, at the photo as it is.
        Boxes and points are in pixels of the photo as given in any case.
    straighten
        Look again at tilted faces. It changes their points, not their boxes.
    """

    def __init__(self, model: str | Path | Any, *, longest_side: int = 1280, straighten: bool = True) -> None:
        self._session = open_session(model) if isinstance(model, str | Path) else model
        self._input = self._session.get_inputs()[0].name
        self._outputs = [f"{part}_{stride}" for stride in _STRIDES for part in ("cls", "obj", "bbox", "kps")]
        self._longest_side = longest_side
        self._straighten = straighten

    def detect(
        self, pixels: NDArray[np.uint8] | Photo, *, min_confidence: float = 0.7, max_faces: int = 100
    ) -> list[Face]:
        """Find faces.

        Parameters
        ----------
        pixels
            (h, w, 3) uint8 RGB, upright; or a photo, of which no larger copy than needed is decoded.
        min_confidence
            0 to 1; less certain faces are left out.
        max_faces
            The largest faces are kept.

        Returns
        -------
        list of Face
            Largest box first.

        Raises
        ------
        ValueError
            If ``pixels`` has another shape or type.
        """
        if isinstance(pixels, np.ndarray):
            if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
                raise ValueError(f"expected (h, w, 3) uint8 pixels, not {pixels.shape} {pixels.dtype}")
            photo = Photo.of(pixels)
        else:
            photo = pixels
        longest = max(photo.width, photo.height)
        near = min(longest, self._longest_side or longest)
        seen = _scaled(photo.reduced(longest / near)[0], near)
        found = self._look(seen, min_confidence)
        if self._longest_side and near > _FAR_SIDE:
            far = _scaled(seen, _FAR_SIDE)
            height, width = seen.shape[:2]
            found = _merge(found, _enlarged(self._look(far, min_confidence), far, width, height))
        scores, boxes, points = _enlarged(found, seen, photo.width, photo.height)
        largest = np.argsort(-boxes[:, 2] * boxes[:, 3], kind="stable")[:max_faces]
        return [
            Face(
                box=tuple(boxes[i].tolist()),
                landmarks=self._straightened(photo, points[i]) if self._straighten else points[i],
                confidence=float(scores[i]),
            )
            for i in largest
        ]

    def _look(self, pixels: NDArray[np.uint8], min_confidence: float) -> _Found:
        outputs = self._session.run(self._outputs, {self._input: _tensor(pixels)})
        scores, boxes, points = _decode(outputs, pixels.shape[1], min_confidence)
        kept = _suppress(boxes, np.argsort(-scores, kind="stable")[:_MOST_CANDIDATES])
        return scores[kept], boxes[kept], points[kept]

    def _straightened(self, photo: Photo, landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points of a tilted face, found in a small picture of it that is turned upright further each time."""
        drawn = landmarks
        if abs(tilt(drawn)) < _TILTED:
            return drawn
        for _ in range(_MOST_TURNS):
            matrix = similarity_transform(landmarks[None], _PATCH_POINTS)[0]
            if np.linalg.det(matrix[:, :2]) < 1e-12:
                break
            _, boxes, points = self._look(warp(photo, matrix, _PATCH), _PATCH_CONFIDENCE)
            # The face that is meant is in the middle and as large as it was made.
            middles = boxes[:, :2] + boxes[:, 2:] / 2
            meant = (
                np.abs(middles - _PATCH / 2).max(axis=1) + np.abs(boxes[:, 3] - _PATCH * 0.6) < _PATCH * 0.4
            )
            if not meant.any():
                break
            upright = points[np.flatnonzero(meant)[0]]
            landmarks = (upright - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
            if abs(tilt(upright)) < _TILTED / 2:
                break
        # A face that turns out to be nearly level was drawn well enough the first time.
        return landmarks if abs(tilt(landmarks)) >= _WORTH_IT else drawn


def _scaled(pixels: NDArray[np.uint8], longest_side: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    if max(height, width) <= longest_side:
        return pixels
    from PIL import Image

    scale = longest_side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # With this gap Pillow averages by a whole factor first: two and a half times as fast, and faces are found as well.
    small = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0)
    return np.asarray(small)


def _enlarged(found: _Found, small: NDArray[np.uint8], width: int, height: int) -> _Found:
    """What was found in a scaled picture, in pixels of the larger one; each side was rounded on its own."""
    scale = np.array([width / small.shape[1], height / small.shape[0]], np.float32)
    scores, boxes, points = found
    return scores, boxes * np.tile(scale, 2), points * scale


def _merge(near: _Found, far: _Found) -> _Found:
    """Faces of both looks, each once: a large one as seen from afar, any other as seen from near."""
    scores, boxes, points = (np.concatenate(pair) for pair in zip(near, far, strict=True))
    from_far = np.arange(len(scores)) >= len(near[0])
    first = from_far & (boxes[:, 2:].max(axis=1) >= _LARGE)
    rank = np.where(first, 0, np.where(from_far, 2, 1))
    kept = _suppress(boxes, np.lexsort((-scores, rank)))
    return scores[kept], boxes[kept], points[kept]


def _tensor(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(1, 3, H, W) float32 BGR, H and W filled up with black to multiples of 32."""
    height, width = pixels.shape[:2]
    tensor = np.zeros((1, 3, -(-height // 32) * 32, -(-width // 32) * 32), np.float32)
    tensor[0, :, :height, :width] = pixels.transpose(2, 0, 1)[::-1]
    return tensor


def _decode(outputs: list[NDArray[np.float32]], width: int, min_confidence: float) -> _Found:
    """What those cells say that are certain enough, of a picture of this width."""
    scores, boxes, points = [], [], []
    for level, stride in enumerate(_STRIDES):
        cls, obj, bbox, kps = (out[0] for out in outputs[4 * level : 4 * level + 4])
        score = np.sqrt(np.clip(cls[:, 0], 0, 1) * np.clip(obj[:, 0], 0, 1))
        cell = np.flatnonzero(score >= min_confidence)
        columns = -(-width // 32) * 32 // stride
        origin = np.stack([cell % columns, cell // columns], axis=1).astype(np.float32)
        size = np.exp(bbox[cell, 2:]) * stride
        centre = (origin + bbox[cell, :2]) * stride
        scores.append(score[cell])
        boxes.append(np.concatenate([centre - size / 2, size], axis=1))
        points.append((origin[:, None, :] + kps[cell].reshape(-1, 5, 2)) * stride)
    return np.concatenate(scores), np.concatenate(boxes), np.concatenate(points)


def _suppress(boxes: NDArray[np.float32], order: NDArray[np.intp]) -> NDArray[np.intp]:
    """Indices that stay: a box goes if it shares more than 0.3 of the union with an earlier one."""
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    area = boxes[:, 2] * boxes[:, 3]
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        sides = np.minimum(high[best], high[rest]) - np.maximum(low[best], low[rest])
        shared = np.prod(np.maximum(sides, 0), axis=1)
        order = rest[shared <= _NMS_OVERLAP * (area[best] + area[rest] - shared)]
    return np.array(kept, np.intp)
