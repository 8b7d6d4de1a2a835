"""Renderers of reports as files: HTML that opens without a network, and Markdown.

An HTML report is one file: text, tables, plots and pictures, no script, and no link that loads anything.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from datetime import datetime
from importlib import resources
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from abeyance.evaluation.errors import EvaluationError
from abeyance.evaluation.report import StudyReport, encode


def render_html(report: StudyReport, document: bytes, when: datetime) -> str:
    """Return the report as HTML.

    Parameters
    ----------
    document
        The numbers as JSON; a reader can save them from the page.
    when
        Time of the measurement, in UTC.

    Raises
    ------
    EvaluationError
        If jinja2 or matplotlib is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise EvaluationError("a report needs: pip install 'abeyance[evaluation]'") from error
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    source = resources.files("abeyance.evaluation").joinpath("report.html.j2").read_text("utf-8")
    return environment.from_string(source).render(
        report=report, when=when.strftime("%Y-%m-%d %H:%M UTC"), json=base64.b64encode(document).decode()
    )


def render_markdown(report: StudyReport) -> str:
    """Return title, summary, text and tables of the report as Markdown, without plots, pictures and provenance."""
    return "\n\n".join(_markdown_blocks(report)) + "\n"


def write_html(
    report: StudyReport, kind: str, result: msgspec.Struct, path: Path, when: datetime
) -> tuple[Path, Path]:
    """Write ``path`` (HTML) and the JSON beside it, and return both paths."""
    document = encode(kind, result)
    numbers = path.with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_html(report, document, when), encoding="utf-8")
    numbers.write_bytes(document)
    return path, numbers


def data_url(chip: NDArray[np.uint8] | None) -> str:
    """Return a ``data:`` address of an (h, w, 3) uint8 RGB chip as JPEG; a black one for None."""
    from PIL import Image

    content = io.BytesIO()
    pixels = np.zeros((112, 112, 3), np.uint8) if chip is None else chip
    Image.fromarray(pixels).save(content, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


def _markdown_blocks(report: StudyReport) -> Iterator[str]:
    yield f"# {report.title}"
    yield report.summary
    for section in report.sections:
        yield f"## {section.heading}"
        yield from section.paragraphs
        if section.items:
            yield "\n".join(f"- {item}" for item in section.items)
        for table in section.tables:
            if table.caption:
                yield f"**{table.caption}**"
            rows = [f"| {' | '.join(row)} |" for row in (table.columns, *table.rows)]
            yield "\n".join([rows[0], "|" + "---|" * len(table.columns), *rows[1:]])
            if table.note:
                yield table.note
