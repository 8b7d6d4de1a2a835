"""The legislators test on photos, and what the flags in force say about such a search."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from abeyance.evaluation import legislators
from abeyance.evaluation.datasets import PhotoSet
from abeyance.evaluation.templates import Extracted
from abeyance.moratorium.decide import Request, decide
from abeyance.moratorium.document import FlagSet
from abeyance.moratorium.model import Effect
from abeyance.moratorium.tenants import Tenant


def search_legislators(
    probes: PhotoSet,
    probe_templates: Extracted,
    gallery: PhotoSet,
    gallery_templates: Extracted,
    *,
    model: str,
    knots: Sequence[tuple[float, float]],
    flags: FlagSet,
    now: datetime,
    also: Sequence[float] = (),
) -> legislators.Legislators:
    """The legislators test at 80, at 99, at what the active flags ask of the police, and at ``also``."""
    cosines, similarities = np.array(knots).T

    def cosine(similarity: float) -> float:
        return float(np.interp(similarity, similarities, cosines))

    moratorium = police_search(flags, now)
    thresholds = [(f"{similarity:g}", similarity, cosine(similarity)) for similarity in also]
    thresholds += [("80, the default", 80.0, cosine(80.0)), ("99", 99.0, cosine(99.0))]
    if moratorium.min_similarity is not None:
        asked = moratorium.min_similarity
        thresholds.append(("asked of the police by the active flags", asked, cosine(asked)))
    rows = np.flatnonzero(probe_templates.found), np.flatnonzero(gallery_templates.found)
    return legislators.run(
        probe_templates.vectors[rows[0]],
        gallery_templates.vectors[rows[1]],
        model=model,
        thresholds=thresholds,
        curve=[(float(s), cosine(float(s))) for s in range(40, 101, 2)],
        similarity_of=knots,
        groups={
            name: [probes.labels([name])[row] for row in rows[0]]
            for name in ("race", "gender")
            if name in probes.attributes
        },
        people=[probes.persons[row] for row in rows[0]],
        moratorium=moratorium,
        without_face=(int((~probe_templates.found).sum()), int((~gallery_templates.found).sum())),
        rows=rows,
    )


def police_search(flags: FlagSet, now: datetime) -> legislators.Moratorium:
    """What the flags say to a police department of the United States that wants to search, in an investigation.

    Where a halt denies it, the restrictions behind the halt are asked for as well: they are what would hold if
    only the halt were lifted.
    """
    purpose = "criminal_investigation"
    request = Request(
        tenant=Tenant(
            id="police",
            sector="law_enforcement",
            jurisdiction="US",
            actions=("search",),
            purposes=(purpose,),
        ),
        tenant_id="police",
        action="search",
        purpose=purpose,
    )
    decision = decide(request, flags, now)
    behind = decision
    if not decision.permitted:
        restricting = [flag for flag in flags.flags if flag.effect == Effect.RESTRICT]
        behind = decide(request, FlagSet(restricting, version=flags.version), now)
    return legislators.Moratorium(
        permitted=decision.permitted,
        reason=decision.reason,
        min_similarity=behind.min_similarity,
        human_review=behind.human_review,
        flags_version=flags.version,
    )
