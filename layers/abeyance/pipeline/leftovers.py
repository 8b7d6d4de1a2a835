"""The deletion of what uploads leave: faces of replaced, denied and deleted photos, their chips and candidates."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Set

import msgspec

from abeyance.gallery.errors import CollectionNotFound
from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import CollectionRef, SourceObject
from abeyance.pipeline import events
from abeyance.pipeline.events import Event, Upload, UploadWithdrawn
from abeyance.pipeline.outbox import Outbox, PublishedEvent
from abeyance.pipeline.ports import ObjectStore
from abeyance.pipeline.uploads import chips_key, people_key

#: Namespace of the ids of faces that come from uploads.
_FACES = uuid.UUID("6f1f2a0e-5f9b-5b1c-9a51-0d6f3f2a7c11")


class Leftovers:
    """The faces, chips and candidates that uploads left, and their deletion."""

    def __init__(self, gallery: Gallery, objects: ObjectStore, outbox: Outbox, chips_bucket: str) -> None:
        self._gallery = gallery
        self._objects = objects
        self._outbox = outbox
        self._chips_bucket = chips_bucket

    def delete_replaced(self, event: Event) -> None:
        """Delete what an earlier photo left under the key of an upload that ended without faces.

        The faces stay if they come from the same photo.
        """
        upload = event.upload
        if not upload.tenant:
            return
        self._delete_former(event, _any_version(upload))
        self._objects.delete_all(self._chips_bucket, upload.folder)
        if upload.action != "index":
            return
        with contextlib.suppress(CollectionNotFound):
            if not self._is_indexing_recorded(upload):
                self._gallery.delete_source(collection_of(upload), _any_version(upload))

    def delete_unrecorded(self, upload: Upload) -> None:
        """Delete the photo's faces if no upload of it recorded that they are in the gallery.

        A delivery that was cut off may have indexed them; the upload that is denied or rejected now leaves none.
        """
        if upload.action == "index":
            with contextlib.suppress(CollectionNotFound):
                if not self._is_indexing_recorded(upload):
                    self._gallery.delete_source(collection_of(upload), source_of(upload))

    def _is_indexing_recorded(self, upload: Upload) -> bool:
        """Return True if the photo is in the gallery, and an upload of it recorded so."""
        sequencers = self._gallery.indexed_by(collection_of(upload), source_of(upload))
        uploads = [msgspec.structs.replace(upload, sequencer=sequencer) for sequencer in sequencers]
        return any(self._outbox.has_recorded(one, events.FacesIndexed) for one in uploads)

    def delete_lapsed(self, upload: Upload) -> int:
        """Delete what was made of an upload without authorisation; returns how many faces that were.

        The faces stay if another upload of the same photo, which did not lapse, indexed them too.
        """
        deleted: tuple[str, ...] = ()
        if upload.action == "index":
            with contextlib.suppress(CollectionNotFound):
                ref, source = collection_of(upload), source_of(upload)
                others = set(self._gallery.indexed_by(ref, source)) - {upload.sequencer}
                same = [msgspec.structs.replace(upload, sequencer=sequencer) for sequencer in others]
                if not any(map(self._outbox.stands_indexed, same)):
                    deleted = self._gallery.delete_source(ref, source)
        self._objects.delete_all(self._chips_bucket, f"{upload.folder}{upload.identity}.")
        return len(deleted)

    def delete_withdrawn(self, event: UploadWithdrawn) -> int:
        """Delete what came from a photo that was deleted; returns how many faces that were."""
        upload = event.upload
        source = source_of(upload) if upload.is_version_only else _any_version(upload)
        deleted: tuple[str, ...] = ()
        if upload.action == "index":
            with contextlib.suppress(CollectionNotFound):
                deleted = self._gallery.delete_source(collection_of(upload), source)
        if not source.version:
            # A later upload may have taken the key at this moment, and its result stays.
            self._outbox.republish(event)
        elif deleted:
            self._outbox.delete_result(upload)
        if deleted or not source.version:
            self._objects.delete_all(self._chips_bucket, upload.folder)
        return len(deleted) + self._delete_former(event, source)

    def _delete_former(self, event: Event, source: SourceObject) -> int:
        """Delete what the key had under other rules of its bucket; returns how many faces that were."""
        count, upload = 0, event.upload
        for one in self._outbox.registered.others(upload):
            if one.action == "index":
                with contextlib.suppress(CollectionNotFound):
                    count += len(self._gallery.delete_source(collection_of(one), source))
            if source.version or one.tenant == upload.tenant:
                continue
            # A later upload may be the other tenant's, and what it has stays.
            if self._outbox.is_latest(upload):
                self._objects.delete_all(self._chips_bucket, one.folder)
            self._outbox.republish(msgspec.structs.replace(event, upload=one))
        return count

    def clean_up(self, ended: PublishedEvent, replacing: Set[str]) -> None:
        """Delete what an outcome leaves superfluous; ``replacing`` are the uploads that replace an earlier photo."""
        event, upload = ended.event, ended.event.upload
        if not ended.is_latest:
            self._delete_leftovers(event)
            return
        self._delete_former(event, _any_version(upload))
        if upload.identity in replacing:
            self._objects.delete_all(self._chips_bucket, upload.folder, keep=self._used_objects(event))

    def _delete_leftovers(self, event: Event) -> None:
        """Delete what an upload made after a later event had come, whose stages may have found nothing to delete."""
        upload = event.upload
        if isinstance(event, events.FacesIndexed):
            self.delete_indexed(upload)
        for key in (chips_key(upload), review_key(upload), people_key(upload)):
            self._objects.delete(self._chips_bucket, key)

    def delete_indexed(self, upload: Upload) -> None:
        """Delete the faces of the upload, unless a later one has them."""
        if upload.action == "index":
            with contextlib.suppress(CollectionNotFound):
                self._gallery.delete_source(collection_of(upload), source_of(upload))

    def _used_objects(self, event: Event) -> set[str]:
        """Return the keys of the chips and candidates that the latest upload on its key needs."""
        upload = event.upload
        if not isinstance(event, events.FacesIndexed):
            return {chips_key(upload), review_key(upload), people_key(upload)}
        try:
            faces = self._gallery.get_faces(
                collection_of(upload), [face.face_id for face in event.faces if face.face_id]
            )
        except CollectionNotFound:
            return set()
        # An earlier upload of the same photo may have indexed them; its chips are their pictures.
        sources = [face.source for face in faces if face.source]
        return {
            chips_key(msgspec.structs.replace(upload, version=one.version, sequencer=one.sequencer))
            for one in sources
        }


def face_id(upload: Upload, chip: int) -> str:
    """Return the id of the face of one row of the upload's chips file: the same for every delivery of the photo."""
    return str(uuid.uuid5(_FACES, f"{upload.tenant}/{upload.collection}/{upload.photo}/{chip}"))


def review_key(upload: Upload) -> str:
    """Return the key of an upload's candidates that await review, in the chips bucket."""
    return f"{upload.folder}{upload.identity}.review.json"


def collection_of(upload: Upload) -> CollectionRef:
    """Return the collection that an upload names."""
    return CollectionRef(upload.tenant, upload.collection)


def source_of(upload: Upload) -> SourceObject:
    """Return the photo, as the gallery keeps it beside its faces."""
    return SourceObject(upload.bucket, upload.key, upload.version, upload.sequencer, upload.etag)


def _any_version(upload: Upload) -> SourceObject:
    """Return the object in whatever version, up to this event on its key."""
    return SourceObject(upload.bucket, upload.key, "", upload.sequencer)


def image_id(upload: Upload) -> str:
    """Return the image id of an upload's faces."""
    return str(uuid.uuid5(_FACES, upload.photo))
