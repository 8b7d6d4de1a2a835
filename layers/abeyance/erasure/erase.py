"""Erasure of a person, from the request to the receipt.

::

    request -> intent in the table -> request on the ledger -> passes, until one finds nothing
            -> chips and results -> receipt in the table -> receipt on the ledger -> off the work list

A pass walks through every store, notes what it finds in the table, and only then deletes it. Every step can be done
again, so whoever asks again, or the hourly task, continues a run that ended half-way.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, Protocol

import msgspec

from abeyance.aws.dynamodb import batches
from abeyance.aws.table import Conflict
from abeyance.aws.timestamps import timestamp
from abeyance.erasure import traces
from abeyance.erasure.remains import Retention, remains
from abeyance.erasure.store import Erasure, ErasureStore, TargetKind
from abeyance.erasure.traces import Subject, subject_pseudonym
from abeyance.erasure.view import Held, held_about
from abeyance.erasure.walk import PersonWalk, UploadTrace, items_of
from abeyance.gallery.errors import CollectionNotFound, GalleryBusy, UserNotFound
from abeyance.gallery.facade import Gallery
from abeyance.gallery.items import digest
from abeyance.gallery.model import FACE_PATTERN, FACES_PER_USER, CollectionRef, Face, SourceObject
from abeyance.ledger.admissible import named
from abeyance.ledger.entry import Record
from abeyance.ledger.errors import LedgerUnavailable
from abeyance.ledger.queue import RecordQueue
from abeyance.pipeline.chips import ChipStore, upload_of
from abeyance.pipeline.events import FacesMatched, Upload, UploadRejected
from abeyance.pipeline.leftovers import face_id, review_key
from abeyance.pipeline.outbox import Outbox
from abeyance.pipeline.ports import ObjectGone, ObjectStore
from abeyance.pipeline.upload_records import UploadRecords
from abeyance.pipeline.uploads import chips_key, name_id
from abeyance.vision.detector import MAX_FACES

log = logging.getLogger("abeyance")

#: Ledger entry types: before the first deletion, and the receipt after the last one.
ERASING: Final = "person.erasing"
ERASED: Final = "person.erased"
#: The ways to name a person. ``original_name`` is the name of a photo's file, whatever its alphabet.
NAMED_BY: Final = ("user_id", "external_image_id", "original_name", "face_id")
#: Reason of the end of an upload with the person's name that was under way.
ERASED_UPLOAD: Final = "ERASED"
_FACES_A_DELETION: Final = 100
#: Passes after which a run gives up for this time, because there is more each time.
_PASSES: Final = 8


class NobodyFound(Exception):
    """Nothing is held under this name, or it cannot be a name."""


class ErasureUnfinished(Exception):
    """An erasure that continues when it is asked for again, at the latest by the hourly task."""


class Reviews(Protocol):
    """The comparisons of reviews."""

    def forget(self, identity: str, numbers: Iterable[int]) -> None:
        """End comparisons of a review whose candidate was erased."""
        ...


class Erasures:
    """Erases people, continues what was interrupted, and does erasures again after a restore.

    Parameters
    ----------
    store
        The table of erasures.
    walk
        Finds what is held about a person.
    outbox
        Publishes results again.
    reviews
        Ends comparisons.
    ledger
        Takes the request and the receipt.
    hide
        Makes the pseudonyms of names and principals.
    retention
        For what the receipt says to remain.
    """

    def __init__(
        self,
        store: ErasureStore,
        walk: PersonWalk,
        gallery: Gallery,
        records: UploadRecords,
        outbox: Outbox,
        objects: ObjectStore,
        chips_bucket: str,
        reviews: Reviews,
        ledger: RecordQueue,
        hide: Callable[[str], str],
        retention: Retention,
    ) -> None:
        self._store = store
        self._walk = walk
        self._gallery = gallery
        self._records = records
        self._outbox = outbox
        self._objects = objects
        self._bucket = chips_bucket
        self._chips = ChipStore(objects, chips_bucket)
        self._reviews = reviews
        self._ledger = ledger
        self._hide = hide
        self._retention = retention

    def find(self, ref: CollectionRef, named_by: str, name: str) -> Held:
        """Return what is held about a person; raises :class:`NobodyFound`."""
        under_way = self._store.open_for(self._pseudonym(ref, named_by, name))
        subject = self._subject(under_way) if under_way else self._subject_named(ref, named_by, name)
        if not (held := held_about(self._walk, subject, under_way=under_way is not None)):
            raise NobodyFound("Nothing is held under that name in this collection.")
        return held

    def erase(self, principal: str, ref: CollectionRef, named_by: str, name: str) -> Erasure:
        """Erase everything that :meth:`find` returns, and return the erasure with its receipt.

        Raises :class:`NobodyFound`, and :class:`ErasureUnfinished` if it has to be asked for again.
        """
        pseudonym = self._pseudonym(ref, named_by, name)
        faces, users = self._walk.in_gallery(self._subject_named(ref, named_by, name))
        if not faces and not users:
            self.find(ref, named_by, name)
        named_by, name = _canonical(named_by, name)
        under_way = self._store.open_for(pseudonym)
        new = under_way or Erasure(
            id=secrets.token_hex(8),
            ref=ref,
            subject=pseudonym,
            named_by=named_by,
            principal=self._hide(f"principal/{principal}"),
            asked=timestamp(),
        )
        first = {"face_id": (TargetKind.FACE, name), "user_id": (TargetKind.USER, pseudonym)}.get(
            named_by, (None, "")
        )
        # Before the request counts: what is found now may lose its link to the name before the first pass.
        if not new.verified:
            self._note_faces(new, faces.values(), users)
        erasure = under_way or self._store.begin(new, *first)
        if erasure.id != new.id and not erasure.verified:
            self._note_faces(erasure, faces.values(), users)
        finished = self.run(erasure)
        if erasure.verified:
            # Only its receipt was missing; what came since is a matter of its own.
            with contextlib.suppress(NobodyFound):
                return self.erase(principal, ref, named_by, name)
        return finished

    def open(self) -> list[Erasure]:
        """Return the erasures under way."""
        return list(self._store.open())

    def resume(self) -> dict[str, int]:
        """Continue every erasure under way; return how many were finished, and how many were not."""
        return self._count(self.open())

    def replay(self, since: str, tenants: Iterable[str]) -> dict[str, int]:
        """Do all erasures that were finished since a moment (RFC 3339) again, after a restore to that moment.

        Before that, makes searchers read every collection of the tenants anew. Nothing newer than an erasure is
        erased. Returns how many were finished, and how many were not: repeat it until none is left.
        """
        for tenant in tenants:
            self._renew(tenant)
        finished = list(self._store.finished_since(since))
        return self._count([*self.open(), *finished])

    def _count(self, erasures: Iterable[Erasure]) -> dict[str, int]:
        counts = {"finished": 0, "unfinished": 0}
        for erasure in erasures:
            try:
                self._run_again(erasure)
                counts["finished"] += 1
            except Exception as error:  # noqa: BLE001 - no erasure may hold up the others
                log.warning(
                    "erasure is unfinished", extra={"erasure": erasure.id, "error": type(error).__name__}
                )
                counts["unfinished"] += 1
        return counts

    def _run_again(self, erasure: Erasure) -> None:
        """Work an erasure off, again if it was finished; before it, another one under way for its subject."""
        while erasure.finished and (other := self._store.reopen(erasure)).id != erasure.id:
            self.run(other)
        self.run(self._store.get(erasure.id) or erasure)

    def _renew(self, tenant: str) -> None:
        for collection in items_of(lambda token: self._gallery.list_collections(tenant, token=token)):
            self._gallery.renew(collection.ref)

    def run(self, erasure: Erasure) -> Erasure:
        """Work an erasure off; return it with its receipt. Raises :class:`ErasureUnfinished`."""
        try:
            return self._run(erasure)
        except LedgerUnavailable:
            raise ErasureUnfinished("The ledger did not confirm. Erase again.") from None
        except (Conflict, GalleryBusy):
            raise ErasureUnfinished("Others are changing the same things. Erase again.") from None

    def _run(self, erasure: Erasure) -> Erasure:
        about = {
            "tenant": erasure.ref.tenant,
            **named(erasure.ref.name),
            "subject": erasure.subject,
            "named_by": erasure.named_by,
            "principal": erasure.principal,
        }
        self._record(f"erase:{erasure.id}:asked", ERASING, erasure.asked, about)
        if not erasure.verified:
            passes = (self._pass(erasure) for _ in range(_PASSES))
            if all(passes):
                raise ErasureUnfinished("There was more at each pass. Erase again.")
            self._republish(erasure)
            now = timestamp()
            counts = {
                name: len(self._store.noted(erasure, kind))
                for name, kind in {
                    "faces": TargetKind.FACE,
                    "users": TargetKind.USER,
                    "photos": TargetKind.PHOTO,
                    "chips": TargetKind.CHIP,
                    "uploads": TargetKind.UPLOAD,
                    "comparisons": TargetKind.COMPARISON,
                }.items()
            }
            receipt = {**about, **counts, "run": erasure.run, "remains": remains(self._retention, now)}
            erasure = self._store.verify(erasure, now, receipt)
        self._record(receipt_id(erasure), ERASED, erasure.verified, erasure.receipt)
        self._store.finish(erasure, timestamp())
        return erasure

    def _pseudonym(self, ref: CollectionRef, named_by: str, name: str) -> str:
        return subject_pseudonym(self._hide, ref, *_canonical(named_by, name))

    def _subject_named(self, ref: CollectionRef, named_by: str, name: str) -> Subject:
        """Return the person by the name alone."""
        named_by, name = _canonical(named_by, name)
        pseudonym = self._pseudonym(ref, named_by, name)
        return Subject(
            ref=ref,
            faces={name} if named_by == "face_id" else set(),
            users={pseudonym} if named_by == "user_id" else set(),
            name=pseudonym if named_by == "external_image_id" else "",
            hide=self._hide,
        )

    def _subject(self, erasure: Erasure) -> Subject:
        """Return the person by all that is noted."""
        # A restore can bring back a face of that name that was gone when the first run looked. ``until`` spares
        # whoever has the name now.
        by_name = erasure.named_by == "external_image_id"
        return Subject(
            ref=erasure.ref,
            faces=set(self._store.noted(erasure, TargetKind.FACE)),
            users=set(self._store.noted(erasure, TargetKind.USER)),
            name=erasure.subject if by_name else "",
            hide=self._hide,
            until=erasure.until,
        )

    def _pass(self, erasure: Erasure) -> bool:
        """Note and delete what is found; return whether there was anything."""
        subject = self._subject(erasure)
        faces, users = self._walk.in_gallery(subject)
        self._note_faces(erasure, faces.values(), users)
        for face in faces.values():
            self._blank_picture(erasure, face)
        subject = msgspec.structs.replace(subject, faces=subject.faces | faces.keys())
        found = bool(faces or users)
        self._erase_faces(erasure.ref, faces.values(), users)
        for trace in self._walk.uploads(subject):
            found = self._erase_upload(erasure, subject, trace) or found
        for review, numbers, candidates in map(msgspec.structs.astuple, self._walk.reviews(subject)):
            found = True
            if candidates is not None:
                self._blank(erasure, review.waiting.upload, traces.searched_rows(candidates, subject))
            self._store.note(erasure, TargetKind.COMPARISON, (f"{review.identity}#{n}" for n in numbers))
            self._put_candidates(candidates, subject)
            self._reviews.forget(review.identity, numbers)
        return found

    def _note_faces(self, erasure: Erasure, faces: Collection[Face], users: Iterable[str]) -> None:
        ref, note = erasure.ref, self._store.note
        note(
            erasure, TargetKind.USER, (subject_pseudonym(self._hide, ref, "user_id", user) for user in users)
        )
        note(erasure, TargetKind.FACE, (face.id for face in faces))
        photos = (digest(face.source.bucket, face.source.key) for face in faces if face.source)
        note(erasure, TargetKind.PHOTO, photos)

    def _blank_picture(self, erasure: Erasure, face: Face) -> None:
        """Note and blank the picture of a face."""
        if (upload := upload_of(face)) is not None:
            self._blank(erasure, upload, [n for n in range(MAX_FACES) if face_id(upload, n) == face.id])

    def _blank(self, erasure: Erasure, upload: Upload, rows: Collection[int]) -> bool:
        """Note the rows of an upload's chips that can still be seen and blank them; return whether there were any."""
        key = chips_key(upload)
        visible = self._chips.visible(key, rows)
        self._store.note(erasure, TargetKind.CHIP, (f"{key}#{row}" for row in visible))
        self._chips.blank(key, visible)
        return bool(visible)

    def _erase_faces(self, ref: CollectionRef, faces: Collection[Face], users: Iterable[str]) -> None:
        """Erase faces and their users, and finish what an earlier run left in snapshots."""
        of_user: dict[str, list[str]] = {}
        for face in faces:
            if face.user_id:
                of_user.setdefault(face.user_id, []).append(face.id)
        try:
            for user, face_ids in of_user.items():
                for some in batches(face_ids, FACES_PER_USER):
                    with contextlib.suppress(UserNotFound):
                        self._gallery.disassociate_faces(ref, user, some)
            for some in batches((face.id for face in faces), _FACES_A_DELETION):
                self._gallery.delete_faces(ref, some)
            for user in users:
                with contextlib.suppress(UserNotFound):
                    self._gallery.delete_user(ref, user, only_empty=True)
            self._gallery.compact(ref)
        except CollectionNotFound:
            # Its deletion may have been interrupted.
            self._gallery.sweep(ref.tenant)

    def _erase_upload(self, erasure: Erasure, subject: Subject, trace: UploadTrace) -> bool:
        """Take the person out of an upload's chips and records; return whether there was anything to take."""
        upload = trace.upload
        # Before the records, which say what the chips show.
        found = self._blank(erasure, upload, trace.rows)
        if not (found or trace.changes or trace.undecided or trace.candidates):
            return False
        self._store.note(erasure, TargetKind.UPLOAD, [upload.identity])
        if trace.undecided:
            self._end(erasure, upload, trace.undecided)
        self._put_candidates(trace.candidates, subject)
        whole = traces.is_whole(trace.recorded, subject)
        self._records.rewrite(upload.identity, lambda event: traces.without(event, subject, whole=whole))
        return True

    def _end(self, erasure: Erasure, upload: Upload, stage: str) -> None:
        """End an upload that a stage has still to process, so that it adds no face after the receipt."""
        source = SourceObject(upload.bucket, upload.key, "", upload.sequencer)
        with contextlib.suppress(CollectionNotFound):
            # A delivery of this moment may have made them.
            deleted = self._gallery.delete_source(CollectionRef(upload.tenant, upload.collection), source)
            self._store.note(erasure, TargetKind.FACE, deleted)
        message = (
            "The person was erased while the photo was under way. Upload it again if it is to be indexed."
        )
        self._records.record(
            stage, UploadRejected.of(upload, stage=stage, reason=ERASED_UPLOAD, message=message)
        )

    def _republish(self, erasure: Erasure) -> None:
        """Write the results of the noted uploads from their records, which do not name the person any more."""
        for identity in self._store.noted(erasure, TargetKind.UPLOAD):
            recorded = list(self._records.recorded(identity).values())
            if any(isinstance(event, UploadRejected) and event.reason == ERASED_UPLOAD for event in recorded):
                # The stage before may have died before it handed the upload on.
                for event in recorded:
                    self._outbox.announce(event)
            elif recorded:
                self._outbox.republish(recorded[0])

    def _put_candidates(self, candidates: FacesMatched | None, subject: Subject) -> None:
        """Write the search that is put aside for review without the person."""
        if candidates is not None:
            body = msgspec.json.encode(traces.without(candidates, subject))
            with contextlib.suppress(ObjectGone):
                # The photo may be deleted meanwhile, and what was put aside with it.
                key = review_key(candidates.upload)
                self._objects.change(self._bucket, key, lambda _: body, "application/json")

    def _record(self, record_id: str, kind: str, moment: str, body: dict[str, Any]) -> None:
        self._ledger.put(Record(id=record_id, type=kind, time=moment, body=body))


def receipt_id(erasure: Erasure) -> str:
    """Return the id of an erasure's receipt on the ledger; a later run has a receipt of its own."""
    return f"erase:{erasure.id}:done" + (f":{erasure.run}" if erasure.run > 1 else "")


def _canonical(named_by: str, name: str) -> tuple[str, str]:
    """Return the name as stores have it; raises :class:`NobodyFound` for one that they cannot have."""
    if named_by not in NAMED_BY or not name or (named_by == "face_id" and not FACE_PATTERN.fullmatch(name)):
        raise NobodyFound("Name a user, an external image id, a file, or a face.")
    return ("external_image_id", name_id(name)) if named_by == "original_name" else (named_by, name)
