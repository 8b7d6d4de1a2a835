"""A simulated day as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from abeyance.cost.day import LEDGER, Curve, Day
from abeyance.cost.stations import DAY
from abeyance.evaluation.plots import drawing, standalone

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {"gate": "#0b5c8a", "detect": "#3a8f5c", "recognize": "#b3452c", LEDGER: "#5b6570"}
#: Seconds that one point of a line stands for.
_STEP = 120


def plot(day: Day, title: str = "") -> str:
    """Arrivals, what waits, servers at work and latency over the hours of a day, as SVG."""
    hours = np.arange(0, DAY, _STEP) / 3600
    with drawing(9.6, 9.0) as (first, done):
        figure = cast("Figure", first.get_figure())
        first.remove()
        axes = figure.subplots(4, 1, sharex=True)
        arrivals, waiting, servers, latency = axes
        arrivals.plot(hours, _mean(day.arrivals), color="#222222", lw=1)
        arrivals.set_ylabel("photos/s")
        for name, passed in day.stations.items():
            colour = _COLOURS[name]
            waiting.plot(hours, np.maximum(_most(passed.waiting), 0.5), color=colour, lw=1.2, label=name)
            servers.plot(hours, _mean(passed.servers), color=colour, lw=1.2)
        waiting.set_yscale("log")
        waiting.set_ylabel("messages waiting")
        waiting.legend(loc="upper left", fontsize=8, frameon=False, ncols=len(day.stations))
        servers.set_ylabel("invocations at once")
        servers.set_yscale("log")
        servers.set_ylim(bottom=0.1)
        latency.plot(hours, np.minimum(_most(day.waits), 4 * DAY), color="#222222", lw=1)
        latency.set_yscale("log")
        latency.set_ylabel("s to the result")
        latency.set_xlabel("hour of the day")
        for one in axes:
            one.set_xlim(0, 24)
            one.set_xticks(range(0, 25, 3))
            one.grid(visible=True, alpha=0.3)
        if title:
            arrivals.set_title(title, fontsize=10, loc="left")
        svg = done()
    return standalone(svg)


def _mean(curve: Curve) -> Curve:
    found: Curve = curve[:DAY].reshape(-1, _STEP).mean(axis=1)
    return found


def _most(curve: Curve) -> Curve:
    found: Curve = curve[:DAY].reshape(-1, _STEP).max(axis=1)
    return found
