"""How often what is said of a face is wrong, for whom, and whether its confidence can be relied on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from abeyance.evaluation.attribute_fit import COVERAGE
from abeyance.evaluation.attribute_photos import Looked, span, weights_of
from abeyance.evaluation.intervals import Rate, clustered_rate
from abeyance.vision.attributes.estimate import (
    LEAST_PRESENCE,
    age_range,
    expression_shares,
    female_share,
    openness_share,
)
from abeyance.vision.models.manifest import Confidence, ModelEntry, ModelRole

#: Columns that groups are made of, where a set has them.
GROUPINGS = ("race", "gender", "age")
_BINS = 10
#: Groups of age in the order of age.
_AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Answers with about one confidence: what they claimed, and how many were right."""

    confidence: float
    right: Rate


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Whether confidences can be relied on, on photos that none of them was fitted to."""

    photos: int
    #: Expected calibration error: mean distance of claim and truth over ten bins (Naeini et al. 2015).
    error: float
    steps: tuple[Step, ...]
    #: Answers that claim 90 % and more; None where there are none.
    at_least_90: Rate | None


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One attribute on one set of photos."""

    attribute: str
    #: What counts as right.
    means: str
    data: str
    #: All faces, answers below the floor included.
    overall: Rate
    by: dict[str, dict[str, Rate]]
    #: Only answers that are given.
    answered: Rate
    withheld: int
    calibration: Calibration | None = None
    #: Further numbers of this attribute.
    more: dict[str, float] = {}


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """The accuracy card."""

    models: dict[str, str]
    provenance: dict[str, str]
    floors: dict[str, float]
    #: Set -> photos, and photos without a face.
    data: dict[str, tuple[int, int]]
    measured: tuple[Measured, ...]


def card(sets: Sequence[Looked], entries: Mapping[ModelRole, ModelEntry]) -> Card:
    """Measure every attribute on every set whose table has a column for it.

    Columns: ``gender``; ``age`` (groups such as ``20-29``); ``expression`` (Rekognition's names); ``smile`` and
    ``mouth_open`` (``true`` or ``false``; anything else is left out); ``weight`` (how many photos one stands for).
    """
    measured: list[Measured] = []
    for one in sets:
        for measure in (_gender, _age, _expression, _smile, _mouth):
            measured += measure(one, entries)
    return Card(
        models={str(role): entry.identity for role, entry in entries.items()},
        provenance={str(r): e.confidence.provenance for r, e in entries.items() if e.confidence},
        floors={str(r): e.confidence.floor for r, e in entries.items() if e.confidence},
        data={one.photos.name: (len(one.photos), int((~one.found).sum())) for one in sets},
        measured=tuple(measured),
    )


def predictions(one: Looked, entries: Mapping[ModelRole, ModelEntry]) -> list[tuple[str, str, str]]:
    """(path, gender, age group) of each photo as ``abeyance audit`` takes them; empty where nothing is said."""
    how = _how(entries, ModelRole.GENDER)
    rows = []
    for number, path in enumerate(one.photos.paths):
        gender = group = ""
        if one.found[number]:
            share = female_share(float(one.female[number]), how)
            if 100 * max(share, 1 - share) >= how.floor:
                gender = "Female" if share >= 0.5 else "Male"
            group = _AGES[_group(float(one.years[number]))]
        rows.append((str(path), gender, group))
    return rows


def _gender(one: Looked, entries: Mapping[ModelRole, ModelEntry]) -> list[Measured]:
    labels = one.labels("gender")
    if labels is None or ModelRole.GENDER not in entries:
        return []
    how = _how(entries, ModelRole.GENDER)
    use = np.flatnonzero(one.found & (labels != "unknown"))
    share = np.array([female_share(float(odds), how) for odds in one.female[use]])
    truth = np.char.lower(labels[use]) == "female"
    return [_yes_or_no("gender", "as published, female or male", one, use, share, truth, how.floor)]


