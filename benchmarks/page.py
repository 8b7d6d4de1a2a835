"""A run of the benchmarks as a page of Markdown and a plot of its ratios."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2

from abeyance.evaluation.plots import drawing, standalone
from benchmarks.comparison import Comparison, Figure, Spread
from benchmarks.suite import PARTS, TOLERANCE, Regression, Suite

_WON, _LOST, _SOFT = "#0b5c8a", "#b3452c", "#5b6570"


def page(suite: Suite, regressions: Sequence[Regression] = ()) -> str:
    """Write the run in Markdown; it shows ``benchmarks.svg``, which lies beside it."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, autoescape=False)  # noqa: S701 - Markdown
    source = resources.files("benchmarks").joinpath("benchmarks.md.j2").read_text("utf-8")
    text = environment.from_string(source).render(
        suite=suite,
        regressions=regressions,
        tolerance=TOLERANCE,
        titles=PARTS,
        cell=cell,
        spread=spread,
        ratio=ratio,
        aim=aim,
        notes=_notes,
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def plot(suite: Suite) -> str:
    """Draw every ratio with its quartiles on a logarithmic scale, as SVG; aims are ticks."""
    found = suite.comparisons
    with drawing(9.6, 1.2 + 0.21 * len(found)) as (axes, done):
        for place, one in enumerate(reversed(found)):
            colour = _WON if one.ratio.median >= 1 else _LOST
            axes.plot([one.ratio.low, one.ratio.high], [place, place], color=colour, lw=3, alpha=0.4)
            axes.plot([one.ratio.median], [place], "o", color=colour, ms=5)
            style: Any = {"textcoords": "offset points", "xytext": (6, -3), "fontsize": 8, "color": colour}
            axes.annotate(ratio(one.ratio.median), (one.ratio.high, place), **style)
            if one.aim is not None:
                axes.plot([one.aim], [place], "|", color=_SOFT, ms=11, mew=2)
        axes.axvline(1, color=_SOFT, lw=1)
        axes.set_xscale("log")
        titles = [f"{one.what} · {one.other}" for one in reversed(found)]
        axes.set_yticks(range(len(found)), titles, fontsize=8)
        axes.set_ylim(-1, len(found))
        axes.set_xlabel("times better than the alternative (log scale); | is the aim")
        axes.grid(visible=True, axis="x", which="major")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(lambda *_: "")
        return standalone(done())


def spread(one: Spread) -> str:
    """Format as ``12.3 (12.1–12.6)``; the median alone where it was measured once."""
    if one.rounds == 1:
        return number(one.median)
    return f"{number(one.median)} ({number(one.low)}–{number(one.high)})"


def number(value: float) -> str:
    """Format with three significant digits and no exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1g}"


def ratio(value: float) -> str:
    """Format as ``2.40×`` or ``31×``."""
    return f"{value:.2f}×" if value < 10 else f"{value:.0f}×"


def cell(text: str) -> str:
    """Escape text for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def aim(one: Comparison | Figure) -> str:
    """Format the aim and whether it is reached: ``≥ 2 reached``; empty where there is none."""
    if one.aim is None:
        return ""
    least = "≥" if isinstance(one, Comparison) or one.more_is_better else "≤"
    return f"{least} {number(one.aim)} {'reached' if one.reached else 'missed'}"


def _notes(comparisons: Sequence[Comparison]) -> list[tuple[str, str]]:
    """Return each note once, with its alternatives, and the work where it is not all of theirs."""
    found: dict[str, list[Comparison]] = {}
    for one in comparisons:
        if one.note:
            found.setdefault(one.note, []).append(one)
    lines = []
    for note, ones in found.items():
        others = dict.fromkeys(one.other for one in ones)
        whole = len(ones) == sum(one.other in others for one in comparisons)
        whats = "" if whole else f" ({'; '.join(dict.fromkeys(one.what for one in ones))})"
        lines.append((note, ", ".join(others) + whats))
    return lines
