"""The statement of an audit that is signed: what each bound is, and on how many pairs and people it rests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

import msgspec

from abeyance.evaluation.audit import Audit, AuditAtThreshold
from abeyance.evaluation.demographics import Differential
from abeyance.evaluation.intervals import Rate
from abeyance.moratorium.audits import FORMAT, AuditedThreshold, AuditStatement, GroupFigure
from abeyance.moratorium.document import instant_text


def statement_of(found: Audit, measured: datetime) -> AuditStatement:
    """Return the statement of an audit.

    A group that was measured on few pairs has a wide interval, and its far end is what counts: little data lifts no
    halt. A group without any pair counts as the worst there can be.

    Parameters
    ----------
    found
        The audit.
    measured
        When it was measured, aware.
    """
    return AuditStatement(
        format=FORMAT,
        model=found.model,
        measured=instant_text(measured.replace(microsecond=0)),
        strangers=found.strangers,
        mated=found.mated,
        report=hashlib.sha256(msgspec.json.encode(found)).hexdigest(),
        thresholds=tuple(map(_at, found.thresholds)),
    )


def _at(found: AuditAtThreshold) -> AuditedThreshold:
    fmrs = [_figure(one, group.group, group.rate) for one in found.false_matches for group in one.groups]
    accuracies = [
        _figure(one, group.group, _complement(group.rate))
        for one in found.false_non_matches
        for group in one.groups
    ]
    ratios = [one.max_over_min for one in found.false_matches if one.max_over_min is not None]
    judged = sum(one.judged for one in found.false_matches)
    return AuditedThreshold(
        similarity=found.similarity,
        worst_fmr=max(fmrs, key=lambda one: one.limit, default=None),
        fmr_ratio=max(ratios, default=None),
        ratio_groups=judged,
        ratio_left_out=sum(len(one.groups) for one in found.false_matches) - judged,
        lowest_accuracy=min(accuracies, key=lambda one: one.limit, default=None),
    )


def _figure(grouping: Differential, group: str, rate: Rate) -> GroupFigure:
    return GroupFigure(
        group=group,
        attributes=grouping.attributes,
        value=rate.value,
        limit=rate.high,
        errors=rate.count,
        pairs=rate.trials,
        people=rate.people,
    )


def _complement(rate: Rate) -> Rate:
    """Return the accuracy of an error rate; its ``high`` is the end of the interval that counts against the model."""
    return msgspec.structs.replace(rate, value=1 - rate.value, high=1 - rate.high)


def in_words(statement: AuditStatement) -> list[str]:
    """Return a sentence for each figure: what it is, and what it rests on."""
    lines = []
    for at in statement.thresholds:
        for name, figure in (("highest FMR", at.worst_fmr), ("lowest accuracy", at.lowest_accuracy)):
            if figure is not None:
                lines.append(f"Similarity {at.similarity:g}: {name} {_rests(figure)}.")
        if at.fmr_ratio is not None:
            lines.append(
                f"Similarity {at.similarity:g}: ratio of FMRs {at.fmr_ratio:.3g}, among {at.ratio_groups} groups with "
                f"errors enough; {at.ratio_left_out} have too few."
            )
    return lines


def _rests(figure: GroupFigure) -> str:
    by = _list(figure.attributes)
    return (
        f"{figure.limit:.3g} (measured {figure.value:.3g}) in {figure.group} by {by}, on {figure.pairs} pairs of "
        f"{figure.people} people with {figure.errors} errors"
    )


def _list(words: Sequence[str]) -> str:
    return " and ".join(words)
