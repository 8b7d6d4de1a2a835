"""The rules of human review, pure: one case is one probe and one candidate, judged by several reviewers.

::

    free --claim--> claimed --judge--> one judgement --...--> closed (as many judgements as are required)
      ^               |
      +--- released, or the claim expires

Reviewers are independent: nobody judges a case twice, nobody sees another judgement before the whole review is closed,
and every case gets all its judgements, even if the first one already decides it. A candidate is confirmed only if all
reviewers say *same*: doubt and disagreement withhold it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

#: A claim without a judgement expires after this time.
CLAIM_S: Final = 600.0
MAX_NOTE_CHARACTERS: Final = 500


class CaseNotFree(Exception):
    """The reviewer cannot claim or judge this case; the message says what to do."""


class Verdict(StrEnum):
    """A reviewer's answer."""

    SAME = "same"
    DIFFERENT = "different"
    CANNOT_TELL = "cannot_tell"


class Ground(StrEnum):
    """The reason for a verdict: a fixed list, so that it can be counted and can be on the ledger without any name."""

    FEATURES = "facial_features"
    MARKS = "scars_moles_or_marks"
    EARS = "ears"
    QUALITY = "picture_quality"
    POSE = "pose_or_expression"
    OCCLUSION = "something_covers_the_face"
    AGE = "years_between_the_pictures"
    NO_PICTURE = "a_picture_is_missing"
    OTHER = "other"


class ReviewerJudgement(msgspec.Struct, frozen=True, kw_only=True):
    """One reviewer's verdict. ``reviewer`` is a pseudonym; ``note`` is never on the ledger; ``at`` is RFC 3339 UTC."""

    reviewer: str
    verdict: Verdict
    ground: Ground
    note: str
    at: str


class Claim(msgspec.Struct, frozen=True):
    """A reviewer's reservation of a case, valid until ``until`` (epoch seconds)."""

    reviewer: str
    until: float


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One probe and one candidate.

    Attributes
    ----------
    number
        Position in the review, from 0.
    face, chip
        Index of the probe among the searched faces of the photo, and its row in the chips file.
    face_id
        The candidate.
    similarity
        0 to 100.
    required
        Number of judgements to collect.
    void
        The candidate was erased, so there is nothing left to judge.
    """

    number: int
    face: int
    chip: int
    face_id: str
    similarity: float
    required: int
    claims: tuple[Claim, ...] = ()
    judgements: tuple[ReviewerJudgement, ...] = ()
    void: bool = False

    @property
    def closed(self) -> bool:
        """True if no further judgement is needed."""
        return self.void or len(self.judgements) >= self.required

    @property
    def confirmed(self) -> bool:
        """True if every required reviewer said *same*."""
        return not self.void and self.closed and all(j.verdict is Verdict.SAME for j in self.judgements)

    def claimed_until(self, reviewer: str) -> float:
        """Return the end of the reviewer's claim in epoch seconds, 0 without a claim."""
        return max((claim.until for claim in self.claims if claim.reviewer == reviewer), default=0.0)

    def judged_by(self, reviewer: str) -> bool:
        """Return whether the reviewer has judged this case."""
        return any(judgement.reviewer == reviewer for judgement in self.judgements)

    def free_for(self, reviewer: str, now: float) -> bool:
        """Return whether the reviewer may claim or judge this case at ``now`` (epoch seconds)."""
        if self.closed or self.judged_by(reviewer):
            return False
        return len(self.judgements) + len(self._other_claims(reviewer, now)) < self.required

    def claim(self, reviewer: str, now: float) -> Case:
        """Return the case with a claim of ``reviewer`` from ``now`` on; raises :class:`CaseNotFree`."""
        if not self.free_for(reviewer, now):
            raise CaseNotFree("Other reviewers have this comparison. Take the next one.")
        claims = (*self._other_claims(reviewer, now), Claim(reviewer, now + CLAIM_S))
        return msgspec.structs.replace(self, claims=claims)

    def release(self, reviewer: str, now: float) -> Case:
        """Return the case without the reviewer's claim."""
        return msgspec.structs.replace(self, claims=self._other_claims(reviewer, now))

    def judge(self, judgement: ReviewerJudgement, now: float) -> Case:
        """Return the case with one more judgement; raises :class:`CaseNotFree`.

        An expired claim does not matter while the place is still free: a slow judgement is not thrown away.
        """
        if self.judged_by(judgement.reviewer):
            raise CaseNotFree("You have already judged this comparison. Nobody judges twice.")
        if not self.free_for(judgement.reviewer, now):
            raise CaseNotFree("Your time for this comparison ran out and others took it. Take the next one.")
        released = self.release(judgement.reviewer, now)
        return msgspec.structs.replace(released, judgements=(*self.judgements, judgement))

    def without_candidate(self) -> Case:
        """Return the case of a candidate who was erased: void, without the face and without reviewers' notes."""
        judgements = tuple(msgspec.structs.replace(judgement, note="") for judgement in self.judgements)
        return msgspec.structs.replace(self, void=True, face_id="", judgements=judgements)

    def _other_claims(self, reviewer: str, now: float) -> tuple[Claim, ...]:
        return tuple(claim for claim in self.claims if claim.until > now and claim.reviewer != reviewer)
