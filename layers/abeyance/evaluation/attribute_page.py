"""The accuracy card as a page of the documentation: Markdown, with the reliability diagram beside it."""

from __future__ import annotations

from collections.abc import Iterator

from abeyance.evaluation.attribute_card import Card, Measured
from abeyance.evaluation.intervals import Rate
from abeyance.evaluation.plots import lines

_HEAD = """# Accuracy card: face attributes

Written by `abeyance attributes evaluate`; do not edit it by hand. Every rate has its interval at 95 % confidence
(Wilson, over people). "Right" means: the same as was published with the photo, or as its annotator says. How the
answers come about is told in [attributes.md](attributes.md).

## What attributes must not be used for

- To decide about a person: entry, employment, credit, insurance, schooling, policing, migration. Nothing here is
  made or measured for that, and in many places it is forbidden.
- To tell what somebody feels. An expression is how a face looks. In the European Union, inferring emotions at work
  and in education is prohibited (Regulation (EU) 2024/1689, Article 5(1)(f)); the preset `eu-ai-act-2025` halts it.
- To tell who somebody is, or what gender a person has. The model repeats the guess of a stranger: two words, of
  which neither may be right.
- To tell whether a person is of age. The range is a quarter of a century wide.
- On groups for which the tables below show what you would not accept for yourself.
"""


def markdown(card: Card, diagram: str = "") -> str:
    """The card.

    Parameters
    ----------
    diagram
        Address of the reliability diagram, relative to the page.
    """
    return (
        "\n".join([_HEAD, *_what(card), *_summary(card), *_reliability(card, diagram), *_groups(card)]) + "\n"
    )


def reliability(card: Card) -> str:
    """The reliability diagram as SVG: how many of the answers with a confidence were right."""
    series: list[tuple[str, list[float], list[float]]] = [("as claimed", [50, 100], [50, 100])]
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


def _what(card: Card) -> Iterator[str]:
    yield "## What was measured\n"
    yield "| model | identity | answers below are withheld |\n|---|---|---|"
    for role, identity in card.models.items():
        floor = card.floors.get(role, 0)
        yield f"| {role} | `{identity}` | {f'{floor:g}' if floor else 'none'} |"
    yield "\n| photos | number | without a face |\n|---|---|---|"
    for name, (count, missed) in card.data.items():
        yield f"| {name} | {count:,} | {missed} |"
    yield "\nHow the confidences were set:\n"
    for role, text in card.provenance.items():
        yield f"- **{role}**: {text}"
    yield ""


def _summary(card: Card) -> Iterator[str]:
    yield "## Accuracy\n"
    yield "| attribute | right means | photos | all answers | answers that are given | withheld |"
    yield "|---|---|---|---|---|---|"
    for one in card.measured:
        yield (
            f"| {one.attribute} | {one.means} | {one.data} | {_rate(one.overall)} | {_rate(one.answered)} | "
            f"{one.withheld} |"
        )
    yield ""
    for one in card.measured:
        if one.more:
            yield f"**{one.attribute}, {one.data}**\n"
            for name, value in one.more.items():
                yield f"- {name}: {value:.1f}" if "years" in name else f"- {name}: {100 * value:.1f} %"
            yield ""


def _reliability(card: Card, diagram: str) -> Iterator[str]:
    yield "## Can the confidences be relied on?\n"
    yield "For gender and age only photos are counted that no confidence was fitted to. Expression, smile and mouth"
    yield "have too few labelled photos for that: they are judged on some of those that they were fitted to.\n"
    if diagram:
        yield f"![Reliability diagram]({diagram})\n"
    yield "| attribute | photos | counted | expected calibration error | of answers with 90 and more, right |"
    yield "|---|---|---|---|---|"
    for one in card.measured:
        if one.calibration is not None:
            sure = one.calibration.at_least_90
            yield (
                f"| {one.attribute} | {one.data} | {one.calibration.photos:,} | {100 * one.calibration.error:.1f} % | "
                f"{_rate(sure) if sure else ''} |"
            )
    yield "\nFor age, which has no confidence, it is the distance between how many ages lie within the range and how"
    yield "many it is made for, over tenths of the photos.\n"


def _groups(card: Card) -> Iterator[str]:
    yield "## By group\n"
    for one in card.measured:
        for grouping, rates in one.by.items():
            if len(rates) > 1:
                yield from _table(one, grouping, rates)


def _table(one: Measured, grouping: str, rates: dict[str, Rate]) -> Iterator[str]:
    yield f"**{one.attribute} by {grouping}, {one.data}** (all answers)\n"
    yield f"| {grouping} | right | photos |\n|---|---|---|"
    for group, rate in rates.items():
        yield f"| {group} | {_rate(rate)} | {rate.trials:,} |"
    yield ""


def _rate(rate: Rate) -> str:
    if not rate.trials:
        return "none"
    return f"{100 * rate.value:.1f} % ({100 * rate.low:.1f}–{100 * rate.high:.1f})"
