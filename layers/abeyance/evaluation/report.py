"""One HTML file that opens anywhere, now and in ten years: text, tables, plots and pictures, no script, no link
that loads anything. Beside it the same numbers as JSON.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from abeyance.evaluation.errors import EvaluationError
from abeyance.evaluation.intervals import Rate

#: Version of the JSON that lies beside a report. A key keeps its meaning within a version.
SCHEMA = 1
#: A space at which no line is broken.
_JOINED = "\u00a0"


@dataclass(frozen=True, slots=True)
class Table:
    """A table. Cells are text; those of columns in ``numbers`` are set to the right."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot as SVG, made by :mod:`abeyance.evaluation.plots`."""

    caption: str
    svg: str


@dataclass(frozen=True, slots=True)
class Picture:
    """Two faces side by side, as ``data:`` addresses."""

    left: str
    right: str
    caption: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with what belongs to it."""

    heading: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A report."""

    title: str
    summary: str
    #: (value, what it is): the numbers to see first.
    headline: Sequence[tuple[str, str]] = ()
    sections: Sequence[Section] = ()
    facts: Sequence[tuple[str, str]] = field(default_factory=tuple)


def render(page: Page, document: bytes, when: datetime) -> str:
    """The page as HTML, with the JSON ``document`` inside for saving."""
    try:
        import jinja2
    except ImportError as error:
        raise EvaluationError("a report needs: pip install 'abeyance[evaluation]'") from error
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    source = resources.files("abeyance.evaluation").joinpath("report.html.j2").read_text("utf-8")
    return environment.from_string(source).render(
        page=page,
        when=when.strftime("%Y-%m-%d %H:%M UTC"),
        json=base64.b64encode(document).decode(),
    )


def write(page: Page, kind: str, result: msgspec.Struct, path: Path, when: datetime) -> tuple[Path, Path]:
    """Write ``path`` (HTML) and the JSON beside it; returns both paths."""
    document = encode(kind, result)
    beside = path.with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(page, document, when), encoding="utf-8")
    beside.write_bytes(document)
    return path, beside


def envelope(kind: str, result: msgspec.Struct) -> dict[str, Any]:
    """What ``--json`` prints and a report's JSON holds: kind, version, result."""
    plain: Any = msgspec.to_builtins(result, enc_hook=_plain)
    return {"kind": kind, "schema": SCHEMA, "result": _finite(plain)}


def encode(kind: str, result: msgspec.Struct) -> bytes:
    """:func:`envelope` as JSON."""
    return msgspec.json.format(msgspec.json.encode(envelope(kind, result)), indent=2)


def _plain(value: Any) -> Any:
    """A number of numpy as one of Python."""
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(type(value).__name__)


def _finite(value: Any) -> Any:
    """JSON has no infinity: null, as for anything that is not there."""
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def picture(chip: NDArray[np.uint8] | None) -> str:
    """A ``data:`` address of a face, or of nothing."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(np.zeros((112, 112, 3), np.uint8) if chip is None else chip).save(
        content, "JPEG", quality=85
    )
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


def percent(value: float, digits: int = 2) -> str:
    """0.0123 as 1.23 %."""
    return f"{100 * value:.{digits}f} %"


def small(value: float | None) -> str:
    """A rate that may be tiny: 1.2e-5."""
    if value is None:
        return "–"
    if value == 0 or value >= 0.01:
        return f"{value:.2g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def interval(rate: Rate) -> str:
    """A rate with its interval."""
    if not rate.trials:
        return "–"
    if rate.value >= 0.001 or (rate.value == 0 and rate.high > 0.01):
        return f"{percent(rate.value)} ({percent(rate.low)} – {percent(rate.high)})".replace(" ", _JOINED)
    return f"{small(rate.value)} ({small(rate.low)} – {small(rate.high)})".replace(" ", _JOINED)


def number(value: int) -> str:
    """12345 as 12 345 with thin spaces that do not break."""
    return f"{value:,}".replace(",", "\u202f")
