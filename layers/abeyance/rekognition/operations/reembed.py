"""ReembedFaces and SwitchCollections: not in Rekognition; a collection made again with another model, beside the first.

A run of ReembedFaces goes through four listings, page by page, so that the target becomes level with the source:

::

    faces of the source -> add what the target lacks      faces of the target -> delete what the source lacks
    users of the source -> make theirs equal              users of the target -> delete what the source lacks

Each page can be done again, so a run that dies is begun anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from abeyance.embedding.former import convert, is_convertible
from abeyance.gallery.errors import ModelMismatch, UserExists, UserNotFound
from abeyance.gallery.items import details_of
from abeyance.gallery.model import Collection, CollectionRef, Face, NewFace, Page, SourceObject
from abeyance.rekognition.call import Call
from abeyance.rekognition.errors import ApiError, invalid
from abeyance.rekognition.operations.services import Services
from abeyance.vision.analysis import AnalyzedFace, face_at
from abeyance.vision.errors import ImageRejected
from abeyance.vision.quality import QualityFilter

#: Faces of a page; each may need its photo, in the 29 seconds of a request.
PAGE: Final = 25
USERS_PAGE: Final = 50
#: Errors of a photo that cannot be had; another try would end alike.
_PHOTO_ERRORS: Final = frozenset({"InvalidS3ObjectException", "ImageTooLargeException"})


Template = NDArray[np.float32]


class ReembedOutcome(StrEnum):
    """The end of a face that is to be in the target."""

    CONVERTED = "converted"
    EMBEDDED = "embedded"
    NO_PHOTO = "no_photo"
    FACE_NOT_FOUND = "face_not_found"


class _Phase(StrEnum):
    FACES = "faces"
    GONE = "gone"
    USERS = "users"
    GONE_USERS = "gone-users"


_NEXT: Final = {_Phase.FACES: _Phase.GONE, _Phase.GONE: _Phase.USERS, _Phase.USERS: _Phase.GONE_USERS}


def reembed_faces(call: Call, services: Services) -> dict[str, Any]:
    """Do one page of a run; without a token the first one."""
    phase_name, _, token = call.params.get("NextToken", f"{_Phase.FACES}:").partition(":")
    if phase_name not in list(_Phase):
        raise invalid("The paging token is not from this operation; begin without one")
    phase = _Phase(phase_name)
    source, target = (_described(call, services, name) for name in ("CollectionId", "TargetCollectionId"))
    if not services.serves(target.model):
        raise ModelMismatch(f"templates of {target.model} cannot be made here")
    step = _Step(call, services, source, target)
    page, count = {
        _Phase.FACES: step.add_faces,
        _Phase.GONE: step.delete_faces,
        _Phase.USERS: step.match_users,
        _Phase.GONE_USERS: step.delete_users,
    }[phase](token)
    following = phase if page.next_token else _NEXT.get(phase)
    return {
        "Changed": count,
        "Outcomes": [{"FaceId": face_id, "Outcome": str(one)} for face_id, one in step.outcomes.items()],
        "Version": version_of(source),
        "TargetVersion": version_of(services.gallery.describe(target.ref)),
        "NextToken": f"{following}:{page.next_token}" if following else None,
    }


def switch_collections(call: Call, services: Services) -> dict[str, Any]:
    """Let two collections have each other's name, if both are as they were when the caller saw them."""
    known = []
    for name, version in (("CollectionId", "Version"), ("TargetCollectionId", "TargetVersion")):
        found = _described(call, services, name)
        if version_of(found) != call.params[version]:
            raise ApiError("ConflictException", "A collection changed meanwhile; bring them level first")
        known.append(found)
    now, former = services.gallery.exchange(known[0], known[1])
    for one in (now, former):
        # An erasure that was under way ended under the other name.
        services.gallery.finish_erasures(one.ref)
    return {"FaceModelVersion": now.model, "FormerFaceModelVersion": former.model}


def version_of(collection: Collection) -> str:
    """Return a text that is another one after every change of the collection."""
    return f"{collection.generation}:{collection.seq}"


def _described(call: Call, services: Services, name: str) -> Collection:
    return services.gallery.describe(CollectionRef(call.grant.tenant, call.params[name]))


