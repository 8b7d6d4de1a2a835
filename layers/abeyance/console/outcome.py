"""The result of a review, pure: its cases before it, and the event that ends it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from abeyance.aws.timestamps import timestamp
from abeyance.moratorium.decide import Decision
from abeyance.pipeline.events import FacesMatched, MatchesReleased, MatchesWithheld, Upload
from abeyance.pipeline.review_cases import Case


def cases_of(matched: FacesMatched) -> list[Case]:
    """Return one case for each candidate of each probe, in the order of the event."""
    pairs = [(index, face, match) for index, face in enumerate(matched.faces) for match in face.matches]
    return [
        Case(
            number=number,
            face=index,
            chip=face.face.chip,
            face_id=match.face_id,
            similarity=match.similarity,
            required=max(1, matched.reviewers),
        )
        for number, (index, face, match) in enumerate(pairs)
    ]


def result_event(
    upload: Upload,
    matched: FacesMatched,
    cases: Sequence[Case],
    decision: Decision,
    in_gallery: Collection[str],
) -> MatchesReleased | MatchesWithheld:
    """Return the event that ends the review of an upload.

    A candidate is released if it is confirmed, still in the gallery, as similar as ``decision`` now asks for, and if
    ``decision`` permits. ``cases`` are all closed, and at least one.
    """
    reviewers = min(case.required for case in cases)
    least_similarity = decision.min_similarity or 0.0
    released = {
        (case.face, case.face_id)
        for case in cases
        if case.confirmed and case.face_id in in_gallery and case.similarity >= least_similarity
    }
    if not decision.permitted or not released:
        return MatchesWithheld(
            id=MatchesWithheld.identify(upload),
            time=timestamp(),
            upload=upload,
            decision=decision,
            reason="HALTED" if not decision.permitted else "NOT_CONFIRMED" if in_gallery else "GONE",
            reviewers=reviewers,
            withheld=len(cases),
        )
    faces = tuple(
        msgspec.structs.replace(
            face, matches=tuple(match for match in face.matches if (index, match.face_id) in released)
        )
        for index, face in enumerate(matched.faces)
    )
    return MatchesReleased(
        id=MatchesReleased.identify(upload),
        time=timestamp(),
        upload=upload,
        decision=decision,
        model=matched.model,
        threshold=max(matched.threshold, least_similarity),
        faces=faces,
        reviewers=reviewers,
        withheld=len(cases) - len(released),
    )
