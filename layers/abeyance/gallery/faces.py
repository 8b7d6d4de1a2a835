"""Faces: indexed, listed and erased."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec
import numpy as np
import numpy.typing as npt

from abeyance.aws.dynamodb import batches
from abeyance.aws.table import Put
from abeyance.gallery.draft import ERASE_COST, FACE_COST, ROOM, USER_COST, ChangeDraft
from abeyance.gallery.errors import FaceTaken, InvalidInput, ModelMismatch, Superseded
from abeyance.gallery.items import Meta, SourceRecord, details_of, face_item, face_of, is_later, source_key
from abeyance.gallery.model import (
    Collection,
    CollectionRef,
    Face,
    FacesOutcome,
    NewFace,
    Page,
    Refusal,
    RefusalReason,
    SourceObject,
    UserStatus,
)
from abeyance.gallery.paging import page_of, page_start
from abeyance.gallery.snapshots import SnapshotStore
from abeyance.gallery.storage import Storage, require_face_ids
from abeyance.gallery.users import UserStore

#: Largest difference between a template's length and 1.
UNIT_TOLERANCE = 1e-2


class FaceStore:
    """The faces of a gallery's collections; its methods are those of :class:`~abeyance.gallery.facade.Gallery`."""

    def __init__(self, storage: Storage, snapshots: SnapshotStore, users: UserStore) -> None:
        self._storage = storage
        self._snapshots = snapshots
        self._users = users

    def index(
        self, ref: CollectionRef, faces: Sequence[NewFace], *, source: SourceObject | None = None
    ) -> list[Face]:
        """Add faces; a face that is there stays as it is.

        With a ``source``, the faces become *all* the faces of that object: those of an older version of it are
        erased, and the same version again changes nothing, not even where a face was deleted since.

        Returns
        -------
        list of Face
            Those of ``faces`` that are in the collection now, in the order given.

        Raises
        ------
        ModelMismatch
            A template comes from another model than the collection's.
        Superseded
            The source object was deleted, or replaced, after this version.
        FaceTaken
            An id belongs to a face of another source.
        InvalidInput
            Ids that are no UUIDs or repeat, templates of another shape or not of unit length.
        """
        require_face_ids([face.id for face in faces])
        if len({face.id for face in faces}) < len(faces):
            raise InvalidInput("two faces of one request have the same id")
        written = self._storage.write(ref, lambda draft: self._plan_index(draft, faces, source))
        if source and written.meta.covered:
            # It may have replaced faces.
            self._snapshots.finish_erasures(ref)
        self._snapshots.compact_if_due(written)
        return written.results[-1]

    def index_new(
        self, ref: CollectionRef, photos: Sequence[tuple[Sequence[NewFace], SourceObject]]
    ) -> list[list[Face] | None]:
        """Add the faces of photos that the collection does not know, of many in one transaction.

        Nothing but the collection's META is read: that a photo and its faces are not there is a condition of the
        transaction, which costs nothing where it is true.

        Returns
        -------
        list of (list of Face or None)
            The faces of each photo; ``None`` for one that :meth:`index` has to index, or refuse, by itself: it is
            known already, too large to be indexed at once, or not well-formed.
        """
        alone: set[int] = set()
        owners: list[int] = []

        def plan(draft: ChangeDraft) -> tuple[dict[int, list[Face]], bool]:
            added: dict[int, list[Face]] = {}
            owners.clear()
            taken: set[object] = set()
            done = {number for step in draft.before for number in step}
            more = False
            for number, (faces, source) in enumerate(photos):
                if number in done or number in alone:
                    continue
                own = {(source.bucket, source.key), *(face.id for face in faces)}
                cost = FACE_COST * len(faces) + 1
                if cost > ROOM or len(own) <= len(faces) or own & taken or not _fits(draft.meta, faces):
                    alone.add(number)
                elif cost > draft.room:
                    more = True
                else:
                    taken |= own
                    added[number] = self._add_photo(draft, faces, source)
                    owners.extend([number] * (draft.size - len(owners)))
            return added, more

        def refused(failed: Sequence[bool]) -> None:
            alone.update(number for number, known in zip(owners, failed, strict=False) if known)

        written = self._storage.write(ref, plan, refused)
        self._snapshots.compact_if_due(written)
        added = {number: faces for step in written.results for number, faces in step.items()}
        return [added.get(number) for number in range(len(photos))]

    def get(self, collection: CollectionRef | Collection, face_ids: Sequence[str]) -> list[Face]:
        """Return those of the faces that exist, in the order asked for."""
        require_face_ids(face_ids)
        found = self._storage.faces(self._storage.open(collection), dict.fromkeys(face_ids))
        return [found[face_id] for face_id in face_ids if face_id in found]

    def page(
        self, ref: CollectionRef, *, limit: int = 1000, token: str = "", user_id: str = ""
    ) -> Page[Face]:
        """Return a page of faces, by id; with ``user_id``, that user's. Raises ``InvalidPage``, ``UserNotFound``."""
        meta = self._storage.meta(ref)
        listing = f"faces of {meta.pk} {user_id}"
        start = page_start(listing, token)
        if user_id:
            user = self._users.find(meta, user_id)
            ids = sorted(face_id for face_id in user.face_ids if face_id > start)[: limit + 1]
            by_id = self._storage.faces(meta, ids)
            found = [by_id[face_id] for face_id in ids if face_id in by_id]
        else:
            found = [face_of(ref, item) for item in self._storage.list_items(meta.pk, "F#", start, limit)]
        return page_of(listing, found, [face.id for face in found], limit)

    def templates(
        self, collection: CollectionRef | Collection, face_ids: Sequence[str]
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Return the templates of those of the faces that exist: (d,) float32, from float16. Personal data."""
        require_face_ids(face_ids)
        return self._storage.face_templates(self._storage.open(collection), dict.fromkeys(face_ids))

    def templates_of(
        self, collection: CollectionRef | Collection, faces: Sequence[Face]
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Return the templates of faces as they were read, by id; those that are gone are left out."""
        return self._storage.templates_of(self._storage.open(collection), faces)

    def delete(self, ref: CollectionRef, face_ids: Sequence[str]) -> FacesOutcome:
        """Erase faces with their templates, in snapshots too; refuse, per face, those of a user."""
        require_face_ids(face_ids)
        outcomes = [
            self._storage.write(ref, partial(self._plan_delete, some)).results[-1]
            for some in batches(dict.fromkeys(face_ids), ROOM // ERASE_COST)
        ]
        self._snapshots.finish_erasures(ref)
        return FacesOutcome(
            tuple(face_id for outcome in outcomes for face_id in outcome.done),
            tuple(refusal for outcome in outcomes for refusal in outcome.refused),
        )

    def delete_source(self, ref: CollectionRef, source: SourceObject) -> tuple[str, ...]:
        """Erase every face of a source object, also those of a user, and refuse its late index events.

        With a ``version``, only if that is the version that is indexed: deleting an old version of an object
        leaves its present one alone. Returns the ids of the faces erased by this call.
        """
        written = self._storage.write(ref, lambda draft: self._plan_delete_source(draft, source))
        self._snapshots.finish_erasures(ref)
        return tuple(face_id for step in written.results for face_id in step)

    def indexed_by(self, ref: CollectionRef, source: SourceObject) -> tuple[str, ...]:
        """Return the sequencers of the uploads that indexed this version of the object, or began to.

        Empty if another version or none is indexed.
        """
        record = self._present(self._storage.meta(ref), source)
        return (*record.earlier, record.sequencer) if record else ()

    def of_source(self, collection: CollectionRef | Collection, source: SourceObject) -> list[Face]:
        """Return the faces of this version of the object."""
        opened = self._storage.open(collection)
        record = self._present(opened, source)
        return list(self._storage.faces(opened, record.faces).values()) if record else []

    def _plan_index(
        self, draft: ChangeDraft, faces: Sequence[NewFace], source: SourceObject | None
    ) -> tuple[list[Face], bool]:
        meta = draft.meta
        for new in faces:
            _require_template(meta, new)
        record = (self._record(meta, source) if source else None) or _NEVER_INDEXED
        same = source is not None and not record.gone and record.version == source.version
        if source and same and record.complete:
            return self._plan_again(draft, faces, source, record)
        if source and _is_superseded(record, source):
            raise Superseded("the source object was deleted or replaced after this version; drop the event")
        ids = [face.id for face in faces]
        found = self._storage.faces(meta, ids)
        for present in found.values():
            _require_owner(present, source)
        stale = [face_id for face_id in record.faces if face_id not in set(ids)]
        gone = self._erase(draft, stale)
        left = [face_id for face_id in stale if face_id not in gone]
        placed = record.done if same else 0
        while placed < len(faces) and (ids[placed] in found or draft.room >= FACE_COST + 1):
            new = faces[placed]
            if new.id not in found:
                found[new.id] = self._put(draft, new, source)
            placed += 1
        complete = placed == len(faces) and not left
        if source:
            late = is_later(record.sequencer, source.sequencer)
            before = record.renewed(source.sequencer)
            state = SourceRecord(
                version=source.version,
                sequencer=record.sequencer if late else source.sequencer,
                earlier=before.earlier if same else (),
                faces=(*left, *ids[:placed]),
                done=placed,
                complete=complete,
            )
            draft.add(Put(state.item(meta.pk, source)))
        return [found[i] for i in ids if i in found], not complete

    def _put(self, draft: ChangeDraft, new: NewFace, source: SourceObject | None) -> Face:
        face = Face(
            id=new.id,
            collection=draft.meta.ref,
            source=source,
            seq=0,
            created=self._storage.now(),
            **details_of(new),
        )
        return draft.put_face(face, new.template)

    def _add_photo(self, draft: ChangeDraft, faces: Sequence[NewFace], source: SourceObject) -> list[Face]:
        """Draft the faces and the record of a photo that is not there."""
        added = [self._put(draft, new, source) for new in faces]
        record = SourceRecord(
            version=source.version,
            sequencer=source.sequencer,
            faces=tuple(face.id for face in faces),
            done=len(faces),
            complete=True,
        )
        draft.add(Put(record.item(draft.meta.pk, source), absent=True))
        return added

    def _plan_again(
        self, draft: ChangeDraft, faces: Sequence[NewFace], source: SourceObject, record: SourceRecord
    ) -> tuple[list[Face], bool]:
        """Draft the effect of a version that is indexed already.

        A later upload of the same bytes makes a deletion before it void, and renames the faces that are still there.
        """
        found = self._storage.faces(draft.meta, record.faces)
        more = False
        if is_later(source.sequencer, record.sequencer):
            for new in faces:
                face = found.get(new.id)
                if face is None or face.external_image_id == new.external_image_id:
                    continue
                if more := draft.room < 2:
                    break
                found[face.id] = msgspec.structs.replace(face, external_image_id=new.external_image_id)
                draft.add(Put(face_item(draft.meta.pk, found[face.id])))
            else:
                again = record.renewed(source.sequencer)
                draft.add(Put(again.item(draft.meta.pk, source)))
        return [found[i] for i in record.faces if i in found], more

    def _plan_delete(self, face_ids: Sequence[str], draft: ChangeDraft) -> tuple[FacesOutcome, bool]:
        faces = self._storage.faces(draft.meta, face_ids)
        done: list[str] = []
        refused: list[Refusal] = []
        for face_id in face_ids:
            face = faces.get(face_id)
            if face is None:
                refused.append(Refusal(face_id, RefusalReason.FACE_NOT_FOUND))
            elif face.user_id:
                reason = RefusalReason.ASSOCIATED_TO_AN_EXISTING_USER
                refused.append(Refusal(face_id, reason, face.user_id))
            else:
                draft.erase_face(face)
                done.append(face_id)
        return FacesOutcome(tuple(done), tuple(refused)), False

    def _plan_delete_source(self, draft: ChangeDraft, source: SourceObject) -> tuple[tuple[str, ...], bool]:
        meta = draft.meta
        record = self._record(meta, source)
        mark = SourceRecord(version=source.version, sequencer=source.sequencer, gone=True)
        if record and record.gone:
            # A mark for the whole key says more than one for a version of it.
            newer = is_later(source.sequencer, record.sequencer) and (record.version or not source.version)
            if not newer and not record.faces:
                return (), False
            mark = mark if newer else record
        elif record and (
            is_later(record.sequencer, source.sequencer) or source.version not in ("", record.version)
        ):
            return (), False
        faces = record.faces if record else ()
        gone = self._erase(draft, faces)
        left = tuple(face_id for face_id in faces if face_id not in gone)
        mark = SourceRecord(version=mark.version, sequencer=mark.sequencer, gone=True, faces=left)
        draft.add(Put(mark.item(meta.pk, source, 0 if left else draft.expires)))
        return tuple(face_id for face_id, existed in gone.items() if existed), bool(left)

    def _erase(self, draft: ChangeDraft, face_ids: Sequence[str]) -> dict[str, bool]:
        """Draft the erasure of as many faces as fit beside one more operation, removing them from their users.

        Returns which are gone then; the value is True if the face was still there.
        """
        faces = self._storage.faces(draft.meta, face_ids)
        users: dict[str, list[str]] = {}
        gone: dict[str, bool] = {}
        for face_id in face_ids:
            face = faces.get(face_id)
            if face is not None:
                more_users = len(users) + (bool(face.user_id) and face.user_id not in users)
                if draft.room < ERASE_COST + 1 + more_users * USER_COST:
                    break
                draft.erase_face(face)
                if face.user_id:
                    users.setdefault(face.user_id, []).append(face_id)
            gone[face_id] = face is not None
        for user_id, taken in users.items():
            user = self._users.find(draft.meta, user_id)
            left = [i for i in user.face_ids if i not in taken]
            self._users.set_faces(draft, user, left, user.status if left else UserStatus.CREATED)
        return gone

    def _record(self, meta: Meta | Collection, source: SourceObject) -> SourceRecord | None:
        item = self._storage.table.get(source_key(meta.pk, source.bucket, source.key))
        return SourceRecord.of(item) if item else None

    def _present(self, meta: Meta | Collection, source: SourceObject) -> SourceRecord | None:
        """Return the record of an object if it is there and is of this version."""
        record = self._record(meta, source)
        return record if record and not record.gone and record.version == source.version else None


_NEVER_INDEXED = SourceRecord(version="", sequencer="", gone=True)


def _is_superseded(record: SourceRecord, source: SourceObject) -> bool:
    """Return whether a version other than the one that is indexed comes too late."""
    if not record.gone:
        return record.version != source.version and is_later(record.sequencer, source.sequencer)
    if record.version not in ("", source.version):
        return False
    known = bool(record.sequencer and source.sequencer)
    return known and not is_later(source.sequencer, record.sequencer)


def _fits(meta: Meta, faces: Sequence[NewFace]) -> bool:
    """Return whether the faces are well-formed, and of the collection's model."""
    try:
        require_face_ids([face.id for face in faces])
        for face in faces:
            _require_template(meta, face)
    except (InvalidInput, ModelMismatch):
        return False
    return True


def _require_template(meta: Meta, face: NewFace) -> None:
    if face.model != meta.model:
        raise ModelMismatch(
            f"the collection holds templates of {meta.model}, not of {face.model}; "
            "embed with its model, or index into a new collection"
        )
    template = np.asarray(face.template)
    if template.shape != (meta.dimension,) or template.dtype.kind != "f":
        raise InvalidInput(f"a template of this collection is {meta.dimension} floating-point numbers")
    if not abs(float(np.linalg.norm(template.astype(np.float64))) - 1) <= UNIT_TOLERANCE:
        raise InvalidInput("a template has unit length")


def _require_owner(face: Face, source: SourceObject | None) -> None:
    owner = (face.source.bucket, face.source.key) if face.source else None
    if owner != ((source.bucket, source.key) if source else None):
        raise FaceTaken(
            "a face id is in use by a face of another source; derive ids from bucket, key and version"
        )
