"""The fit of a map of templates (:mod:`abeyance.vision.models.template_map`) on strangers, and its cross-fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from abeyance.evaluation.arrays import BoolArray, Float32Array, IntArray
from abeyance.evaluation.calibration import MIN_EXPECTED_MATCHES
from abeyance.evaluation.demographics import MIN_ERRORS
from abeyance.evaluation.errors import TooFew
from abeyance.evaluation.intervals import Rate, clustered_rate
from abeyance.evaluation.pairs import at_or_above, scan_within, threshold_at
from abeyance.evaluation.templates import MatedVectors
from abeyance.vision.models.template_map import TemplateMap

#: Directions that are damped.
DIRECTIONS = 16
#: Weight of the mean variance in each direction's variance; it keeps the damping mild.
_SHRINKAGE = 0.5
#: Fewest people for each number of a template: with fewer, the covariance is mostly chance.
_PEOPLE_PER_NUMBER = 10
_DIGITS = 5
#: FNMR at which the groups' FMRs are compared, so that both scales miss as many.
_COMPARED_AT_FNMR = 0.02


class ScaleCost(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of an anchor of the scale, with or without the map."""

    similarity: float
    #: Highest FMR of a group.
    fmr: float
    #: Cosine of the anchor, the group that sets it and its false matches there.
    threshold: float
    worst: str
    false_matches: int
    #: Source of mated pairs: share missed.
    fnmr: dict[str, Rate]
    #: Highest over lowest FMR of the groups with enough false matches, and their number.
    ratio: float | None
    judged: int


class MapStudy(msgspec.Struct, frozen=True, kw_only=True):
    """Result of ``abeyance calibrate map``: both scales on people that no map was fitted to."""

    model: str
    people: int
    pairs_within_groups: int
    directions: int
    without: tuple[ScaleCost, ...]
    with_map: tuple[ScaleCost, ...]
    #: Source of mated pairs: highest over lowest group's FMR where 2 % of its pairs are missed, without and with.
    ratio_at_fnmr: dict[str, tuple[float | None, float | None]]


def fit_map(
    vectors: Float32Array, groups: IntArray, *, provenance: str, directions: int = DIRECTIONS
) -> TemplateMap:
    """Fit a map.

    The mean is that of the groups' means, so that no group counts for more because it has more photos. A direction's
    variance λ becomes λ' = λ / 2 + mean(λ) / 2, and its gain sqrt(mean of λ' of the directions that stay / λ').

    Parameters
    ----------
    vectors
        (n, d) float32, unit length, without a map: strangers, one photo each.
    groups
        (n,) int: group of each.
    directions
        Number of directions to damp, those with the largest variance.

    Raises
    ------
    TooFew
        If there are fewer than ten people for each of the d numbers.
    """
    count, size = vectors.shape
    if count < _PEOPLE_PER_NUMBER * size:
        raise TooFew("too few strangers to fit a map on", have=count, need=_PEOPLE_PER_NUMBER * size)
    exact = vectors.astype(np.float64)
    mean = np.mean([exact[groups == group].mean(axis=0) for group in np.unique(groups)], axis=0)
    variances, axes = np.linalg.eigh(np.cov(exact - mean, rowvar=False))
    variances, axes = variances[::-1], axes[:, ::-1]
    shrunk = (1 - _SHRINKAGE) * variances + _SHRINKAGE * variances.mean()
    gains = np.minimum(1.0, np.sqrt(shrunk[directions:].mean() / shrunk[:directions]))
    # The sign of an axis is chance; with a fixed one, the same data gives the same file.
    chosen = axes[:, :directions].T
    chosen = chosen * np.sign(chosen[np.arange(directions), np.abs(chosen).argmax(axis=1)])[:, None]
    return TemplateMap(
        provenance=provenance,
        mean=tuple(mean.round(_DIGITS).tolist()),
        directions=tuple(tuple(row) for row in chosen.round(_DIGITS).tolist()),
        gains=tuple(gains.round(_DIGITS).tolist()),
    )


