"""The report that every study fills once, and its numbers as text and as JSON.

:mod:`abeyance.evaluation.render` writes a report as HTML or Markdown; the command line prints it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import numpy as np

from abeyance.evaluation.intervals import Rate

#: Version of the JSON document of a result. A key keeps its meaning within a version.
SCHEMA = 2
_NO_BREAK_SPACE = "\u00a0"
_THIN_SPACE = "\u202f"
Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table of text cells."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    @classmethod
    def of(
        cls,
        caption: str,
        records: Iterable[Record],
        columns: Mapping[str, Callable[[Record], str]],
        note: str = "",
    ) -> ReportTable:
        """Make a table with a row for each record.

        Parameters
        ----------
        columns
            Heading of each column: function that returns the cell of a record.
        """
        return cls(
            caption, list(columns), [[cell(record) for cell in columns.values()] for record in records], note
        )


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
