"""Accuracy of attribute predictions (gender, age) against published labels, by group."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from abeyance.evaluation.intervals import Rate, clustered_rate


class PredictionAccuracy(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy of one attribute over one grouping."""

    attribute: str
    grouping: tuple[str, ...]
    overall: Rate
    by_group: dict[str, Rate]
    #: Best group's accuracy less the worst's, and the worst's over the best's (fairlearn).
    difference: float
    ratio: float
    #: Faces without a prediction; they are not in the rates.
    unanswered: int


def prediction_accuracy(
    attribute: str,
    truth: Sequence[str],
    predicted: Sequence[str],
    grouping: Sequence[str],
    groups: Sequence[str],
) -> PredictionAccuracy:
    """Compare published labels with predictions, in any case of letters.

    Parameters
    ----------
    truth, predicted, groups
        One of each per face; ``predicted`` is "" where there is no prediction.
    """
    from fairlearn.metrics import MetricFrame  # type: ignore[import-untyped]
    from sklearn.metrics import accuracy_score  # type: ignore[import-untyped]

    answered = np.array([bool(word) for word in predicted], bool)
    published = np.array([word.casefold() for word in truth])[answered]
    answers = np.array([word.casefold() for word in predicted])[answered]
    labels = np.array(groups)[answered]
    correct = published == answers
    faces = np.arange(len(correct))
    difference, ratio = 0.0, 1.0
    if len(correct):
        frame = MetricFrame(
            metrics=accuracy_score, y_true=published, y_pred=answers, sensitive_features={"group": labels}
        )
        difference, ratio = float(frame.difference()), float(frame.ratio())
    return PredictionAccuracy(
        attribute=attribute,
        grouping=tuple(grouping),
        overall=clustered_rate(correct, faces),
        by_group={
            str(group): clustered_rate(correct[labels == group], faces[labels == group])
            for group in np.unique(labels)
        },
        difference=difference,
        ratio=ratio,
        unanswered=int((~answered).sum()),
    )
