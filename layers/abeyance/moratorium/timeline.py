"""Moratoria over time: the spans in which each flag binds, as data and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from html import escape

from msgspec import Struct

from abeyance.moratorium.document import NEVER, FlagSet, instant, instant_text


class Phase(StrEnum):
    """The phase of a flag during a span."""

    IN_FORCE = "in_force"
    #: Past its end, and in force until somebody acts.
    HELD = "held"
    #: In force, and somebody is exempt.
    EXEMPTING = "exempting"


class Span(Struct, frozen=True, kw_only=True):
    """One stretch of one flag, [starts, ends) UTC; ``ends`` "" is until further notice."""

    flag: str
    effect: str
    phase: Phase
    starts: str
    ends: str


def spans(flags: FlagSet) -> tuple[Span, ...]:
    """Return every stretch in which a flag binds, by key and then by time; stretches of a flag do not overlap."""
    found: list[Span] = []
    for flag in flags.flags:
        edges = {flag.starts}
        if flag.ends is not None:
            edges.add(flag.ends)
        exempt_until = flag.exempt_until
        if flag.exempt_purposes and exempt_until is not None and exempt_until > flag.starts:
            edges.add(exempt_until)
        marks = sorted(edges)
        for start, end in zip(marks, [*marks[1:], None], strict=True):
            if not flag.in_force(start):
                continue
            phase = Phase.IN_FORCE
            if flag.ends is not None and start >= flag.ends:
                phase = Phase.HELD
            elif flag.exempt_purposes and (exempt_until is None or start < exempt_until):
                phase = Phase.EXEMPTING
            found.append(
                Span(
                    flag=flag.key,
                    effect=str(flag.effect),
                    phase=phase,
                    starts=instant_text(start),
                    ends="" if end is None else instant_text(end),
                )
            )
    return tuple(found)


def window(found: Sequence[Span], now: datetime) -> tuple[datetime, datetime]:
    """Return a stretch of time, in whole years UTC, that shows every edge and the present."""
    edges = [instant(text) for span in found for text in (span.starts, span.ends) if text] + [now]
    first, last = min(edges).astimezone(UTC), max(edges).astimezone(UTC)
    ends = datetime(last.year + 2, 1, 1, tzinfo=UTC) if last.year < 9998 else NEVER
    return datetime(first.year, 1, 1, tzinfo=UTC), ends


_WIDTH, _LEFT, _ROW, _TOP = 960, 250, 26, 40
_COLOURS = {
    ("halt", Phase.IN_FORCE): "#b3261e",
    ("halt", Phase.EXEMPTING): "#d9776f",
    ("halt", Phase.HELD): "#7a1712",
    ("restrict", Phase.IN_FORCE): "#c77700",
    ("restrict", Phase.EXEMPTING): "#e6b566",
    ("restrict", Phase.HELD): "#8a5200",
}
_LEGEND = (
    ("halt", Phase.IN_FORCE, "halt"),
    ("restrict", Phase.IN_FORCE, "restrict"),
    ("halt", Phase.EXEMPTING, "with exemptions"),
    ("halt", Phase.HELD, "held past its end"),
)


def svg(found: Sequence[Span], starts: datetime, ends: datetime, now: datetime) -> str:
    """Draw spans as a self-contained SVG: one row for each flag, years across, a line at ``now``.

    Parameters
    ----------
    found : sequence of Span
    starts, ends : datetime
        The stretch to draw; aware.
    now : datetime
        Aware; drawn only if it lies inside.
    """
    rows = list(dict.fromkeys(span.flag for span in found))
    height = _TOP + _ROW * max(len(rows), 1) + 44

    def x(moment: datetime) -> float:
        share = (moment - starts) / (ends - starts)
        return round(_LEFT + min(max(share, 0.0), 1.0) * (_WIDTH - _LEFT - 20), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12">',
        "<title>Moratoria over time</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    step = max(1, (ends.year - starts.year) // 12)
    for year in range(starts.year, ends.year + 1, step):
        at = x(max(datetime(year, 1, 1, tzinfo=UTC), starts))
        parts.append(
            f'<line x1="{at}" x2="{at}" y1="{_TOP - 8}" y2="{height - 40}" stroke="#dddddd"/>'
            f'<text x="{at}" y="{_TOP - 14}" text-anchor="middle" fill="#555555">{year}</text>'
        )
    for number, key in enumerate(rows):
        y = _TOP + number * _ROW
        label = f'<text x="{_LEFT - 10}" y="{y + 15}" text-anchor="end" fill="#222222">{escape(key)}</text>'
        parts.append(label)
        parts += [
            _bar(span, x(instant(span.starts)), x(instant(span.ends)) if span.ends else x(ends), y)
            for span in found
            if span.flag == key
        ]
    if starts <= now <= ends:
        at = x(now)
        line = f'<line x1="{at}" x2="{at}" y1="{_TOP - 8}" y2="{height - 40}" stroke="#1a56b0"/>'
        words = f'<text x="{at}" y="{height - 26}" text-anchor="middle" fill="#1a56b0">{now.date()}</text>'
        parts.append(line + words)
    for number, (effect, phase, words) in enumerate(_LEGEND):
        at = 12 + number * 130
        parts.append(
            f'<rect x="{at}" y="{height - 18}" width="12" height="10" fill="{_COLOURS[effect, phase]}"/>'
            f'<text x="{at + 18}" y="{height - 9}" fill="#555555">{words}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(span: Span, left: float, right: float, y: int) -> str:
    colour = _COLOURS[span.effect, span.phase]
    until = f"to {span.ends}" if span.ends else "until further notice"
    words = f"{span.flag}: {span.phase.replace('_', ' ')} from {span.starts} {until}"
    return (
        f'<rect x="{left}" y="{y + 2}" width="{max(round(right - left, 1), 1.5)}" height="{_ROW - 8}" rx="2" '
        f'fill="{colour}"><title>{escape(words)}</title></rect>'
    )


def bar_text(found: Sequence[Span], key: str, starts: datetime, ends: datetime, width: int) -> str:
    """Return one flag as ``width`` characters from ``starts`` to ``ends``.

    ``█`` in force, ``▓`` in force with exemptions, ``▒`` held past its end, ``·`` not in force. A column
    shows the strictest phase that touches it, so that nothing short is lost.
    """
    step = (ends - starts) / width
    return "".join(_column(found, key, starts + step * column, step) for column in range(width))


_GLYPHS = ((Phase.IN_FORCE, "█"), (Phase.EXEMPTING, "▓"), (Phase.HELD, "▒"))


def _column(found: Sequence[Span], key: str, left: datetime, step: timedelta) -> str:
    touching = {
        span.phase
        for span in found
        if span.flag == key
        and instant(span.starts) - left < step
        and (not span.ends or instant(span.ends) > left)
    }
    return next((glyph for phase, glyph in _GLYPHS if phase in touching), "·")
