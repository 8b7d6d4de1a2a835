"""The reviewers' desk: hand out comparisons, take judgements, and bring the result about when all have looked.

::

    judgement -> reviews table -> ledger -> (all settled) -> decide again -> settle -> result, event -> closed

A judgement has no effect before it is on the ledger: whoever brings a result about puts every judgement of it on the
ledger first, again if need be, since the ledger writes an id once. Each step finds what the one before has left, so a
process that dies anywhere is made good by the next person who opens the queue.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import msgspec

from abeyance.aws.timestamps import timestamp
from abeyance.console import cases as rules
from abeyance.console.cases import Case, Ground, Judgement, Verdict
from abeyance.console.errors import NotFound, Refused, Unavailable
from abeyance.console.people import Person
from abeyance.console.reviews import Conflict, Review, Reviews, Stored
from abeyance.gallery.errors import CollectionNotFound
from abeyance.gallery.model import CollectionRef, Face
from abeyance.gallery.port import Gallery
from abeyance.ledger.chain import Record
from abeyance.ledger.errors import LedgerUnavailable
from abeyance.moratorium.decide import Decision
from abeyance.moratorium.guard import Guard
from abeyance.pipeline import events
from abeyance.pipeline.events import Event, FacesMatched, Match, SearchedFace, Upload
from abeyance.pipeline.ports import ObjectGone, ObjectStore
from abeyance.pipeline.recognize import review_key

log = logging.getLogger("abeyance")

JUDGED: Final = "review.judged"
#: How a review ended without anything to tell: its upload is gone, or there was no candidate.
NOTHING: Final = "NOTHING_TO_REVIEW"
_ATTEMPTS: Final = 5


#: Settles an upload with an event, once, and tells it; the event that stands, or None if a later upload has its key.
Settle = Callable[[Event], Event | None]


class Ledger(Protocol):
    """:class:`abeyance.ledger.queue.LedgerQueue`."""

    def put(self, record: Record) -> None: ...


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What a reviewer is given: where it is, and the case. Neither name nor purpose nor collection is in it."""

    identity: str
    case: Case
    until: float


