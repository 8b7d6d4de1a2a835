"""The benchmark of the embedding endpoint as one SVG: three panels, no library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from abeyance.evaluation.bench_embedder import CLIENTS, Report

_WIDTH, _HEIGHT = 340, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 56, 46
_COLOURS = ("#1b6ca8", "#c4572e", "#3b7d3f", "#7a4fa3")

Series = Mapping[str, Sequence[tuple[float, float]]]


def plot(report: Report) -> str:
    """The report as an SVG document."""
    loops: dict[str, list[tuple[float, float]]] = {}
    for run in report.bare:
        loops.setdefault(f"{run.callers} × {run.threads} threads", []).append(
            (run.batch, run.faces_per_second)
        )
    served: dict[str, list[tuple[float, float]]] = {}
    slow: dict[str, list[tuple[float, float]]] = {}
    for one in report.server:
        name = f"{one.chips} a request"
        served.setdefault(name, []).append((one.clients, one.faces_per_second))
        slow.setdefault(name, []).append((one.clients, one.p95))
    best = report.best.faces_per_second
    panels = (
        _panel("Model alone: faces/s over batch size", loops, {"roof": report.roof}),
        _panel("Server: faces/s over clients", served, {"model alone, best": best}),
        _panel("Server: p95 in ms over clients", slow, {}),
    )
    device = report.device
    shares = ", ".join(f"{one.share:.0%} with {one.chips} chips a request" for one in report.headlines)
    title = f"{report.model} on {device.name} ({device.provider}, {device.precision}, {device.cpus} CPUs)"
    line = f"At {CLIENTS} clients the server gives {shares} of what the model gives alone in a loop"
    width, height = 3 * _WIDTH, _HEIGHT + 52
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#222">\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n'
        f'<text x="14" y="24" font-size="15" font-weight="600">{escape(title)}</text>\n'
        f'<text x="14" y="43">{escape(line)}</text>\n'
        + "".join(
            f'<g transform="translate({number * _WIDTH} 52)">\n{panel}</g>\n'
            for number, panel in enumerate(panels)
        )
        + "</svg>\n"
    )


def _panel(title: str, series: Series, levels: Mapping[str, float]) -> str:
    """Lines over a logarithmic axis of powers of two, dashed levels, from zero."""
    places = sorted({x for points in series.values() for x, _ in points})
    top = _round_up(
        max([y for points in series.values() for _, y in points] + list(levels.values()) + [1e-9])
    )
    low, high = math.log2(places[0]), math.log2(places[-1])

    def across(x: float) -> float:
        share = (math.log2(x) - low) / (high - low) if high > low else 0.5
        return _LEFT + 8 + share * (_WIDTH - _LEFT - _RIGHT - 16)

    def up(y: float) -> float:
        return _HEIGHT - _BOTTOM - y / top * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<text x="14" y="20" font-weight="600">{escape(title)}</text>']
    for tick in range(5):
        y = top * tick / 4
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{up(y):.1f}" y2="{up(y):.1f}" stroke="#e4e4e4"/>'
            f'<text x="{_LEFT - 6}" y="{up(y) + 4:.1f}" text-anchor="end" fill="#666">{y:g}</text>'
        )
    parts += [
        f'<text x="{across(x):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle" fill="#666">{x:g}</text>'
        for x in places
    ]
    for number, (name, points) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3.5" fill="{colour}"/>' for x, y in points
        ]
        place = _LEFT + number * 110
        parts.append(
            f'<rect x="{place}" y="30" width="10" height="10" fill="{colour}"/>'
            f'<text x="{place + 15}" y="39">{escape(name)}</text>'
        )
    for name, y in levels.items():
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{up(y):.1f}" y2="{up(y):.1f}" stroke="#444" '
            f'stroke-dasharray="5 4"/><text x="{_WIDTH - _RIGHT - 4}" y="{up(y) + 14:.1f}" text-anchor="end">'
            f"{escape(name)}: {y:.0f}</text>"
        )
    return "\n".join(parts) + "\n"


def _round_up(value: float) -> float:
    """The next number of the form 1, 2, 4, 6 or 8 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next((step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= value), 10 * power)