class _Step:
    """One page of a run."""

    def __init__(self, call: Call, services: Services, source: Collection, target: Collection) -> None:
        self._call = call
        self._services = services
        self._gallery = services.gallery
        self._source = source
        self._target = target
        self.outcomes: dict[str, ReembedOutcome] = {}

    def add_faces(self, token: str) -> tuple[Page[Face], int]:
        """Add the faces of a page that the target lacks."""
        page = self._gallery.list_faces(self._source.ref, limit=PAGE, token=token)
        there = {
            face.id: face for face in self._gallery.get_faces(self._target, [face.id for face in page.items])
        }
        missing = [face for face in page.items if face.id not in there]
        added = 0
        # The faces of one photo belong together, whichever page they are on.
        for source in dict.fromkeys(face.source for face in missing):
            if source is None:
                added += self._add([face for face in missing if face.source is None], None)
            else:
                added += self._add(self._gallery.faces_of_source(self._source, source), source)
        self._renew([face for face in page.items if face.id in there and _differs(face, there[face.id])])
        return page, added

    def delete_faces(self, token: str) -> tuple[Page[Face], int]:
        """Delete the faces of a page of the target that the source lacks."""
        page = self._gallery.list_faces(self._target.ref, limit=1000, token=token)
        there = {face.id for face in self._gallery.get_faces(self._source, [face.id for face in page.items])}
        gone = [face for face in page.items if face.id not in there]
        left = []
        for face in gone:
            if face.source and not self._gallery.faces_of_source(self._source, face.source):
                # Not only the face: the target's note of the photo goes too, so that it can come again.
                self._gallery.delete_source(self._target.ref, face.source)
            else:
                left.append(face)
        for user_id in {face.user_id for face in left} - {""}:
            with contextlib.suppress(UserNotFound):
                self._gallery.disassociate_faces(
                    self._target.ref, user_id, [face.id for face in left if face.user_id == user_id]
                )
        if left:
            self._gallery.delete_faces(self._target.ref, [face.id for face in left])
        return page, len(gone)

    def match_users(self, token: str) -> tuple[Page[Any], int]:
        """Make the users of a page, and give them the faces that they have in the source."""
        if not token:
            self._gallery.match_verdicts(self._source, self._target.ref)
        page = self._gallery.list_users(self._source.ref, limit=USERS_PAGE, token=token)
        ids = [user.id for user in page.items]
        known = {user.id: user for user in self._gallery.get_users(self._target, ids)}
        changed = 0
        for user in page.items:
            if user.id not in known:
                with contextlib.suppress(UserExists):
                    self._gallery.create_user(self._target.ref, user.id)
            have = known[user.id].face_ids if user.id in known else ()
            present = {face.id: face for face in self._gallery.get_faces(self._target, user.face_ids)}
            stray = [face_id for face_id in have if face_id not in user.face_ids]
            lacking = [face_id for face_id in user.face_ids if face_id in present and face_id not in have]
            for other in {present[face_id].user_id for face_id in lacking} - {""}:
                theirs = [face_id for face_id in lacking if present[face_id].user_id == other]
                self._gallery.disassociate_faces(self._target.ref, other, theirs)
            if stray:
                self._gallery.disassociate_faces(self._target.ref, user.id, stray)
            if lacking:
                self._gallery.associate_faces(self._target.ref, user.id, lacking)
            changed += user.id not in known or bool(stray or lacking)
        return page, changed

    def delete_users(self, token: str) -> tuple[Page[Any], int]:
        """Delete the users of a page of the target that the source lacks."""
        page = self._gallery.list_users(self._target.ref, limit=500, token=token)
        there = {user.id for user in self._gallery.get_users(self._source, [user.id for user in page.items])}
        gone = [user.id for user in page.items if user.id not in there]
        for user_id in gone:
            with contextlib.suppress(UserNotFound):
                self._gallery.delete_user(self._target.ref, user_id)
        return page, len(gone)

    def _renew(self, faces: Sequence[Face]) -> None:
        """Give faces that are there the name and the upload that they have in the source since."""
        templates = self._gallery.templates_of(
            self._target, self._gallery.get_faces(self._target, [face.id for face in faces])
        )
        for face in faces:
            if face.source and face.id in templates:
                new = self._new(face, templates[face.id])
                self._gallery.index(self._target.ref, [new], source=self._latest(face.source))

    def _latest(self, source: SourceObject) -> SourceObject:
        """Return a photo as its latest upload: a deletion before that came too late for the target too."""
        sequencers = self._gallery.indexed_by(self._source.ref, source)
        return replace(source, sequencer=sequencers[-1]) if sequencers else source

    def _new(self, face: Face, template: Template) -> NewFace:
        return NewFace(id=face.id, template=template, **{**details_of(face), "model": self._target.model})

    def _add(self, faces: Sequence[Face], source: SourceObject | None) -> int:
        """Index faces of one photo, or faces without a photo, with templates of the target's model."""
        made = self._converted(faces) or (self._embedded(faces, source) if source else {})
        self.outcomes |= {
            face.id: ReembedOutcome.NO_PHOTO
            for face in faces
            if face.id not in made and face.id not in self.outcomes
        }
        new = [self._new(face, made[face.id]) for face in faces if face.id in made]
        if new:
            self._gallery.index(self._target.ref, new, source=self._latest(source) if source else None)
        return len(new)

    def _converted(self, faces: Sequence[Face]) -> dict[str, Template]:
        """Return templates made of those of the source, where the models differ in their maps alone."""
        source, target = (self._services.entry(one.model) for one in (self._source, self._target))
        if source is None or target is None or not is_convertible(source, target):
            return {}
        found = self._gallery.templates_of(self._source, faces)
        if not found:
            return {}
        made = convert(source, target, np.stack(list(found.values())))
        self.outcomes |= dict.fromkeys(found, ReembedOutcome.CONVERTED)
        return dict(zip(found, made, strict=True))

    def _embedded(self, faces: Sequence[Face], source: SourceObject) -> dict[str, Template]:
        """Return templates made of the photo; only of faces that are found again where they were."""
        version = {"Version": source.version} if source.version not in ("", source.etag) else {}
        where = {"Bucket": source.bucket, "Name": source.key, **version}
        try:
            data = self._services.photos.read({"S3Object": where}, self._call.grant.tenant)
            found = self._services.analyzer.analyze(
                data, quality_filter=QualityFilter.NONE, measure=self._call.timings.measure
            ).faces
        except ApiError as error:
            if error.name not in _PHOTO_ERRORS:
                raise
            return {}
        except ImageRejected:
            return {}
        again: dict[str, AnalyzedFace] = {}
        for face in faces:
            if (one := face_at(found, face.box)) is not None:
                again[face.id] = one
            else:
                self.outcomes[face.id] = ReembedOutcome.FACE_NOT_FOUND
        if not again:
            return {}
        made = self._services.embed(self._call, list(again.values()), self._target.model)
        self.outcomes |= dict.fromkeys(again, ReembedOutcome.EMBEDDED)
        return dict(zip(again, made, strict=True))


def _differs(face: Face, there: Face) -> bool:
    """Return whether a face has another name, or comes from another upload of its photo, than in the target."""
    return (face.external_image_id, face.source) != (there.external_image_id, there.source)