def _smile(one: Looked, entries: Mapping[ModelRole, ModelEntry]) -> list[Measured]:
    labels = one.labels("smile")
    if labels is None or ModelRole.EXPRESSION not in entries:
        return []
    how = _how(entries, ModelRole.EXPRESSION)
    use = np.flatnonzero(one.found & np.isin(labels, ["true", "false"]))
    happy = entries[ModelRole.EXPRESSION].classes.index("HAPPY")
    share = np.array([expression_shares(row, how)[happy] for row in one.expression[use]])
    return [_yes_or_no("smile", "as annotated", one, use, share, labels[use] == "true", how.floor)]


def _mouth(one: Looked, entries: Mapping[ModelRole, ModelEntry]) -> list[Measured]:
    labels = one.labels("mouth_open")
    if labels is None or ModelRole.MESH not in entries:
        return []
    how = _how(entries, ModelRole.MESH)
    use = np.flatnonzero(one.found & (one.presence >= LEAST_PRESENCE) & np.isin(labels, ["true", "false"]))
    share = np.array([openness_share(float(gap), how) for gap in one.mouth[use]])
    truth = labels[use] == "true"
    return [_yes_or_no("mouth_open", "as annotated", one, use, share, truth, how.floor)]


def _yes_or_no(
    attribute: str,
    means: str,
    one: Looked,
    use: NDArray[np.int64],
    share: NDArray[np.float64],
    truth: NDArray[np.bool_],
    floor: float,
) -> Measured:
    return _measured(attribute, means, one, use, np.maximum(share, 1 - share), (share >= 0.5) == truth, floor)


def _expression(one: Looked, entries: Mapping[ModelRole, ModelEntry]) -> list[Measured]:
    labels = one.labels("expression")
    if labels is None or ModelRole.EXPRESSION not in entries:
        return []
    entry, how = entries[ModelRole.EXPRESSION], _how(entries, ModelRole.EXPRESSION)
    use = np.flatnonzero(one.found & np.isin(labels, entry.classes))
    shares = np.stack([expression_shares(row, how) for row in one.expression[use]])
    right = np.array(entry.classes)[shares.argmax(axis=1)] == labels[use]
    found = _measured("expression", "of seven, as annotated", one, use, shares.max(axis=1), right, how.floor)
    weights = weights_of(one)[use]
    said = np.array(entry.classes)[shares.argmax(axis=1)]
    more = {"weighted by how many photos each stands for": float(np.average(right, weights=weights))}
    for name in entry.classes:
        if (said == name).any():
            more[f"right of those called {name}"] = float(right[said == name].mean())
    return [msgspec.structs.replace(found, more=more)]


def _age(one: Looked, entries: Mapping[ModelRole, ModelEntry]) -> list[Measured]:
    labels = one.labels("age")
    if labels is None or ModelRole.AGE not in entries:
        return []
    how = _how(entries, ModelRole.AGE)
    bounds = [span(str(label)) for label in labels]
    use = np.flatnonzero(
        one.found & np.array([b is not None and str(x) in _AGES for b, x in zip(bounds, labels, strict=True)])
    )
    groups = np.array([_AGES.index(str(labels[i])) for i in use])
    said = np.array([_group(float(y)) for y in one.years[use]])
    ranges = np.array([age_range(float(y), how) for y in one.years[use]], np.float64).reshape(-1, 2)
    limits = np.array([bounds[i] for i in use], np.float64).reshape(-1, 2)
    # Of a group nothing is known but its bounds: the part of it that the range holds.
    inside = np.minimum(ranges[:, 1], limits[:, 1]) - np.maximum(ranges[:, 0], limits[:, 0])
    held = np.clip(inside / (limits[:, 1] - limits[:, 0]), 0, 1)
    judged = ~one.fitted[use]
    middle = limits.mean(axis=1)
    error, steps = _coverage(one.years[use][judged], held[judged])
    near = _measured("age", "within one published group", one, use, None, abs(said - groups) <= 1, 0)
    exact = _measured("age, exact", "the published group", one, use, None, said == groups, 0)
    return [
        msgspec.structs.replace(
            near,
            more={
                "mean error, years": float(np.abs(one.years[use] - middle).mean()),
                "mean width of the range, years": float((ranges[:, 1] - ranges[:, 0]).mean()),
                "share within the range": float(held[judged].mean()),
                "share that the range is made for": COVERAGE,
                **{
                    f"share within the range, {name}": float(held[judged & (groups == number)].mean())
                    for number, name in enumerate(_AGES)
                    if (judged & (groups == number)).any()
                },
            },
            calibration=Calibration(photos=int(judged.sum()), error=error, steps=steps, at_least_90=None),
        ),
        exact,
    ]


