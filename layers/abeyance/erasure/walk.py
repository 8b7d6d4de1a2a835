"""The walk through every store that holds something about a person; the person's own view and the erasure take it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import msgspec

from abeyance.erasure import traces
from abeyance.erasure.traces import Subject
from abeyance.gallery.errors import CollectionNotFound, UserNotFound
from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import CollectionRef, Face, Page, User
from abeyance.pipeline import events
from abeyance.pipeline.events import Event, FacesMatched, Upload
from abeyance.pipeline.leftovers import review_key
from abeyance.pipeline.ports import ObjectGone, ObjectStore
from abeyance.pipeline.review_store import Review, ReviewStore
from abeyance.pipeline.upload_records import UploadRecords

T = TypeVar("T")


class UploadTrace(msgspec.Struct, frozen=True, kw_only=True):
    """The traces of a person in an upload.

    Attributes
    ----------
    recorded
        Stage -> the event that it recorded.
    rows
        The rows of its chips file that show the person.
    changes
        True if an event names the person.
    undecided
        The stage that has still to process the upload, if it has the person's name; else empty.
    candidates
        The search that is put aside for review, if it names the person.
    """

    upload: Upload
    recorded: Mapping[str, Event]
    rows: frozenset[int]
    changes: bool
    undecided: str
    candidates: FacesMatched | None


class ReviewTrace(msgspec.Struct, frozen=True):
    """A review with the numbers of the comparisons with a person, and the search that names them, if it still does."""

    review: Review
    numbers: tuple[int, ...]
    candidates: FacesMatched | None


class PersonWalk:
    """Reads the gallery, the records of uploads, and the reviews. It changes nothing."""

    def __init__(
        self,
        gallery: Gallery,
        records: UploadRecords,
        reviews: ReviewStore,
        objects: ObjectStore,
        chips_bucket: str,
    ) -> None:
        self._gallery = gallery
        self._records = records
        self._reviews = reviews
        self._objects = objects
        self._bucket = chips_bucket

    def in_gallery(self, subject: Subject) -> tuple[dict[str, Face], dict[str, User]]:
        """Return a person's faces and users by id: with each face its user, with each user all their faces."""
        ref = subject.ref
        with contextlib.suppress(CollectionNotFound):
            found = self._gallery.get_faces(ref, sorted(subject.faces))
            if subject.name:
                found += [face for face in self._faces(ref) if subject.has_name(face.external_image_id)]
            faces = {face.id: face for face in found if subject.covers(face.created)}
            users = self._users(subject, {face.user_id for face in faces.values()} - {""})
            for user in users:
                with contextlib.suppress(UserNotFound):
                    faces |= {face.id: face for face in self._faces(ref, user)}
            return faces, users
        return {}, {}

    def uploads(self, subject: Subject) -> Iterator[UploadTrace]:
        """Yield the uploads whose records, chips or candidates name or show a person: a scan of all records."""
        for recorded in self._records.all():
            first = min(recorded.values(), key=lambda event: event.time, default=None)
            if first is None or not traces.is_in(first.upload, subject.ref) or not subject.covers(first.time):
                continue
            whole = traces.is_whole(recorded, subject)
            reviewed = any(isinstance(e, FacesMatched) and e.reviewers for e in recorded.values())
            candidates = self._candidates(first.upload, subject) if reviewed else None
            rows = traces.shown_rows(recorded, subject)
            trace = UploadTrace(
                upload=first.upload,
                recorded=recorded,
                rows=frozenset(rows | (traces.searched_rows(candidates, subject) if candidates else set())),
                changes=any(traces.without(e, subject, whole=whole) != e for e in recorded.values()),
                undecided=(
                    traces.undecided_stage(recorded) if traces.has_their_name(recorded, subject) else ""
                ),
                candidates=candidates,
            )
            if trace.rows or trace.changes or trace.undecided or trace.candidates:
                yield trace

    def reviews(self, subject: Subject) -> Iterator[ReviewTrace]:
        """Yield the reviews, open or closed, that compare somebody with a person."""
        for review in self._reviews.all():
            waiting = review.waiting
            if traces.is_in(waiting.upload, subject.ref) and subject.covers(waiting.arrived):
                cases = (found.case for found in self._reviews.cases(review.identity))
                numbers = tuple(case.number for case in cases if case.face_id in subject.faces)
                candidates = None if review.outcome else self._candidates(waiting.upload, subject)
                if numbers or candidates:
                    yield ReviewTrace(review, numbers, candidates)

    def _candidates(self, upload: Upload, subject: Subject) -> FacesMatched | None:
        """Return the search that is put aside for review, if it names the person."""
        try:
            body = self._objects.get(self._bucket, review_key(upload))
        except ObjectGone:
            return None
        found = msgspec.json.decode(body, type=events.FacesMatched)
        return found if traces.without(found, subject) != found else None

    def _faces(self, ref: CollectionRef, user: str = "") -> Iterator[Face]:
        return items_of(lambda token: self._gallery.list_faces(ref, token=token, user_id=user))

    def _users(self, subject: Subject, of_faces: set[str]) -> dict[str, User]:
        found = self._gallery.get_users(subject.ref, sorted(of_faces))
        if subject.users:
            listed = items_of(lambda token: self._gallery.list_users(subject.ref, token=token))
            found += [user for user in listed if subject.has_user(user.id)]
        return {user.id: user for user in found if subject.covers(user.created)}


def items_of(page: Callable[[str], Page[T]]) -> Iterator[T]:
    """Yield the items of all pages; ``page`` returns the page of a token, the first one of ""."""
    token = ""
    while True:
        found = page(token)
        yield from found.items
        if not (token := found.next_token):
            return
