"""Fits of the ``confidence`` numbers in the model manifest, which turn outputs into calibrated confidences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from abeyance.evaluation.arrays import BoolArray, FloatArray, IntArray
from abeyance.evaluation.attribute_outputs import AttributeOutputs, age_bounds
from abeyance.evaluation.errors import TooFew
from abeyance.vision.attributes.estimate import LEAST_PRESENCE

#: Share of people whose age lies within the range in the answer.
COVERAGE = 0.8
#: Least number of photos for a knot.
_MIN_PHOTOS = 60
#: Years at which a range is set; between them it is interpolated.
_KNOT_YEARS = (1, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 45, 50, 55, 60, 65, 70, 75)
#: Weight of the penalty on biases, which limits the influence of expressions with few labels.
_RIDGE = 0.01


def isotonic(
    predicted: FloatArray,
    truth: BoolArray,
    parts: int = 12,
    min_photos: int = _MIN_PHOTOS,
    weights: FloatArray | None = None,
) -> tuple[tuple[float, float], ...]:
    """Return knots of a rising curve from a prediction to the share of photos for which it is true.

    Photos are sorted by prediction and cut into ``parts`` equal parts; parts that would fall are joined with their
    neighbours (pool adjacent violators, Ayer et al. 1955). ``weights`` are the numbers of photos that each stands for.

    Raises
    ------
    TooFew
        If there are fewer than twice ``min_photos`` photos.
    """
    from sklearn.isotonic import IsotonicRegression  # type: ignore[import-untyped]

    if len(predicted) < 2 * min_photos:
        raise TooFew("too few labelled photos to calibrate on", have=len(predicted), need=2 * min_photos)
    order = np.argsort(predicted, kind="stable")
    cut = np.array_split(order, min(parts, len(predicted) // min_photos))
    each = np.ones(len(predicted)) if weights is None else weights
    sizes = np.array([each[part].sum() for part in cut])
    x = np.array([np.average(predicted[part], weights=each[part]) for part in cut])
    y = np.array([np.average(truth[part], weights=each[part]) for part in cut])
    curve = IsotonicRegression().fit_transform(np.arange(len(cut)), y, sample_weight=sizes)
    knots: list[tuple[float, float]] = []
    for value in np.unique(curve):
        joined = curve == value
        knot = round(float(np.average(x[joined], weights=sizes[joined])), 5), round(float(value), 4)
        if not knots or knot[0] > knots[-1][0]:
            knots.append(knot)
    return tuple(knots)


def gender(outputs: Sequence[AttributeOutputs]) -> tuple[tuple[float, float], ...]:
    """Return knots from the model's share of Female to the share that is published so, on the photos for fitting.

    The curve is the same for both words: each photo counts for the predicted word and against the other. The prediction
    stays the model's, and neither word is favoured by chance.

    Raises
    ------
    DataInvalid
        If a set has no column ``gender``.
    """
    predicted, truth = [], []
    for one in outputs:
        use = one.found & one.fitted
        predicted.append(1 / (1 + np.exp(-one.female[use])))
        truth.append(np.char.lower(one.labels("gender")[use]) == "female")
    share, female = np.concatenate(predicted), np.concatenate(truth)
    return isotonic(np.concatenate([share, 1 - share]), np.concatenate([female, ~female]), parts=24)


def age(
    outputs: Sequence[AttributeOutputs], coverage: float = COVERAGE
) -> tuple[tuple[float, float, float], ...]:
    """Return (predicted years, lowest, highest) such that ``coverage`` of the people lie within.

    A published group says only its bounds, so ages are taken to be spread evenly within it. The range at a number of
    years is set by photos with predictions that differ by up to a fifth, and by at least 40 photos.

    Raises
    ------
    DataInvalid
        If a set has no column ``age``.
    TooFew
        If there are fewer than 1000 photos with an age.
    """
    years, low, high = [], [], []
    for one in outputs:
        labels = one.labels("age")
        for row in np.flatnonzero(one.found & one.fitted):
            if (bounds := age_bounds(str(labels[row]))) is not None:
                years.append(one.years[row])
                low.append(bounds[0])
                high.append(bounds[1])
    predicted, lows, highs = np.array(years), np.array(low), np.array(high)
    if len(predicted) < 1000:
        raise TooFew("too few labelled photos to set age ranges on", have=len(predicted), need=1000)
    table = []
    for centre in _KNOT_YEARS:
        distance = np.abs(predicted - centre)
        near = max(40, int((distance <= max(1.5, min(5.0, centre / 5))).sum()))
        rows = np.argsort(distance, kind="stable")[:near]
        # Twenty ages, evenly spread within each group.
        steps = (np.arange(20) + 0.5) / 20
        ages = np.sort((lows[rows, None] + (highs - lows)[rows, None] * steps).ravel())
        tail = (1 - coverage) / 2
        table.append((float(centre), *np.quantile(ages, [tail, 1 - tail]).round(1).tolist()))
    rising = np.maximum.accumulate(np.array(table), axis=0)
    return tuple((float(a), float(b), float(c)) for a, b, c in rising)


def opened(outputs: AttributeOutputs, column: str) -> tuple[tuple[float, float], ...]:
    """Return knots from the distance of the lips, or of the lids, to the share labelled open, on all labelled photos.

    Parameters
    ----------
    column
        ``mouth_open`` or ``eyes_open``.

    Raises
    ------
    DataInvalid
        If there is no such column.
    """
    labels = outputs.labels(column)
    use = outputs.found & np.isin(labels, ["true", "false"]) & (outputs.presence >= LEAST_PRESENCE)
    gaps = outputs.eyes if column == "eyes_open" else outputs.mouth
    return isotonic(gaps[use], labels[use] == "true", parts=6, min_photos=10, weights=outputs.weights[use])


def expression(
    outputs: Sequence[AttributeOutputs], classes: Sequence[str]
) -> tuple[float, tuple[float, ...]]:
    """Return temperature and biases from the column ``expression`` of each set, on the photos for fitting.

    Every set counts as much as every other, and so does every class of a set: how frequent an expression is among the
    labelled photos says nothing about the photos to come.

    Raises
    ------
    DataInvalid
        If a set has no column ``expression``.
    """
    logarithms, truth, weights = [], [], []
    for one in outputs:
        labels = one.labels("expression")
        use = one.found & one.fitted & np.isin(labels, classes)
        own = np.array([classes.index(str(label)) for label in labels[use]], np.int64)
        logarithms.append(one.expression[use])
        truth.append(own)
        weights.append(1 / np.bincount(own, minlength=len(classes))[own])
    return vector_scaling(np.concatenate(logarithms), np.concatenate(truth), np.concatenate(weights))


def vector_scaling(
    logarithms: FloatArray, classes: IntArray, weights: FloatArray
) -> tuple[float, tuple[float, ...]]:
    """Return temperature and biases of the classes (vector scaling, Guo et al. 2017).

    Parameters
    ----------
    logarithms
        (n, classes) logarithms of the predicted shares.
    classes
        (n,) labelled class.
    weights
        (n,) weight of each photo.
    """
    from scipy.optimize import minimize  # type: ignore[import-untyped]
    from scipy.special import log_softmax  # type: ignore[import-untyped]

    share = weights / weights.sum()
    rows = np.arange(len(classes))

    def loss(parameters: FloatArray) -> float:
        scores = log_softmax(logarithms * np.exp(parameters[0]) + parameters[1:], axis=1)
        return float(_RIDGE * (parameters[1:] ** 2).sum() - (share * scores[rows, classes]).sum())

    scale, *biases = minimize(loss, np.zeros(1 + logarithms.shape[1])).x
    return round(float(np.exp(-scale)), 3), tuple(round(float(b - np.mean(biases)), 3) for b in biases)
