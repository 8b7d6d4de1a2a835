"""The review service: hands out comparisons, takes judgements, and closes a review when all judgements are in.

::

    judgement -> reviews table -> ledger -> (all cases closed) -> decide again -> record event, write result -> closed

A judgement has no effect before it is on the ledger: closing a review first puts all its judgements on the ledger,
again if need be, because the ledger writes an id once. Every step continues from what the step before left, so after a
crash the next person who opens the queue completes the work.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from abeyance.aws.table import Conflict
from abeyance.aws.timestamps import timestamp
from abeyance.console.errors import NotFound, RequestRefused, Unavailable
from abeyance.console.outcome import cases_of, result_event
from abeyance.console.roles import Person
from abeyance.gallery.errors import CollectionNotFound
from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import CollectionRef, Face
from abeyance.ledger.entry import Record
from abeyance.ledger.errors import LedgerUnavailable
from abeyance.ledger.queue import RecordQueue
from abeyance.moratorium.guard import Guard
from abeyance.pipeline.events import Event, FacesMatched, Upload
from abeyance.pipeline.leftovers import review_key
from abeyance.pipeline.outbox import Outbox, search_of
from abeyance.pipeline.ports import ObjectGone, ObjectStore
from abeyance.pipeline.review_cases import (
    MAX_NOTE_CHARACTERS,
    Case,
    CaseNotFree,
    Ground,
    ReviewerJudgement,
    Verdict,
)
from abeyance.pipeline.review_store import Review, ReviewStore

log = logging.getLogger("abeyance")

#: Ledger entry type of one judgement.
JUDGED: Final = "review.judged"
#: Outcome of a review without a result: its upload is gone or replaced, or the search has no candidate.
NOTHING_TO_REVIEW: Final = "NOTHING_TO_REVIEW"
_ATTEMPTS: Final = 5


class ClaimedComparison(msgspec.Struct, frozen=True, kw_only=True):
    """A case that a reviewer has claimed until ``until`` (epoch seconds), and its review."""

    review: Review
    case: Case
    until: float


class ReviewService:
    """Human review of matches.

    Parameters
    ----------
    store
        The reviews table.
    objects, chips_bucket
        Where recognition keeps the candidates of a search under review.
    gallery
        The candidates' collections.
    guard
        Decides again before anything is released.
    outbox
        That of the stage ``review``: records the result of an upload once and emits its event.
    ledger
        Every judgement is put there.
    pseudonym
        Hides reviewers and uploads.
    now
        Epoch seconds.
    """

    def __init__(
        self,
        store: ReviewStore,
        objects: ObjectStore,
        chips_bucket: str,
        gallery: Gallery,
        guard: Guard,
        outbox: Outbox,
        ledger: RecordQueue,
        pseudonym: Callable[[str], str],
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._objects = objects
        self._bucket = chips_bucket
        self._gallery = gallery
        self._guard = guard
        self._outbox = outbox
        self._ledger = ledger
        self._pseudonym = pseudonym
        self._now = now

    def next_comparison(self, person: Person) -> ClaimedComparison | None:
        """Claim the comparison that the person holds, else the oldest free one. Raises :class:`RequestRefused`."""
        reviewer, now = self.alias(person), self._now()
        free: tuple[Review, Case] | None = None
        for review, case in self._open_cases():
            if not case.closed and (until := case.claimed_until(reviewer)) > now:
                return ClaimedComparison(review=review, case=case, until=until)
            if free is None and case.free_for(reviewer, now):
                free = review, case
        if free is None:
            return None
        review, case = free
        if self._matched(review.waiting.upload) is None:
            # The photo was replaced, or its authorisation did not come.
            self._close(review, NOTHING_TO_REVIEW)
            return self.next_comparison(person)
        case = self._change(review.identity, case.number, lambda case: case.claim(reviewer, self._now()))
        return ClaimedComparison(review=review, case=case, until=case.claimed_until(reviewer))

    def comparison(self, person: Person, identity: str, number: int) -> ClaimedComparison:
        """Return the comparison if this person holds it; raises :class:`NotFound` otherwise."""
        found, review = self._store.case(identity, number), self._store.get(identity)
        until = found.case.claimed_until(self.alias(person)) if found else 0.0
        gone = found is None or review is None or review.outcome or until <= self._now()
        if found is None or review is None or gone or self._matched(review.waiting.upload) is None:
            raise NotFound("You do not hold this comparison any more. Take the next one.")
        return ClaimedComparison(review=review, case=found.case, until=until)

    def judge(
        self, person: Person, identity: str, number: int, verdict: Verdict, ground: Ground, note: str = ""
    ) -> None:
        """Take a judgement.

        Raises :class:`RequestRefused`, :class:`NotFound`, and :class:`Unavailable` if it is saved but not yet on the
        ledger.
        """
        if len(note) > MAX_NOTE_CHARACTERS:
            raise RequestRefused(f"The note has more than {MAX_NOTE_CHARACTERS} characters.")
        review = self._store.get(identity)
        if review is None or review.outcome:
            raise NotFound("This review is closed. Take the next comparison.")
        judgement = ReviewerJudgement(
            reviewer=self.alias(person), verdict=verdict, ground=ground, note=note, at=timestamp()
        )
        case = self._change(identity, number, lambda case: case.judge(judgement, self._now()))
        try:
            self._ledger.put(self._record(review, case, judgement))
        except LedgerUnavailable:
            raise Unavailable(
                "Your judgement is saved, but the ledger did not confirm it. Nothing is released before that."
            ) from None
        self._try_to_close(identity)

    def release(self, person: Person, identity: str, number: int) -> None:
        """Return a comparison to the queue without a judgement."""
        self._change(identity, number, lambda case: case.release(self.alias(person), self._now()))

    def alias(self, person: Person) -> str:
        """Return the pseudonym under which a person judges."""
        return self._pseudonym(f"reviewer/{person.principal}")

    def open_reviews(self, limit: int = 100) -> list[tuple[Review, list[Case]]]:
        """Return open reviews and their cases, the longest waiting first."""
        prepared = map(self._prepared, self._store.open_reviews(limit))
        return [(review, self._cases(review)) for review in prepared if review is not None]

    def closed_reviews(self, limit: int = 50) -> list[tuple[Review, list[Case]]]:
        """Return closed reviews and their cases, newest first."""
        return [(review, self._cases(review)) for review in self._store.closed_reviews(limit)]

    def closed_review(self, identity: str) -> tuple[Review, list[Case]]:
        """Return one closed review and its cases; raises :class:`NotFound`."""
        review = self._store.get(identity)
        if review is None or not review.outcome:
            raise NotFound("There is no closed review with this identity.")
        return review, self._cases(review)

    def candidates(self, upload: Upload, face_ids: Iterable[str]) -> list[Face]:
        """Return those of the faces that are still in the upload's collection."""
        try:
            return self._gallery.get_faces(_collection(upload), sorted(filter(None, face_ids)))
        except CollectionNotFound:
            return []

    def forget(self, identity: str, numbers: Iterable[int]) -> None:
        """End the comparisons of an erased person, and the review if no other is left."""
        for number in numbers:
            self._change(identity, number, Case.without_candidate)
        self._try_to_close(identity)

    def close_if_complete(self, identity: str) -> str:
        """Close a review and record its result if all its cases are closed; return its outcome, "" if it stays open."""
        found = self._store.get(identity)
        review = self._prepared(found) if found and not found.outcome else None
        if review is None:
            return ""
        cases = self._cases(review)
        if not all(case.closed for case in cases):
            return ""
        upload = review.waiting.upload
        if (recorded := self._outbox.recorded_event(upload)) is not None:
            # By a run that was cut off. It is emitted, also if the photo was replaced meanwhile.
            return self._end(review, recorded)
        matched = self._matched(upload)
        if matched is None or not cases:
            return self._close(review, NOTHING_TO_REVIEW)
        for case in cases:
            for judgement in () if case.void else case.judgements:
                self._ledger.put(self._record(review, case, judgement))
        decision = self._guard.decide(upload.tenant, upload.action, review.waiting.purpose, search_of(upload))
        if decision.fault:  # The flags cannot be read now. That denies, but it is no reason to end a review.
            return ""
        if decision.permitted and self._require_more(review, cases, decision.human_review):
            return ""
        in_gallery = {face.id for face in self.candidates(upload, {case.face_id for case in cases})}
        event = result_event(upload, matched, cases, decision, in_gallery)
        if not self._outbox.is_latest(upload):
            return self._close(review, NOTHING_TO_REVIEW)
        return self._end(review, event)

    def _end(self, review: Review, event: Event) -> str:
        """Record and emit the result, close the review, and delete its candidates."""
        outcome = self._close(review, self._outbox.record_outcome(event).detail_type)
        self._objects.delete(self._bucket, review_key(review.waiting.upload))
        return outcome

    def _require_more(self, review: Review, cases: list[Case], reviewers: int) -> bool:
        """Ask for more judgements if the flags now do; return whether they did."""
        short = [case for case in cases if not case.void and case.required < reviewers]
        for case in short:
            self._change(
                review.identity, case.number, lambda case: msgspec.structs.replace(case, required=reviewers)
            )
        return bool(short)

    def _cases(self, review: Review) -> list[Case]:
        return [found.case for found in self._store.cases(review.identity)]

    def _prepared(self, review: Review) -> Review | None:
        """Return the open review with its cases written; None if it closes now because it has none."""
        if review.cases >= 0:
            return review
        matched = self._matched(review.waiting.upload)
        cases = [] if matched is None else cases_of(matched)
        if not cases:
            self._close(review, NOTHING_TO_REVIEW)
            return None
        return self._store.add_cases(review, cases)

    def _open_cases(self) -> Iterator[tuple[Review, Case]]:
        for review, cases in self.open_reviews(500):
            if all(case.closed for case in cases):
                self._try_to_close(review.identity)
            else:
                yield from ((review, case) for case in cases)

    def _try_to_close(self, identity: str) -> None:
        """Close a complete review; after a failure the next request for a comparison tries again."""
        try:
            self.close_if_complete(identity)
        except Exception as error:  # noqa: BLE001 - no failure of one review may block the other reviews
            log.warning("review cannot be closed yet", extra={"error": type(error).__name__})

    def _matched(self, upload: Upload) -> FacesMatched | None:
        try:
            body = self._objects.get(self._bucket, review_key(upload))
        except ObjectGone:
            return None
        return msgspec.json.decode(body, type=FacesMatched)

    def _close(self, review: Review, outcome: str) -> str:
        try:
            self._store.close(msgspec.structs.replace(review, outcome=outcome, finished=timestamp()))
        except Conflict:
            log.info("review was closed meanwhile")
        return outcome

    def _change(self, identity: str, number: int, change: Callable[[Case], Case]) -> Case:
        for _ in range(_ATTEMPTS):
            found = self._store.case(identity, number)
            if found is None:
                raise NotFound("There is no such comparison.")
            try:
                changed = change(found.case)
                self._store.replace_case(identity, changed, found.version)
            except CaseNotFree as error:
                raise RequestRefused(str(error)) from None
            except Conflict:
                continue
            return changed
        raise Unavailable("Others are changing this comparison. Try again.")

    def _record(self, review: Review, case: Case, judgement: ReviewerJudgement) -> Record:
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


def _collection(upload: Upload) -> CollectionRef:
    return CollectionRef(upload.tenant, upload.collection)
