"""The traces that a person leaves in the events of an upload, pure: found, and taken out.

An event keeps its id and the lengths of its lists of faces, so that it stays the event that the ledger has, and a stage
that finds it emits it again without the person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

import msgspec

from abeyance.gallery.model import CollectionRef
from abeyance.pipeline import events, topology
from abeyance.pipeline.events import Event, IndexedFace, Match, SearchedFace, Upload
from abeyance.pipeline.leftovers import face_id


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A person in one collection.

    Attributes
    ----------
    faces
        The ids of their faces.
    users
        The pseudonyms of their users.
    name
        The pseudonym of their external image id; empty if they are not known by one.
    hide
        Makes pseudonyms.
    until
        Leave what is newer than this (RFC 3339); empty for no such moment.
    """

    ref: CollectionRef
    faces: Set[str]
    users: Set[str]
    name: str
    hide: Callable[[str], str]
    until: str = ""

    def covers(self, moment: str) -> bool:
        """Return whether a thing of this moment is theirs to erase."""
        return not self.until or moment <= self.until

    def has_name(self, external_image_id: str) -> bool:
        """Return whether an external image id is theirs."""
        return bool(self.name and external_image_id) and self.name == subject_pseudonym(
            self.hide, self.ref, "external_image_id", external_image_id
        )

    def has_user(self, user_id: str) -> bool:
        """Return whether a user is theirs."""
        return subject_pseudonym(self.hide, self.ref, "user_id", user_id) in self.users

    def matches(self, match: Match) -> bool:
        """Return whether a candidate is this person."""
        return match.face_id in self.faces or self.has_name(match.external_image_id)


def subject_pseudonym(hide: Callable[[str], str], ref: CollectionRef, named_by: str, name: str) -> str:
    """Return the pseudonym of a person by one of their names in a collection."""
    return hide(f"{ref.tenant}/{ref.name}/{named_by}/{name}")


def is_in(upload: Upload, ref: CollectionRef) -> bool:
    """Return whether an upload is for a collection."""
    return (upload.tenant, upload.collection) == (ref.tenant, ref.name)


def has_their_name(recorded: Mapping[str, Event], subject: Subject) -> bool:
    """Return whether an upload to the index has the person's name."""
    permitted = recorded.get(topology.GATE.name)
    return (
        isinstance(permitted, events.UploadPermitted)
        and permitted.upload.action == "index"
        and subject.has_name(permitted.external_image_id)
    )


def undecided_stage(recorded: Mapping[str, Event]) -> str:
    """Return the stage that has still to process a permitted upload; empty if none has."""
    permitted = recorded.get(topology.GATE.name)
    if not isinstance(permitted, events.UploadPermitted):
        return ""
    detected = _detected(recorded)
    if detected is None:
        return topology.FRAMES.name if permitted.media == events.VIDEO else topology.DETECT.name
    waits = isinstance(detected, events.FacesDetected) and topology.RECOGNIZE.name not in recorded
    return topology.RECOGNIZE.name if waits else ""


def shown_rows(recorded: Mapping[str, Event], subject: Subject) -> set[int]:
    """Return the rows of an upload's chips file that show the person.

    A face that was searched for is taken for the person if all its candidates are.
    """
    rows: set[int] = set()
    detected = _detected(recorded)
    if isinstance(detected, events.FacesDetected) and detected.upload.action == "index":
        theirs = has_their_name(recorded, subject)
        own = (face.chip for face in detected.faces if face.chip >= 0)
        rows |= {chip for chip in own if theirs or face_id(detected.upload, chip) in subject.faces}
    for event in recorded.values():
        rows |= searched_rows(event, subject)
    if isinstance(detected, events.FacesDetected):
        # Behind the rows of the faces of a video are further views of them.
        first = sum(face.chip >= 0 for face in detected.faces)
        rows |= {first + i for i, owner in enumerate(detected.views or ()) if owner in rows}
    return rows


def _detected(recorded: Mapping[str, Event]) -> Event | None:
    """Return what the stage that found the faces has recorded, or None."""
    return recorded.get(topology.DETECT.name) or recorded.get(topology.FRAMES.name)


def searched_rows(event: Event, subject: Subject) -> set[int]:
    """Return the rows of the faces of a search, all of whose candidates are the person."""
    if not isinstance(event, events.FacesMatched | events.MatchesReleased):
        return set()
    found = (face for face in event.faces if face.matches and all(map(subject.matches, face.matches)))
    return {face.face.chip for face in found}


def without(event: Event, subject: Subject, *, whole: bool = False) -> Event:
    """Return an event without the person; with ``whole``, every face of the upload is theirs, so its name is too."""
    if isinstance(event, events.UploadPermitted):
        theirs = whole or (event.upload.action == "index" and subject.has_name(event.external_image_id))
        return msgspec.structs.replace(event, external_image_id="") if theirs else event
    if isinstance(event, events.FacesDetected):
        permitted = without(event.permitted, subject, whole=whole)
        return msgspec.structs.replace(event, permitted=permitted)
    if isinstance(event, events.FacesIndexed):
        return msgspec.structs.replace(event, faces=tuple(_blanked(face, subject) for face in event.faces))
    if isinstance(event, events.FacesMatched | events.MatchesReleased):
        return msgspec.structs.replace(event, faces=tuple(_unmatched(face, subject) for face in event.faces))
    return event


def is_whole(recorded: Mapping[str, Event], subject: Subject) -> bool:
    """Return whether every face that was indexed from an upload is the person's, or was erased before."""
    indexed = recorded.get(topology.RECOGNIZE.name)
    return (
        isinstance(indexed, events.FacesIndexed)
        and bool(indexed.faces)
        and all(not _blanked(face, subject).face_id for face in indexed.faces)
    )


def _blanked(face: IndexedFace, subject: Subject) -> IndexedFace:
    if face.face_id in subject.faces or subject.has_name(face.external_image_id):
        return msgspec.structs.replace(face, face_id="", external_image_id="")
    return face


def _unmatched(face: SearchedFace, subject: Subject) -> SearchedFace:
    return msgspec.structs.replace(face, matches=tuple(m for m in face.matches if not subject.matches(m)))
