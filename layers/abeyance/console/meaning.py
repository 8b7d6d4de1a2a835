"""What a similarity means, in words that a reviewer can use: how many strangers would score as high."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise

#: As :mod:`abeyance.evaluation.calibration` writes the provenance of a model's scale.
_ANCHOR = re.compile(r"\b(\d+(?:\.\d+)?): cosine -?[\d.]+ \([^)]*\), FMR ([\d.]+e[+-]\d+) ")
UNKNOWN = "How many strangers score this high was not measured for this model."


def anchors(provenance: str) -> tuple[tuple[float, float], ...]:
    """(similarity, false-match rate in the worst group), similarity ascending, from a scale's provenance."""
    found = {float(similarity): float(rate) for similarity, rate in _ANCHOR.findall(provenance)}
    return tuple(sorted((similarity, rate) for similarity, rate in found.items() if rate > 0))


def strangers(similarity: float, measured: Sequence[tuple[float, float]]) -> float | None:
    """Share of pairs of strangers, in the worst group, that score at least ``similarity`` (0 to 100).

    Between two measured points the logarithm of the rate is taken as straight; beyond the last one the last rate is a
    bound. None below the first, or where nothing was measured.
    """
    if not measured or similarity < measured[0][0]:
        return None
    for (low, often), (high, seldom) in pairwise(measured):
        if similarity < high:
            share = (similarity - low) / (high - low)
            return 10 ** (math.log10(often) + share * (math.log10(seldom) - math.log10(often)))
    return measured[-1][1]


def words(similarity: float, measured: Sequence[tuple[float, float]]) -> str:
    """One sentence for the reviewer."""
    rate = strangers(similarity, measured)
    if rate is None:
        return UNKNOWN
    fewer = "fewer than 1" if similarity > measured[-1][0] else "about 1"
    return (
        f"Of the group of people for whom the model errs most, {fewer} in {_round(1 / rate)} pairs of strangers "
        "score this high. It is a reason to look, not an answer."
    )


def one_in(rate: float) -> str:
    """``1 in 10 000`` of 1e-4."""
    return f"1 in {_round(1 / rate)}"


def _round(number: float) -> str:
    """Two leading digits, thousands apart by thin spaces."""
    digits = max(0, math.floor(math.log10(number)) - 1)
    return f"{round(number / 10**digits) * 10**digits:,}".replace(",", "\u202f")
