"""The person's own view of all that is held about them: no pixels and no templates."""

from __future__ import annotations

import msgspec

from abeyance.erasure.traces import Subject
from abeyance.erasure.walk import PersonWalk, UploadTrace
from abeyance.gallery.model import CollectionRef
from abeyance.pipeline import events


class HeldFace(msgspec.Struct, frozen=True, kw_only=True):
    """A face in the gallery; ``photo`` is its key in the uploads bucket, empty for one that came through the API."""

    id: str
    external_image_id: str
    user_id: str
    created: str
    photo: str


class HeldPhoto(msgspec.Struct, frozen=True, kw_only=True):
    """An upload to the index that shows the person or has their name, and when the gate decided on it."""

    photo: str
    time: str


class HeldSearch(msgspec.Struct, frozen=True, kw_only=True):
    """A search within the retention that returned the person, or has yet to be reviewed."""

    photo: str
    time: str
    event: str
    face_id: str
    #: 0 to 100.
    similarity: float


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """All that is held about a person in one collection."""

    ref: CollectionRef
    faces: tuple[HeldFace, ...]
    users: tuple[str, ...]
    uploads: tuple[HeldPhoto, ...]
    searches: tuple[HeldSearch, ...]
    #: Reviews, open or closed, with a comparison with the person.
    reviews: int
    #: True if an erasure of the person has not come to its end.
    under_way: bool = False

    @property
    def photos(self) -> int:
        """Number of photos in the uploads bucket that the faces come from."""
        return len({face.photo for face in self.faces if face.photo})

    def __bool__(self) -> bool:
        return bool(self.faces or self.users or self.uploads or self.searches or self.under_way)


def held_about(walk: PersonWalk, subject: Subject, *, under_way: bool = False) -> Held:
    """Return what is held about a person."""
    faces, users = walk.in_gallery(subject)
    subject = msgspec.structs.replace(subject, faces=subject.faces | faces.keys())
    uploads, searches = [], []
    for trace in walk.uploads(subject):
        if trace.upload.action == "index":
            time = min(event.time for event in trace.recorded.values())
            uploads.append(HeldPhoto(photo=trace.upload.key, time=time))
        searches += _searches(trace, subject)
    return Held(
        ref=subject.ref,
        faces=tuple(
            HeldFace(
                id=face.id,
                external_image_id=face.external_image_id,
                user_id=face.user_id,
                created=face.created,
                photo=face.source.key if face.source else "",
            )
            for _, face in sorted(faces.items())
        ),
        users=tuple(sorted(users)),
        uploads=tuple(uploads),
        searches=tuple(searches),
        reviews=sum(1 for _ in walk.reviews(subject)),
        under_way=under_way,
    )


def _searches(trace: UploadTrace, subject: Subject) -> list[HeldSearch]:
    found = [event for event in (*trace.recorded.values(), trace.candidates) if event is not None]
    return [
        HeldSearch(
            photo=event.upload.key,
            time=event.time,
            event="Awaiting Review" if event is trace.candidates else event.detail_type,
            face_id=match.face_id,
            similarity=match.similarity,
        )
        for event in found
        if isinstance(event, events.FacesMatched | events.MatchesReleased)
        for face in event.faces
        for match in face.matches
        if subject.matches(match)
    ]
