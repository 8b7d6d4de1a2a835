"""The numbers of the model manifest that turn what attribute models say into confidences that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from abeyance.evaluation.attribute_photos import Looked, span, weights_of
from abeyance.evaluation.errors import DataInvalid, TooFew
from abeyance.vision.attributes.estimate import LEAST_PRESENCE

#: Share of people whose age lies within the range that is given.
COVERAGE = 0.8
#: Fewest photos that a knot stands on.
_LEAST = 60
#: Years at which a range is set; between them it is a straight line.
_AT = (1, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 45, 50, 55, 60, 65, 70, 75)
#: Keeps the few labels of an expression from pulling it far.
_RIDGE = 0.01


def isotonic(
    said: NDArray[np.float64], true: NDArray[np.bool_], pieces: int = 12, least: int = _LEAST
) -> tuple[tuple[float, float], ...]:
    """Knots of a rising curve from what is said to how often it is true.

    Photos are put in order and in ``pieces`` equal parts; parts that would fall are joined with their neighbours
    (pool adjacent violators, Ayer et al. 1955).
    """
    if len(said) < 2 * least:
        raise TooFew("too few labelled photos to calibrate on", have=len(said), need=2 * least)
    order = np.argsort(said, kind="stable")
    blocks: list[tuple[float, float, int]] = []
    for part in np.array_split(order, min(pieces, len(said) // least)):
        blocks.append((float(said[part].mean()), float(true[part].mean()), len(part)))
        while len(blocks) > 1 and blocks[-2][1] >= blocks[-1][1]:
            (x1, y1, n1), (x2, y2, n2) = blocks[-2:]
            blocks[-2:] = [((x1 * n1 + x2 * n2) / (n1 + n2), (y1 * n1 + y2 * n2) / (n1 + n2), n1 + n2)]
    knots: list[tuple[float, float]] = []
    for x, y, _ in blocks:
        if not knots or round(x, 5) > knots[-1][0]:
            knots.append((round(x, 5), round(y, 4)))
    return tuple(knots)


def gender(looked: Sequence[Looked]) -> tuple[tuple[float, float], ...]:
    """Knots from the model's share of Female to how often it is; of the photos that are for fitting.

    The curve is the same for both words: each photo counts for what was said and against what was not. Which of the
    two is said stays the model's choice, then, and neither is favoured by chance.
    """
    said, true = [], []
    for one in looked:
        labels = one.labels("gender")
        if labels is None:
            raise DataInvalid(f"{one.photos.name} has no column gender")
        use = one.found & one.fitted
        said.append(1 / (1 + np.exp(-one.female[use])))
        true.append(np.char.lower(labels[use]) == "female")
    share, female = np.concatenate(said), np.concatenate(true)
    return isotonic(np.concatenate([share, 1 - share]), np.concatenate([female, ~female]), pieces=24)


def age(looked: Sequence[Looked], coverage: float = COVERAGE) -> tuple[tuple[float, float, float], ...]:
    """(years that the model says, lowest, highest) such that ``coverage`` of the people lie within.

    Of a published group nothing is known but its bounds, so a person is taken to be of every age in it alike. Around
    each of the years at which the range is set, the photos have a say of which the model says no more than a fifth
    of the years more or less, and 40 in any case.
    """
    years, low, high = [], [], []
    for one in looked:
        labels = one.labels("age")
        if labels is None:
            raise DataInvalid(f"{one.photos.name} has no column age")
        for row in np.flatnonzero(one.found & one.fitted):
            if (bounds := span(str(labels[row]))) is not None:
                years.append(one.years[row])
                low.append(bounds[0])
                high.append(bounds[1])
    said, lows, highs = np.array(years), np.array(low), np.array(high)
    if len(said) < 1000:
        raise TooFew("too few labelled photos to set age ranges on", have=len(said), need=1000)
    table = []
    for centre in _AT:
        distance = np.abs(said - centre)
        near = max(40, int((distance <= max(1.5, min(5.0, centre / 5))).sum()))
        rows = np.argsort(distance, kind="stable")[:near]
        # Ages as evenly spread within each group as there are steps.
        steps = (np.arange(20) + 0.5) / 20
        ages = np.sort((lows[rows, None] + (highs - lows)[rows, None] * steps).ravel())
        tail = (1 - coverage) / 2
        table.append((float(centre), *np.quantile(ages, [tail, 1 - tail]).round(1).tolist()))
    grown = np.maximum.accumulate(np.array(table), axis=0)
    assert all(b[0] > a[0] for a, b in pairwise(table))
    return tuple((float(a), float(b), float(c)) for a, b, c in grown)


def mouth(one: Looked) -> tuple[tuple[float, float], ...]:
    """Knots from how far lips are apart to how often people call the mouth open; of all labelled photos."""
    labels = one.labels("mouth_open")
    if labels is None:
        raise DataInvalid(f"{one.photos.name} has no column mouth_open")
    use = one.found & np.isin(labels, ["true", "false"]) & (one.presence >= LEAST_PRESENCE)
    return isotonic(one.mouth[use], labels[use] == "true", pieces=6, least=10)


def expression_of(one: Looked, classes: Sequence[str]) -> tuple[float, tuple[float, ...]]:
    """Temperature and biases from the columns ``expression`` and ``weight``; of all labelled photos."""
    labels = one.labels("expression")
    if labels is None:
        raise DataInvalid(f"{one.photos.name} has no column expression")
    use = one.found & np.isin(labels, classes)
    truth = np.array([classes.index(str(label)) for label in labels[use]], np.int64)
    return expression(one.expression[use], truth, weights_of(one)[use])


def expression(
    logarithms: NDArray[np.float64], classes: NDArray[np.int64], weights: NDArray[np.float64]
) -> tuple[float, tuple[float, ...]]:
    """Temperature and biases of the classes (vector scaling, Guo et al. 2017).

    Parameters
    ----------
    logarithms
        (n, classes) logarithms of the shares.
    classes
        (n,) what people said.
    weights
        (n,) how many photos each stands for, where the labelled ones were drawn by what the model says.
    """
    count = logarithms.shape[1]
    share = weights / weights.sum()
    truth = np.eye(count)[classes]
    scale, biases = 0.0, np.zeros(count)
    pace = 0.5
    for _ in range(4000):
        z = logarithms * np.exp(scale) + biases
        z = np.exp(z - z.max(axis=1, keepdims=True))
        error = (z / z.sum(axis=1, keepdims=True) - truth) * share[:, None]
        step_scale = float((error * logarithms).sum() * np.exp(scale))
        step_biases = error.sum(axis=0) + 2 * _RIDGE * biases
        scale -= 0.2 * pace * step_scale
        biases -= pace * step_biases
    biases -= biases.mean()
    return round(float(np.exp(-scale)), 3), tuple(round(float(b), 3) for b in biases)
