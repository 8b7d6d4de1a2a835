"""The test that the ACLU made of Rekognition in 2018: public officials, searched in a gallery of strangers.

Nobody in the gallery is an official, so whoever is found is a false match. What counts is at which threshold,
who it happens to, and how many faces a person would have to look at to find out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from abeyance.evaluation.intervals import Rate, clustered_rate
from abeyance.evaluation.pairs import scan

#: Candidates that one search shows, as ``SearchFaces`` does unless asked otherwise for a reviewer's list.
SHOWN = 10


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A test that was published. Shares are of people of colour, as its authors counted."""

    year: int
    by: str
    probes: int
    falsely_matched: int
    gallery: int
    similarity: float
    share_of_false_matches: float | None
    share_of_probes: float | None
    source: str


PUBLISHED = (
    Published(
        year=2018,
        by="ACLU: members of the US Congress",
        probes=535,
        falsely_matched=28,
        gallery=25_000,
        similarity=80.0,
        share_of_false_matches=0.4,
        share_of_probes=0.2,
        source="https://www.aclu.org/news/privacy-technology/amazons-face-recognition-falsely-matched-28",
    ),
    Published(
        year=2019,
        by="ACLU of California: state legislators",
        probes=120,
        falsely_matched=26,
        gallery=25_000,
        similarity=80.0,
        share_of_false_matches=None,
        share_of_probes=None,
        source="https://www.aclunc.org/news/facial-recognition-technology-falsely-identifies-26-california-legislators-mugshots",
    ),
)


class GroupShare(msgspec.Struct, frozen=True, kw_only=True):
    """How one group fared."""

    group: str
    probes: int
    falsely_matched: int
    rate: Rate
    share_of_probes: float
    share_of_false_matches: float | None


class AtThreshold(msgspec.Struct, frozen=True, kw_only=True):
    """The test at one threshold."""

    name: str
    similarity: float
    cosine: float
    #: Officials who are taken for somebody else.
    falsely_matched: int
    rate: Rate
    #: Pairs at or above the threshold, and those that would be shown (at most ``SHOWN`` a search).
    candidates: int
    shown: int
    groups: dict[str, tuple[GroupShare, ...]]
    #: Probability that chance alone would give people of colour so large a part of the false matches; None if
    #: there are none, or the attribute is not given.
    chance: float | None


class FalseMatch(msgspec.Struct, frozen=True, kw_only=True):
    """One official taken for somebody else. Rows are those of the two photo sets."""

    probe: int
    candidate: int
    cosine: float
    similarity: float
    group: str


class Legislators(msgspec.Struct, frozen=True, kw_only=True):
    """The whole test."""

    model: str
    probes: int
    gallery: int
    comparisons: int
    probes_without_face: int
    gallery_without_face: int
    thresholds: tuple[AtThreshold, ...]
    #: (similarity, cosine, officials falsely matched) from permissive to strict.
    curve: tuple[tuple[float, float, int], ...]
    #: Lowest similarity at which nobody is falsely matched.
    clear_from: float
    false_matches: tuple[FalseMatch, ...]
    moratorium: Moratorium
    published: tuple[Published, ...] = PUBLISHED


class Moratorium(msgspec.Struct, frozen=True, kw_only=True):
    """What the active flags say to a police search in the United States."""

    permitted: bool
    reason: str
    #: Of the restrictions in force, whether or not a halt stands before them; None if there is none.
    min_similarity: float | None
    human_review: int
    flags_version: str


