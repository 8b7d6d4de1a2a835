"""The accuracy card: error rates of face attributes by group, and the reliability of their confidences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

from abeyance.evaluation.arrays import BoolArray, FloatArray, IntArray, StrArray
from abeyance.evaluation.attribute_fit import COVERAGE
from abeyance.evaluation.attribute_outputs import AttributeOutputs, age_bounds
from abeyance.evaluation.datasets import codes_of
from abeyance.evaluation.intervals import Rate, clustered_rate
from abeyance.vision.attributes.estimate import (
    LEAST_PRESENCE,
    age_range,
    expression_shares,
    female_share,
    openness_share,
)
from abeyance.vision.models.manifest import Confidence, ModelEntry, ModelRole

#: Columns with labels that can be measured.
LABELS = ("gender", "age", "expression", "smile", "mouth_open", "eyes_open")
#: Columns that make groups.
_GROUPINGS = ("race", "gender", "age")
_BINS = 10
#: Groups of age in the order of age.
_AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")


class ReliabilityBin(msgspec.Struct, frozen=True, kw_only=True):
    """Answers with about one confidence, and the share of them that is right."""

    confidence: float
    right: Rate


class Reliability(msgspec.Struct, frozen=True, kw_only=True):
    """Agreement of confidences with accuracy, on photos that no confidence was fitted to."""

    photos: int
    #: Expected calibration error: mean distance of confidence and accuracy over ten bins (Naeini et al. 2015).
    error: float
    steps: tuple[ReliabilityBin, ...]
    #: Answers with a confidence of 90 % or more; None if there are none.
    at_least_90: Rate | None


class AttributeAccuracy(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy of one attribute on one set of photos."""

    attribute: str
    #: Definition of a right answer.
    means: str
    data: str
    #: All faces, with the answers below the floor.
    overall: Rate
    by: dict[str, dict[str, Rate]]
    #: Only the answers that are not withheld.
    answered: Rate
    withheld: int
    calibration: Reliability | None = None
    #: Further numbers of this attribute.
    more: dict[str, float] = {}


class AccuracyCard(msgspec.Struct, frozen=True, kw_only=True):
    """Result of ``abeyance attributes evaluate``."""

    models: dict[str, str]
    provenance: dict[str, str]
    floors: dict[str, float]
    #: Set: photos, and photos without a face.
    data: dict[str, tuple[int, int]]
    measured: tuple[AttributeAccuracy, ...]


def measure_attributes(
    sets: Sequence[AttributeOutputs], entries: Mapping[ModelRole, ModelEntry]
) -> AccuracyCard:
    """Measure every attribute on every set whose table has a column for it.

    Columns: ``gender``; ``age`` (groups such as ``20-29``); ``expression`` (Rekognition's names); ``smile`` and
    ``mouth_open`` (``true`` or ``false``; anything else is left out); ``weight`` (the number of photos that each stands
    for).
    """
    measured: list[AttributeAccuracy] = []
    for outputs in sets:
        measured += _measure_set(outputs, entries)
    confidences = {str(role): entry.confidence for role, entry in entries.items() if entry.confidence}
    return AccuracyCard(
        models={str(role): entry.identity for role, entry in entries.items()},
        provenance={role: confidence.provenance for role, confidence in confidences.items()},
        floors={role: confidence.floor for role, confidence in confidences.items()},
        data={outputs.photos.name: (len(outputs.photos), int((~outputs.found).sum())) for outputs in sets},
        measured=tuple(measured),
    )


def predictions(
    outputs: AttributeOutputs, entries: Mapping[ModelRole, ModelEntry]
) -> list[tuple[str, str, str]]:
    """Return (path, gender, age group) of each photo for ``abeyance audit``; empty where there is no answer."""
    confidence = _confidence(entries, ModelRole.GENDER)
    rows = []
    for number, path in enumerate(outputs.photos.paths):
        gender = group = ""
        if outputs.found[number]:
            share = female_share(float(outputs.female[number]), confidence)
            if 100 * max(share, 1 - share) >= confidence.floor:
                gender = "Female" if share >= 0.5 else "Male"
            group = _AGES[int(_age_groups(outputs.years[number]))]
        rows.append((str(path), gender, group))
    return rows


