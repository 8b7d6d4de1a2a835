"""From photos to results: what the commands do, without the command line."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from abeyance.evaluation.audit import mated_pairs, person_codes
from abeyance.evaluation.datasets import LabelledImage, Pair, Photo, PhotoSet, person_of
from abeyance.evaluation.detection import Detection, evaluate_detection
from abeyance.evaluation.errors import DataInvalid
from abeyance.evaluation.identification import Identification, identify
from abeyance.evaluation.intervals import Rate, clustered_rate, dyadic_rate
from abeyance.evaluation.pairs import BINS, Scan, at_or_above, scan, threshold_at
from abeyance.evaluation.templates import Extracted, Extractor
from abeyance.evaluation.verification import (
    RATES,
    Accuracy,
    Curve,
    Operating,
    Unmeasurable,
    det,
    equal_error_rate,
    fold_accuracy,
    operating_points,
    split_folds,
)

Tick = Callable[[], None]


class Fixed(msgspec.Struct, frozen=True, kw_only=True):
    """Error rates at a similarity of the model's scale."""

    similarity: float
    cosine: float
    fmr: Rate
    fnmr: Rate


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """Result of ``abeyance evaluate verification``."""

    model: str
    source: str
    strangers: str
    photos: int
    people: int
    failures_to_detect: int
    rejected: int
    mated_pairs: int
    same_shot_pairs_left_out: int
    non_mated_pairs: int
    #: Over the published pairs, where there are such.
    accuracy: Accuracy | None
    equal_error_rate: float
    operating: tuple[Operating, ...]
    unmeasurable: tuple[Unmeasurable, ...]
    fixed: tuple[Fixed, ...]
    det: Curve


class IdentificationStudy(msgspec.Struct, frozen=True, kw_only=True):
    """Result of ``abeyance evaluate identification``."""

    model: str
    source: str
    distractors: str
    unknown: str
    failures_to_detect: int
    #: Similarity of each of the fixed thresholds.
    similarities: tuple[float, ...]
    result: Identification


class DetectionStudy(msgspec.Struct, frozen=True, kw_only=True):
    """Result of ``abeyance evaluate detection``."""

    model: str
    source: str
    milliseconds_per_image: float
    result: Detection
    #: Recall and precision as the confidence asked for varies: (confidence, recall, precision).
    by_confidence: tuple[tuple[float, float, float], ...]


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """Median milliseconds of one photo on one thread, and photos a second on all."""

    model: str
    photos: int
    workers: int
    decode: float
    detect: float
    align: float
    embed: float
    photos_per_second: float


def verify_photos(
    photos: PhotoSet,
    templates: Extracted,
    *,
    model: str,
    similarities: Sequence[tuple[float, float]],
    strangers: PhotoSet | None = None,
    stranger_templates: Extracted | None = None,
    same_shot: float = 0.95,
    accuracy: Accuracy | None = None,
    rates: Sequence[float] = RATES,
) -> Verification:
    """All mated pairs of ``photos``, against all pairs of strangers: among themselves, or with ``strangers``
    (people who are known to be others)."""
    first, _, scores, dropped = mated_pairs(photos, templates, same_shot)
    if not len(scores):
        raise DataInvalid(f"{photos.name} has no person with two different photos")
    people = person_codes(photos)
    rows = np.flatnonzero(templates.found)
    level = min(0.2, *(cosine for _, cosine in similarities))
    if strangers is not None and stranger_templates is not None:
        others = np.flatnonzero(stranger_templates.found)
        other_people = person_codes(strangers)[others]
        right = stranger_templates.vectors[others]
    else:
        other_people, right = None, None
    coarse = scan(templates.vectors[rows], right, persons_a=_named(photos, rows, right is None))
    # The lowest of what the largest rate and the fixed thresholds need: the pairs kept stay few.
    if coarse.total * max(rates) >= 1:
        level = min(threshold_at(coarse.histogram, min(0.5, 2 * max(rates))), *(c for _, c in similarities))
    kept = scan(
        templates.vectors[rows], right, persons_a=_named(photos, rows, right is None), level=max(level, -1.0)
    )
    measured, missing = operating_points(scores, people[first], kept, people[rows], other_people, rates=rates)
    return Verification(
        model=model,
        source=photos.name,
        strangers=strangers.name if strangers else photos.name,
        photos=len(photos),
        people=len(np.unique(people)),
        failures_to_detect=int((~templates.found).sum()),
        rejected=templates.rejected,
        mated_pairs=len(scores),
        same_shot_pairs_left_out=dropped,
        non_mated_pairs=kept.total,
        accuracy=accuracy,
        equal_error_rate=equal_error_rate(scores, kept.histogram),
        operating=tuple(measured),
        unmeasurable=tuple(missing),
        fixed=tuple(
            Fixed(
                similarity=similarity,
                cosine=cosine,
                fmr=_fmr(kept, people[rows], other_people, cosine),
                fnmr=clustered_rate(scores < cosine, people[first]),
            )
            for similarity, cosine in similarities
        ),
        det=det(scores, kept.histogram),
    )


