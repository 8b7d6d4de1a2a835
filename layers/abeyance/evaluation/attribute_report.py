"""The accuracy card as a report: a page of the documentation, and a table on the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from abeyance.evaluation.attribute_accuracy import AccuracyCard
from abeyance.evaluation.intervals import Rate
from abeyance.evaluation.plots import lines
from abeyance.evaluation.report import ReportTable, Section, StudyReport

_SUMMARY = """Written by `abeyance attributes evaluate`; do not edit it by hand. Every rate has its interval at 95 % confidence
(Wilson, over people). "Right" means: equal to the published label of the photo, or to its annotator's. The page
[attributes.md](attributes.md) describes how the answers are made."""  # noqa: E501
_PROHIBITED = (
    "To decide about a person: entry, employment, credit, insurance, schooling, policing, migration. Nothing here is\n"
    "  made or measured for that, and in many places it is forbidden.",
    "To infer what somebody feels. An expression is the look of a face. In the European Union, inferring emotions at\n"
    "  work and in education is prohibited (Regulation (EU) 2024/1689, Article 5(1)(f)); the preset `eu-ai-act-2025`\n"
    "  halts it.",
    "To determine who somebody is, or a person's gender. The model repeats the guess of a stranger, in two words, of\n"
    "  which both may be wrong.",
    "To decide whether a person is of age. The range is about 26 years wide.",
    "On groups for which the tables below show an accuracy that you would not accept for yourself.",
)
_RELIABILITY = (
    "For gender and age only photos are counted that no confidence was fitted to. Expression, smile and mouth\n"
    "have too few labelled photos for that: they are judged on some of those that they were fitted to."
)
_COVERAGE = (
    "For age, which has no confidence, the error is the distance between the share of ages within the range and\n"
    "the share that the range is made for, over tenths of the photos."
)


def attribute_report(card: AccuracyCard, diagram: str = "") -> StudyReport:
    """Return the card as a report, written for Markdown.

    Parameters
    ----------
    diagram
        Address of the reliability diagram, relative to the page.
    """
    return StudyReport(
        "Accuracy card: face attributes",
        _SUMMARY,
        sections=[
            Section("What attributes must not be used for", items=_PROHIBITED),
            Section("What was measured", tables=list(_inputs(card)), detail=True),
            Section(
                "Fit of the confidences",
                items=[f"**{role}**: {text}" for role, text in card.provenance.items()],
                detail=True,
            ),
            Section("Accuracy", tables=[_accuracy(card)]),
            *_details(card),
            Section(
                "Reliability of the confidences",
                [_RELIABILITY, *([f"![Reliability diagram]({diagram})"] if diagram else [])],
                tables=[_reliability(card)],
            ),
            Section("By group", tables=list(_groups(card)), detail=True),
        ],
    )


def reliability_diagram(card: AccuracyCard) -> str:
    """Return the reliability diagram as SVG: accuracy over confidence."""
    series: list[tuple[str, list[float], list[float]]] = [("perfect", [50, 100], [50, 100])]
    for one in card.measured:
        if one.calibration is not None and one.calibration.at_least_90 is not None:
            steps = [step for step in one.calibration.steps if step.right.trials >= 10]
            series.append(
                (
                    f"{one.attribute}, {one.data}",
                    [100 * step.confidence for step in steps],
                    [100 * step.right.value for step in steps],
                )
            )
    return lines(series, "Confidence of the answer", "Right, %")


def _inputs(card: AccuracyCard) -> Iterator[ReportTable]:
    yield ReportTable.of(
        "",
        card.models.items(),
        {
            "model": lambda model: model[0],
            "identity": lambda model: f"`{model[1]}`",
            "answers below are withheld": lambda model: (
                f"{floor:g}" if (floor := card.floors.get(model[0], 0)) else "none"
            ),
        },
    )
    rows = [(name, f"{count:,}", str(missed)) for name, (count, missed) in card.data.items()]
    yield ReportTable("", ("photos", "number", "without a face"), rows)


def _accuracy(card: AccuracyCard) -> ReportTable:
    return ReportTable.of(
        "",
        card.measured,
        {
            "attribute": lambda one: one.attribute,
            "right means": lambda one: one.means,
            "photos": lambda one: one.data,
            "all answers": lambda one: _rate(one.overall),
            "answers that are given": lambda one: _rate(one.answered),
            "withheld": lambda one: str(one.withheld),
        },
    )


def _details(card: AccuracyCard) -> Iterator[Section]:
    for one in card.measured:
        if one.more:
            items = [
                f"{name}: {value:.1f}" if "years" in name else f"{name}: {100 * value:.1f} %"
                for name, value in one.more.items()
            ]
            yield Section(f"More on {one.attribute}, {one.data}", items=items, detail=True)


def _reliability(card: AccuracyCard) -> ReportTable:
    return ReportTable.of(
        "",
        [(one, one.calibration) for one in card.measured if one.calibration is not None],
        {
            "attribute": lambda pair: pair[0].attribute,
            "photos": lambda pair: pair[0].data,
            "counted": lambda pair: f"{pair[1].photos:,}",
            "expected calibration error": lambda pair: f"{100 * pair[1].error:.1f} %",
            "right of answers with 90 and more": lambda pair: (
                _rate(pair[1].at_least_90) if pair[1].at_least_90 else ""
            ),
        },
        _COVERAGE,
    )


def _groups(card: AccuracyCard) -> Iterator[ReportTable]:
    for one in card.measured:
        for grouping, rates in one.by.items():
            if len(rates) > 1:
                yield ReportTable(
                    f"{one.attribute} by {grouping}, {one.data} (all answers)",
                    (grouping, "right", "photos"),
                    [(group, _rate(rate), f"{rate.trials:,}") for group, rate in rates.items()],
                )


def _rate(rate: Rate) -> str:
    if not rate.trials:
        return "none"
    return f"{100 * rate.value:.1f} % ({100 * rate.low:.1f}–{100 * rate.high:.1f})"