def halves(people: IntArray) -> BoolArray:
    """Return (n,) bool: one of two halves of the people, drawn once, so that both photos of a person are in one."""
    _, code = np.unique(people, return_inverse=True)
    side: IntArray = np.random.default_rng(0).permutation(int(code.max()) + 1)
    return np.asarray(side[code] % 2 == 0)


def cross_fit(
    vectors: Float32Array,
    labels: Sequence[str],
    people: IntArray,
    mated: Mapping[str, MatedVectors],
    anchors: Mapping[float, float],
    *,
    model: str,
) -> tuple[TemplateMap, MapStudy]:
    """Fit a map on everybody, and measure maps of each half of the people on the other half.

    Parameters
    ----------
    vectors, labels, people
        Strangers without a map: (n, d) float32 of unit length, the group and the (n,) person of each; one photo of
        each person is used.
    mated
        Mated pairs of each source, which no map is fitted to.
    anchors
        Similarity: FMR of the worst group.
    """
    rows = np.unique(people, return_index=True)[1]
    names = sorted({labels[row] for row in rows})
    groups = np.array([names.index(labels[row]) for row in rows], np.int64)
    vectors = vectors[rows]
    first = halves(np.arange(len(rows)))
    maps = [fit_map(vectors[part], groups[part], provenance="") for part in (~first, first)]

    def measure(
        views: Sequence[Callable[[Float32Array], Float32Array]],
    ) -> tuple[IntArray, dict[str, _Mated]]:
        """Return histograms within groups, each half through its own view, and mated cosines through both."""
        within = sum(
            scan_within(view(vectors[part]), groups[part], len(names)).within
            for part, view in zip((first, ~first), views, strict=True)
        )
        return np.asarray(within), {
            name: (
                np.concatenate([pairs.cosines(view) for view in views]),
                np.concatenate([pairs.people for _ in views]),
            )
            for name, pairs in mated.items()
        }

    plain, mapped = measure([lambda v: v] * 2), measure([one.apply for one in maps])
    study = MapStudy(
        model=model,
        people=len(rows),
        pairs_within_groups=int(plain[0].sum()),
        directions=DIRECTIONS,
        without=_costs(*plain, names, anchors),
        with_map=_costs(*mapped, names, anchors),
        ratio_at_fnmr={
            name: (_ratio_at_fnmr(plain[0], plain[1][name]), _ratio_at_fnmr(mapped[0], mapped[1][name]))
            for name in mated
        },
    )
    return fit_map(vectors, groups, provenance=""), study


#: Cosines of mated pairs, and the person of each.
_Mated = tuple[Float32Array, IntArray]


def _costs(
    within: IntArray, mated: Mapping[str, _Mated], names: Sequence[str], anchors: Mapping[float, float]
) -> tuple[ScaleCost, ...]:
    costs = []
    for similarity, fmr in sorted(anchors.items()):
        own = [
            threshold_at(histogram, fmr) if histogram.sum() * fmr >= MIN_EXPECTED_MATCHES else -1.0
            for histogram in within
        ]
        worst = int(np.argmax(own))
        ratio, judged = _ratio(within, own[worst])
        costs.append(
            ScaleCost(
                similarity=similarity,
                fmr=fmr,
                threshold=own[worst],
                worst=names[worst],
                false_matches=at_or_above(within[worst], own[worst]),
                fnmr={name: clustered_rate(c < own[worst], people) for name, (c, people) in mated.items()},
                ratio=ratio,
                judged=judged,
            )
        )
    return tuple(costs)


def _ratio(within: IntArray, threshold: float) -> tuple[float | None, int]:
    matches = np.array([at_or_above(histogram, threshold) for histogram in within])
    judged = matches >= MIN_ERRORS
    rates = matches[judged] / within[judged].sum(axis=1)
    return (float(rates.max() / rates.min()) if judged.sum() > 1 else None), int(judged.sum())


def _ratio_at_fnmr(within: IntArray, mated: _Mated) -> float | None:
    return _ratio(within, float(np.quantile(mated[0], _COMPARED_AT_FNMR)))[0]
