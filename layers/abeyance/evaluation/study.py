"""Studies: from photos and templates to results, as the commands run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from abeyance.evaluation.arrays import IntArray
from abeyance.evaluation.datasets import LabelledPhoto, PhotoPair, PhotoSet, person_of
from abeyance.evaluation.demographics import overall_rate
from abeyance.evaluation.errors import DataInvalid
from abeyance.evaluation.identification import Identification, identify
from abeyance.evaluation.intervals import Rate, clustered_rate
from abeyance.evaluation.pairs import PairScan, at_or_above, histogram_of, scan, threshold_at
from abeyance.evaluation.templates import MatedPairs, TemplateSet, templates_cosine
from abeyance.evaluation.verification import (
    FMRS,
    DetCurve,
    FoldAccuracy,
    OperatingPoint,
    UnmeasurableFmr,
    det,
    equal_error_rate,
    fold_accuracy,
    measurable_fmrs,
    operating_points,
    split_folds,
)

#: Pairs of each kind to look at.
_SUSPECTS = 10
#: A threshold as (similarity on the model's scale, cosine).
Threshold = tuple[float, float]


class RatesAtSimilarity(msgspec.Struct, frozen=True, kw_only=True):
    """Error rates at a similarity of the model's scale."""

    similarity: float
    cosine: float
    fmr: Rate
    fnmr: Rate


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    """A pair whose label the model doubts: perhaps one of its photos shows somebody else, or both show one person."""

    mated: bool
    image_a: str
    image_b: str
    cosine: float


class VerificationStudy(msgspec.Struct, frozen=True, kw_only=True):
    """Result of ``abeyance evaluate verification``."""

    model: str
    source: str
    strangers: str
    photos: int
    #: People of the mated pairs; 0 if the source does not name persons.
    people: int
    failures_to_detect: int
    rejected: int
    mated_pairs: int
    same_shot_pairs_left_out: int
    non_mated_pairs: int
    #: Over the published pairs; None if there are none.
    accuracy: FoldAccuracy | None
    equal_error_rate: float
    operating: tuple[OperatingPoint, ...]
    unmeasurable: tuple[UnmeasurableFmr, ...]
    fixed: tuple[RatesAtSimilarity, ...]
    det: DetCurve
    #: Mated pairs that are least alike, and strangers who are most alike.
    suspects: tuple[Suspect, ...] = ()


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


def verify_photos(
    photos: PhotoSet,
    templates: TemplateSet,
    *,
    model: str,
    similarities: Sequence[Threshold],
    strangers: tuple[PhotoSet, TemplateSet] | None = None,
    same_shot: float = 0.95,
    accuracy: FoldAccuracy | None = None,
) -> VerificationStudy:
    """Compare all mated pairs of ``photos`` with all non-mated pairs.

    Parameters
    ----------
    similarities
        Thresholds to report beside those at fixed FMRs.
    strangers
        Other people: non-mated pairs are one of ``photos`` and one of these. Without them, they are among ``photos``.
    same_shot
        See :meth:`abeyance.evaluation.templates.MatedPairs.of`.
    accuracy
        Accuracy over published pairs of the same photos, to be reported as well.

    Raises
    ------
    DataInvalid
        If there are no mated pairs.
    """
    mated = MatedPairs.of(photos, templates, same_shot)
    if not len(mated.scores):
        raise DataInvalid(f"{photos.name} has no person with two different photos")
    rows = np.flatnonzero(templates.found)
    people = photos.person_codes[rows]
    left, right, other_people, other_rows = templates.vectors[rows], None, None, rows
    if strangers is not None:
        other_rows = np.flatnonzero(strangers[1].found)
        right, other_people = strangers[1].vectors[other_rows], strangers[0].person_codes[other_rows]
    repeated = people if strangers is None else None
    # The lowest level that the largest FMR and the fixed thresholds need, so that few pairs are kept.
    coarse = scan(left, right, people=repeated)
    levels = [cosine for _, cosine in similarities]
    fixed_levels = tuple(levels)
    measurable = coarse.total * max(FMRS) >= 1
    levels.append(threshold_at(coarse.histogram, min(0.5, 2 * max(FMRS))) if measurable else 0.2)
    found = scan(left, right, people=repeated, level=max(min(levels), -1.0))
    measured, missing = operating_points(mated.scores, mated.people, found, people, other_people)
    return _verification_study(
        photos,
        templates,
        mated,
        found.histogram,
        model=model,
        strangers=strangers[0].name if strangers else photos.name,
        people=len(np.unique(mated.people)),
        accuracy=accuracy,
        operating=tuple(measured),
        unmeasurable=tuple(missing),
        fixed=_at_similarities(similarities, mated, lambda t: overall_rate(found, people, t, other_people)),
        suspects=_suspects(
            photos, strangers[0] if strangers else photos, mated, found, rows, other_rows, fixed_levels
        ),
    )


