"""Recognition: decides again, makes templates, indexes or searches; and takes out what came from a deleted photo."""

from __future__ import annotations

import functools
import io
import logging
import uuid
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from abeyance.gallery.errors import CollectionExists, CollectionNotFound, ModelMismatch, Superseded
from abeyance.gallery.model import CollectionRef, NewFace, Source
from abeyance.gallery.port import Gallery
from abeyance.gallery.search import Searcher
from abeyance.moratorium.decide import Decision
from abeyance.moratorium.guard import Guard
from abeyance.pipeline import events, topology
from abeyance.pipeline.embedders import EmbedderUnavailable
from abeyance.pipeline.events import DetectedFace, Event, IndexedFace, Match, SearchedFace, Upload
from abeyance.pipeline.ports import ObjectGone, Objects
from abeyance.pipeline.postpone import Postpone
from abeyance.pipeline.settings import Settings
from abeyance.pipeline.stage import Message, Outbox, frames, halted, one_by_one, rejected, timestamp
from abeyance.pipeline.uploads import result_key
from abeyance.vision.embedder import Embedder
from abeyance.vision.similarity import SimilarityScale

log = logging.getLogger("abeyance")

#: Namespace of the ids of faces that come from uploads.
_FACES = uuid.UUID("6f1f2a0e-5f9b-5b1c-9a51-0d6f3f2a7c11")


#: Bytes of the searched faces in one event: EventBridge takes 256 KB, DynamoDB's items with all stages 400 KB.
MOST_BYTES = 180_000
#: Faces of one photo that the detector keeps.
MOST_FACES = 100


class Work(NamedTuple):
    """One upload that may be recognised, with its chips: (n, 112, 112, 3) uint8 RGB."""

    message: Message
    detected: events.FacesDetected
    decision: Decision
    chips: np.ndarray


