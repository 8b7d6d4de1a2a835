"""Whose photo is this? Rank-1, and FNIR at FPIR, for probes searched in a gallery."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from abeyance.evaluation.errors import DataInvalid
from abeyance.evaluation.intervals import Rate, clustered_rate, draw

RATES = (1e-1, 1e-2, 1e-3)
RANKS = (1, 5, 10, 20)
_BLOCK = 1 << 21


class RankRate(msgspec.Struct, frozen=True, kw_only=True):
    """Share of mated probes whose own person is among the first ``rank`` people, at no threshold."""

    rank: int
    rate: Rate


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """FNIR at one FPIR: mates missed at the threshold that a share ``fpir`` of unknown probes reaches."""

    fpir: float
    threshold: float
    fnir: Rate
    #: Unknown probes at or above the threshold.
    false_positives: int


class At(msgspec.Struct, frozen=True, kw_only=True):
    """FNIR and FPIR at a fixed threshold."""

    threshold: float
    fnir: Rate
    fpir: Rate


class Identification(msgspec.Struct, frozen=True, kw_only=True):
    """Results of one search of all probes in one gallery."""

    gallery_photos: int
    gallery_people: int
    mated_probes: int
    unknown_probes: int
    ranks: tuple[RankRate, ...]
    open_set: tuple[Open, ...]
    fixed: tuple[At, ...]
    #: FPIRs that there are too few unknown probes for.
    unmeasurable: tuple[float, ...]


def identify(
    gallery: NDArray[np.float32],
    gallery_people: Sequence[str],
    probes: NDArray[np.float32],
    probe_people: Sequence[str],
    probe_found: NDArray[np.bool_],
    *,
    thresholds: Sequence[float] = (),
    rates: Sequence[float] = RATES,
    repeats: int = 500,
    seed: int = 1,
) -> Identification:
    """Search every probe.

    Parameters
    ----------
    gallery, probes
        (n, d) and (m, d) float32, unit length.
    gallery_people, probe_people
        Who they are. A probe whose person is not in the gallery is unknown.
    probe_found
        (m,) bool. A probe without a face finds nobody: a miss if it has a mate, harmless if not.
    thresholds
        Cosines to give FNIR and FPIR at.

    Notes
    -----
    A mate counts as found if its score is at or above the threshold and no other person's is higher (FNIR at
    rank 1, as in NIST's FRTE 1:N).
    """
    if not len(gallery) or not len(probes):
        raise DataInvalid("identification needs at least one photo in the gallery and one probe")
    names = {person: number for number, person in enumerate(dict.fromkeys(gallery_people))}
    owners = np.array([names[person] for person in gallery_people])
    wanted = np.array([names.get(person, -1) for person in probe_people])
    own, best, rank = _search(gallery, owners, probes, wanted, len(names))
    own[~probe_found], best[~probe_found], rank[~probe_found] = -np.inf, -np.inf, len(names) + 1
    codes = {person: number for number, person in enumerate(dict.fromkeys(probe_people))}
    people = np.array([codes[person] for person in probe_people])
    mated, unknown = wanted >= 0, wanted < 0
    # The score at which the mate would be reported first; -inf if somebody else comes before.
    hit = np.where(rank == 1, own, -np.inf)

    open_set, unmeasurable = [], []
    for rate in rates:
        if unknown.sum() * rate < 1 or not mated.any():
            unmeasurable.append(rate)
            continue
        threshold = _threshold(best[unknown], np.ones(int(unknown.sum())), rate)
        plain = clustered_rate(hit[mated] < threshold, people[mated])
        low, high = _resampled(hit, best, mated, people, rate, repeats, seed)
        open_set.append(
            Open(
                fpir=rate,
                threshold=threshold,
                fnir=msgspec.structs.replace(plain, low=min(plain.low, low), high=max(plain.high, high)),
                false_positives=int((best[unknown] >= threshold).sum()),
            )
        )
    return Identification(
        gallery_photos=len(gallery),
        gallery_people=len(names),
        mated_probes=int(mated.sum()),
        unknown_probes=int(unknown.sum()),
        ranks=tuple(
            RankRate(rank=r, rate=clustered_rate(rank[mated] <= r, people[mated]))
            for r in RANKS
            if r <= len(names) and mated.any()
        ),
        open_set=tuple(open_set),
        fixed=tuple(
            At(
                threshold=t,
                fnir=clustered_rate(hit[mated] < t, people[mated]),
                fpir=clustered_rate(best[unknown] >= t, people[unknown]),
            )
            for t in thresholds
        ),
        unmeasurable=tuple(unmeasurable),
    )


def _search(
    gallery: NDArray[np.float32],
    owners: NDArray[np.int64],
    probes: NDArray[np.float32],
    wanted: NDArray[np.int64],
    people: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Per probe: best score of its own person (-inf without), best of anybody, rank of its own person."""
    order = np.argsort(owners, kind="stable")
    starts = np.searchsorted(owners[order], np.arange(people))
    sorted_gallery = np.ascontiguousarray(gallery[order])
    own = np.full(len(probes), -np.inf)
    best = np.empty(len(probes))
    rank = np.full(len(probes), people + 1, np.int64)
    size = max(1, _BLOCK // len(gallery))
    for start in range(0, len(probes), size):
        part = slice(start, min(start + size, len(probes)))
        # A person with several photos is as near as the nearest of them.
        scores = np.maximum.reduceat(probes[part] @ sorted_gallery.T, starts, axis=1)
        best[part] = scores.max(axis=1)
        rows = np.flatnonzero(wanted[part] >= 0)
        mine = scores[rows, wanted[part][rows]]
        own[start + rows] = mine
        # A tie is not in the mate's favour.
        rank[start + rows] = (scores[rows] >= mine[:, None]).sum(axis=1)
    return own, best, rank


def _threshold(scores: NDArray[np.float64], weights: NDArray[np.float64], rate: float) -> float:
    """Lowest threshold that at most a share ``rate`` of unknown probes reaches."""
    order = np.argsort(-scores)
    above = np.cumsum(weights[order])
    allowed = int(np.searchsorted(above, rate * above[-1] * (1 + 1e-9), side="right"))
    return float(np.nextafter(scores[order][min(allowed, len(scores) - 1)], np.inf))


def _resampled(
    hit: NDArray[np.float64],
    best: NDArray[np.float64],
    mated: NDArray[np.bool_],
    people: NDArray[np.int64],
    rate: float,
    repeats: int,
    seed: int,
) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(repeats):
        weights = draw(generator, int(people.max()) + 1)[people].astype(np.float64)
        if weights[mated].sum() > 0 and weights[~mated].sum() > 0:
            threshold = _threshold(best[~mated], weights[~mated], rate)
            values.append(float(weights[mated][hit[mated] < threshold].sum() / weights[mated].sum()))
    low, high = np.quantile(values, [0.025, 0.975]) if values else (0.0, 1.0)
    return float(low), float(high)
