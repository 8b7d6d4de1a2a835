"""Faces: indexed, listed and erased."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import msgspec
import numpy as np
import numpy.typing as npt

from abeyance.gallery.core import page_start, page_token, require_face_ids
from abeyance.gallery.draft import ERASE_COST, FACE_COST, USER_COST, Draft
from abeyance.gallery.errors import FaceTaken, InvalidInput, ModelMismatch, Superseded, UserNotFound
from abeyance.gallery.items import END, Meta, Slot, face_item, face_of, later, source_key, user_key, user_of
from abeyance.gallery.model import (
    CollectionRef,
    Face,
    NewFace,
    Outcome,
    Page,
    Refusal,
    RefusalReason,
    Source,
    User,
    UserStatus,
)
from abeyance.gallery.snapshots import Snapshots
from abeyance.gallery.table import Put

#: How far a template's length may be from 1.
UNIT_TOLERANCE = 1e-2


class Faces(Snapshots):
    """The part of :class:`~abeyance.gallery.port.Gallery` on faces."""

    def index(
        self, ref: CollectionRef, faces: Sequence[NewFace], *, source: Source | None = None
    ) -> list[Face]:
        require_face_ids([face.id for face in faces])
        if len({face.id for face in faces}) < len(faces):
            raise InvalidInput("two faces of one request have the same id")
        written = self.write(ref, lambda draft: self._plan_index(draft, faces, source))
        if source and written.meta.covered:
            # It may have replaced faces.
            self.settle(ref)
        self.tend(ref, written.meta, written.seq)
        return written.results[-1]

    def get_faces(self, ref: CollectionRef, face_ids: Sequence[str]) -> list[Face]:
        require_face_ids(face_ids)
        found = self.faces(self.meta(ref), dict.fromkeys(face_ids))
        return [found[face_id] for face_id in face_ids if face_id in found]

    def list_faces(
        self, ref: CollectionRef, *, limit: int = 1000, token: str = "", user_id: str = ""
    ) -> Page[Face]:
        meta = self.meta(ref)
        listing = f"faces of {meta.pk} {user_id}"
        start = page_start(listing, token)
        if user_id:
            user = self.user(meta, user_id)
            ids = sorted(face_id for face_id in user.face_ids if face_id > start)[: limit + 1]
            by_id = self.faces(meta, ids)
            found = [by_id[face_id] for face_id in ids if face_id in by_id]
        else:
            first = f"F#{start} " if start else "F#"
            found = [
                face_of(ref, item) for item in self.table.query(meta.pk, first, f"F#{END}", limit=limit + 1)
            ]
        items = tuple(found[:limit])
        return Page(items, page_token(listing, items[-1].id) if len(found) > limit else "")

    def templates(self, ref: CollectionRef, face_ids: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
        require_face_ids(face_ids)
        return self.face_templates(self.meta(ref), dict.fromkeys(face_ids))

    def delete_faces(self, ref: CollectionRef, face_ids: Sequence[str]) -> Outcome:
        require_face_ids(face_ids)
        todo = list(dict.fromkeys(face_ids))
        done: list[str] = []
        refused: list[Refusal] = []
        size = 98 // ERASE_COST
        for start in range(0, len(todo), size):
            some = todo[start : start + size]
            written = self.write(ref, partial(_plan_delete, self, some))
            outcome = written.results[-1]
            done += outcome.done
            refused += outcome.refused
        self.settle(ref)
        return Outcome(tuple(done), tuple(refused))

    def delete_source(self, ref: CollectionRef, source: Source) -> tuple[str, ...]:
        written = self.write(ref, lambda draft: self._plan_delete_source(draft, source))
        self.settle(ref)
        return tuple(face_id for step in written.results for face_id in step)

    def user(self, meta: Meta, user_id: str) -> User:
        """A user, or :class:`UserNotFound`."""
        item = self.table.get(user_key(meta.pk, user_id))
        if item is None:
            raise UserNotFound("the collection has no user of that id; create it first")
        return user_of(meta.ref, item)

    def face_templates(self, meta: Meta, face_ids: Iterable[str]) -> dict[str, npt.NDArray[np.float32]]:
        """Templates of those of the faces that exist, by face id."""
        seqs = {face.seq: face.id for face in self.faces(meta, face_ids).values()}
        return {seqs[seq]: template for seq, template in self.templates_of(meta, list(seqs)).items()}

    def reshape(self, draft: Draft, user: User, face_ids: Sequence[str], status: UserStatus) -> User:
        """Draft a user with these faces, and the template that they make: their normalised mean."""
        templates = self.face_templates(draft.meta, face_ids)
        mean: npt.NDArray[np.float32] | None = None
        if templates:
            mean = np.sum([templates[i] for i in face_ids if i in templates], axis=0, dtype=np.float32)
            length = float(np.linalg.norm(mean))
            # Opposite templates have no mean direction; then any one of them is as good.
            mean = mean / length if length > 1e-6 else next(iter(templates.values()))
        changed = User(
            id=user.id,
            collection=user.collection,
            status=status,
            face_ids=tuple(face_ids),
            seq=user.seq,
            created=user.created,
        )
        return draft.put_user(changed, mean)

    def _plan_index(
        self, draft: Draft, faces: Sequence[NewFace], source: Source | None
    ) -> tuple[list[Face], bool]:
        meta = draft.meta
        for face in faces:
            _require_template(meta, face)
        slot = self._slot(meta, source) if source else None
        same = slot is not None and not slot.gone and source is not None and slot.version == source.version
        if source and slot:
            if same and slot.complete:
                found = self.faces(meta, slot.faces)
                more = later(source.sequencer, slot.sequencer) and _came_again(
                    draft, found, faces, slot, source
                )
                return [found[i] for i in slot.faces if i in found], more
            if _is_superseded(slot, source):
                raise Superseded(
                    "the source object was deleted or replaced after this version; drop the event"
                )
        ids = [face.id for face in faces]
        found = self.faces(meta, ids)
        for present in found.values():
            _require_owner(present, source)
        stale = [face_id for face_id in slot.faces if face_id not in set(ids)] if slot else []
        gone = self._erase(draft, stale, reserve=1)
        left = [face_id for face_id in stale if face_id not in gone]
        placed = slot.done if slot and same else 0
        while placed < len(faces) and (ids[placed] in found or draft.room >= FACE_COST + 1):
            if ids[placed] not in found:
                found[ids[placed]] = draft.put_face(
                    _face(meta, faces[placed], source, self.now()), faces[placed].template
                )
            placed += 1
        complete = placed == len(faces) and not left
        if source:
            sequencer = (
                slot.sequencer if slot and later(slot.sequencer, source.sequencer) else source.sequencer
            )
            state = Slot(source.version, sequencer, False, tuple(left + ids[:placed]), placed, complete)
            draft.add(Put(state.item(meta.pk, source)))
        return [found[i] for i in ids if i in found], not complete

    def _plan_delete_source(self, draft: Draft, source: Source) -> tuple[tuple[str, ...], bool]:
        meta = draft.meta
        slot = self._slot(meta, source)
        mark = Slot(source.version, source.sequencer, True)
        if slot and slot.gone:
            # A mark for the whole key says more than one for a version of it.
            newer = later(source.sequencer, slot.sequencer) and (slot.version or not source.version)
            if not newer:
                if not slot.faces:
                    return (), False
                mark = slot
        elif slot and (later(slot.sequencer, source.sequencer) or source.version not in ("", slot.version)):
            return (), False
        faces = slot.faces if slot else ()
        gone = self._erase(draft, faces, reserve=1)
        left = tuple(face_id for face_id in faces if face_id not in gone)
        mark = Slot(mark.version, mark.sequencer, True, left)
        draft.add(Put(mark.item(meta.pk, source, 0 if left else draft.expires)))
        return tuple(face_id for face_id, existed in gone.items() if existed), bool(left)

    def _erase(self, draft: Draft, face_ids: Sequence[str], *, reserve: int) -> dict[str, bool]:
        """Draft the erasure of as many faces as fit, taking them from their users.

        Returns which are gone then; the value is whether the face was still there.
        """
        faces = self.faces(draft.meta, face_ids)
        users: dict[str, list[str]] = {}
        gone: dict[str, bool] = {}
        for face_id in face_ids:
            face = faces.get(face_id)
            if face is not None:
                more_users = len(users) + (bool(face.user_id) and face.user_id not in users)
                if draft.room < ERASE_COST + reserve + more_users * USER_COST:
                    break
                draft.erase_face(face)
                if face.user_id:
                    users.setdefault(face.user_id, []).append(face_id)
            gone[face_id] = face is not None
        for user_id, taken in users.items():
            user = self.user(draft.meta, user_id)
            left = [i for i in user.face_ids if i not in taken]
            self.reshape(draft, user, left, user.status if left else UserStatus.CREATED)
        return gone

    def _slot(self, meta: Meta, source: Source) -> Slot | None:
        item = self.table.get(source_key(meta.pk, source.bucket, source.key))
        return Slot.of(item) if item else None


def _plan_delete(gallery: Faces, face_ids: Sequence[str], draft: Draft) -> tuple[Outcome, bool]:
    faces = gallery.faces(draft.meta, face_ids)
    done: list[str] = []
    refused: list[Refusal] = []
    for face_id in face_ids:
        face = faces.get(face_id)
        if face is None:
            refused.append(Refusal(face_id, RefusalReason.FACE_NOT_FOUND))
        elif face.user_id:
            refused.append(Refusal(face_id, RefusalReason.ASSOCIATED_TO_AN_EXISTING_USER, face.user_id))
        else:
            draft.erase_face(face)
            done.append(face_id)
    return Outcome(tuple(done), tuple(refused)), False


def _is_superseded(slot: Slot, source: Source) -> bool:
    """Whether a version other than the one that is indexed comes too late."""
    if not slot.gone:
        return slot.version != source.version and later(slot.sequencer, source.sequencer)
    if slot.version not in ("", source.version):
        return False
    known = bool(slot.sequencer and source.sequencer)
    return known and not later(source.sequencer, slot.sequencer)


def _came_again(
    draft: Draft, found: dict[str, Face], faces: Sequence[NewFace], slot: Slot, source: Source
) -> bool:
    """Draft what a later upload of the same bytes changes: a deletion before it is void, and the faces that are
    still there are called what it says. Returns whether some did not fit."""
    for new in faces:
        face = found.get(new.id)
        if face is None or face.external_image_id == new.external_image_id:
            continue
        if draft.room < 2:
            return True
        found[face.id] = msgspec.structs.replace(face, external_image_id=new.external_image_id)
        draft.add(Put(face_item(draft.meta.pk, found[face.id])))
    again = Slot(slot.version, source.sequencer, False, slot.faces, slot.done, slot.complete)
    draft.add(Put(again.item(draft.meta.pk, source)))
    return False


def _face(meta: Meta, new: NewFace, source: Source | None, now: str) -> Face:
    return Face(
        id=new.id,
        collection=meta.ref,
        image_id=new.image_id,
        external_image_id=new.external_image_id,
        source=source,
        box=new.box,
        confidence=new.confidence,
        quality=new.quality,
        model=new.model,
        seq=0,
        created=now,
    )


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


def _require_owner(face: Face, source: Source | None) -> None:
    theirs = (face.source.bucket, face.source.key) if face.source else None
    if theirs != ((source.bucket, source.key) if source else None):
        raise FaceTaken(
            "a face id is in use by a face of another source; derive ids from bucket, key and version"
        )
