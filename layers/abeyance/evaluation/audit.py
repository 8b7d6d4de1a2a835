"""The whole audit of one deployment's models on one's own photos: false matches, misses, faces not found."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import msgspec
import numpy as np
from numpy.typing import NDArray

from abeyance.evaluation.attributes import AttributeAccuracy, attribute_accuracy
from abeyance.evaluation.calibration import unique_people
from abeyance.evaluation.datasets import PhotoSet
from abeyance.evaluation.demographics import (
    LEAST_ERRORS,
    Combined,
    Differential,
    Matrix,
    combined,
    differential,
    matrix,
    overall_rate,
    within_rates,
)
from abeyance.evaluation.errors import DataInvalid
from abeyance.evaluation.intervals import Rate, clustered_rate
from abeyance.evaluation.pairs import Scan, scan
from abeyance.evaluation.templates import Extracted

#: A grouping with more groups gets no matrix: it could not be read.
_LARGEST_MATRIX = 40


class AtThreshold(msgspec.Struct, frozen=True, kw_only=True):
    """All groupings at one threshold."""

    similarity: float
    cosine: float
    fmr: Rate | None
    fnmr: Rate | None
    false_matches: tuple[Differential, ...]
    false_non_matches: tuple[Differential, ...]
    matrices: tuple[Matrix, ...]
    combined: tuple[Combined, ...]


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found."""

    model: str
    strangers: str
    mated: str
    people: int
    pairs: int
    photos_left_out_as_same_person: int
    mated_pairs: int
    mated_pairs_left_out_as_same_shot: int
    groupings: tuple[tuple[str, ...], ...]
    failure_to_detect: tuple[Differential, ...]
    thresholds: tuple[AtThreshold, ...]
    attribute_accuracy: tuple[AttributeAccuracy, ...] = ()


def default_groupings(attributes: Sequence[str]) -> list[tuple[str, ...]]:
    """Each of race, gender and age that is given, race with gender, and all three together."""
    known = [name for name in ("race", "gender", "age") if name in attributes] or list(attributes[:3])
    groupings: list[tuple[str, ...]] = [(name,) for name in known]
    if len(known) > 1:
        groupings.append(tuple(known[:2]))
    if len(known) == 3:
        groupings.append(tuple(known))
    return groupings


def mated_pairs(
    photos: PhotoSet, templates: Extracted, same_shot: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], int]:
    """All pairs of photos of one person.

    Parameters
    ----------
    same_shot
        Pairs with this cosine or more are one photo cropped twice, and say nothing.

    Returns
    -------
    first, second : NDArray
        (m,) rows.
    scores : NDArray
        (m,) float64 cosines, -inf where either photo has no face.
    dropped : int
        Pairs left out as the same shot.
    """
    rows: dict[str, list[int]] = {}
    for row, person in enumerate(photos.persons):
        rows.setdefault(person, []).append(row)
    pairs = [pair for members in rows.values() for pair in combinations(members, 2)]
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    scores = np.einsum("ij,ij->i", templates.vectors[first], templates.vectors[second]).astype(np.float64)
    kept = scores < same_shot
    scores[~(templates.found[first] & templates.found[second])] = -np.inf
    return first[kept], second[kept], scores[kept], int((~kept).sum())


def person_codes(photos: PhotoSet) -> NDArray[np.int64]:
    """Number of every photo's person."""
    codes = {person: number for number, person in enumerate(dict.fromkeys(photos.persons))}
    return np.array([codes[person] for person in photos.persons], np.int64)


