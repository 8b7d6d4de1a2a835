"""Two faces, and people who say whether they are one person's: the rules of review, pure.

::

    free --claim--> claimed --judge--> judged by one --...--> settled (as many judgements as reviewers are asked for)
      ^               |
      +--- put back, or the claim runs out

Independence: nobody judges a case twice, nobody sees another's judgement before the whole review is settled, and every
case gets all its judgements, also where the first has already decided it. Only if all of them say *same* is the
candidate confirmed: doubt and disagreement keep it back.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from abeyance.console.errors import Refused

#: Seconds after which a claim that was not judged goes back. Long enough to look hard, short enough to lose no day.
CLAIM_SECONDS: Final = 600.0
#: Longest note, in characters.
MAX_NOTE: Final = 500


class Verdict(StrEnum):
    """What a reviewer says."""

    SAME = "same"
    DIFFERENT = "different"
    CANNOT_TELL = "cannot_tell"


class Ground(StrEnum):
    """Why: from a list, so that it can be counted and can stand on the ledger without naming anybody."""

    FEATURES = "facial_features"
    MARKS = "scars_moles_or_marks"
    EARS = "ears"
    QUALITY = "picture_quality"
    POSE = "pose_or_expression"
    OCCLUSION = "something_covers_the_face"
    AGE = "years_between_the_pictures"
    NO_PICTURE = "a_picture_is_missing"
    OTHER = "other"


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """One person's word. ``reviewer`` is a pseudonym; ``note`` stays out of the ledger."""

    reviewer: str
    verdict: Verdict
    ground: Ground
    note: str
    at: str


class Claim(msgspec.Struct, frozen=True):
    """A reviewer is looking, until then (epoch seconds)."""

    reviewer: str
    until: float


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One probe and one candidate.

    Attributes
    ----------
    number
        Of the case in its review, from 0.
    face, chip
        Which of the searched faces of the photo is the probe, and which row of its chips file.
    face_id
        The candidate.
    similarity
        0 to 100.
    required
        How many people have to judge.
    void
        The candidate was erased meanwhile: there is nothing left to judge.
    """

    number: int
    face: int
    chip: int
    face_id: str
    similarity: float
    required: int
    claims: tuple[Claim, ...] = ()
    judgements: tuple[Judgement, ...] = ()
    void: bool = False

    @property
    def settled(self) -> bool:
        """Whether nobody has to look any more."""
        return self.void or len(self.judgements) >= self.required

    @property
    def confirmed(self) -> bool:
        """Whether everybody who had to look saw the same person."""
        return not self.void and self.settled and all(j.verdict is Verdict.SAME for j in self.judgements)

    def judged_by(self, reviewer: str) -> bool:
        """Whether this person has judged."""
        return any(judgement.reviewer == reviewer for judgement in self.judgements)

    def held_by(self, reviewer: str, now: float) -> bool:
        """Whether this person has a claim that still runs."""
        return any(claim.reviewer == reviewer and claim.until > now for claim in self.claims)

    def free_for(self, reviewer: str, now: float) -> bool:
        """Whether this person may claim: not judged by them, and fewer people at it than are needed."""
        if self.settled or self.judged_by(reviewer):
            return False
        others = sum(claim.until > now and claim.reviewer != reviewer for claim in self.claims)
        return len(self.judgements) + others < self.required


def claim(case: Case, reviewer: str, now: float) -> Case:
    """The case with a claim of ``reviewer`` from ``now`` on; raises :class:`Refused` if it is not free for them."""
    if not case.free_for(reviewer, now):
        raise Refused("Others are looking at this comparison, or have done. Take the next one.")
    kept = _running(case.claims, reviewer, now)
    return msgspec.structs.replace(case, claims=(*kept, Claim(reviewer, now + CLAIM_SECONDS)))


def put_back(case: Case, reviewer: str, now: float) -> Case:
    """The case without the reviewer's claim."""
    return msgspec.structs.replace(case, claims=_running(case.claims, reviewer, now))


def judge(case: Case, judgement: Judgement, now: float) -> Case:
    """The case with one more judgement.

    A claim that ran out does not matter as long as the place is still free: what somebody decided is not thrown away
    for having taken long. Raises :class:`Refused` if they have judged already or the place is taken.
    """
    if case.judged_by(judgement.reviewer):
        raise Refused("You have judged this comparison already. Nobody judges twice.")
    if not case.free_for(judgement.reviewer, now):
        raise Refused("Your time for this comparison ran out and others took it. Take the next one.")
    kept = _running(case.claims, judgement.reviewer, now)
    return msgspec.structs.replace(case, claims=kept, judgements=(*case.judgements, judgement))


def _running(claims: Iterable[Claim], without: str, now: float) -> tuple[Claim, ...]:
    return tuple(claim for claim in claims if claim.until > now and claim.reviewer != without)