class Desk:
    """See the module. ``pseudonym`` hides who judged; ``now`` gives epoch seconds."""

    def __init__(
        self,
        reviews: Reviews,
        objects: ObjectStore,
        chips_bucket: str,
        gallery: Gallery,
        guard: Guard,
        settle: Settle,
        ledger: Ledger,
        pseudonym: Callable[[str], str],
        now: Callable[[], float],
    ) -> None:
        self._reviews = reviews
        self._objects = objects
        self._bucket = chips_bucket
        self._gallery = gallery
        self._guard = guard
        self._settle = settle
        self._ledger = ledger
        self._pseudonym = pseudonym
        self._now = now

    def next(self, person: Person) -> Comparison | None:
        """A comparison for this person: one that they hold, else the oldest that is free; None if there is none."""
        reviewer, now = self.alias(person), self._now()
        first: tuple[str, Stored] | None = None
        for identity, stored in self._open_cases():
            if stored.case.held_by(reviewer, now) and not stored.case.settled:
                return _comparison(identity, stored.case, reviewer)
            if first is None and stored.case.free_for(reviewer, now):
                first = identity, stored
        if first is None:
            return None
        claimed = self._change(
            first[0], first[1].case.number, lambda case: rules.claim(case, reviewer, self._now())
        )
        return _comparison(first[0], claimed, reviewer)

    def held(self, person: Person, identity: str, number: int) -> tuple[Review, Case]:
        """The review and case that this person holds; raises :class:`NotFound` for every other."""
        stored, review = self._reviews.case(identity, number), self._reviews.get(identity)
        if (
            stored is None
            or review is None
            or review.outcome
            or not stored.case.held_by(self.alias(person), self._now())
        ):
            raise NotFound("This comparison is not with you any more. Take the next one.")
        return review, stored.case

    def judge(
        self, person: Person, identity: str, number: int, verdict: Verdict, ground: Ground, note: str = ""
    ) -> None:
        """Take a judgement. Raises :class:`Refused`, :class:`NotFound`, and :class:`Unavailable` if it is kept but not
        yet on the ledger."""
        if len(note) > rules.MAX_NOTE:
            raise Refused(f"The note has more than {rules.MAX_NOTE} characters.")
        review = self._reviews.get(identity)
        if review is None or review.outcome:
            raise NotFound("This review is closed. Take the next comparison.")
        judgement = Judgement(
            reviewer=self.alias(person), verdict=verdict, ground=ground, note=note, at=timestamp()
        )
        case = self._change(identity, number, lambda case: rules.judge(case, judgement, self._now()))
        try:
            self._ledger.put(self._record(review, case, judgement))
        except LedgerUnavailable:
            raise Unavailable(
                "Your judgement is kept, but the ledger did not confirm it. Nothing is released before it has."
            ) from None
        self._retry(identity)

    def put_back(self, person: Person, identity: str, number: int) -> None:
        """Give a comparison back unjudged."""
        self._change(identity, number, lambda case: rules.put_back(case, self.alias(person), self._now()))

    def alias(self, person: Person) -> str:
        """The pseudonym under which somebody judges."""
        return self._pseudonym(f"reviewer/{person.principal}")

    def standing(self, limit: int = 100) -> list[tuple[Review, list[Case]]]:
        """Open reviews and their cases, the longest waiting first."""
        found = []
        for identity in self._reviews.queue(limit):
            review = self._laid_out(identity)
            if review is not None:
                found.append((review, [stored.case for stored in self._reviews.cases(identity)]))
        return found

    def closed(self, limit: int = 50) -> list[tuple[Review, list[Case]]]:
        """Closed reviews and their cases, newest first."""
        return [
            (review, [stored.case for stored in self._reviews.cases(review.identity)])
            for review in self._reviews.closed(limit)
        ]

    def forget(self, ref: CollectionRef, face_ids: Iterable[str]) -> int:
        """Take erased faces out of every open review; the number of comparisons that this ended."""
        gone, ended = frozenset(face_ids), 0
        for identity in self._reviews.queue(1000):
            review = self._laid_out(identity)
            if review is None or _ref(review.waiting.upload) != ref:
                continue
            for stored in self._reviews.cases(identity):
                if stored.case.face_id in gone and not stored.case.void:
                    self._change(
                        identity, stored.case.number, lambda case: msgspec.structs.replace(case, void=True)
                    )
                    ended += 1
            self._scrub(review.waiting.upload, gone)
            self.finish(identity)
        return ended

    def finish(self, identity: str) -> str:
        """Bring the result of a review about, if everybody has looked; its outcome, or "" while it is open."""
        review = self._laid_out(identity)
        if review is None:
            return ""
        upload = review.waiting.upload
        stored = self._reviews.cases(identity)
        if not all(one.case.settled for one in stored):
            return ""
        matched = self._matched(upload)
        if matched is None or not stored:
            return self._close(review, NOTHING)
        for one in stored:
            for judgement in one.case.judgements:
                self._ledger.put(self._record(review, one.case, judgement))
        decision = self._guard.decide(upload.tenant, upload.action, review.waiting.purpose)
        if decision.fault:  # not a word from the flags, but none to be had: that is no reason to end a review
            return ""
        if decision.permitted and self._more_eyes(identity, stored, decision.human_review):
            return ""
        event = self._result(review, matched, [one.case for one in stored], decision)
        standing = self._settle(event)
        if standing is None:
            return self._close(review, NOTHING)
        outcome = self._close(review, standing.detail_type)
        self._objects.delete(self._bucket, review_key(upload))
        return outcome

    def _result(
        self, review: Review, matched: FacesMatched, found: list[Case], decision: Decision
    ) -> events.MatchesReleased | events.MatchesWithheld:
        """What is told: only what all have confirmed, is still in the gallery, and may still be told."""
        upload, number = review.waiting.upload, len(found)
        reviewers = min(case.required for case in found)
        floor = decision.min_similarity or 0.0
        alive = {face.id for face in self.faces(upload, {case.face_id for case in found})}
        good = {
            (case.face, case.face_id)
            for case in found
            if case.confirmed and case.face_id in alive and case.similarity >= floor
        }
        if not decision.permitted or not good:
            halted = "HALTED" if not decision.permitted else ""
            gone = "GONE" if not alive else ""
            return events.MatchesWithheld(
                id=events.MatchesWithheld.identify(upload),
                time=timestamp(),
                upload=upload,
                decision=decision,
                reason=halted or gone or "NOT_CONFIRMED",
                reviewers=reviewers,
                withheld=number,
            )
        faces = tuple(
            SearchedFace(
                face=face.face,
                matches=tuple(match for match in face.matches if (index, match.face_id) in good),
            )
            for index, face in enumerate(matched.faces)
        )
        return events.MatchesReleased(
            id=events.MatchesReleased.identify(upload),
            time=timestamp(),
            upload=upload,
            decision=decision,
            model=matched.model,
            threshold=max(matched.threshold, floor),
            faces=faces,
            reviewers=reviewers,
            withheld=number - len(good),
        )

    def faces(self, upload: Upload, face_ids: Iterable[str]) -> list[Face]:
        """Those of the candidates that are still in the gallery."""
        try:
            return self._gallery.get_faces(_ref(upload), sorted(face_ids))
        except CollectionNotFound:
            return []

    def _more_eyes(self, identity: str, stored: list[Stored], wanted: int) -> bool:
        """Ask for more reviewers if the flags now do; whether they did."""
        short = [one for one in stored if not one.case.void and one.case.required < wanted]
        for one in short:
            self._change(
                identity, one.case.number, lambda case: msgspec.structs.replace(case, required=wanted)
            )
        return bool(short)

    def _laid_out(self, identity: str) -> Review | None:
        """The review with its cases in the table; None if it is closed, or closes because there is nothing to see."""
        review = self._reviews.get(identity)
        if review is None or review.outcome:
            return None
        if review.cases >= 0:
            return review
        matched = self._matched(review.waiting.upload)
        laid = [] if matched is None else lay_out(matched)
        if not laid:
            self._close(review, NOTHING)
            return None
        self._reviews.lay_out(review, laid)
        return msgspec.structs.replace(review, cases=len(laid))

    def _open_cases(self) -> Iterable[tuple[str, Stored]]:
        for identity in self._reviews.queue(500):
            if self._laid_out(identity) is None:
                continue
            stored = self._reviews.cases(identity)
            if all(one.case.settled for one in stored):
                self._retry(identity)
                continue
            yield from ((identity, one) for one in stored)

    def _retry(self, identity: str) -> None:
        """Finish what somebody's process left; what fails now is for the next one."""
        try:
            self.finish(identity)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not keep others from their work
            log.warning("review cannot be finished yet", extra={"error": type(error).__name__})

    def _matched(self, upload: Upload) -> FacesMatched | None:
        try:
            body = self._objects.get(self._bucket, review_key(upload))
        except ObjectGone:
            return None
        return msgspec.json.decode(body, type=FacesMatched)

    def _scrub(self, upload: Upload, gone: frozenset[str]) -> None:
        matched = self._matched(upload)
        if matched is None:
            return
        kept = tuple(
            msgspec.structs.replace(face, matches=tuple(m for m in face.matches if m.face_id not in gone))
            for face in matched.faces
        )
        body = msgspec.json.encode(msgspec.structs.replace(matched, faces=kept))
        self._objects.put(self._bucket, review_key(upload), body, "application/json")

    def _close(self, review: Review, outcome: str) -> str:
        try:
            self._reviews.close(msgspec.structs.replace(review, outcome=outcome, finished=timestamp()))
        except Conflict:
            log.info("review was closed meanwhile")
        return outcome

    def _change(self, identity: str, number: int, change: Callable[[Case], Case]) -> Case:
        for _ in range(_ATTEMPTS):
            stored = self._reviews.case(identity, number)
            if stored is None:
                raise NotFound("There is no such comparison.")
            changed = change(stored.case)
            try:
                self._reviews.put_case(identity, changed, stored.version)
            except Conflict:
                continue
            return changed
        raise Unavailable("Others are changing this comparison. Try again.")

    def _record(self, review: Review, case: Case, judgement: Judgement) -> Record:
        upload = review.waiting.upload
        return Record(
            id=f"review:{review.identity}:{case.number}:{judgement.reviewer[:16]}",
            type=JUDGED,
            time=judgement.at,
            body={
                "review": review.identity,
                "case": case.number,
                "upload": self._pseudonym(f"{upload.bucket}/{upload.key}"),
                "tenant": upload.tenant,
                "reviewer": judgement.reviewer,
                "verdict": str(judgement.verdict),
                "ground": str(judgement.ground),
                "note_sha256": hashlib.sha256(judgement.note.encode()).hexdigest() if judgement.note else "",
                "similarity": case.similarity,
            },
        )


def lay_out(matched: FacesMatched) -> list[Case]:
    """One case for each candidate of each probe, in the order of the event."""
    pairs: list[tuple[int, SearchedFace, Match]] = [
        (index, face, match) for index, face in enumerate(matched.faces) for match in face.matches
    ]
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


def _comparison(identity: str, case: Case, reviewer: str) -> Comparison:
    until = max((claim.until for claim in case.claims if claim.reviewer == reviewer), default=0.0)
    return Comparison(identity=identity, case=case, until=until)


def _ref(upload: Upload) -> CollectionRef:
    return CollectionRef(upload.tenant, upload.collection)