class Recognize:
    """Faces Detected becomes Faces Indexed, Matched or Analyzed, or Recognition Halted.

    Upload Withdrawn becomes Faces Deleted.
    """

    def __init__(
        self,
        settings: Settings,
        guard: Guard,
        objects: Objects,
        outbox: Outbox,
        gallery: Gallery,
        searcher: Searcher,
        embedder: Callable[[], Embedder],
        scale: Callable[[], SimilarityScale],
        postpone: Postpone,
    ) -> None:
        self._settings = settings
        self._guard = guard
        self._objects = objects
        self._outbox = outbox
        self._gallery = gallery
        self._searcher = searcher
        self._embedder = embedder
        self._scale = scale
        self._postpone = postpone

    def __call__(self, messages: Sequence[Message]) -> list[str]:
        """Settle every message; the ids of those to deliver again. All chips of a batch are embedded together."""
        works: list[Work] = []
        failed = one_by_one(messages, lambda message: self._prepare(message, works))
        try:
            templates = self._embed([work.chips for work in works])
        except EmbedderUnavailable as error:
            log.warning("embedder is unavailable", extra={"messages": len(works), "because": str(error)})
            return failed + self._postpone([work.message for work in works], error.retry_after)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the batch or the answer
            log.warning("embedder failed", extra=frames(error))
            return failed + [work.message.id for work in works]
        made = {work.message.id: (work, own) for work, own in zip(works, templates, strict=True)}
        ready = [work.message for work in works]
        return failed + one_by_one(ready, lambda message: self._finish(*made[message.id]))

    def _embed(self, chips: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Templates of each photo's chips, (n, d) float32, from one call of the embedder."""
        if not any(map(len, chips)):
            return [np.empty((0, 0), np.float32) for _ in chips]
        templates = self._embedder().embed(np.concatenate(chips))
        return np.split(templates, np.cumsum([len(own) for own in chips])[:-1])

    def _prepare(self, message: Message, works: list[Work]) -> None:
        event = message.event()
        if isinstance(event, events.UploadHalted | events.UploadRejected | events.RecognitionHalted):
            self._replaced(event.upload)
            return
        # One version of many that was deleted for good never was the latest event on its key.
        single = isinstance(event, events.UploadWithdrawn) and event.upload.version
        if not single and self._outbox.repeat(event.upload):
            return
        if isinstance(event, events.UploadWithdrawn):
            self._outbox.settle(self._withdraw(event.upload))
            return
        assert isinstance(event, events.FacesDetected), event.detail_type
        upload = event.upload
        decision = self._guard.decide(upload.tenant, upload.action, event.permitted.purpose)
        if not decision.permitted:
            self._outbox.settle(halted(upload, decision))
            return
        if upload.action == "analyze":
            self._outbox.settle(
                events.FacesAnalyzed(
                    id=events.FacesAnalyzed.identify(upload),
                    time=timestamp(),
                    upload=upload,
                    decision=decision,
                    faces=event.faces,
                )
            )
            return
        try:
            chips = np.load(
                io.BytesIO(self._objects.get(self._settings.chips_bucket, event.chips)), allow_pickle=False
            )
        except ObjectGone:
            self._outbox.settle(
                _rejected(
                    upload, "CHIPS_EXPIRED", "The detected faces are no longer kept. Upload the photo again."
                )
            )
            return
        works.append(Work(message, event, decision, chips))

    def _finish(self, work: Work, templates: np.ndarray) -> None:
        upload = work.detected.upload
        try:
            event = (
                self._index(work, templates) if upload.action == "index" else self._search(work, templates)
            )
        except Superseded:
            event = _rejected(upload, "SUPERSEDED", "The photo was replaced or deleted meanwhile.")
        except CollectionNotFound:
            if upload.action == "index":
                raise  # it was deleted this moment; the next delivery makes it again
            event = _rejected(
                upload, "COLLECTION_NOT_FOUND", "There is no such collection. Index a face into it first."
            )
        except ModelMismatch:
            event = _rejected(
                upload,
                "MODEL_MISMATCH",
                "The collection was made with another model. Re-embed it, or name its model.",
            )
        self._outbox.settle(event)
        if self._outbox.is_latest(upload):
            return
        # A later event came while this one was worked on, and may have found nothing to take out yet.
        if isinstance(event, events.FacesIndexed):
            self._gallery.delete_source(CollectionRef(upload.tenant, upload.collection), _source(upload))
        self._objects.delete(self._settings.chips_bucket, review_key(upload))

    def _index(self, work: Work, templates: np.ndarray) -> Event:
        detected, upload = work.detected, work.detected.upload
        kept = [face for face in detected.faces if face.chip >= 0]
        new = [
            NewFace(
                id=face_id(upload, face.chip),
                model=self._embedder().identity,
                template=templates[face.chip],
                image_id=str(uuid.uuid5(_FACES, upload.photo)),
                external_image_id=detected.permitted.external_image_id,
                box=(face.box.left, face.box.top, face.box.width, face.box.height),
                confidence=face.confidence / 100,
                quality=msgspec.to_builtins(face.quality),
            )
            for face in kept
        ]
        ref = CollectionRef(upload.tenant, upload.collection)
        self._ensure_collection(ref)
        indexed = self._gallery.index(ref, new, source=_source(upload))
        by_id = {face.id: detail for face, detail in zip(new, kept, strict=True)}
        return events.FacesIndexed(
            id=events.FacesIndexed.identify(upload),
            time=timestamp(),
            upload=upload,
            decision=work.decision,
            model=self._embedder().identity,
            faces=tuple(
                IndexedFace(face_id=face.id, external_image_id=face.external_image_id, face=by_id[face.id])
                for face in indexed
            ),
            unindexed=_set_aside(detected),
        )

    def _ensure_collection(self, ref: CollectionRef) -> None:
        """Uploading into a collection creates it, as copying into a folder that is not there would."""
        try:
            self._gallery.describe(ref)
        except CollectionNotFound:
            try:
                embedder = self._embedder()
                self._gallery.create_collection(ref, model=embedder.identity, dimension=embedder.dimension)
            except CollectionExists:
                pass

    def _search(self, work: Work, templates: np.ndarray) -> Event:
        detected, upload, scale = work.detected, work.detected.upload, self._scale()
        asked = detected.permitted.face_match_threshold
        threshold = self._settings.search_threshold if asked is None else asked
        if work.decision.min_similarity is not None:
            threshold = max(threshold, work.decision.min_similarity)
        ref = CollectionRef(upload.tenant, upload.collection)
        if self._gallery.describe(ref).model != self._embedder().identity:
            raise ModelMismatch
        found = self._searcher.search(
            ref,
            templates,
            limit=self._settings.max_candidates,
            min_cosine=scale.cosine(threshold) if threshold > 0 else -1.0,
        )
        named = self._gallery.get_faces(ref, list({candidate.face_id for row in found for candidate in row}))
        names = {face.id: face.external_image_id for face in named}
        searched = tuple(
            SearchedFace(
                face=face,
                matches=tuple(
                    Match(
                        face_id=candidate.face_id,
                        similarity=round(float(scale.similarity(candidate.cosine)), 4),
                        external_image_id=names[candidate.face_id],
                    )
                    for candidate in found[face.chip]
                    if candidate.face_id in names
                ),
            )
            for face in detected.faces
            if face.chip >= 0
        )
        faces = _fitting(searched)
        event = events.FacesMatched(
            id=events.FacesMatched.identify(upload),
            time=timestamp(),
            upload=upload,
            decision=work.decision,
            model=self._embedder().identity,
            threshold=threshold,
            faces=faces,
            unsearched=_set_aside(detected),
            left_out=_matches(searched) - _matches(faces),
            reviewers=work.decision.human_review if _matches(faces) else 0,
        )
        return self._withhold(event) if event.reviewers else event

    def _withhold(self, event: events.FacesMatched) -> Event:
        """Keep the candidates aside until people have looked; the event says only that there are some to look at."""
        key = review_key(event.upload)
        self._objects.put(self._settings.chips_bucket, key, msgspec.json.encode(event), "application/json")
        hidden = tuple(msgspec.structs.replace(face, matches=()) for face in event.faces)
        return msgspec.structs.replace(event, faces=hidden)

    def _replaced(self, upload: Upload) -> None:
        """An upload ended without faces: what an earlier photo under its key left goes, unless it is the same photo."""
        if not upload.tenant:
            return
        self._objects.delete_all(self._settings.chips_bucket, upload.folder)
        if upload.action != "index":
            return
        ref = CollectionRef(upload.tenant, upload.collection)
        try:
            if not self._gallery.get_faces(ref, [face_id(upload, row) for row in range(MOST_FACES)]):
                self._gallery.delete_source(ref, Source(upload.bucket, upload.key, "", upload.sequencer))
        except CollectionNotFound:
            return

    def _withdraw(self, upload: Upload) -> Event:
        gone: tuple[str, ...] = ()
        if upload.action == "index":
            try:
                gone = self._gallery.delete_source(
                    CollectionRef(upload.tenant, upload.collection), _source(upload)
                )
            except CollectionNotFound:
                gone = ()
        if gone or not upload.version:
            self._objects.delete(self._settings.results_bucket, result_key(upload.key))
            self._objects.delete_all(self._settings.chips_bucket, upload.folder)
        return events.FacesDeleted(
            id=events.FacesDeleted.identify(upload), time=timestamp(), upload=upload, count=len(gone)
        )


def _matches(faces: Sequence[SearchedFace]) -> int:
    return sum(len(face.matches) for face in faces)


def _fitting(faces: tuple[SearchedFace, ...]) -> tuple[SearchedFace, ...]:
    """The faces with as many of their nearest candidates, the same number for each, as an event can carry."""
    most = max((len(face.matches) for face in faces), default=0)
    while len(msgspec.json.encode(faces)) > MOST_BYTES and most:
        most -= 1
        faces = tuple(msgspec.structs.replace(face, matches=face.matches[:most]) for face in faces)
    return faces


def face_id(upload: Upload, chip: int) -> str:
    """Id of the gallery's face from one row of the upload's chips file: the same for every delivery of the photo."""
    return str(uuid.uuid5(_FACES, f"{upload.tenant}/{upload.collection}/{upload.photo}/{chip}"))


def review_key(upload: Upload) -> str:
    """Where candidates that await review lie in the chips bucket."""
    return f"{upload.folder}{upload.identity}.review.json"


def _source(upload: Upload) -> Source:
    return Source(upload.bucket, upload.key, upload.version, upload.sequencer)


def _set_aside(detected: events.FacesDetected) -> tuple[DetectedFace, ...]:
    return tuple(face for face in detected.faces if face.chip < 0)


_rejected = functools.partial(rejected, topology.RECOGNIZE.name)