def _measure_set(
    outputs: AttributeOutputs, entries: Mapping[ModelRole, ModelEntry]
) -> Iterator[AttributeAccuracy]:
    roles = (
        *(ModelRole.GENDER, ModelRole.AGE, ModelRole.EXPRESSION, ModelRole.EXPRESSION),
        *(ModelRole.MESH, ModelRole.IRIS),
    )
    for column, role in zip(LABELS, roles, strict=True):
        labels = outputs.find_labels(column)
        if labels is None or role not in entries or not outputs.found.any():
            continue
        confidence = _confidence(entries, role)
        if column == "age":
            yield from _age(outputs, labels, confidence)
        elif column == "expression":
            yield _expression(outputs, labels, entries[role], confidence)
        else:
            yield _binary(column, outputs, labels, entries[role], confidence)


def _binary(
    column: str, outputs: AttributeOutputs, labels: StrArray, entry: ModelEntry, confidence: Confidence
) -> AttributeAccuracy:
    """Measure an attribute with two answers, from the share that the model gives to one of them."""
    usable, means, true = np.isin(labels, ["true", "false"]), "as annotated", "true"
    if column == "gender":
        usable, means, true = labels != "unknown", "as published, female or male", "female"
        shares = [female_share(float(odds), confidence) for odds in outputs.female]
    elif column == "smile":
        happy = entry.classes.index("HAPPY")
        shares = [expression_shares(row, confidence)[happy] for row in outputs.expression]
    else:
        usable &= outputs.presence >= LEAST_PRESENCE
        gaps = outputs.eyes if column == "eyes_open" else outputs.mouth
        shares = [openness_share(float(gap), confidence) for gap in gaps]
    use = np.flatnonzero(outputs.found & usable)
    share = np.array(shares, np.float64)[use]
    right = (share >= 0.5) == (np.char.lower(labels[use]) == true)
    return _accuracy(column, means, outputs, use, right, np.maximum(share, 1 - share), confidence.floor)


def _expression(
    outputs: AttributeOutputs, labels: StrArray, entry: ModelEntry, confidence: Confidence
) -> AttributeAccuracy:
    use = np.flatnonzero(outputs.found & np.isin(labels, entry.classes))
    shares = np.stack([expression_shares(row, confidence) for row in outputs.expression[use]])
    judged = ~outputs.fitted[use]
    truth, classes = labels[use], np.array(entry.classes)
    predicted, raw = classes[shares.argmax(axis=1)], classes[outputs.expression[use].argmax(axis=1)]
    right = predicted == truth
    present = [name for name in entry.classes if (judged & (truth == name)).any()]
    recalls = {name: float(right[judged & (truth == name)].mean()) for name in present}
    raw_recalls = [float((raw == truth)[judged & (truth == name)].mean()) for name in present]
    more = {
        "mean recall of the classes": float(np.mean(list(recalls.values()) or [0.0])),
        "mean recall of the classes, before calibration": float(np.mean(raw_recalls or [0.0])),
        **{f"recall of {name}": value for name, value in recalls.items()},
    }
    for name in entry.classes:
        if (judged & (predicted == name)).any():
            more[f"right of those called {name}"] = float(right[judged & (predicted == name)].mean())
    found = _accuracy(
        "expression", "of seven, as annotated", outputs, use, right, shares.max(axis=1), confidence.floor
    )
    return msgspec.structs.replace(found, more=more)


