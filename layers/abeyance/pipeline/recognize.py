"""Recognition: decides again, makes templates, indexes or searches; and takes out what came from a deleted photo."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import logging
import uuid
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from abeyance.embedding.port import Embedder, EmbedderUnavailable
from abeyance.gallery.errors import CollectionExists, CollectionNotFound, ModelMismatch, Superseded
from abeyance.gallery.model import Candidate, CollectionRef, Face, NewFace, Source
from abeyance.gallery.port import Gallery
from abeyance.gallery.search import Searcher
from abeyance.moratorium.decide import Decision
from abeyance.moratorium.guard import Guard
from abeyance.pipeline import events, topology
from abeyance.pipeline.events import DetectedFace, Event, IndexedFace, Match, SearchedFace, Upload
from abeyance.pipeline.ports import ObjectGone, Objects, Standing
from abeyance.pipeline.postpone import Postpone
from abeyance.pipeline.settings import Settings
from abeyance.pipeline.stage import Decide, Message, Outbox, each, halted, rejected, timestamp, together
from abeyance.pipeline.uploads import chips_key, result_key
from abeyance.vision.detector import MAX_FACES
from abeyance.vision.similarity import SimilarityScale

log = logging.getLogger("abeyance")

#: Namespace of the ids of faces that come from uploads.
_FACES = uuid.UUID("6f1f2a0e-5f9b-5b1c-9a51-0d6f3f2a7c11")


#: Bytes of the searched faces in one event: EventBridge takes 256 KB, DynamoDB's items with all stages 400 KB.
MOST_BYTES = 180_000


class Work(NamedTuple):
    """One upload that may be recognised, with its chips, (n, 112, 112, 3) uint8 RGB, and their templates (n, d)."""

    detected: events.FacesDetected
    decision: Decision
    chips: np.ndarray
    templates: np.ndarray = np.empty((0, 0), np.float32)

    @property
    def upload(self) -> Upload:
        return self.detected.upload


class Found(NamedTuple):
    """What a search found: candidates of each probe from ``threshold`` on, and the names of their faces by id."""

    work: Work
    threshold: float
    candidates: list[list[Candidate]]
    names: dict[str, str]


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
        """Settle every message; the ids of those to deliver again.

        What can be asked for all of a batch at once is: the records, the embedder, the searches of one collection.
        """
        failed: list[str] = []
        come = each(((message, message) for message in messages), Message.event, failed)
        decide = functools.cache(self._guard.decide)
        prepared = each(
            together(come, self._standing, failed), lambda pair: self._prepare(*pair, decide), failed
        )
        settling = [(message, event) for message, event in prepared if isinstance(event, Event)]
        works = [(message, work) for message, work in prepared if isinstance(work, Work)]
        try:
            made = together(works, self._embed, failed, let=EmbedderUnavailable)
        except EmbedderUnavailable as error:
            log.warning("embedder is unavailable", extra={"messages": len(works), "because": str(error)})
            failed += self._postpone([message for message, _ in works], error.retry_after)
            made = []
        settling += each([one for one in made if one[1].upload.action == "index"], self._index, failed)
        searches = sorted((one for one in made if one[1].upload.action == "search"), key=_collection)
        for _, group in itertools.groupby(searches, _collection):
            settling += self._searched(list(group), failed)
        each(self._outbox.settle_all(settling, failed), self._overtaken, failed)
        return failed

    def _standing(self, come: Sequence[Event]) -> list[tuple[Event, Standing]]:
        return list(zip(come, self._outbox.look([event.upload for event in come]), strict=True))

    def _embed(self, works: Sequence[Work]) -> list[Work]:
        """The works with templates of their chips, (n, d) float32, from one call of the embedder."""
        chips = [work.chips for work in works]
        if not any(map(len, chips)):
            return list(works)
        templates = self._embedder().embed(np.concatenate(chips))
        own = np.split(templates, np.cumsum([len(rows) for rows in chips])[:-1])
        return [work._replace(templates=rows) for work, rows in zip(works, own, strict=True)]

    def _prepare(self, event: Event, standing: Standing, decide: Decide) -> Event | Work | None:
        """What the upload is settled with, or what there is to recognise; None if nothing is to do."""
        if isinstance(event, events.UploadHalted | events.UploadRejected | events.RecognitionHalted):
            self._replaced(event.upload)
            return None
        # One version of many that was deleted for good never was the latest event on its key.
        single = isinstance(event, events.UploadWithdrawn) and event.upload.version
        if not single and self._outbox.repeat(event.upload, standing):
            if isinstance(event, events.FacesDetected) and not standing.latest:
                # A deletion may have come, and tidied up, before the chips were there.
                self._objects.delete(self._settings.chips_bucket, event.chips)
            return None
        if isinstance(event, events.UploadWithdrawn):
            return self._withdraw(event.upload)
        assert isinstance(event, events.FacesDetected), event.detail_type
        upload = event.upload
        decision = decide(upload.tenant, upload.action, event.permitted.purpose)
        if not decision.permitted:
            return halted(upload, decision)
        if upload.action == "analyze":
            return events.FacesAnalyzed(
                id=events.FacesAnalyzed.identify(upload),
                time=timestamp(),
                upload=upload,
                decision=decision,
                faces=event.faces,
            )
        try:
            chips = np.load(
                io.BytesIO(self._objects.get(self._settings.chips_bucket, event.chips)), allow_pickle=False
            )
        except ObjectGone:
            return _rejected(
                upload, "CHIPS_EXPIRED", "The detected faces are no longer kept. Upload the photo again."
            )
        return Work(event, decision, chips)

    def _overtaken(self, event: Event) -> None:
        """A later event came while this upload was worked on, and may have found nothing to take out yet."""
        upload = event.upload
        if isinstance(event, events.FacesIndexed):
            self._gallery.delete_source(CollectionRef(upload.tenant, upload.collection), _source(upload))
        for key in (chips_key(upload), review_key(upload)):
            self._objects.delete(self._settings.chips_bucket, key)

    def _index(self, work: Work) -> Event:
        detected, upload = work.detected, work.upload
        kept = [face for face in detected.faces if face.chip >= 0]
        new = [
            NewFace(
                id=face_id(upload, face.chip),
                model=self._embedder().identity,
                template=work.templates[face.chip],
                image_id=str(uuid.uuid5(_FACES, upload.photo)),
                external_image_id=detected.permitted.external_image_id,
                box=(face.box.left, face.box.top, face.box.width, face.box.height),
                confidence=face.confidence / 100,
                quality=msgspec.to_builtins(face.quality),
            )
            for face in kept
        ]
        ref = CollectionRef(upload.tenant, upload.collection)
        try:
            indexed = self._index_or_create(ref, new, _source(upload))
        except Superseded:
            return _rejected(upload, "SUPERSEDED", "The photo was replaced or deleted meanwhile.")
        except ModelMismatch:
            return _model_mismatch(upload)
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

    def _index_or_create(self, ref: CollectionRef, new: Sequence[NewFace], source: Source) -> list[Face]:
        """Uploading into a collection creates it, as copying into a folder that is not there would.

        If it is deleted this moment, the next delivery makes it again.
        """
        try:
            return self._gallery.index(ref, new, source=source)
        except CollectionNotFound:
            embedder = self._embedder()
            with contextlib.suppress(CollectionExists):
                self._gallery.create_collection(ref, model=embedder.identity, dimension=embedder.dimension)
        return self._gallery.index(ref, new, source=source)

    def _searched(self, group: list[tuple[Message, Work]], failed: list[str]) -> list[tuple[Message, Event]]:
        """The events of searches in one collection, all from one search."""
        try:
            found = together(group, self._search, failed, let=(CollectionNotFound, ModelMismatch))
        except CollectionNotFound:
            why = "There is no such collection. Index a face into it first."
            return [(message, _rejected(work.upload, "COLLECTION_NOT_FOUND", why)) for message, work in group]
        except ModelMismatch:
            return [(message, _model_mismatch(work.upload)) for message, work in group]
        return each(found, self._matched, failed)

    def _search(self, works: Sequence[Work]) -> list[Found]:
        upload = works[0].upload
        ref = CollectionRef(upload.tenant, upload.collection)
        embedder = self._embedder()
        thresholds = [self._threshold(work) for work in works]
        probes = np.concatenate([work.templates.reshape(-1, embedder.dimension) for work in works])
        candidates = iter(
            self._searcher.search(
                ref,
                probes,
                limit=self._settings.max_candidates,
                min_cosine=min(map(self._cosine, thresholds)),
                model=embedder.identity,
            )
        )
        rows = [list(itertools.islice(candidates, len(work.templates))) for work in works]
        # With the search for several, one may have been handed what is below its own threshold.
        own = [
            [[one for one in row if one.cosine >= self._cosine(threshold)] for row in found]
            for found, threshold in zip(rows, thresholds, strict=True)
        ]
        ids = {candidate.face_id for found in own for row in found for candidate in row}
        named = self._gallery.get_faces(ref, list(ids)) if ids else []
        names = {face.id: face.external_image_id for face in named}
        return [Found(*parts, names) for parts in zip(works, thresholds, own, strict=True)]

    def _threshold(self, work: Work) -> float:
        """The similarity that a candidate has to reach."""
        asked = work.detected.permitted.face_match_threshold
        threshold = self._settings.search_threshold if asked is None else asked
        return max(threshold, work.decision.min_similarity or 0.0)

    def _cosine(self, threshold: float) -> float:
        return self._scale().cosine(threshold) if threshold > 0 else -1.0

    def _matched(self, found: Found) -> Event:
        work, threshold, candidates, names = found
        detected, upload, scale = work.detected, work.upload, self._scale()
        searched = tuple(
            SearchedFace(
                face=face,
                matches=tuple(
                    Match(
                        face_id=candidate.face_id,
                        similarity=round(float(scale.similarity(candidate.cosine)), 4),
                        external_image_id=names[candidate.face_id],
                    )
                    for candidate in candidates[face.chip]
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
            if not self._gallery.get_faces(ref, [face_id(upload, row) for row in range(MAX_FACES)]):
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


def _collection(one: tuple[Message, Work]) -> tuple[str, str]:
    return one[1].upload.tenant, one[1].upload.collection


def _model_mismatch(upload: Upload) -> Event:
    return _rejected(
        upload,
        "MODEL_MISMATCH",
        "The collection was made with another model. Re-embed it, or name its model.",
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
