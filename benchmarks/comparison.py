"""The result of a measurement: Abeyance and an alternative in turn, in one run, as a ratio with its spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import quantiles

import msgspec

#: Shows the title of the measurement that begins.
Progress = Callable[[str], None]


class Spread(msgspec.Struct, frozen=True):
    """Median and quartiles of several rounds."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float], scale: float = 1.0) -> Spread:
        """Summarise at least one value, each multiplied by ``scale``."""
        scaled = [scale * value for value in values]
        if len(scaled) == 1:
            return cls(scaled[0], scaled[0], scaled[0], 1)
        low, middle, high = quantiles(scaled, n=4, method="inclusive")
        return cls(middle, low, high, len(scaled))


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table: the same work, done by Abeyance and by an alternative."""

    #: Stable, dotted, lower case: ``photos.640px.1face.1core.opencv``. Stored ratios are found by it.
    key: str
    #: For people: ``640 px, 1 face, one core``.
    what: str
    #: Of ``ours`` and ``theirs``: ``ms``, ``s``, ``photos/s``.
    unit: str
    ours: Spread
    #: The alternative, with its version.
    other: str
    theirs: Spread
    #: How many times better Abeyance is; above 1 it wins, whatever the unit. Taken within each round.
    ratio: Spread
    #: The least ratio that we want, or None.
    aim: float | None = None
    #: Evidence that the two are comparable: equal results, the same weights, the accuracy of each.
    note: str = ""

    @property
    def reached(self) -> bool:
        """True if the aim is reached, or there is none."""
        return self.aim is None or self.ratio.median >= self.aim


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement that stands alone, against an aim in its own unit."""

    key: str
    what: str
    unit: str
    value: Spread
    #: The most (or the least, where more is better) that we want, or None.
    aim: float | None = None
    more_is_better: bool = False
    note: str = ""

    @property
    def reached(self) -> bool:
        """True if the aim is reached, or there is none."""
        if self.aim is None:
            return True
        return self.value.median >= self.aim if self.more_is_better else self.value.median <= self.aim


class BenchmarkPart(msgspec.Struct, frozen=True, kw_only=True):
    """The results of one module."""

    name: str
    comparisons: tuple[Comparison, ...] = ()
    figures: tuple[Figure, ...] = ()
    #: Sentences under the table: omissions and their reasons, versions, accuracies.
    notes: tuple[str, ...] = ()

    @property
    def reached(self) -> bool:
        """True if every aim is reached."""
        lines: tuple[Comparison | Figure, ...] = (*self.comparisons, *self.figures)
        return all(one.reached for one in lines)


def compare(
    key: str,
    what: str,
    ours: Sequence[float],
    other: str,
    theirs: Sequence[float],
    *,
    unit: str,
    more_is_better: bool = False,
    scale: float = 1.0,
    aim: float | None = None,
    note: str = "",
) -> Comparison:
    """Compare values of the same rounds, each multiplied by ``scale``; a slow alternative has the first rounds only."""
    common = ours[: len(theirs)]
    return Comparison(
        key=key,
        what=what,
        unit=unit,
        ours=Spread.of(ours, scale),
        other=other,
        theirs=Spread.of(theirs, scale),
        ratio=faster(theirs, common) if more_is_better else faster(common, theirs),
        aim=aim,
        note=note,
    )


by_rate = partial(compare, unit="photos/s", more_is_better=True)
by_time = partial(compare, unit="ms")


def faster(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return the spread of how many times less time ``ours`` took, round by round."""
    return Spread.of([b / a for a, b in zip(ours, theirs, strict=True)])


def figure(
    key: str,
    what: str,
    unit: str,
    values: Sequence[float],
    *,
    scale: float = 1.0,
    at_least: float | None = None,
    at_most: float | None = None,
    note: str = "",
) -> Figure:
    """Make a figure of measured values, each multiplied by ``scale``."""
    return Figure(
        key=key,
        what=what,
        unit=unit,
        value=Spread.of(values, scale),
        aim=at_most if at_least is None else at_least,
        more_is_better=at_least is not None,
        note=note,
    )
