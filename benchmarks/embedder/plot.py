"""The benchmark of the embedding endpoint as one SVG: the model over batches, the server over clients, its latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from abeyance.evaluation.plots import drawing, standalone
from benchmarks.embedder.measure import CLIENTS, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Series = Mapping[str, Sequence[tuple[float, float]]]


def plot(report: Report) -> str:
    """Draw the report as an SVG document."""
    loops: dict[str, list[tuple[float, float]]] = {}
    for run in report.bare:
        name = f"{run.callers} × {run.threads} threads"
        loops.setdefault(name, []).append((run.batch, run.faces_per_second))
    served: dict[str, list[tuple[float, float]]] = {}
    slow: dict[str, list[tuple[float, float]]] = {}
    for one in report.server:
        name = f"{one.chips} a request"
        served.setdefault(name, []).append((one.clients, one.faces_per_second))
        slow.setdefault(name, []).append((one.clients, one.p95))
    device, best = report.device, report.best.faces_per_second
    shares = ", ".join(f"{one.share:.0%} with {one.chips} chips a request" for one in report.headlines)
    with drawing(12.0, 4.2) as (first, done):
        figure = cast("Figure", first.get_figure())
        first.remove()
        panels = figure.subplots(1, 3)
        figure.suptitle(
            f"{report.model} on {device.name} ({device.provider}, {device.precision}, {device.cpus} CPUs)\n"
            f"At {CLIENTS} clients the server gives {shares} of what the model gives alone in a loop",
            fontsize=10,
        )
        _panel(panels[0], "Model alone: faces/s over batch size", loops, {"roof": report.roof})
        _panel(panels[1], "Server: faces/s over clients", served, {"model alone, best": best})
        _panel(panels[2], "Server: p95 in ms over clients", slow, {})
        svg = done()
    return standalone(svg)


def _panel(axes: Axes, title: str, series: Series, levels: Mapping[str, float]) -> None:
    """Draw lines from zero over powers of two, and dashed levels."""
    for name, points in series.items():
        axes.plot(*zip(*sorted(points), strict=True), label=name, marker="o", ms=4)
    for name, height in levels.items():
        axes.axhline(height, ls="--", color="#444", lw=1)
        axes.text(
            0.98,
            height,
            f"{name}: {height:.0f}",
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="bottom",
            fontsize=8,
        )
    places = sorted({x for points in series.values() for x, _ in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [f"{x:g}" for x in places])
    axes.set_ylim(bottom=0)
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(visible=True, axis="y")
    axes.legend(frameon=False, fontsize=8)