def run(
    probes: NDArray[np.float32],
    gallery: NDArray[np.float32],
    *,
    model: str,
    thresholds: Sequence[tuple[str, float, float]],
    curve: Sequence[tuple[float, float]],
    similarity_of: Sequence[tuple[float, float]],
    groups: dict[str, Sequence[str]],
    people: Sequence[str],
    moratorium: Moratorium,
    without_face: tuple[int, int] = (0, 0),
    rows: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> Legislators:
    """Search every official.

    Parameters
    ----------
    probes, gallery
        (n, d) and (m, d) float32, unit length; only photos with a face.
    thresholds
        (name, similarity, cosine) to report.
    curve
        (similarity, cosine), rising.
    similarity_of
        Knots (cosine, similarity) of the model's scale.
    groups
        Attribute: the group of every probe.
    people
        Who each probe is.
    without_face
        Probes and gallery photos in which no face was found; they match nobody.
    rows
        Row in the photo set of each probe and gallery photo, for pointing at pictures.
    """
    lowest = min([c for _, c in curve] + [c for _, _, c in thresholds])
    found = scan(probes, gallery, level=lowest)
    best: NDArray[np.float64] = np.full(len(probes), -1.0)
    np.maximum.at(best, found.left, found.scores.astype(np.float64))
    codes = {person: number for number, person in enumerate(dict.fromkeys(people))}
    owners = np.array([codes[person] for person in people])
    cosines, similarities = np.array(similarity_of).T
    race = groups.get("race")
    reported = min(c for _, _, c in thresholds)
    probe_rows, gallery_rows = rows or (np.arange(len(probes)), np.arange(len(gallery)))
    return Legislators(
        model=model,
        probes=len(probes) + without_face[0],
        gallery=len(gallery) + without_face[1],
        comparisons=found.total,
        probes_without_face=without_face[0],
        gallery_without_face=without_face[1],
        thresholds=tuple(
            _at(name, similarity, cosine, found.left, found.scores, best, owners, groups)
            for name, similarity, cosine in thresholds
        ),
        curve=tuple((s, c, int((best >= np.float32(c)).sum())) for s, c in curve),
        clear_from=float(np.interp(best.max(initial=-1.0), cosines, similarities)),
        false_matches=tuple(
            FalseMatch(
                probe=int(probe_rows[i]),
                candidate=int(gallery_rows[j]),
                cosine=float(score),
                similarity=float(np.interp(score, cosines, similarities)),
                group=race[i] if race else "",
            )
            for i, j, score in zip(found.left.tolist(), found.right.tolist(), found.scores, strict=True)
            if score >= np.float32(reported)
        ),
        moratorium=moratorium,
    )


def _at(
    name: str,
    similarity: float,
    cosine: float,
    left: NDArray[np.int32],
    scores: NDArray[np.float32],
    best: NDArray[np.float64],
    owners: NDArray[np.int64],
    groups: dict[str, Sequence[str]],
) -> AtThreshold:
    hit = best >= np.float32(cosine)
    per_probe = np.bincount(left[scores >= np.float32(cosine)], minlength=len(best))
    shares = {}
    for attribute, labels in groups.items():
        label = np.array(labels)
        shares[attribute] = tuple(
            GroupShare(
                group=str(group),
                probes=int((label == group).sum()),
                falsely_matched=int(hit[label == group].sum()),
                rate=clustered_rate(hit[label == group], owners[label == group]),
                share_of_probes=float((label == group).mean()),
                share_of_false_matches=float((label[hit] == group).mean()) if hit.any() else None,
            )
            for group in np.unique(label)
        )
    chance = None
    if "race" in groups and hit.any():
        colour = np.array([not is_white(group) for group in groups["race"]])
        if 0 < colour.sum() < len(colour):
            chance = at_least(len(colour), int(colour.sum()), int(hit.sum()), int((colour & hit).sum()))
    return AtThreshold(
        name=name,
        similarity=similarity,
        cosine=cosine,
        falsely_matched=int(hit.sum()),
        rate=clustered_rate(hit, owners),
        candidates=int(per_probe.sum()),
        shown=int(np.minimum(per_probe, SHOWN).sum()),
        groups=shares,
        chance=chance,
    )


def is_white(group: str) -> bool:
    """Whether a published label says white; everybody else is counted as a person of colour, as the ACLU did."""
    return group.casefold().split("-")[0].split(" ")[0].split("_")[0] in {"white", "caucasian"}


def at_least(total: int, marked: int, drawn: int, seen: int) -> float:
    """Probability that ``seen`` or more of ``drawn`` out of ``total`` are among the ``marked`` (Fisher's exact
    test, one-sided)."""
    return sum(
        math.comb(marked, k) * math.comb(total - marked, drawn - k)
        for k in range(seen, min(marked, drawn) + 1)
    ) / math.comb(total, drawn)
