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
_OVERALL = re.compile(
    r"\b(\d+(?:\.\d+)?): cosine [^;]*; (?:[\d.e+-]+ within all groups, )?([\d.]+e[+-]\d+) of all pairs"
)
_MISSED = re.compile(r"Missed of (\d+) mated pairs of (.+?): ((?:[\d.]+\s%\sat\s[\d.]+(?:, |\.(?= |$)))+)")
_SHARE = re.compile(r"([\d.]+)\s%\sat\s(\d+(?:\.\d+)?)")
_GROUPS = re.compile(r"By group at 80: (.+?)\.(?= |$)")
_GROUP = re.compile(r"([^,(]+?) ([\d.]+e[+-]\d+) \(([\d.]+e[+-]\d+) to ([\d.]+e[+-]\d+)\)")
#: Sizes of a collection in the picture: powers of ten, from and to.
_SIZES = (2, 7)
UNKNOWN = "For this model nobody has measured how many strangers reach this similarity."


class MissedPairs(msgspec.Struct, frozen=True, kw_only=True):
    """Mated pairs of one source, and the share of them that is below each similarity."""

    source: str
    pairs: int
    #: (similarity 0 to 100, share 0 to 1), similarity ascending.
    shares: tuple[tuple[float, float], ...]


class GroupErrorRate(msgspec.Struct, frozen=True, kw_only=True):
    """FMR of pairs of strangers of one group at 80, with its interval."""

    group: str
    fmr: float
    low: float
    high: float


class SearchCurve(msgspec.Struct, frozen=True, kw_only=True):
    """Share of searches for somebody who is not enrolled that bring a false candidate, by size of the collection."""

    similarity: float
    #: FMR of all pairs.
    fmr: float
    #: (size, FPIR 0 to 1), as modelled: 1 - (1 - FMR)^size, if candidates are as independent as pairs of strangers.
    points: tuple[tuple[int, float], ...]


class MeasuredErrorRates(msgspec.Struct, frozen=True, kw_only=True):
    """The false-match rates of a model by similarity, and how they were measured.

    ``points`` are pairs (similarity 0 to 100, FMR in the worst group), similarity ascending; ``searches``, ``missed``
    and ``groups`` (the highest rate first) are empty where the manifest does not have them.
    """

    model: str
    about: str
    provenance: str
    points: tuple[tuple[float, float], ...]
    searches: tuple[SearchCurve, ...] = ()
    missed: tuple[MissedPairs, ...] = ()
    groups: tuple[GroupErrorRate, ...] = ()

    @classmethod
    def of(cls, entry: ModelEntry) -> MeasuredErrorRates:
        """Return the rates of a model in the manifest."""
        provenance = entry.calibration.provenance if entry.calibration else ""
        return cls(
            model=entry.identity,
            about=entry.about,
            provenance=provenance,
            points=operating_points(provenance),
            searches=tuple(search_curve(float(s), float(rate)) for s, rate in _OVERALL.findall(provenance)),
            missed=tuple(
                MissedPairs(
                    source=source,
                    pairs=int(pairs),
                    shares=tuple((float(s), float(share) / 100) for share, s in _SHARE.findall(shares)),
                )
                for pairs, source, shares in _MISSED.findall(provenance)
            ),
            groups=_groups(provenance),
        )


def search_curve(similarity: float, fmr: float) -> SearchCurve:
    """Return the modelled FPIR at a similarity whose FMR of all pairs is ``fmr``, for sizes from 100 to 10 million."""
    low, high = _SIZES
    sizes = [round(10 ** (step / 4)) for step in range(4 * low, 4 * high + 1)]
    # Written so that a tiny rate does not vanish in 1 - rate.
    points = tuple((size, -math.expm1(size * math.log1p(-fmr))) for size in sizes)
    return SearchCurve(similarity=similarity, fmr=fmr, points=points)


def _groups(provenance: str) -> tuple[GroupErrorRate, ...]:
    found = _GROUPS.search(provenance)
    rows = _GROUP.findall(found[1]) if found else []
    rates = [
        GroupErrorRate(group=name.strip(), fmr=float(rate), low=float(low), high=float(high))
        for name, rate, low, high in rows
    ]
    return tuple(sorted(rates, key=lambda row: -row.fmr))


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
