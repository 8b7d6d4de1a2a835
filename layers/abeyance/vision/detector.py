"""Face detection with YuNet (Wu, Peng, Yu: YuNet, a tiny millisecond-level face detector, 2023)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from abeyance.vision.alignment import CHIP, TARGET, similarity_transform, tilt, warp
from abeyance.vision.boxes import overlaps
from abeyance.vision.image import Photo
from abeyance.vision.session import open_session

if TYPE_CHECKING:
    from PIL.Image import Image

#: Most faces of one photo, the largest: the limit of Amazon Rekognition.
MAX_FACES: Final = 100

#: Confidence of the network from which a detection counts as a face; see docs/accuracy.md for what it costs.
MIN_CONFIDENCE: Final = 0.65

_STRIDES = (8, 16, 32)
_NMS_IOU = 0.3
#: A box of which more than this share lies in a surer one, or holds more than this share of it, is the same face: a
#: close-up is also drawn around its eyes and mouth.
_NMS_INSIDE = 0.7
#: Candidates that enter non-maximum suppression: more than any photo has faces.
_MAX_CANDIDATES = 5000
#: Longest side of the coarse pass.
_COARSE_SIDE_PX = 640
#: Detect again above this tilt, as first measured.
_RECHECK_TILT_DEG = 2.5
#: Use the corrected landmarks above this tilt.
_APPLY_TILT_DEG = 9.0
#: Corrections of one face. Each finds about half of the tilt that is left.
_MAX_CORRECTIONS = 5
#: Corrections of all faces of a photo together, the largest face first. A hundred tilted faces take 150 to 220.
_MAX_CORRECTIONS_OF_A_PHOTO = 250
#: The same of a photo whose decoding takes long.
_MAX_CORRECTIONS_OF_A_COSTLY_PHOTO = 100
#: Side of the upright patch in which a tilted face is detected again, where its points come to lie, and the least
#: confidence there.
_PATCH_SIDE_PX = 160
_PATCH_POINTS = TARGET * np.float32(0.8) + np.float32((_PATCH_SIDE_PX - 0.8 * CHIP) / 2)
_PATCH_CONFIDENCE = 0.5

#: Raw detections: scores (n,), boxes (n, 4) as x, y, width, height, points (n, 5, 2); all float32.
_Detections: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, slots=True, eq=False)
class FaceDetection:
    """A detected face, in pixels of the upright photo; x runs right, y runs down, (0, 0) is the top left corner."""

    #: x, y, width, height. A face at the border may reach outside the photo.
    box: tuple[float, float, float, float]
    #: (5, 2) float32: right eye, left eye, nose tip, right and left mouth corner. Sides are the person's own.
    landmarks: NDArray[np.float32]
    #: The network's own, 0 to 1; :meth:`Detector.certainty` gives its meaning.
    confidence: float

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        return self.box[2] * self.box[3]

    def reduced(self, reduction: int) -> FaceDetection:
        """Return the face in a photo reduced by ``reduction`` along each side."""
        if reduction == 1:
            return self
        x, y, width, height = (value / reduction for value in self.box)
        # Centres of pixels lie at whole numbers.
        points = (self.landmarks + np.float32(0.5)) / np.float32(reduction) - np.float32(0.5)
        return FaceDetection((x, y, width, height), points, self.confidence)


class Detector:
    """A face detector. May be used from several threads at once.

    It runs twice: a fine pass with the photo's longest side at most ``longest_side``, and a coarse pass at 640
    pixels, because the network misses faces that fill more than some 600 pixels. The coarse pass costs a fifth of the
    fine one, and is left out where the photo is no larger than that.

    The network draws the points of a tilted face too level: at 30 degrees it reports some 13, and a face aligned by
    that is recognised half as often. Tilted faces are therefore detected again in a patch that is turned upright.

    Parameters
    ----------
    model
        Path of the converted model, or an open session.
    longest_side
        Pixels of the fine pass; a larger photo is scaled down for it. 0 runs one pass, on the photo as it is.
        Boxes and points are in pixels of the photo as given in any case.
    straighten
        Detect tilted faces again. It changes their points, not their boxes.
    certainty
        Rising (confidence, share of faces among detections with it) points; see :meth:`certainty`.
    """

    def __init__(
        self,
        model: str | Path | Any,
        *,
        longest_side: int = 1280,
        straighten: bool = True,
        certainty: Sequence[tuple[float, float]] = ((0.0, 0.0), (1.0, 1.0)),
    ) -> None:
        self._session = open_session(model) if isinstance(model, str | Path) else model
        self._input = self._session.get_inputs()[0].name
        self._outputs = [f"{part}_{stride}" for stride in _STRIDES for part in ("cls", "obj", "bbox", "kps")]
        self._longest_side = longest_side
        self._straighten = straighten
        self._certainty = np.array(certainty, np.float64).T

    def certainty(self, confidence: float) -> float:
        """Return the share of faces among detections with this confidence, 0 to 1, as measured on labelled photos."""
        return float(np.interp(confidence, *self._certainty))

    def detect(
        self,
        pixels: NDArray[np.uint8] | Photo,
        *,
        min_confidence: float = MIN_CONFIDENCE,
        max_faces: int = MAX_FACES,
    ) -> list[FaceDetection]:
        """Find the faces of a photo.

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
        list of FaceDetection
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
        fine = _scaled(photo.reduced(longest / near)[0], near)
        found = self._run(fine, min_confidence)
        if self._longest_side and near > _COARSE_SIDE_PX:
            coarse = _scaled(fine, _COARSE_SIDE_PX)
            found = _merge(found, _enlarged(self._run(coarse, min_confidence), coarse, *_size(fine)))
        scores, boxes, points = _enlarged(found, fine, photo.width, photo.height)
        largest = np.argsort(-boxes[:, 2] * boxes[:, 3], kind="stable")[:max_faces]
        most = _MAX_CORRECTIONS_OF_A_COSTLY_PHOTO if photo.is_costly else _MAX_CORRECTIONS_OF_A_PHOTO
        looks = iter(range(most))
        return [
            FaceDetection(
                box=tuple(boxes[i].tolist()),
                landmarks=self._straightened(photo, points[i], looks) if self._straighten else points[i],
                confidence=float(scores[i]),
            )
            for i in largest
        ]

    def _run(self, picture: NDArray[np.uint8] | Image, min_confidence: float) -> _Detections:
        outputs = self._session.run(self._outputs, {self._input: _tensor(np.asarray(picture))})
        scores, boxes, points = _decode(outputs, _size(picture)[0], min_confidence)
        kept = _suppress(boxes, np.argsort(-scores, kind="stable")[:_MAX_CANDIDATES])
        return scores[kept], boxes[kept], points[kept]

    def _straightened(
        self, photo: Photo, landmarks: NDArray[np.float32], looks: Iterator[int]
    ) -> NDArray[np.float32]:
        """Return the points of a tilted face, found in a small patch that is turned upright further each time.

        Each correction takes one of the photo's ``looks``.
        """
        drawn = landmarks
        if abs(tilt(drawn)) < _RECHECK_TILT_DEG:
            return drawn
        for _ in islice(looks, _MAX_CORRECTIONS):
            matrix = similarity_transform(landmarks[None], _PATCH_POINTS)[0]
            if np.linalg.det(matrix[:, :2]) < 1e-12:
                break
            _, boxes, points = self._run(warp(photo, matrix, _PATCH_SIDE_PX), _PATCH_CONFIDENCE)
            # The same face lies in the middle and has the size that the patch gives it.
            middles = boxes[:, :2] + boxes[:, 2:] / 2
            off_centre = np.abs(middles - _PATCH_SIDE_PX / 2).max(axis=1)
            off_size = np.abs(boxes[:, 3] - _PATCH_SIDE_PX * 0.6)
            same = off_centre + off_size < _PATCH_SIDE_PX * 0.4
            if not same.any():
                break
            upright = points[np.flatnonzero(same)[0]]
            landmarks = (upright - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
            if abs(tilt(upright)) < _RECHECK_TILT_DEG / 2:
                break
        # A face that turns out to be nearly level was drawn well enough the first time.
        return landmarks if abs(tilt(landmarks)) >= _APPLY_TILT_DEG else drawn


def _size(picture: NDArray[np.uint8] | Image) -> tuple[int, int]:
    """Return width and height."""
    return (picture.shape[1], picture.shape[0]) if isinstance(picture, np.ndarray) else picture.size


def _scaled(picture: NDArray[np.uint8] | Image, longest_side: int) -> NDArray[np.uint8] | Image:
    """Return the picture with at most this longest side; a copy stays Pillow's, for a smaller copy of it."""
    width, height = _size(picture)
    if max(height, width) <= longest_side:
        return picture
    from PIL import Image

    scale = longest_side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    # With this gap Pillow averages by a whole factor first: two and a half times as fast, and faces are found as well.
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0)


