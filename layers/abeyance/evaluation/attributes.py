"""How often a model's word about a face (gender, age) is that of the people who labelled it, by group."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from abeyance.evaluation.intervals import Rate, clustered_rate


class AttributeAccuracy(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy of one attribute over one grouping."""

    attribute: str
    grouping: tuple[str, ...]
    overall: Rate
    by_group: dict[str, Rate]
    #: Best group's accuracy less the worst's, and the worst's over the best's (fairlearn).
    difference: float
    ratio: float
    #: Faces that the model said nothing about; they are not in the rates.
    unanswered: int


def attribute_accuracy(
    attribute: str, truth: Sequence[str], said: Sequence[str], grouping: Sequence[str], groups: Sequence[str]
) -> AttributeAccuracy:
    """Compare what was published with what a model said, whatever the case of the letters.

    Parameters
    ----------
    truth, said, groups
        One of each per face; ``said`` is "" where the model did not answer.
    """
    from fairlearn.metrics import MetricFrame  # type: ignore[import-untyped]
    from sklearn.metrics import accuracy_score  # type: ignore[import-untyped]

    answered = np.array([bool(word) for word in said], bool)
    published = np.array([word.casefold() for word in truth])[answered]
    answers = np.array([word.casefold() for word in said])[answered]
    labels = np.array(groups)[answered]
    right = published == answers
    faces = np.arange(len(right))
    if not len(right):
        nothing = clustered_rate(right, faces)
        return AttributeAccuracy(
            attribute=attribute,
            grouping=tuple(grouping),
            overall=nothing,
            by_group={},
            difference=0.0,
            ratio=1.0,
            unanswered=len(answered),
        )
    frame = MetricFrame(
        metrics=accuracy_score, y_true=published, y_pred=answers, sensitive_features={"group": labels}
    )
    return AttributeAccuracy(
        attribute=attribute,
        grouping=tuple(grouping),
        overall=clustered_rate(right, faces),
        by_group={
            str(group): clustered_rate(right[labels == group], faces[labels == group])
            for group in frame.by_group.index
        },
        difference=float(frame.difference()),
        ratio=float(frame.ratio()),
        unanswered=int((~answered).sum()),
    )