def verify_pairs(
    pairs: Sequence[Pair],
    extract: Callable[[Sequence[Path]], Extracted],
    *,
    name: str,
    model: str,
    similarities: Sequence[tuple[float, float]],
    folds: int = 10,
) -> Verification:
    """Accuracy over published pairs; and, since their folders say who is who, all pairs of their photos."""
    paths = list(dict.fromkeys(path for pair in pairs for path in (pair.a, pair.b)))
    templates = extract(paths)
    row = {path: number for number, path in enumerate(paths)}
    a = np.array([row[pair.a] for pair in pairs])
    b = np.array([row[pair.b] for pair in pairs])
    scores = np.einsum("ij,ij->i", templates.vectors[a], templates.vectors[b]).astype(np.float64)
    scores[~(templates.found[a] & templates.found[b])] = -np.inf
    same = np.array([pair.same for pair in pairs])
    people = {person: number for number, person in enumerate(dict.fromkeys(map(person_of, paths)))}
    clusters = np.array([people[person_of(pair.a)] for pair in pairs])
    accuracy = fold_accuracy(scores, same, split_folds([pair.fold for pair in pairs], same, folds), clusters)
    photos = PhotoSet(name, tuple(Photo(path, person_of(path)) for path in paths), persons_given=True)
    if len(people) > 1 and _consistent(pairs):
        return verify_photos(
            photos, templates, model=model, similarities=similarities, same_shot=2.0, accuracy=accuracy
        )
    return _only_pairs(photos, templates, scores, same, clusters, accuracy, model, similarities)


def _consistent(pairs: Sequence[Pair]) -> bool:
    """Whether the folders say the same as the pairs, so that they may be taken for persons."""
    return all((person_of(pair.a) == person_of(pair.b)) == pair.same for pair in pairs)


