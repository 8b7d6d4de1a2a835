"""Plots as SVG to put into an HTML page: text stays text, and the names in two plots of a page never collide."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from abeyance.evaluation.demographics import Differential, FmrMatrix
from abeyance.evaluation.errors import EvaluationError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from abeyance.evaluation.attribute_accuracy import AccuracyCard
    from abeyance.evaluation.intervals import Rate

_INK, _SOFT, _ACCENT, _WARN = "#1c2127", "#5b6570", "#0b5c8a", "#b3452c"
#: A group with fewer faces is not drawn.
_LEAST_SHOWN = 30
_plot_numbers = itertools.count(1)
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "abeyance",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _SOFT,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "grid.color": "#e3e7ea",
}


def det_curve(fmr: Sequence[float], fnmr: Sequence[float], points: Sequence[tuple[str, float, float]]) -> str:
    """Plot FNMR over FMR on logarithmic scales; ``points`` are (label, FMR, FNMR) to mark."""
    with drawing(7.2, 4.6) as (axes, finish):
        shown = [(x, y) for x, y in zip(fmr, fnmr, strict=True) if x > 0 and y > 0]
        if shown:
            axes.plot(*zip(*shown, strict=True), color=_ACCENT, lw=2)
        for label, x, y in points:
            if x > 0 and y > 0:
                axes.plot([x], [y], "o", color=_WARN)
                axes.annotate(label, (x, y), textcoords="offset points", xytext=(7, 6), color=_WARN)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("False-match rate")
        axes.set_ylabel("False non-match rate")
        axes.grid(visible=True, which="major")
        return finish()


def lines(
    series: Sequence[tuple[str, Sequence[float], Sequence[float]]], x: str, y: str, *, log_x: bool = False
) -> str:
    """Plot (name, x, y) series as lines."""
    with drawing(7.2, 4.0) as (axes, finish):
        for (name, xs, ys), colour in zip(series, itertools.cycle([_ACCENT, _WARN, "#4f7f3a", "#7a5195"])):
            axes.plot(xs, ys, label=name, color=colour, lw=2, marker="o", ms=3)
        if log_x:
            axes.set_xscale("log")
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid(visible=True)
        if len(series) > 1:
            axes.legend(frameon=False)
        return finish()


def searches(fmrs: Sequence[tuple[str, float]]) -> str:
    """Plot the modelled FPIR, 1 - (1 - FMR)^size, over the size of a collection, for (name, FMR of all pairs)."""
    sizes = np.logspace(2, 7, 41)
    series = [(name, sizes.tolist(), (100 * (1 - (1 - fmr) ** sizes)).tolist()) for name, fmr in fmrs]
    return lines(series, "People in the collection", "Searches with a false candidate, %", log_x=True)


def right_by_group(card: AccuracyCard) -> str:
    """Plot the share of right answers by group, of the first set that has each attribute and group."""
    rows: dict[str, Rate] = {}
    for one in card.measured:
        for grouping, rates in one.by.items() if one.attribute in ("gender", "age") else ():
            for group, rate in rates.items():
                if (
                    len(rates) > 1
                    and rate.trials >= _LEAST_SHOWN
                    and (grouping, one.attribute) != ("gender",) * 2
                ):
                    rows.setdefault(f"{one.attribute}, {group.replace('_', ' ')}", rate)
    ordered = sorted(rows.items(), key=lambda row: -row[1].value)
    with drawing(7.2, 1.1 + 0.27 * max(2, len(ordered))) as (axes, finish):
        for place, (_, rate) in enumerate(ordered):
            axes.plot([100 * rate.low, 100 * rate.high], [place, place], color=_ACCENT, lw=2.5)
            axes.plot([100 * rate.value], [place], "o", color=_ACCENT, ms=6)
        axes.set_yticks(range(len(ordered)), [name for name, _ in ordered])
        axes.tick_params(axis="y", length=0, colors=_INK)
        axes.set_xlabel("Right, % of all answers")
        axes.grid(visible=True, axis="x")
        return finish()


def reliability(card: AccuracyCard) -> str:
    """Plot the accuracy of attributes over their confidence, with the diagonal."""
    series: list[tuple[str, list[float], list[float]]] = [("perfect", [50, 100], [50, 100])]
    for one in card.measured:
        if one.calibration is not None and one.calibration.at_least_90 is not None:
            steps = [step for step in one.calibration.steps if step.right.trials >= 10]
            x = [100 * step.confidence for step in steps]
            series.append((f"{one.attribute}, {one.data}", x, [100 * step.right.value for step in steps]))
    return lines(series, "Confidence of the answer", "Right, %")


def intervals(found: Differential, x: str) -> str:
    """Plot the rate of each group with its interval, the worst on top; groups without a verdict are pale."""
    rows = sorted((row for row in found.groups if row.rate.trials), key=lambda row: row.rate.value)[-30:]
    with drawing(7.2, 1.1 + 0.27 * max(2, len(rows))) as (axes, finish):
        positive = [row.rate.low for row in rows if row.rate.low > 0]
        floor = min(positive, default=1e-6) / 2
        for place, row in enumerate(rows):
            colour = _ACCENT if row.judged else "#b9c2ca"
            axes.plot([max(row.rate.low, floor), row.rate.high], [place, place], color=colour, lw=2.5)
            axes.plot([max(row.rate.value, floor)], [place], "o", color=colour, ms=6)
        axes.set_yticks(range(len(rows)), [row.group for row in rows])
        axes.tick_params(axis="y", length=0, colors=_INK)
        if found.measure == "fmr":
            from matplotlib.ticker import LogLocator, NullFormatter

            axes.set_xscale("log")
            low, high = axes.get_xlim()
            axes.xaxis.set_major_locator(
                LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,), numticks=12)
            )
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0e}".replace("e-0", "e-"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(x)
        axes.grid(visible=True, axis="x")
        return finish()


def heat_map(found: FmrMatrix, title: str) -> str:
    """Plot FMR within and across groups as colours of log10, with the number in each cell if there is room."""
    size = len(found.groups)
    values = np.array([[np.nan if v is None else v for v in row] for row in found.fmr], np.float64)
    logs = np.log10(np.where(values > 0, values, np.nan))
    with drawing(2.6 + 0.52 * size, 2.0 + 0.42 * size) as (axes, finish):
        axes.imshow(np.ma.masked_invalid(logs), cmap="YlOrRd", aspect="auto")
        axes.set_xticks(range(size), found.groups, rotation=50, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(size), found.groups)
        axes.tick_params(length=0, colors=_INK)
        axes.set_title(title, fontsize=10, loc="left")
        limits = np.nanmin(logs, initial=0), np.nanmax(logs, initial=-9)
        middle = limits[0] + 0.65 * (limits[1] - limits[0])
        for row, column in np.ndindex(size, size):
            value = values[row, column]
            if size <= 16 and not np.isnan(value):
                dark = value > 0 and logs[row, column] > middle
                text = "0" if value == 0 else f"{1e4 * value:.1f}" if value < 0.1 else f"{1e4 * value:.0f}"
                axes.text(
                    column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else _INK
                )
        return finish()


@contextmanager
def drawing(width: float, height: float) -> Iterator[tuple[Axes, Callable[[], str]]]:
    """Open a figure of ``width`` by ``height`` inches, as its axes and a function that returns it as SVG.

    Raises
    ------
    EvaluationError
        If matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EvaluationError("a report needs: pip install 'abeyance[evaluation]'") from error
    with mpl.rc_context(_SETTINGS):
        figure = Figure((width, height), layout="constrained")

        def finish() -> str:
            content = io.StringIO()
            figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
            return _for_page(content.getvalue())

        yield figure.add_subplot(), finish


def standalone(svg: str) -> str:
    """Return a plot as a file of its own, on white, so that it can be read on a dark page too."""
    return svg.replace('style="', 'style="background:#fff;', 1) + "\n"


def _for_page(svg: str) -> str:
    """Return the SVG element alone, sized by the page, with names that no other plot has."""
    prefix = f"p{next(_plot_numbers)}-"
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="([0-9.]+)pt"', r'\1 style="max-width:\2pt" role="img"', svg, count=1)
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}", svg)
