"""Face detection: recall by size and false positives, against boxes that people marked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from abeyance.evaluation.arrays import IntArray
from abeyance.evaluation.datasets import LabelledImage
from abeyance.evaluation.errors import TooFew
from abeyance.evaluation.intervals import Rate, clustered_rate
from abeyance.evaluation.templates import TemplateExtractor, Tick
from abeyance.vision.boxes import iou

if TYPE_CHECKING:
    from abeyance.vision.detector import FaceDetection

Box = tuple[float, float, float, float]

#: Height of the face in pixels of the photo as it is: [from, below).
SIZES_PX = ((0.0, 16.0), (16.0, 24.0), (24.0, 40.0), (40.0, 80.0), (80.0, float("inf")))


class RecallAtSize(msgspec.Struct, frozen=True, kw_only=True):
    """Recall among faces of one range of heights in pixels; ``below`` is None for any larger."""

    at_least: float
    below: float | None
    recall: Rate


class DetectionResult(msgspec.Struct, frozen=True, kw_only=True):
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
    sizes: tuple[RecallAtSize, ...]


def match(
    marked: Sequence[Box], found: Sequence[Box], confidence: Sequence[float], overlap: float = 0.5
) -> IntArray:
    """Assign detections to marked faces, the most confident first, each face once.

    Parameters
    ----------
    marked, found
        Boxes: x, y, width, height in pixels.
    overlap
        Least intersection over union.

    Returns
    -------
    NDArray
        (n,) int64: index of the marked face of each detection, or -1.
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
) -> DetectionResult:
    """Compare detections with marked faces, image by image.

    Marked faces lower than ``min_size`` pixels, and detections of them or of that size, are left out, because many
    small faces are not marked.

    Parameters
    ----------
    marked, found
        Boxes of each image: x, y, width, height in pixels.
    confidence
        Confidence of each detection, 0 to 1.
    overlap
        Least intersection over union.
    min_confidence
        Confidence that the detections were made with; reported only.
    """
    hits: list[bool] = []
    heights: list[float] = []
    face_image: list[int] = []
    correct: list[bool] = []
    detection_image: list[int] = []
    confidences: list[float] = []
    for image, (boxes, detections, certain) in enumerate(zip(marked, found, confidence, strict=True)):
        matched = match(boxes, detections, certain, overlap).tolist()
        hits += [index in matched for index in range(len(boxes))]
        heights += [box[3] for box in boxes]
        face_image += [image] * len(boxes)
        for index, detection, value in zip(matched, detections, certain, strict=True):
            if (boxes[index][3] if index >= 0 else detection[3]) >= min_size:
                correct.append(index >= 0)
                detection_image.append(image)
                confidences.append(value)
    hit, height, images = np.array(hits, bool), np.array(heights), np.array(face_image, np.int64)

    def recall(low: float, high: float) -> Rate:
        rows = (height >= low) & (height < high)
        return clustered_rate(hit[rows], images[rows])

    overall = recall(min_size, np.inf)
    false_positives = len(correct) - sum(correct)
    return DetectionResult(
        images=len(marked),
        min_size=min_size,
        overlap=overlap,
        min_confidence=min_confidence,
        recall=overall,
        precision=clustered_rate(np.array(correct, bool), np.array(detection_image, np.int64)),
        false_positives=false_positives,
        false_positives_per_image=false_positives / max(1, len(marked)),
        average_precision=average_precision(correct, confidences, overall.trials),
        sizes=tuple(
            RecallAtSize(at_least=low, below=None if np.isinf(high) else high, recall=recall(low, high))
            for low, high in SIZES_PX
        ),
    )


def average_precision(correct: Sequence[bool], confidence: Sequence[float], faces: int) -> float:
    """Return the area under precision over recall as steps, where there were ``faces`` faces to find."""
    if not faces or not len(correct):
        return 0.0
    order = np.argsort(-np.asarray(confidence), kind="stable")
    true = np.asarray(correct)[order]
    precision = np.cumsum(true) / np.arange(1, len(true) + 1)
    return float(precision[true].sum() / faces)


#: The most that may be said of a detection.
_HIGHEST_CERTAINTY = 0.999


class DetectionStudy(msgspec.Struct, frozen=True, kw_only=True):
    """Result of ``abeyance evaluate detection``."""

    model: str
    source: str
    milliseconds_per_image: float
    result: DetectionResult
    #: (least confidence, recall, precision).
    by_confidence: tuple[tuple[float, float, float], ...]
    #: (confidence of the network, share of faces among detections of any size with it), for the manifest; empty if
    #: there are too few detections.
    certainty: tuple[tuple[float, float], ...] = ()


def detect_images(
    images: Sequence[LabelledImage],
    extractor: TemplateExtractor,
    *,
    name: str,
    model: str,
    min_size: float,
    overlap: float,
    tick: Tick | None = None,
) -> DetectionStudy:
    """Detect faces in labelled images once, at a low confidence, and compare at all higher confidences.

    Parameters
    ----------
    min_size
        Least height of a face in pixels.
    overlap
        Least intersection over union of a detection and a marked face.
    """
    from abeyance.vision.image import open_photo

    lowest = min(0.3, extractor.min_confidence)
    found, times = [], []
    for image in images:
        photo = open_photo(image.path.read_bytes())
        started = time.perf_counter()
        found.append(extractor.detector.detect(photo, min_confidence=lowest, max_faces=5000))
        times.append(time.perf_counter() - started)
        if tick:
            tick()

    def at(confidence: float) -> DetectionResult:
        kept = [[face for face in faces if face.confidence >= confidence] for faces in found]
        return evaluate_detection(
            [image.boxes for image in images],
            [[face.box for face in faces] for faces in kept],
            [[face.confidence for face in faces] for faces in kept],
            min_size=min_size,
            overlap=overlap,
            min_confidence=confidence,
        )

    steps = [at(round(float(c), 2)) for c in np.arange(lowest, 0.96, 0.05)]
    return DetectionStudy(
        model=model,
        source=name,
        milliseconds_per_image=float(np.median(times) * 1e3) if times else 0.0,
        result=at(extractor.min_confidence),
        by_confidence=tuple((s.min_confidence, s.recall.value, s.precision.value) for s in steps),
        certainty=_certainty(images, found, overlap),
    )


def _certainty(
    images: Sequence[LabelledImage], found: Sequence[Sequence[FaceDetection]], overlap: float
) -> tuple[tuple[float, float], ...]:
    from abeyance.evaluation.attribute_fit import isotonic

    confidences: list[float] = []
    correct: list[bool] = []
    for image, faces in zip(images, found, strict=True):
        own = [face.confidence for face in faces]
        matched = match(image.boxes, [face.box for face in faces], own, overlap)
        confidences += own
        correct += (matched >= 0).tolist()
    try:
        knots = isotonic(np.array(confidences), np.array(correct, bool), parts=20)
    except TooFew:
        return ()
    # Nothing that was counted is certain.
    return ((0.0, 0.0), *((x, min(y, _HIGHEST_CERTAINTY)) for x, y in knots), (1.0, _HIGHEST_CERTAINTY))