def _age(outputs: AttributeOutputs, labels: StrArray, confidence: Confidence) -> Iterator[AttributeAccuracy]:
    use = np.flatnonzero(outputs.found & np.isin(labels, _AGES))
    years = outputs.years[use]
    groups = np.array([_AGES.index(str(label)) for label in labels[use]])
    predicted = _age_groups(years)
    ranges = np.array([age_range(float(y), confidence) for y in years], np.float64).reshape(-1, 2)
    limits = np.array([age_bounds(str(label)) for label in labels[use]], np.float64).reshape(-1, 2)
    # A published group says only its bounds: count the part of it that the range covers.
    inside = np.minimum(ranges[:, 1], limits[:, 1]) - np.maximum(ranges[:, 0], limits[:, 0])
    covered = np.clip(inside / (limits[:, 1] - limits[:, 0]), 0, 1)
    judged = ~outputs.fitted[use]
    error, steps = _coverage(years[judged], covered[judged])
    more = {
        "mean error, years": float(np.abs(years - limits.mean(axis=1)).mean()),
        "mean width of the range, years": float((ranges[:, 1] - ranges[:, 0]).mean()),
        "share within the range": float(covered[judged].mean()),
        "share that the range is made for": COVERAGE,
    }
    for number, name in enumerate(_AGES):
        if (members := judged & (groups == number)).any():
            more[f"share within the range, {name}"] = float(covered[members].mean())
    near = _accuracy("age", "within one published group", outputs, use, abs(predicted - groups) <= 1)
    yield msgspec.structs.replace(
        near,
        more=more,
        calibration=Reliability(photos=int(judged.sum()), error=error, steps=steps, at_least_90=None),
    )
    yield _accuracy("age, exact", "the published group", outputs, use, predicted == groups)


def _coverage(years: FloatArray, covered: FloatArray) -> tuple[float, tuple[ReliabilityBin, ...]]:
    """Return the mean distance of the ranges' coverage from ``COVERAGE`` over tenths of the predictions, and each."""
    error, steps = 0.0, []
    for part in np.array_split(np.argsort(years, kind="stable"), _BINS):
        if not len(part):
            continue
        value = float(covered[part].mean())
        error += abs(value - COVERAGE) * len(part) / len(years)
        half = 1.96 * float(covered[part].std()) / len(part) ** 0.5
        rate = Rate(
            value=value,
            low=max(0.0, value - half),
            high=min(1.0, value + half),
            count=round(value * len(part)),
            trials=len(part),
            effective=float(len(part)),
            people=len(part),
        )
        steps.append(ReliabilityBin(confidence=COVERAGE, right=rate))
    return error, tuple(steps)


def _accuracy(
    attribute: str,
    means: str,
    outputs: AttributeOutputs,
    use: IntArray,
    right: BoolArray,
    confidence: FloatArray | None = None,
    floor: float = 0,
) -> AttributeAccuracy:
    """Measure an attribute on the photos ``use``, by group; ``confidence`` and ``floor`` say what is withheld."""
    person = codes_of(outputs.photos.persons)[use]
    by: dict[str, dict[str, Rate]] = {}
    for grouping in _GROUPINGS:
        labels = outputs.find_labels(grouping)
        if labels is not None:
            names = set(labels.tolist())
            order = [g for g in _AGES if g in names] if grouping == "age" else sorted(names)
            by[grouping] = {g: _rate_of(right, person, labels[use] == g) for g in order}
    given = np.ones(len(use), bool) if confidence is None else confidence * 100 >= floor
    judged = ~outputs.fitted[use]
    return AttributeAccuracy(
        attribute=attribute,
        means=means,
        data=outputs.photos.name,
        overall=clustered_rate(right, person),
        by=by,
        answered=_rate_of(right, person, given),
        withheld=int((~given).sum()),
        calibration=None
        if confidence is None or not judged.any()
        else _reliability(confidence[judged], right[judged], person[judged]),
    )


def _rate_of(right: BoolArray, person: IntArray, rows: BoolArray) -> Rate:
    return clustered_rate(right[rows], person[rows])


def _reliability(confidence: FloatArray, right: BoolArray, person: IntArray) -> Reliability:
    error, steps = 0.0, []
    place = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    for number in np.unique(place):
        here = place == number
        claimed, rate = float(confidence[here].mean()), _rate_of(right, person, here)
        error += float(here.mean()) * abs(claimed - rate.value)
        steps.append(ReliabilityBin(confidence=claimed, right=rate))
    certain = confidence >= 0.9
    return Reliability(
        photos=len(confidence),
        error=error,
        steps=tuple(steps),
        at_least_90=_rate_of(right, person, certain) if certain.any() else None,
    )


def _confidence(entries: Mapping[ModelRole, ModelEntry], role: ModelRole) -> Confidence:
    return entries[role].confidence or Confidence(provenance="")


def _age_groups(years: FloatArray) -> IntArray:
    """Return the index in ``_AGES`` of each number of years."""
    return np.digitize(years, [3, 10, 20, 30, 40, 50, 60, 70])