def _coverage(years: NDArray[np.float64], held: NDArray[np.float64]) -> tuple[float, tuple[Step, ...]]:
    """Distance of the ranges' coverage from what they are made for, over tenths of the years that were said."""
    error, steps = 0.0, []
    for part in np.array_split(np.argsort(years, kind="stable"), _BINS):
        if not len(part):
            continue
        value = float(held[part].mean())
        error += abs(value - COVERAGE) * len(part) / len(years)
        half = 1.96 * float(held[part].std()) / len(part) ** 0.5
        rate = Rate(
            value=value,
            low=max(0.0, value - half),
            high=min(1.0, value + half),
            count=round(value * len(part)),
            trials=len(part),
            effective=float(len(part)),
            people=len(part),
        )
        steps.append(Step(confidence=COVERAGE, right=rate))
    return error, tuple(steps)


def _measured(
    attribute: str,
    means: str,
    one: Looked,
    use: NDArray[np.int64],
    confidence: NDArray[np.float64] | None,
    right: NDArray[np.bool_],
    floor: float,
) -> Measured:
    people = np.array(sorted(set(one.photos.persons)))
    person = np.searchsorted(people, np.array(one.photos.persons)[use]).astype(np.int64)
    by: dict[str, dict[str, Rate]] = {}
    for grouping in GROUPINGS:
        labels = one.labels(grouping)
        if labels is not None:
            order = [g for g in _AGES if g in set(labels)] if grouping == "age" else sorted(set(labels))
            of = labels[use]
            by[grouping] = {str(g): clustered_rate(right[of == g], person[of == g]) for g in order}
    given = np.ones(len(use), bool) if confidence is None else confidence * 100 >= floor
    judged = ~one.fitted[use]
    return Measured(
        attribute=attribute,
        means=means,
        data=one.photos.name,
        overall=clustered_rate(right, person),
        by=by,
        answered=clustered_rate(right[given], person[given]),
        withheld=int((~given).sum()),
        calibration=None
        if confidence is None or not judged.any()
        else _calibration(confidence[judged], right[judged], person[judged]),
    )


def _calibration(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], person: NDArray[np.int64]
) -> Calibration:
    error, steps = 0.0, []
    place = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    for number in range(_BINS):
        here = place == number
        if here.any():
            claim, rate = float(confidence[here].mean()), clustered_rate(right[here], person[here])
            error += float(here.mean()) * abs(claim - rate.value)
            steps.append(Step(confidence=claim, right=rate))
    sure = confidence >= 0.9
    return Calibration(
        photos=len(confidence),
        error=error,
        steps=tuple(steps),
        at_least_90=clustered_rate(right[sure], person[sure]) if sure.any() else None,
    )


def _how(entries: Mapping[ModelRole, ModelEntry], role: ModelRole) -> Confidence:
    return entries[role].confidence or Confidence(provenance="")


def _group(years: float) -> int:
    return int(np.digitize(years, [3, 10, 20, 30, 40, 50, 60, 70]))
