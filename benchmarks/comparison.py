"""What a measurement is: Abeyance and an alternative in turn, in one run, as a ratio with its spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import quantiles

import msgspec

#: Says what is being measured now.
Tell = Callable[[str], None]


class Spread(msgspec.Struct, frozen=True):
    """Median and quartiles of several rounds."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0], 1)
        low, middle, high = quantiles(values, n=4, method="inclusive")
        return cls(middle, low, high, len(values))


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table: the same work, done by Abeyance and by something else."""

    #: Stable, dotted, lower case: ``photos.640px.1face.1core.opencv``. Stored ratios are found by it.
    key: str
    #: For people: ``640 px, 1 face, one core``.
    what: str
    #: Of ``ours`` and ``theirs``: ``ms``, ``s``, ``photos/s``.
    unit: str
    ours: Spread
    #: What a user would pick instead, with its version.
    other: str
    theirs: Spread
    #: How many times better Abeyance is; above 1 it wins, whatever the unit. Taken within each round.
    ratio: Spread
    #: The least ratio that we want, or None.
    aim: float | None = None
    #: What makes the two comparable: equal results, the same weights, the accuracy of each.
    note: str = ""

    @property
    def reached(self) -> bool:
        """Whether the aim is reached, or there is none."""
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
        """Whether the aim is reached, or there is none."""
        if self.aim is None:
            return True
        return self.value.median >= self.aim if self.more_is_better else self.value.median <= self.aim


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """All that one module measured."""

    name: str
    comparisons: tuple[Comparison, ...] = ()
    figures: tuple[Figure, ...] = ()
    #: Sentences that belong under the table: what was left out here and why, versions, accuracies.
    notes: tuple[str, ...] = ()


def faster(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """How many times less time ``ours`` took, round by round."""
    return Spread.of([b / a for a, b in zip(ours, theirs, strict=True)])
