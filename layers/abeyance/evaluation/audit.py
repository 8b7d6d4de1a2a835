"""Bias audit of the deployed models on one's own photos: FMR, FNMR and failures to detect by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from abeyance.evaluation.arrays import BoolArray, IntArray
from abeyance.evaluation.cleaning import people_by_cosine
from abeyance.evaluation.datasets import PhotoSet, codes_of
from abeyance.evaluation.demographics import (
    MIN_ERRORS,
    CombinedFairness,
    Differential,
    FmrMatrix,
    combined,
    differential,
    matrix,
    overall_rate,
    within_rates,
)
from abeyance.evaluation.errors import DataInvalid
from abeyance.evaluation.intervals import Rate, clustered_rate
from abeyance.evaluation.pairs import PairScan, scan
from abeyance.evaluation.prediction_accuracy import PredictionAccuracy, prediction_accuracy
from abeyance.evaluation.templates import MatedPairs, TemplateSet

#: A grouping with more groups gets no matrix, which would be too large to read.
_MAX_MATRIX_GROUPS = 40

#: Names of the groups, and the number of each photo's group.
_Groups = tuple[list[str], IntArray]


class AuditAtThreshold(msgspec.Struct, frozen=True, kw_only=True):
    """Differentials of all groupings at one threshold."""

    similarity: float
    cosine: float
    fmr: Rate | None
    fnmr: Rate | None
    false_matches: tuple[Differential, ...]
    false_non_matches: tuple[Differential, ...]
    matrices: tuple[FmrMatrix, ...]
    combined: tuple[CombinedFairness, ...]


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """Result of ``abeyance audit demographics``."""

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
    thresholds: tuple[AuditAtThreshold, ...]
    attribute_accuracy: tuple[PredictionAccuracy, ...] = ()


def default_groupings(attributes: Sequence[str]) -> list[tuple[str, ...]]:
    """Return each of race, gender and age that is available, race with gender, and all three together."""
    known = [name for name in ("race", "gender", "age") if name in attributes] or list(attributes[:3])
    groupings: list[tuple[str, ...]] = [(name,) for name in known]
    if len(known) > 1:
        groupings.append(tuple(known[:2]))
    if len(known) == 3:
        groupings.append(tuple(known))
    return groupings


def audit(
    strangers: PhotoSet,
    templates: TemplateSet,
    thresholds: Sequence[tuple[float, float]],
    *,
    model: str,
    mated: tuple[PhotoSet, TemplateSet] | None = None,
    groupings: Sequence[tuple[str, ...]] = (),
    judged: IntArray | None = None,
    same_person: float | None = None,
    same_shot: float = 0.95,
    min_errors: int = MIN_ERRORS,
    predictions: Mapping[str, Sequence[str]] | None = None,
) -> Audit:
    """Measure differentials.

    Parameters
    ----------
    strangers, templates
        People to compare with each other. If the source names persons, its own mated pairs give the FNMR too.
    thresholds
        (similarity, cosine).
    mated
        Another source of mated pairs.
    groupings
        Attributes to cross; :func:`default_groupings` if empty.
    judged, same_person
        The person of each photo by a judged list, or a cosine; see :mod:`abeyance.evaluation.cleaning`. Only if the
        source names no persons.
    same_shot
        See :meth:`abeyance.evaluation.templates.MatedPairs.of`.
    min_errors
        A group with fewer errors is not judged.
    predictions
        Attribute: the prediction of some model for every photo of ``strangers``; "" where there is none.

    Raises
    ------
    DataInvalid
        If there are no attributes to group by.
    """
    chosen = list(groupings) or default_groupings(strangers.attributes)
    if not chosen:
        raise DataInvalid(f"{strangers.name} has no attributes to group by, such as race, gender or age")
    found = np.flatnonzero(templates.found)
    people = strangers.person_codes
    kept = found
    if not strangers.persons_given:
        if judged is not None:
            kept = found[np.unique(judged[found], return_index=True)[1]]
        elif same_person is not None:
            blocks = codes_of(strangers.labels(strangers.groupings or chosen[0]))[found]
            kept = found[np.unique(people_by_cosine(templates.vectors[found], same_person, blocks))]
    lowest = min(cosine for _, cosine in thresholds)
    measured = scan(templates.vectors[kept], people=people[kept], level=lowest)
    if mated is None and strangers.persons_given:
        mated = strangers, templates
    pairs = MatedPairs.of(*mated, same_shot) if mated else None
    mated_photos = mated[0] if mated else None
    labels = {grouping: _groups(strangers, grouping) for grouping in chosen}
    return Audit(
        model=model,
        strangers=strangers.name,
        mated=mated_photos.name if mated_photos else "",
        people=len(np.unique(people[kept])),
        pairs=measured.total,
        photos_left_out_as_same_person=len(found) - len(kept),
        mated_pairs=len(pairs.scores) if pairs else 0,
        mated_pairs_left_out_as_same_shot=pairs.same_shot if pairs else 0,
        groupings=tuple(chosen),
        failure_to_detect=tuple(
            _differential_of_trials(
                "failure_to_detect", grouping, groups, ~templates.found, people, min_errors
            )
            for grouping, groups in labels.items()
        ),
        thresholds=tuple(
            _at(similarity, cosine, measured, kept, people, labels, mated_photos, pairs, min_errors)
            for similarity, cosine in thresholds
        ),
        attribute_accuracy=tuple(
            prediction_accuracy(
                attribute, strangers.labels([attribute]), predicted, grouping, strangers.labels(grouping)
            )
            for attribute, predicted in (predictions or {}).items()
            for grouping in chosen
        ),
    )


def _at(
    similarity: float,
    cosine: float,
    measured: PairScan,
    kept: IntArray,
    people: IntArray,
    labels: Mapping[tuple[str, ...], _Groups],
    mated: PhotoSet | None,
    pairs: MatedPairs | None,
    min_errors: int,
) -> AuditAtThreshold:
    # Numbered anew, because only these people take part.
    owners = np.unique(people[kept], return_inverse=True)[1]
    overall = overall_rate(measured, owners, cosine)
    fmrs, fnmrs, matrices, both = [], [], [], []
    for grouping, (names, codes) in labels.items():
        fmr = differential(
            "fmr",
            grouping,
            names,
            within_rates(measured, codes[kept], len(names), owners, cosine),
            min_errors=min_errors,
            between_pairs=True,
            expected=overall.value,
        )
        fmrs.append(fmr)
        if len(names) <= _MAX_MATRIX_GROUPS:
            matrices.append(matrix(measured, codes[kept], names, owners, cosine))
        if mated is not None and pairs is not None and all(a in mated.attributes for a in grouping):
            mated_names, mated_codes = _groups(mated, grouping)
            fnmr = _differential_of_trials(
                "fnmr",
                grouping,
                (mated_names, mated_codes[pairs.first]),
                pairs.scores < cosine,
                pairs.people,
                min_errors,
            )
            fnmrs.append(fnmr)
            if (one := combined(fmr, fnmr)) is not None:
                both.append(one)
    return AuditAtThreshold(
        similarity=similarity,
        cosine=cosine,
        fmr=overall,
        fnmr=pairs.fnmr(cosine) if pairs else None,
        false_matches=tuple(fmrs),
        false_non_matches=tuple(fnmrs),
        matrices=tuple(matrices),
        combined=tuple(both),
    )


def _groups(photos: PhotoSet, grouping: Sequence[str]) -> _Groups:
    names, codes = np.unique(np.array(photos.labels(grouping)), return_inverse=True)
    return names.tolist(), codes


def _differential_of_trials(
    measure: str,
    grouping: Sequence[str],
    groups: _Groups,
    errors: BoolArray,
    people: IntArray,
    min_errors: int,
) -> Differential:
    """Compare groups whose trials each belong to one person."""
    names, codes = groups
    rates = [clustered_rate(errors[codes == i], people[codes == i]) for i in range(len(names))]
    return differential(
        measure,
        grouping,
        names,
        rates,
        min_errors=min_errors,
        expected=float(errors.mean()) if len(errors) else 0.0,
    )