def _only_pairs(
    photos: PhotoSet,
    templates: Extracted,
    scores: NDArray[np.float64],
    same: NDArray[np.bool_],
    clusters: NDArray[np.int64],
    accuracy: Accuracy,
    model: str,
    similarities: Sequence[tuple[float, float]],
) -> Verification:
    mated, others = scores[same], scores[~same]
    bins = np.clip((np.maximum(others, -1) + 1) * (BINS // 2), 0, BINS - 1).astype(np.int64)
    histogram = np.bincount(bins, minlength=BINS).astype(np.int64)
    order = np.argsort(-others)
    # Who the second person is, is not known: each non-mated pair counts as two people of its own.
    numbers = np.arange(len(others), dtype=np.int32)
    kept = Scan(
        histogram=histogram,
        within=np.zeros((0, BINS), np.int64),
        left=numbers[order],
        right=numbers[order],
        scores=others[order].astype(np.float32),
        level=-1.0,
    )
    operating = []
    missing = []
    for rate in RATES:
        if len(others) * rate < 1 or not len(mated):
            missing.append(Unmeasurable(fmr=rate, pairs=len(others), pairs_needed=int(np.ceil(1 / rate))))
            continue
        threshold = threshold_at(histogram, rate)
        operating.append(
            Operating(
                fmr=rate,
                threshold=threshold,
                threshold_low=threshold,
                threshold_high=threshold,
                fnmr=clustered_rate(mated < threshold, clusters[same]),
                false_matches=at_or_above(histogram, threshold),
                uncertain=True,
            )
        )
    return Verification(
        model=model,
        source=photos.name,
        strangers=photos.name,
        photos=len(photos),
        people=0,
        failures_to_detect=int((~templates.found).sum()),
        rejected=templates.rejected,
        mated_pairs=len(mated),
        same_shot_pairs_left_out=0,
        non_mated_pairs=len(others),
        accuracy=accuracy,
        equal_error_rate=equal_error_rate(mated, kept.histogram),
        operating=tuple(operating),
        unmeasurable=tuple(missing),
        fixed=tuple(
            Fixed(
                similarity=similarity,
                cosine=cosine,
                fmr=clustered_rate(others >= cosine, clusters[~same]),
                fnmr=clustered_rate(mated < cosine, clusters[same]),
            )
            for similarity, cosine in similarities
        ),
        det=det(mated, histogram),
    )


def identify_photos(
    photos: PhotoSet,
    templates: Extracted,
    *,
    model: str,
    similarities: Sequence[tuple[float, float]],
    distractors: tuple[PhotoSet, Extracted] | None = None,
    unknown: tuple[PhotoSet, Extracted] | None = None,
    same_shot: float = 0.95,
) -> IdentificationStudy:
    """Enrol the first photo of everybody who has several, and search the others.

    Parameters
    ----------
    distractors
        Strangers to enrol as well, which makes the search harder.
    unknown
        Strangers to search for, who are not enrolled. Without them, the people of ``photos`` with one photo.
    """
    first: dict[str, int] = {}
    counts: dict[str, int] = {}
    for row, person in enumerate(photos.persons):
        counts[person] = counts.get(person, 0) + 1
        if templates.found[row]:
            first.setdefault(person, row)
    enrolled = [row for person, row in first.items() if counts[person] > 1]
    taken = set(enrolled)
    probes = []
    for row, person in enumerate(photos.persons):
        if row in taken or (counts[person] == 1 and unknown is not None):
            continue
        mate = first.get(person)
        again = mate is not None and float(templates.vectors[row] @ templates.vectors[mate]) >= same_shot
        if not (again and templates.found[row] and counts[person] > 1):
            probes.append(row)
    gallery = [templates.vectors[enrolled]]
    gallery_people = [photos.persons[row] for row in enrolled]
    searched, found = [templates.vectors[probes]], [templates.found[probes]]
    probe_people = [photos.persons[row] for row in probes]
    if distractors is not None:
        rows = np.flatnonzero(distractors[1].found)
        gallery.append(distractors[1].vectors[rows])
        gallery_people += [f"distractor {row}" for row in rows]
    if unknown is not None:
        searched.append(unknown[1].vectors)
        found.append(unknown[1].found)
        probe_people += [f"unknown {person}" for person in unknown[0].persons]
    return IdentificationStudy(
        model=model,
        source=photos.name,
        distractors=distractors[0].name if distractors else "",
        unknown=unknown[0].name if unknown else "",
        failures_to_detect=int((~templates.found).sum()),
        similarities=tuple(similarity for similarity, _ in similarities),
        result=identify(
            np.concatenate(gallery),
            gallery_people,
            np.concatenate(searched),
            probe_people,
            np.concatenate(found),
            thresholds=[cosine for _, cosine in similarities],
        ),
    )


def detect_images(
    images: Sequence[LabelledImage],
    extractor: Extractor,
    *,
    name: str,
    model: str,
    min_size: float,
    overlap: float,
    tick: Tick | None = None,
) -> DetectionStudy:
    """Look for faces in labelled images, once, at a low confidence; all other confidences follow from it."""
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

    def at(confidence: float) -> Detection:
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
    )


def measure_throughput(
    paths: Sequence[Path], extractor: Extractor, *, model: str, workers: int, tick: Tick | None = None
) -> Throughput:
    """Time each step photo by photo, then all photos on all threads; nothing comes from the cache."""
    from abeyance.evaluation.templates import central
    from abeyance.vision.alignment import align
    from abeyance.vision.image import open_photo

    laps: list[list[float]] = []
    for path in paths:
        data = path.read_bytes()
        marks = [time.perf_counter()]
        photo = open_photo(data)
        marks.append(time.perf_counter())
        face = central(extractor.detector.detect(photo, min_confidence=extractor.min_confidence), photo.shape)
        marks.append(time.perf_counter())
        if face is not None:
            chip = align(photo, face.landmarks)
            marks.append(time.perf_counter())
            extractor.embedder.embed(chip)
            marks.append(time.perf_counter())
            laps.append(np.diff(marks).tolist())
        if tick:
            tick()
    if not laps:
        raise DataInvalid("no face was found in any of the photos")
    steps = np.median(np.array(laps), axis=0) * 1e3
    started = time.perf_counter()
    extractor(paths)
    return Throughput(
        model=model,
        photos=len(laps),
        workers=workers,
        decode=float(steps[0]),
        detect=float(steps[1]),
        align=float(steps[2]),
        embed=float(steps[3]),
        photos_per_second=len(paths) / (time.perf_counter() - started),
    )


def _named(photos: PhotoSet, rows: NDArray[np.int64], needed: bool) -> list[str] | None:
    return [photos.persons[row] for row in rows] if needed else None


def _fmr(kept: Scan, people: NDArray[np.int64], others: NDArray[np.int64] | None, cosine: float) -> Rate:
    matched = kept.scores >= np.float32(cosine)
    left, right = people[kept.left[matched]], kept.right[matched]
    photos = np.bincount(people)
    if others is None:
        pairs = photos * (int(photos.sum()) - photos)
        return dyadic_rate(left, people[right], pairs, int(pairs.sum()) // 2)
    theirs = np.bincount(others)
    pairs = np.concatenate([photos * int(theirs.sum()), theirs * int(photos.sum())])
    return dyadic_rate(left, others[right] + len(photos), pairs, int(photos.sum()) * int(theirs.sum()))