def audit(
    strangers: PhotoSet,
    templates: Extracted,
    thresholds: Sequence[tuple[float, float]],
    *,
    model: str,
    mated: PhotoSet | None = None,
    mated_templates: Extracted | None = None,
    groupings: Sequence[tuple[str, ...]] = (),
    same_person: float | None = None,
    same_shot: float = 0.95,
    least_errors: int = LEAST_ERRORS,
    predictions: dict[str, Sequence[str]] | None = None,
) -> Audit:
    """Measure differentials.

    Parameters
    ----------
    strangers, templates
        People to take for each other. If the source names persons, its own mated pairs give the FNMR too.
    thresholds
        (similarity, cosine).
    mated, mated_templates
        Another source for mated pairs.
    groupings
        Attributes to cross; :func:`default_groupings` if empty.
    same_person
        See :func:`abeyance.evaluation.calibration.unique_people`; only where the source names no persons.
    predictions
        Attribute: what some model said of every photo of ``strangers``; "" where it said nothing.
    """
    chosen = list(groupings) or default_groupings(strangers.attributes)
    if not chosen:
        raise DataInvalid(f"{strangers.name} has no attributes to group by, such as race, gender or age")
    found = np.flatnonzero(templates.found)
    if strangers.persons_given:
        kept, left_out = found, 0
    else:
        unique, _ = unique_people(templates.vectors[found], same_person)
        kept, left_out = found[unique], len(found) - len(unique)
    people = person_codes(strangers)
    level = min(cosine for _, cosine in thresholds)
    measured = scan(
        templates.vectors[kept],
        persons_a=[strangers.persons[row] for row in kept] if strangers.persons_given else None,
        level=level,
    )
    if mated is None and strangers.persons_given:
        mated, mated_templates = strangers, templates
    pairs = None
    if mated is not None and mated_templates is not None:
        pairs = mated_pairs(mated, mated_templates, same_shot)
    labels = {grouping: _labels(strangers, grouping) for grouping in chosen}
    return Audit(
        model=model,
        strangers=strangers.name,
        mated=mated.name if mated else "",
        people=len(np.unique(people[kept])),
        pairs=measured.total,
        photos_left_out_as_same_person=left_out,
        mated_pairs=len(pairs[2]) if pairs else 0,
        mated_pairs_left_out_as_same_shot=pairs[3] if pairs else 0,
        groupings=tuple(chosen),
        failure_to_detect=tuple(
            _trials("failure_to_detect", grouping, *labels[grouping], ~templates.found, people, least_errors)
            for grouping in chosen
        ),
        thresholds=tuple(
            _at(similarity, cosine, measured, kept, people, labels, mated, pairs, least_errors)
            for similarity, cosine in thresholds
        ),
        attribute_accuracy=tuple(
            attribute_accuracy(
                attribute, strangers.labels([attribute]), said, grouping, strangers.labels(grouping)
            )
            for attribute, said in (predictions or {}).items()
            for grouping in chosen
        ),
    )


def _at(
    similarity: float,
    cosine: float,
    measured: Scan,
    kept: NDArray[np.int64],
    people: NDArray[np.int64],
    labels: dict[tuple[str, ...], tuple[list[str], NDArray[np.int64]]],
    mated: PhotoSet | None,
    pairs: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], int] | None,
    least_errors: int,
) -> AtThreshold:
    # Numbered anew: only these people take part.
    owners = np.unique(people[kept], return_inverse=True)[1]
    overall = overall_rate(measured, owners, cosine)
    fmrs, fnmrs, matrices, both = [], [], [], []
    for grouping, (names, codes) in labels.items():
        fmr = differential(
            "fmr",
            grouping,
            names,
            within_rates(measured, codes[kept], len(names), owners, cosine),
            least_errors=least_errors,
            between_pairs=True,
            expected=overall.value,
        )
        fmrs.append(fmr)
        if len(names) <= _LARGEST_MATRIX:
            matrices.append(matrix(measured, codes[kept], names, owners, cosine))
        if mated is not None and pairs is not None and all(a in mated.attributes for a in grouping):
            first, _, scores, _ = pairs
            group_names, group_codes = _labels(mated, grouping)
            fnmr = _trials(
                "fnmr",
                grouping,
                group_names,
                group_codes[first],
                scores < cosine,
                person_codes(mated)[first],
                least_errors,
            )
            fnmrs.append(fnmr)
            one = combined(fmr, fnmr)
            if one:
                both.append(one)
    missed = None
    if mated is not None and pairs is not None:
        missed = clustered_rate(pairs[2] < cosine, person_codes(mated)[pairs[0]])
    return AtThreshold(
        similarity=similarity,
        cosine=cosine,
        fmr=overall,
        fnmr=missed,
        false_matches=tuple(fmrs),
        false_non_matches=tuple(fnmrs),
        matrices=tuple(matrices),
        combined=tuple(both),
    )


def _labels(photos: PhotoSet, grouping: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    labels = photos.labels(grouping)
    names = sorted(set(labels))
    return names, np.array([names.index(label) for label in labels], np.int64)


def _trials(
    measure: str,
    grouping: Sequence[str],
    names: Sequence[str],
    codes: NDArray[np.int64],
    errors: NDArray[np.bool_],
    people: NDArray[np.int64],
    least_errors: int,
) -> Differential:
    """Groups of trials that each belong to one person."""
    rates = [clustered_rate(errors[codes == i], people[codes == i]) for i in range(len(names))]
    return differential(
        measure,
        grouping,
        names,
        rates,
        least_errors=least_errors,
        expected=float(errors.mean()) if len(errors) else 0.0,
    )
