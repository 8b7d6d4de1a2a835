"""The report of a study, from its Markdown template, and its numbers as text and as JSON.

A template, ``reports/<kind>.md.j2``, is Markdown. ``>`` begins a number to see first (``> value | meaning``), ``###`` a
section with details, and ``---`` the lines of provenance (``name: value``). The line above a table is its caption, the
lines below it are its note, and ``{{ plot(caption, function, ...) }}`` stands for a plot.

:mod:`abeyance.evaluation.render` writes a report as HTML or Markdown; the command line prints it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import numpy as np

from abeyance.evaluation.errors import EvaluationError
from abeyance.evaluation.intervals import Rate

#: Version of the JSON document of a result. A key keeps its meaning within a version.
SCHEMA = 2
_NO_BREAK_SPACE = "\u00a0"
_THIN_SPACE = "\u202f"


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table of text cells."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot that is drawn only where a renderer shows it."""

    caption: str
    #: Returns the plot as SVG; see :mod:`abeyance.evaluation.plots`.
    draw: Callable[[], str]


@dataclass(frozen=True, slots=True)
class FacePair:
    """Two faces side by side, as ``data:`` addresses."""

    left: str
    right: str
    caption: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and its contents."""

    heading: str
    paragraphs: Sequence[str] = ()
    items: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    tables: Sequence[ReportTable] = ()
    face_pairs: Sequence[FacePair] = ()
    #: A section with details is left out on a terminal.
    detail: bool = False


@dataclass(frozen=True, slots=True)
class StudyReport:
    """Results of one study, ready to be rendered."""

    title: str
    summary: str
    #: (value, meaning): the numbers to see first.
    tiles: Sequence[tuple[str, str]] = ()
    sections: Sequence[Section] = ()
    #: (name, value): models, data and settings that the numbers come from.
    provenance: Sequence[tuple[str, str]] = ()


def build_report(kind: str, face_pairs: Sequence[FacePair] = (), **values: Any) -> StudyReport:
    """Fill the template of a study with its result, and read it.

    Parameters
    ----------
    kind
        Name of the template.
    face_pairs
        Faces to show in the last section.
    values
        Variables of the template; ``found`` is the result.

    Raises
    ------
    EvaluationError
        If jinja2 is not installed.
    """
    from abeyance.evaluation import plots

    figures: dict[str, Plot] = {}

    def plot(caption: str, draw: Callable[..., str], *data: Any, **options: Any) -> str:
        name = f"![{caption}](plot-{len(figures)})"
        figures[name] = Plot(caption, partial(draw, *data, **options))
        return name

    text = fill_template(kind, plot=plot, plots=plots, **values)
    body, _, provenance = text.partition("\n---\n")
    head, *sections = re.split(r"^(?=###? )", body, flags=re.MULTILINE)
    title, summary, *tiles = _blocks(head)
    return StudyReport(
        title.removeprefix("# "),
        summary,
        [_split(line[1:], "|") for block in tiles for line in block.split("\n")],
        [_section(part, figures) for part in sections]
        + ([Section("The false matches", face_pairs=face_pairs)] if face_pairs else []),
        [_split(line, ":") for line in provenance.splitlines()],
    )


def fill_template(name: str, **values: Any) -> str:
    """Return the template ``reports/<name>.md.j2`` with its variables filled in.

    Raises
    ------
    EvaluationError
        If jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise EvaluationError("a report needs: pip install 'abeyance[evaluation]'") from error
    environment = jinja2.Environment(  # noqa: S701  the text is escaped where it becomes HTML
        loader=jinja2.PackageLoader("abeyance.evaluation", "reports"),
        undefined=jinja2.StrictUndefined,
        finalize=_inline,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": count,
        "interval": interval,
        "number": number,
        "percent": percent,
        "plain": "{:g}".format,
        "scientific": scientific,
    }
    return environment.get_template(f"{name}.md.j2").render(**values)


def _inline(value: Any) -> str:
    """Return a value of a template as text that cannot be read as the end of a line or of a cell."""
    return str(value).strip("\n").replace("\n", " ").replace("|", "¦")


def _blocks(text: str) -> list[str]:
    return [block.strip("\n") for block in re.split(r"\n{2,}", text) if block.strip()]


def _split(line: str, separator: str) -> tuple[str, str]:
    left, _, right = line.partition(separator)
    return left.strip(), right.strip()


def _section(text: str, figures: Mapping[str, Plot]) -> Section:
    heading, *blocks = _blocks(text)
    level, _, title = heading.partition(" ")
    paragraphs, items, drawn, tables = [], [], [], []
    for block in blocks:
        if block in figures:
            drawn.append(figures[block])
        elif block.startswith("- "):
            items += block[2:].split("\n- ")
        elif "\n|---|" in block:
            tables.append(_table(block))
        else:
            paragraphs.append(block)
    return Section(title, paragraphs, items, drawn, tables, detail=level == "###")


def _table(block: str) -> ReportTable:
    columns, _, *rows = (
        [cell.strip() for cell in line[1:-1].split("|")] for line in block.split("\n") if line.startswith("|")
    )
    return ReportTable(
        block.partition("|")[0].strip("*\n"), columns, rows, block.rpartition("|")[2].strip("\n")
    )


def envelope(kind: str, result: msgspec.Struct) -> dict[str, Any]:
    """Return the JSON document of a result: kind, version of the schema, result."""
    # JSON has neither infinity nor NaN; msgspec writes null.
    return {
        "kind": kind,
        "schema": SCHEMA,
        "result": msgspec.json.decode(msgspec.json.encode(result, enc_hook=_builtin)),
    }


def encode(kind: str, result: msgspec.Struct) -> bytes:
    """Return :func:`envelope` as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(envelope(kind, result)), indent=2)


def _builtin(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(type(value).__name__)


def percent(value: float, digits: int = 2) -> str:
    """Format 0.0123 as 1.23 %."""
    return f"{100 * value:.{digits}f} %"


def scientific(value: float | None) -> str:
    """Format a rate that may be tiny: 1.2e-5; a dash for None."""
    if value is None:
        return "–"
    if value == 0 or value >= 0.01:
        return f"{value:.2g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def interval(rate: Rate) -> str:
    """Format a rate with its interval; a dash without trials."""
    if not rate.trials:
        return "–"
    as_percent = rate.value >= 0.001 or (rate.value == 0 and rate.high > 0.01)
    value, low, high = map(percent if as_percent else scientific, (rate.value, rate.low, rate.high))
    return f"{value} ({low} – {high})".replace(" ", _NO_BREAK_SPACE)


def count(value: int) -> str:
    """Format 12345 as 12 345 with thin spaces that do not break."""
    return f"{value:,}".replace(",", _THIN_SPACE)


def number(value: float | None, digits: int) -> str:
    """Format a number with ``digits`` decimal places; a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"