def _suspects(
    photos: PhotoSet,
    others: PhotoSet,
    mated: MatedPairs,
    found: PairScan,
    rows: IntArray,
    other_rows: IntArray,
    levels: Sequence[float],
) -> tuple[Suspect, ...]:
    """Return the mated pairs below the lowest level and the strangers above the highest, the most doubtful first.

    Parameters
    ----------
    rows, other_rows
        Row of the photo of each row that was scanned, and of the second set.
    """

    def pair(mated: bool, a: LabelledPhoto, b: LabelledPhoto, cosine: float) -> Suspect:
        return Suspect(mated=mated, image_a=a.label, image_b=b.label, cosine=round(float(cosine), 4))

    unlike = [i for i in np.argsort(mated.scores) if -np.inf < mated.scores[i] < min(levels)][:_SUSPECTS]
    alike = range(min(_SUSPECTS, len(found.matches(max(levels))[0])))
    return tuple(
        pair(True, photos.photos[mated.first[i]], photos.photos[mated.second[i]], mated.scores[i])
        for i in unlike
    ) + tuple(
        pair(
            False,
            photos.photos[rows[found.left[k]]],
            others.photos[other_rows[found.right[k]]],
            found.scores[k],
        )
        for k in alike
    )


def verify_pairs(
    pairs: Sequence[PhotoPair],
    extract: Callable[[Sequence[Path]], TemplateSet],
    *,
    name: str,
    model: str,
    similarities: Sequence[Threshold],
    folds: int = 10,
) -> VerificationStudy:
    """Measure accuracy over published pairs, and error rates.

    Error rates are over all pairs of the photos if their folders name the same persons as the pairs do; otherwise over
    the published pairs only, and then thresholds have no interval, for want of persons.
    """
    paths = list(dict.fromkeys(path for pair in pairs for path in (pair.a, pair.b)))
    templates = extract(paths)
    row = {path: number for number, path in enumerate(paths)}
    first, second = np.array([(row[pair.a], row[pair.b]) for pair in pairs]).T
    scores = templates_cosine(templates, first, second)
    same = np.array([pair.same for pair in pairs])
    photos = PhotoSet(name, tuple(LabelledPhoto(path, person_of(path)) for path in paths), persons_given=True)
    people = photos.person_codes
    accuracy = fold_accuracy(
        scores, same, split_folds([pair.fold for pair in pairs], same, folds), people[first]
    )
    if people.max() > 0 and ((people[first] == people[second]) == same).all():
        return verify_photos(
            photos, templates, model=model, similarities=similarities, same_shot=2.0, accuracy=accuracy
        )
    mated = MatedPairs(first[same], second[same], scores[same], people[first[same]], same_shot=0)
    others, histogram = scores[~same], histogram_of(scores[~same])
    measured, missing = measurable_fmrs(histogram, FMRS)
    return _verification_study(
        photos,
        templates,
        mated,
        histogram,
        model=model,
        strangers=name,
        people=0,
        accuracy=accuracy,
        operating=tuple(
            OperatingPoint(
                fmr=fmr,
                threshold=threshold,
                threshold_low=threshold,
                threshold_high=threshold,
                fnmr=mated.fnmr(threshold),
                false_matches=at_or_above(histogram, threshold),
                uncertain=True,
            )
            for fmr, threshold in measured
        ),
        unmeasurable=tuple(missing),
        fixed=_at_similarities(
            similarities, mated, lambda cosine: clustered_rate(others >= cosine, people[first[~same]])
        ),
    )


