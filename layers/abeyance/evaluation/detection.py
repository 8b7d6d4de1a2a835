"""Which faces are found? Recall by size and false positives, against boxes that people marked."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from abeyance.evaluation.intervals import Rate, clustered_rate
from abeyance.vision.boxes import iou

Box = tuple[float, float, float, float]

#: Height of the face in pixels of the photo as it is: [from, below).
SIZES = ((0.0, 16.0), (16.0, 24.0), (24.0, 40.0), (40.0, 80.0), (80.0, float("inf")))


class Sized(msgspec.Struct, frozen=True, kw_only=True):
    """Recall among faces of one range of heights; ``to`` is None for any larger."""

    at_least: float
    below: float | None
    recall: Rate


class Detection(msgspec.Struct, frozen=True, kw_only=True):
    """Detections against marked faces of ``min_size`` pixels or more."""

    images: int
    min_size: float
    overlap: float
    min_confidence: float
    recall: Rate
    precision: Rate
    false_positives: int
    false_positives_per_image: float
    average_precision: float
    sizes: tuple[Sized, ...]


def match(
    marked: Sequence[Box], found: Sequence[Box], confidence: Sequence[float], overlap: float = 0.5
) -> NDArray[np.int64]:
    """Which marked face each detection is: the surest chooses first, and each face is taken once.

    Returns
    -------
    NDArray
        (n,) index of the marked face, or -1.
    """
    result = np.full(len(found), -1, np.int64)
    if not len(found) or not len(marked):
        return result
    overlaps = iou(np.array(found, np.float64), np.array(marked, np.float64))
    for index in np.argsort(-np.asarray(confidence), kind="stable"):
        best = int(np.argmax(overlaps[index]))
        if overlaps[index, best] >= overlap:
            result[index] = best
            overlaps[:, best] = 0
    return result


def evaluate_detection(
    marked: Sequence[Sequence[Box]],
    found: Sequence[Sequence[Box]],
    confidence: Sequence[Sequence[float]],
    *,
    min_size: float = 40.0,
    overlap: float = 0.5,
    min_confidence: float = 0.7,
) -> Detection:
    """Compare detections with marked faces, image by image.

    Marked faces lower than ``min_size`` pixels, and detections of them or of that size, count neither for nor
    against: many small faces are not marked at all.
    """
    hits: list[bool] = []
    heights: list[float] = []
    face_image: list[int] = []
    right: list[bool] = []
    detection_image: list[int] = []
    sureness: list[float] = []
    for image, (boxes, detections, sure) in enumerate(zip(marked, found, confidence, strict=True)):
        matched = match(boxes, detections, sure, overlap)
        taken = set(matched.tolist())
        hits += [index in taken for index in range(len(boxes))]
        heights += [box[3] for box in boxes]
        face_image += [image] * len(boxes)
        for index, detection, certain in zip(matched.tolist(), detections, sure, strict=True):
            if (boxes[index][3] if index >= 0 else detection[3]) >= min_size:
                right.append(index >= 0)
                detection_image.append(image)
                sureness.append(certain)
    hit, height, images = np.array(hits, bool), np.array(heights), np.array(face_image, np.int64)
    large = height >= min_size
    wrong = len(right) - sum(right)
    return Detection(
        images=len(marked),
        min_size=min_size,
        overlap=overlap,
        min_confidence=min_confidence,
        recall=clustered_rate(hit[large], images[large]),
        precision=clustered_rate(np.array(right, bool), np.array(detection_image, np.int64)),
        false_positives=wrong,
        false_positives_per_image=wrong / max(1, len(marked)),
        average_precision=average_precision(right, sureness, int(large.sum())),
        sizes=tuple(
            Sized(
                at_least=low,
                below=None if np.isinf(high) else high,
                recall=clustered_rate(
                    hit[(height >= low) & (height < high)], images[(height >= low) & (height < high)]
                ),
            )
            for low, high in SIZES
        ),
    )


def average_precision(right: Sequence[bool], confidence: Sequence[float], faces: int) -> float:
    """Area under precision over recall as steps, over ``faces`` faces that could have been found."""
    if not faces or not len(right):
        return 0.0
    order = np.argsort(-np.asarray(confidence), kind="stable")
    true = np.asarray(right)[order]
    precision = np.cumsum(true) / np.arange(1, len(true) + 1)
    return float(precision[true].sum() / faces)
