"""False-match rates in words that a reviewer can use: how many pairs of strangers reach a similarity."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from abeyance.vision.models.manifest import ModelEntry

#: As :mod:`abeyance.evaluation.calibration` writes the provenance of a model's scale.
_POINT = re.compile(r"\b(\d+(?:\.\d+)?): cosine -?[\d.]+ \([^)]*\), FMR ([\d.]+e[+-]\d+) ")
UNKNOWN = "For this model nobody has measured how many strangers reach this similarity."


class MeasuredErrorRates(msgspec.Struct, frozen=True, kw_only=True):
    """The false-match rates of a model by similarity, and how they were measured.

    ``points`` are pairs (similarity 0 to 100, FMR in the worst group), similarity ascending.
    """

    model: str
    about: str
    provenance: str
    points: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, entry: ModelEntry) -> MeasuredErrorRates:
        """Return the rates of a model in the manifest."""
        provenance = entry.calibration.provenance if entry.calibration else ""
        return cls(
            model=entry.identity,
            about=entry.about,
            provenance=provenance,
            points=operating_points(provenance),
        )


def operating_points(provenance: str) -> tuple[tuple[float, float], ...]:
    """Return (similarity, FMR in the worst group) pairs, similarity ascending, from a scale's provenance."""
    found = {float(similarity): float(rate) for similarity, rate in _POINT.findall(provenance)}
    return tuple(sorted((similarity, rate) for similarity, rate in found.items() if rate > 0))


def fmr_at(similarity: float, points: Sequence[tuple[float, float]]) -> float | None:
    """Return the FMR in the worst group at a similarity (0 to 100); None below the first point or without any.

    Between two points the logarithm of the rate is interpolated linearly. Above the last point its rate is a bound.
    """
    if not points or similarity < points[0][0]:
        return None
    for (low, low_rate), (high, high_rate) in pairwise(points):
        if similarity < high:
            share = (similarity - low) / (high - low)
            return 10 ** (math.log10(low_rate) + share * (math.log10(high_rate) - math.log10(low_rate)))
    return points[-1][1]


def describe(similarity: float, points: Sequence[tuple[float, float]]) -> str:
    """Return the meaning of a similarity, in words for the reviewer."""
    rate = fmr_at(similarity, points)
    if rate is None:
        return UNKNOWN
    share = "fewer than 1" if similarity > points[-1][0] else "about 1"
    return (
        f"In the group of people for whom the model makes most errors, {share} in {_rounded(1 / rate)} pairs of "
        "strangers reach this similarity. It is a reason to compare the faces, not an answer."
    )


def one_in(rate: float) -> str:
    """Return ``1 in 10 000`` for 1e-4."""
    return f"1 in {_rounded(1 / rate)}"


def _rounded(number: float) -> str:
    """Return two leading digits, with thin spaces between thousands."""
    digits = max(0, math.floor(math.log10(number)) - 1)
    return f"{round(number / 10**digits) * 10**digits:,}".replace(",", "\u202f")
