"""The ACLU's test of Rekognition (2018): public officials, searched in a gallery of strangers.

The gallery should hold no official, and then every candidate is a false match. The test counts them at each threshold
and by group, and the faces that a person would have to review.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import resources

import msgspec
import numpy as np

from abeyance.evaluation.arrays import BoolArray, FloatArray, Int32Array, IntArray, StrArray
from abeyance.evaluation.datasets import PhotoSet
from abeyance.evaluation.intervals import Rate, clustered_rate
from abeyance.evaluation.pairs import scan
from abeyance.evaluation.templates import TemplateSet
from abeyance.moratorium.decide import Request, decide
from abeyance.moratorium.document import FlagSet
from abeyance.moratorium.model import Effect
from abeyance.moratorium.tenants import Tenant

#: Candidates shown for one search, as for a reviewer's list.
MAX_SHOWN = 10
#: Rising (cosine, similarity) points of a model's scale.
Knots = Sequence[tuple[float, float]]


class PublishedTest(msgspec.Struct, frozen=True, kw_only=True):
    """A published test. Shares are of people of colour, as its authors counted."""

    year: int
    by: str
    probes: int
    falsely_matched: int
    gallery: int
    similarity: float
    share_of_false_matches: float | None
    share_of_probes: float | None
    source: str


PUBLISHED = msgspec.json.decode(
    resources.files("abeyance.evaluation").joinpath("published_tests.json").read_bytes(),
    type=tuple[PublishedTest, ...],
)


class GroupShare(msgspec.Struct, frozen=True, kw_only=True):
    """False matches of one group."""

    group: str
    probes: int
    falsely_matched: int
    rate: Rate
    share_of_probes: float
    share_of_false_matches: float | None

    @property
    def white(self) -> bool:
        """See :func:`is_white`."""
        return is_white(self.group)


class SearchAtThreshold(msgspec.Struct, frozen=True, kw_only=True):
    """The test at one threshold."""

    name: str
    similarity: float
    cosine: float
    #: Officials with at least one candidate.
    falsely_matched: int
    rate: Rate
    #: Pairs at or above the threshold, and those that would be shown (at most ``MAX_SHOWN`` a search).
    candidates: int
    shown: int
    groups: dict[str, tuple[GroupShare, ...]]
    #: Probability that people of colour get so large a part of the false matches by chance alone; None if there are
    #: no false matches, or no published race.
    chance: float | None


class FalseMatch(msgspec.Struct, frozen=True, kw_only=True):
    """A false match. Rows are those of the two photo sets; images are the names of the files."""

    probe: int
    candidate: int
    probe_image: str
    candidate_image: str
    cosine: float
    similarity: float
    group: str


class PoliceSearch(msgspec.Struct, frozen=True, kw_only=True):
    """Decision of the active flags on a police search in the United States."""

    permitted: bool
    reason: str
    #: Of the restrictions in force, even where a halt precedes them; None if there is none.
    min_similarity: float | None
    human_review: int
    flags_version: str


class LegislatorsTest(msgspec.Struct, frozen=True, kw_only=True):
    """Result of ``abeyance audit legislators``."""

    model: str
    probes: int
    gallery: int
    #: Photos that judged pairs left out of the gallery: officials, and strangers who are there twice.
    left_out: int
    comparisons: int
    probes_without_face: int
    gallery_without_face: int
    thresholds: tuple[SearchAtThreshold, ...]
    #: (similarity, cosine, officials falsely matched), similarity rising.
    curve: tuple[tuple[float, float, int], ...]
    #: Lowest similarity without a false match.
    clear_from: float
    #: Pairs at 99 and more: an official who is in the gallery as well would be among them.
    suspects: int
    false_matches: tuple[FalseMatch, ...]
    moratorium: PoliceSearch
    published: tuple[PublishedTest, ...] = PUBLISHED


def search_legislators(
    probes: PhotoSet,
    probe_templates: TemplateSet,
    gallery: PhotoSet,
    gallery_templates: TemplateSet,
    *,
    model: str,
    knots: Knots,
    flags: FlagSet,
    now: datetime,
    similarities: Sequence[float] = (),
    left_out: int = 0,
) -> LegislatorsTest:
    """Run the test at 80, at 99, at the similarity that the active flags require of the police, and at others.

    Parameters
    ----------
    knots
        Scale of the model.
    similarities
        Further thresholds.
    left_out
        Photos that were left out of the gallery before, to be reported.
    """
    cosines, scale = np.array(knots).T

    def cosine(similarity: float) -> float:
        return float(np.interp(similarity, scale, cosines))

    moratorium = police_search(flags, now)
    named = [*((f"{value:g}", value) for value in similarities), ("80, the default", 80.0), ("99", 99.0)]
    if moratorium.min_similarity is not None:
        named.append(("required of the police by the active flags", moratorium.min_similarity))
    reported = min(cosine(similarity) for _, similarity in named)
    curve = [(float(similarity), cosine(similarity)) for similarity in range(40, 101, 2)]
    rows, gallery_rows = np.flatnonzero(probe_templates.found), np.flatnonzero(gallery_templates.found)
    found = scan(
        probe_templates.vectors[rows],
        gallery_templates.vectors[gallery_rows],
        level=min(reported, *(level for _, level in curve)),
    )
    best: FloatArray = np.full(len(rows), -1.0)
    np.maximum.at(best, found.left, found.scores.astype(np.float64))
    people = probes.person_codes[rows]
    groups: dict[str, StrArray] = {
        name: np.array(probes.labels([name]))[rows]
        for name in ("race", "gender")
        if name in probes.attributes
    }
    race = groups.get("race")
    left, right = found.matches(reported)
    return LegislatorsTest(
        model=model,
        probes=len(probes),
        gallery=len(gallery),
        left_out=left_out,
        comparisons=found.total,
        probes_without_face=probe_templates.failures,
        gallery_without_face=gallery_templates.failures,
        thresholds=tuple(
            _at(name, value, cosine(value), found.matches(cosine(value))[0], people, groups)
            for name, value in named
        ),
        curve=tuple((s, c, int((best >= np.float32(c)).sum())) for s, c in curve),
        clear_from=float(np.interp(best.max(initial=-1.0), cosines, scale)),
        suspects=len(found.matches(cosine(99.0))[0]),
        false_matches=tuple(
            FalseMatch(
                probe=int(rows[i]),
                candidate=int(gallery_rows[j]),
                probe_image=probes.photos[int(rows[i])].label,
                candidate_image=gallery.photos[int(gallery_rows[j])].label,
                cosine=float(score),
                similarity=float(np.interp(score, cosines, scale)),
                group="" if race is None else str(race[i]),
            )
            for i, j, score in zip(left.tolist(), right.tolist(), found.scores, strict=False)
        ),
        moratorium=moratorium,
    )


def _at(
    name: str,
    similarity: float,
    cosine: float,
    matched: Int32Array,
    owners: IntArray,
    groups: Mapping[str, StrArray],
) -> SearchAtThreshold:
    """Count the false matches at a threshold; ``matched`` is the probe of each."""
    candidates = np.bincount(matched, minlength=len(owners))
    hit = candidates > 0
    chance = None
    if "race" in groups and hit.any():
        colour = np.array([not is_white(group) for group in groups["race"]])
        if 0 < colour.sum() < len(colour):
            chance = at_least(len(colour), int(colour.sum()), int(hit.sum()), int((colour & hit).sum()))
    return SearchAtThreshold(
        name=name,
        similarity=similarity,
        cosine=cosine,
        falsely_matched=int(hit.sum()),
        rate=clustered_rate(hit, owners),
        candidates=int(candidates.sum()),
        shown=int(np.minimum(candidates, MAX_SHOWN).sum()),
        groups={attribute: _shares(labels, hit, owners) for attribute, labels in groups.items()},
        chance=chance,
    )


def _shares(labels: StrArray, hit: BoolArray, owners: IntArray) -> tuple[GroupShare, ...]:
    return tuple(
        GroupShare(
            group=str(group),
            probes=int(members.sum()),
            falsely_matched=int(hit[members].sum()),
            rate=clustered_rate(hit[members], owners[members]),
            share_of_probes=float(members.mean()),
            share_of_false_matches=float(members[hit].mean()) if hit.any() else None,
        )
        for group in np.unique(labels)
        for members in [labels == group]
    )


def is_white(group: str) -> bool:
    """Return whether a published label says white; everybody else counts as a person of colour, as for the ACLU."""
    return group.casefold().split("-")[0].split(" ")[0].split("_")[0] in {"white", "caucasian"}


def at_least(total: int, marked: int, drawn: int, seen: int) -> float:
    """Return the probability that ``seen`` or more of ``drawn`` out of ``total`` are among the ``marked``.

    This is Fisher's exact test, one-sided.
    """
    from scipy.stats import hypergeom  # type: ignore[import-untyped]

    return float(hypergeom.sf(seen - 1, total, marked, drawn))


def police_search(flags: FlagSet, now: datetime) -> PoliceSearch:
    """Decide on the search of a police department in the United States, in a criminal investigation.

    Where a halt denies it, the restrictions behind the halt are reported as well: they apply once the halt is lifted.
    """
    purpose = "criminal_investigation"
    police = Tenant(
        id="police", sector="law_enforcement", jurisdiction="US", actions=("search",), purposes=(purpose,)
    )
    request = Request(tenant=police, tenant_id="police", action="search", purpose=purpose)
    decision = decide(request, flags, now)
    restrictions = decision
    if not decision.permitted:
        restricting = [flag for flag in flags.flags if flag.effect == Effect.RESTRICT]
        restrictions = decide(request, FlagSet(restricting, version=flags.version), now)
    return PoliceSearch(
        permitted=decision.permitted,
        reason=decision.reason,
        min_similarity=restrictions.min_similarity,
        human_review=restrictions.human_review,
        flags_version=flags.version,
    )
