"""The benchmark of the embedding endpoint as one SVG: the model over batches, the server over clients, its latency."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from abeyance.evaluation.plots import drawing, standalone
from benchmarks.embedder.measure import Curves, EndpointReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot(report: EndpointReport) -> str:
    """Draw the report as an SVG document."""
    curves = report.curves
    best = max(rate for points in curves["bare"].values() for _, rate in points)
    with drawing(12.0, 4.2) as (first, done):
        figure = cast("Figure", first.get_figure())
        first.remove()
        panels = figure.subplots(1, 3)
        figure.suptitle(report.caption, fontsize=10)
        _panel(panels[0], "Model alone: faces/s over batch size", curves["bare"])
        _level(panels[0], "roof", report.roof)
        _panel(panels[1], "Server: faces/s over clients", curves["server"])
        _level(panels[1], "model alone, best", best)
        _panel(panels[2], "Server: p95 in ms over clients", curves["p95_ms"])
        return standalone(done())


def _panel(axes: Axes, title: str, lines: Curves) -> None:
    """Draw lines from zero over powers of two."""
    for name, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), label=name, marker="o", ms=4)
    places = sorted({x for points in lines.values() for x, _ in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [f"{x:g}" for x in places])
    axes.set_ylim(bottom=0)
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(visible=True, axis="y")
    axes.legend(frameon=False, fontsize=8)


def _level(axes: Axes, name: str, height: float) -> None:
    """Draw a dashed line across, with its name at the right."""
    axes.axhline(height, ls="--", color="#444", lw=1)
    where = axes.get_yaxis_transform()
    axes.text(0.98, height, f"{name}: {height:.0f}", transform=where, ha="right", va="bottom", fontsize=8)
    axes.set_ylim(bottom=0)
