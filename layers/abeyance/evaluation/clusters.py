"""A similarity that looks at where in template space two faces lie, and needs no group labels at run time.

After FairCal (Salvador, Cairns, Voleti, Marshall and Oberman, ICLR 2022): templates of strangers are
clustered; each cluster gets a calibration of its own from the pairs that it takes part in; a pair is judged
by those of its two clusters. Ours maps a cosine to -log10 of the false-match rate, so that it fits a scale that
is defined by false-match rates, and averages the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from abeyance.evaluation.demographics import gini
from abeyance.evaluation.errors import TooFew

#: Points of each cluster's calibration: -log10 FMR. Rarer ones lie on the line through the last two.
_LEVELS = np.array([0.3, 1.0, 2.0, 3.0])
_BLOCK = 1 << 21


@dataclass(frozen=True, slots=True, eq=False)
class ClusteredScale:
    """Calibrations by cluster.

    Attributes
    ----------
    centres
        (k, d) float32, unit length.
    cosines
        (k, 4) float64: cosine that a share 10^-0.3, 0.1, 0.01 and 0.001 of a cluster's pairs reaches.
    """

    centres: NDArray[np.float32]
    cosines: NDArray[np.float64]

    def cluster(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Nearest centre of each template: (n,) int64."""
        result: NDArray[np.int64] = np.argmax(vectors @ self.centres.T, axis=1)
        return result

    def score(
        self, cosine: NDArray[np.float32], first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """-log10 of the false-match rate that a cosine stands for between two clusters, averaged over them.

        Parameters
        ----------
        cosine
            (n,) of pairs.
        first, second
            (n,) cluster of either photo of each pair.
        """
        result = np.zeros(len(cosine))
        for cluster in np.union1d(first, second):
            for side in (first, second):
                rows = side == cluster
                result[rows] += self._line(int(cluster), cosine[rows]) / 2
        return result

    def matrix(
        self, cosines: NDArray[np.float32], first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """:meth:`score` of every row with every column: cosines (n, m), clusters (n,) and (m,)."""
        result = np.zeros(cosines.shape)
        for cluster in np.unique(first):
            rows = first == cluster
            result[rows] += self._line(int(cluster), cosines[rows]) / 2
        for cluster in np.unique(second):
            columns = second == cluster
            result[:, columns] += self._line(int(cluster), cosines[:, columns]) / 2
        return result

    def _line(self, cluster: int, cosine: NDArray[np.float32]) -> NDArray[np.float64]:
        x, y = self.cosines[cluster], _LEVELS
        # Beyond either end, the stretch at that end goes on.
        before = y[0] - (y[1] - y[0]) / (x[1] - x[0]) * (x[0] + 2)
        after = y[-1] + (y[-1] - y[-2]) / (x[-1] - x[-2]) * (2 - x[-1])
        result: NDArray[np.float64] = np.interp(cosine, [-2, *x, 2], [before, *y, after])
        return result


def fit(vectors: NDArray[np.float32], clusters: int, seed: int = 1) -> ClusteredScale:
    """Calibrate on strangers.

    Parameters
    ----------
    vectors
        (n, d) float32, unit length, no person twice.
    clusters
        How many; each needs about a thousand pairs for every rate, so n should be in the thousands.

    Raises
    ------
    TooFew
        If there are fewer than 20 templates for each cluster.
    """
    from sklearn.cluster import KMeans  # type: ignore[import-untyped]

    if len(vectors) < 20 * clusters:
        raise TooFew(
            f"{clusters} clusters need at least {20 * clusters:,} templates; there are {len(vectors):,}",
            have=len(vectors),
            need=20 * clusters,
        )
    found = KMeans(clusters, n_init=1, random_state=seed).fit(vectors)
    centres = found.cluster_centers_ / np.linalg.norm(found.cluster_centers_, axis=1, keepdims=True)
    member = np.argmax(vectors @ centres.T.astype(np.float32), axis=1)
    cosines = np.empty((clusters, len(_LEVELS)))
    for cluster in range(clusters):
        rows = np.flatnonzero(member == cluster)
        scores = vectors[rows] @ vectors.T if len(rows) else vectors[:1] @ vectors.T
        # A pair within the cluster is there twice, and a template with itself is no pair.
        inside = scores[:, rows]
        inside[np.tril_indices(len(rows))] = np.nan
        scores[:, rows] = inside
        values = np.sort(scores[~np.isnan(scores)])[::-1]
        at = np.clip((len(values) * 10**-_LEVELS).astype(int), 0, len(values) - 1)
        # Equal scores would make a step of no width.
        cosines[cluster] = np.maximum.accumulate(values[at] + 1e-6 * np.arange(len(_LEVELS)))
    return ClusteredScale(centres.astype(np.float32), cosines)


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """How far the groups' FMRs lie apart at one setting."""

    #: ``cosine``, or the number of clusters.
    method: str
    fnmr: float
    overall_fmr: float
    worst_fmr: float
    max_over_min: float
    worst_over_geometric_mean: float
    gini: float
    #: False matches of the group that has the fewest: below 10 or so, the ratio is mostly chance.
    fewest_false_matches: int


def compare(
    vectors: NDArray[np.float32],
    groups: NDArray[np.int64],
    mated_first: NDArray[np.float32],
    mated_second: NDArray[np.float32],
    scale: ClusteredScale | None,
    fnmr: float,
) -> Spread:
    """FMR by group of people that the scale was not made from, at the threshold where ``fnmr`` of the mated
    pairs are missed; ``scale`` None is the plain cosine.

    Parameters
    ----------
    vectors, groups
        (n, d) float32 and (n,) int: strangers.
    mated_first, mated_second
        (m, d) float32 each: the two photos of each mated pair.
    """
    mated_cosine = np.einsum("ij,ij->i", mated_first, mated_second)
    if scale is None:
        mated = mated_cosine.astype(np.float64)
        clusters = np.zeros(len(vectors), np.int64)
    else:
        mated = scale.score(mated_cosine, scale.cluster(mated_first), scale.cluster(mated_second))
        clusters = scale.cluster(vectors)
    threshold = float(np.sort(mated)[int(len(mated) * fnmr)])
    count = int(groups.max()) + 1
    matches, pairs, every = np.zeros(count), np.zeros(count), 0
    size = max(1, _BLOCK // 4 // len(vectors))
    for start in range(0, len(vectors), size):
        stop = min(start + size, len(vectors))
        cosines = vectors[start:stop] @ vectors.T
        scores = cosines if scale is None else scale.matrix(cosines, clusters[start:stop], clusters)
        hit = (scores >= threshold) & (np.arange(len(vectors))[None, :] > np.arange(start, stop)[:, None])
        every += int(hit.sum())
        rows, columns = np.nonzero(hit)
        same = groups[start + rows] == groups[columns]
        matches += np.bincount(groups[columns][same], minlength=count)
    sizes = np.bincount(groups, minlength=count)
    pairs = sizes * (sizes - 1) / 2
    rates = (matches / np.maximum(pairs, 1))[pairs > 0]
    positive = rates[rates > 0]
    return Spread(
        method="cosine" if scale is None else f"{len(scale.centres)} clusters",
        fnmr=float((mated < threshold).mean()),
        overall_fmr=every / max(1, len(vectors) * (len(vectors) - 1) // 2),
        worst_fmr=float(rates.max()),
        max_over_min=float(rates.max() / rates.min()) if len(positive) == len(rates) else float("inf"),
        worst_over_geometric_mean=float(rates.max() / np.exp(np.log(positive).mean()))
        if len(positive)
        else 1.0,
        gini=gini(rates.tolist()),
        fewest_false_matches=int(matches[pairs > 0].min()),
    )


def held_out(
    vectors: NDArray[np.float32],
    groups: NDArray[np.int64],
    mated_first: NDArray[np.float32],
    mated_second: NDArray[np.float32],
    *,
    clusters: Sequence[int] = (10, 50, 100),
    fnmrs: Sequence[float] = (0.01, 0.02, 0.05),
    seed: int = 1,
) -> list[Spread]:
    """Fit on one half of the strangers, measure on the other, then the other way round, and average.

    Returns
    -------
    list of Spread
        For every FNMR: the plain cosine, then each number of clusters. Ratios are geometric means of the two
        halves.
    """
    order = np.random.default_rng(seed).permutation(len(vectors))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    results: dict[tuple[float, int], Spread] = {}
    for number in (0, *clusters):
        scales = [fit(vectors[half], number, seed) if number else None for half in halves]
        for fnmr in fnmrs:
            results[fnmr, number] = _mean(
                [
                    compare(vectors[test], groups[test], mated_first, mated_second, scale, fnmr)
                    for scale, test in zip(scales, halves[::-1], strict=True)
                ]
            )
    return [results[fnmr, number] for fnmr in fnmrs for number in (0, *clusters)]


def _mean(both: Sequence[Spread]) -> Spread:
    def plain(name: str) -> float:
        return float(np.mean([getattr(spread, name) for spread in both]))

    def ratio(name: str) -> float:
        return float(np.exp(np.mean([np.log(getattr(spread, name)) for spread in both])))

    return Spread(
        method=both[0].method,
        fnmr=plain("fnmr"),
        overall_fmr=plain("overall_fmr"),
        worst_fmr=plain("worst_fmr"),
        max_over_min=ratio("max_over_min"),
        worst_over_geometric_mean=ratio("worst_over_geometric_mean"),
        gini=plain("gini"),
        fewest_false_matches=sum(spread.fewest_false_matches for spread in both),
    )