def _enlarged(found: _Detections, small: NDArray[np.uint8] | Image, width: int, height: int) -> _Detections:
    """Return detections in a scaled picture as pixels of the larger one; each side was rounded on its own."""
    across, down = _size(small)
    scale = np.array([width / across, height / down], np.float32)
    scores, boxes, points = found
    return scores, boxes * np.tile(scale, 2), points * scale


def _merge(fine: _Detections, coarse: _Detections) -> _Detections:
    """Return the faces of both passes, each once, from the pass that is surer of it."""
    scores, boxes, points = (np.concatenate(pair) for pair in zip(fine, coarse, strict=True))
    kept = _suppress(boxes, np.argsort(-scores, kind="stable"))
    return scores[kept], boxes[kept], points[kept]


def _tensor(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (1, 3, H, W) float32 BGR, H and W filled up with black to multiples of 32."""
    height, width = pixels.shape[:2]
    tensor = np.empty((1, 3, -(-height // 32) * 32, -(-width // 32) * 32), np.float32)
    tensor[0, :, :height, :width] = pixels.transpose(2, 0, 1)[::-1]
    tensor[0, :, height:] = 0
    tensor[0, :, :, width:] = 0
    return tensor


def _decode(outputs: list[NDArray[np.float32]], width: int, min_confidence: float) -> _Detections:
    """Return the detections of cells with at least ``min_confidence``, for an input of this width in pixels."""
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
    """Return the indices that non-maximum suppression keeps: no box shows the face of an earlier one."""
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        shared, of_smaller = (found[0] for found in overlaps(boxes[best], boxes[rest]))
        order = rest[(shared <= _NMS_IOU) & (of_smaller <= _NMS_INSIDE)]
    return np.array(kept, np.intp)