def _verification_study(
    photos: PhotoSet, templates: TemplateSet, mated: MatedPairs, histogram: IntArray, **results: Any
) -> VerificationStudy:
    """Return the results with counts, equal error rate and DET curve; ``histogram`` is that of non-mated pairs."""
    return VerificationStudy(
        source=photos.name,
        photos=len(photos),
        failures_to_detect=templates.failures,
        rejected=templates.rejected,
        mated_pairs=len(mated.scores),
        same_shot_pairs_left_out=mated.same_shot,
        non_mated_pairs=int(histogram.sum()),
        equal_error_rate=equal_error_rate(mated.scores, histogram),
        det=det(mated.scores, histogram),
        **results,
    )


def _at_similarities(
    similarities: Sequence[Threshold], mated: MatedPairs, fmr: Callable[[float], Rate]
) -> tuple[RatesAtSimilarity, ...]:
    return tuple(
        RatesAtSimilarity(similarity=similarity, cosine=cosine, fmr=fmr(cosine), fnmr=mated.fnmr(cosine))
        for similarity, cosine in similarities
    )


def identify_photos(
    photos: PhotoSet,
    templates: TemplateSet,
    *,
    model: str,
    similarities: Sequence[Threshold],
    distractors: tuple[PhotoSet, TemplateSet] | None = None,
    unknown: tuple[PhotoSet, TemplateSet] | None = None,
    same_shot: float = 0.95,
) -> IdentificationStudy:
    """Enrol the first photo of everybody who has several, and search for the others.

    Parameters
    ----------
    distractors
        Strangers to enrol as well, which makes the search harder.
    unknown
        Strangers to search for, who are not enrolled. Without them, the people of ``photos`` with one photo.
    """
    persons = photos.persons
    codes = photos.person_codes
    several = np.bincount(codes)[codes] > 1
    # Row of the first photo with a face of each photo's person; -1 if there is none.
    first = np.full(len(codes), -1)
    for row in np.flatnonzero(templates.found)[::-1]:
        first[codes[row]] = row
    mates = first[codes]
    is_enrolled = several & (mates == np.arange(len(codes)))
    cosines = np.einsum("ij,ij->i", templates.vectors, templates.vectors[mates])
    repeated = several & templates.found & (mates >= 0) & (cosines >= same_shot)
    searched_for = several if unknown is not None else np.ones(len(codes), bool)
    enrolled = np.flatnonzero(is_enrolled)
    probes = np.flatnonzero(searched_for & ~is_enrolled & ~repeated)
    gallery = [templates.vectors[enrolled]]
    gallery_people = [persons[row] for row in enrolled]
    searched, found = [templates.vectors[probes]], [templates.found[probes]]
    probe_people = [persons[row] for row in probes]
    if distractors is not None:
        others = np.flatnonzero(distractors[1].found)
        gallery.append(distractors[1].vectors[others])
        gallery_people += [f"distractor {row}" for row in others]
    if unknown is not None:
        searched.append(unknown[1].vectors)
        found.append(unknown[1].found)
        probe_people += [f"unknown {person}" for person in unknown[0].persons]
    return IdentificationStudy(
        model=model,
        source=photos.name,
        distractors=distractors[0].name if distractors else "",
        unknown=unknown[0].name if unknown else "",
        failures_to_detect=templates.failures,
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
