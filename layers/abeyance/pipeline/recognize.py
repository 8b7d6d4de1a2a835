"""Recognition: decides again, makes templates, and indexes or searches; deletes the faces of a deleted photo."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import logging
from collections.abc import Callable, Sequence, Set
from typing import NamedTuple

import msgspec
import numpy as np

from abeyance.embedding.former import FormerEmbedding, FormerModels
from abeyance.embedding.port import Embedder, EmbedderUnavailable
from abeyance.gallery.errors import (
    CollectionExists,
    CollectionNotFound,
    GalleryBusy,
    ModelMismatch,
    Superseded,
)
from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import Candidate, CollectionRef, Face, NewFace, SourceObject
from abeyance.gallery.search import Searcher
from abeyance.moratorium.decide import Decision
from abeyance.moratorium.guard import Guard
from abeyance.pipeline import events, topology
from abeyance.pipeline.batch import Batch, Message
from abeyance.pipeline.events import DetectedFace, Event, IndexedFace, Match, SearchedFace, Upload
from abeyance.pipeline.leftovers import Leftovers, collection_of, face_id, image_id, review_key, source_of
from abeyance.pipeline.outbox import (
    Decide,
    Outbox,
    RecordedEvent,
    halted,
    registration_changed,
    rejected,
    search_of,
)
from abeyance.pipeline.ports import ObjectGone, ObjectStore
from abeyance.pipeline.postpone import Postpone
from abeyance.pipeline.upload_records import UploadState
from abeyance.vision.similarity import SimilarityScale

log = logging.getLogger("abeyance")

#: For the searched faces in one event: EventBridge takes 256 KB, DynamoDB's items with all stages 400 KB.
MAX_SEARCHED_BYTES = 180_000

_rejected = functools.partial(rejected, topology.RECOGNIZE.name)


class RecognitionJob(NamedTuple):
    """A permitted upload with its chips, (n, 112, 112, 3) uint8 RGB, and their templates, (n, d) float32."""

    detected: events.FacesDetected
    decision: Decision
    chips: np.ndarray
    templates: np.ndarray = np.empty((0, 0), np.float32)

    @property
    def upload(self) -> Upload:
        return self.detected.upload


class FoundCandidates(NamedTuple):
    """The candidates of each probe of a job, from ``threshold`` on, and the names of their faces by id."""

    job: RecognitionJob
    threshold: float
    candidates: list[list[Candidate]]
    names: dict[str, str]
    model: str
    scale: SimilarityScale


class Recognize:
    """Faces Detected becomes Faces Indexed, Matched or Analyzed, or Recognition Halted.

    Upload Withdrawn becomes Faces Deleted.

    Parameters
    ----------
    former
        Loads the models beside the deployed one, whose collections are answered too.
    threshold
        Lowest similarity (0–100) of a candidate, where neither uploader nor flag asks for another.
    max_candidates
        Most candidates of one probe.
    """

    def __init__(
        self,
        guard: Guard,
        objects: ObjectStore,
        outbox: Outbox,
        gallery: Gallery,
        searcher: Searcher,
        embedder: Callable[[], Embedder],
        scale: Callable[[], SimilarityScale],
        postpone: Postpone,
        former: Callable[[], FormerModels] = dict,
        *,
        chips_bucket: str,
        threshold: float,
        max_candidates: int,
    ) -> None:
        self._guard = guard
        self._objects = objects
        self._outbox = outbox
        self._gallery = gallery
        self._searcher = searcher
        self._embedder = embedder
        self._scale = scale
        self._postpone = postpone
        self._former = former
        self._chips_bucket = chips_bucket
        self._leftovers = Leftovers(gallery, objects, outbox, chips_bucket)
        self._threshold = threshold
        self._max_candidates = max_candidates

    def __call__(self, batch: Batch[Message]) -> None:
        """Record an outcome for every message.

        The records are read once for the batch, the embedder is called once, and each collection is searched once.
        """
        guard = self._guard.for_batch()
        states = self._outbox.read_states(batch.map(Message.event), lambda event: event.upload, guard)
        replacing = {event.upload.identity for event, state in states if state.replaced}
        prepared = states.map(lambda pair: self._prepare(*pair, guard.decide))
        outcomes: Batch[Event | RecordedEvent] = prepared.select(Event, RecordedEvent)
        embedded = self._embed(prepared.select(RecognitionJob))
        indexes = embedded.filter(lambda job: job.upload.action == "index")
        for group in indexes.group_by(lambda job: (job.upload.tenant, job.upload.collection)):
            outcomes += self._index(group, replacing)
        searches = embedded.filter(lambda job: job.upload.action == "search")
        for group in searches.group_by(lambda job: (job.upload.tenant, job.upload.collection)):
            outcomes += self._search(group)
        self._outbox.record_outcomes(outcomes).map(lambda ended: self._leftovers.clean_up(ended, replacing))

    def _prepare(
        self, event: Event, state: UploadState, decide: Decide
    ) -> Event | RecordedEvent | RecognitionJob | None:
        """Return the outcome to record for the upload, or the job that leads to it; None if there is none."""
        verified = self._outbox.verified(event, state)
        if verified is None:
            return None
        event = verified
        if isinstance(event, events.UploadHalted | events.UploadRejected | events.RecognitionHalted):
            self._leftovers.delete_replaced(event)
            return None
        # One version of many that was deleted for good never was the latest event on its key.
        is_single_version = isinstance(event, events.UploadWithdrawn) and event.upload.is_version_only
        recorded = None if is_single_version else self._outbox.already_recorded(state)
        if recorded or not (is_single_version or state.latest):
            if isinstance(event, events.FacesDetected) and not state.latest:
                # A deletion may have come, and deleted the chips, before they were there.
                self._objects.delete(self._chips_bucket, event.chips)
                if not recorded:
                    self._leftovers.delete_indexed(event.upload)
            return recorded
        if isinstance(event, events.UploadWithdrawn):
            return events.FacesDeleted.of(event.upload, count=self._leftovers.delete_withdrawn(event))
        if isinstance(event, events.FacesDetected):
            return self._decide(event, decide)
        raise msgspec.ValidationError(f"Unexpected detail-type {event.detail_type!r}")

    def _decide(self, detected: events.FacesDetected, decide: Decide) -> Event | RecognitionJob:
        upload = detected.upload
        if not self._outbox.registered.holds(upload):
            self._leftovers.delete_unrecorded(upload)
            return registration_changed(topology.RECOGNIZE.name, upload)
        permitted = detected.permitted
        search = search_of(upload, permitted.authorization, permitted.search)
        decision = decide(upload.tenant, upload.action, permitted.purpose, search)
        if not decision.permitted:
            self._leftovers.delete_unrecorded(upload)
            return halted(upload, decision, detected.video)
        if upload.action == "analyze":
            return events.FacesAnalyzed.of(upload, decision=decision, faces=detected.faces)
        try:
            chips = self._objects.get(self._chips_bucket, detected.chips)
        except ObjectGone:
            self._leftovers.delete_unrecorded(upload)
            return _rejected(
                upload, "CHIPS_EXPIRED", "The detected faces are no longer kept. Upload the photo again."
            )
        return RecognitionJob(detected, decision, np.load(io.BytesIO(chips), allow_pickle=False))

    def _embed(self, jobs: Batch[RecognitionJob]) -> Batch[RecognitionJob]:
        """Return the jobs with templates, from one call of the embedder; postpone them while it is unavailable."""
        try:
            return jobs.map_together(self._with_templates, raises=EmbedderUnavailable)
        except EmbedderUnavailable as error:
            log.warning("embedder is unavailable", extra={"messages": len(jobs), "because": str(error)})
            self._postpone(jobs.messages, error.retry_after)
            return jobs.filter(lambda _: False)

    def _with_templates(self, jobs: Sequence[RecognitionJob]) -> list[RecognitionJob]:
        chips = [job.chips for job in jobs]
        if not any(map(len, chips)):
            return list(jobs)
        templates = self._embedder().embed(np.concatenate(chips))
        own = np.split(templates, np.cumsum([len(rows) for rows in chips])[:-1])
        return [
            job._replace(templates=_averaged(rows, job.detected.views or ()))
            for job, rows in zip(jobs, own, strict=True)
        ]

    def _index(self, jobs: Batch[RecognitionJob], replacing: Set[str]) -> Batch[Event]:
        """Return the outcomes of jobs in one collection; photos that are new to it are indexed together."""
        new = jobs.filter(lambda job: job.upload.identity not in replacing)
        replaced = jobs.filter(lambda job: job.upload.identity in replacing)
        pairs = new.map_together(self._index_new) + replaced.map(lambda job: (job, None))
        return pairs.map(lambda pair: self._indexed(*pair))

    def _index_new(self, jobs: Sequence[RecognitionJob]) -> list[tuple[RecognitionJob, list[Face] | None]]:
        """Return each job with its faces in the gallery; without, where it has to be indexed by itself."""
        photos = [(self._new_faces(job), source_of(job.upload)) for job in jobs]
        try:
            indexed = self._gallery.index_new(collection_of(jobs[0].upload), photos)
        except GalleryBusy:
            raise
        except Exception:  # noqa: BLE001 - one photo's trouble is not the others'; by itself, each meets its own
            return [(job, None) for job in jobs]
        return list(zip(jobs, indexed, strict=True))

    def _new_faces(self, job: RecognitionJob, model: str = "") -> list[NewFace]:
        upload = job.upload
        return [
            NewFace(
                id=face_id(upload, face.chip),
                model=model or self._embedder().identity,
                template=job.templates[face.chip],
                image_id=image_id(upload),
                external_image_id=job.detected.permitted.external_image_id,
                box=(face.box.left, face.box.top, face.box.width, face.box.height),
                confidence=face.confidence / 100,
                quality=msgspec.to_builtins(face.quality),
            )
            for face in _kept(job)
        ]

    def _indexed(self, job: RecognitionJob, indexed: Sequence[Face] | None, model: str = "") -> Event:
        """Return the outcome of a job with its faces in the gallery; index them where that is still to be done."""
        detected, upload = job.detected, job.upload
        ref, model = collection_of(upload), model or self._embedder().identity
        if indexed is None:
            try:
                indexed = self._index_or_create(ref, self._new_faces(job, model), source_of(upload))
            except Superseded:
                return _rejected(upload, "SUPERSEDED", "The photo was replaced or deleted meanwhile.")
            except ModelMismatch:
                former = self._former_of(self._gallery.describe(ref).model)
                if former is None:
                    return _model_mismatch(upload)
                return self._indexed(_embedded_by(former, job), None, former.identity)
        by_id = {face_id(upload, face.chip): face for face in _kept(job)}
        return events.FacesIndexed.of(
            upload,
            decision=job.decision,
            model=model,
            faces=tuple(
                IndexedFace(face_id=face.id, external_image_id=face.external_image_id, face=by_id[face.id])
                for face in indexed
            ),
            unindexed=_set_aside(detected),
            video=detected.video,
        )

    def _index_or_create(
        self, ref: CollectionRef, new: Sequence[NewFace], source: SourceObject
    ) -> list[Face]:
        """Index faces; an upload creates its collection, as a copy into a missing folder would.

        If the collection is deleted at this moment, the next delivery creates it again.
        """
        try:
            return self._gallery.index(ref, new, source=source)
        except CollectionNotFound:
            embedder = self._embedder()
            with contextlib.suppress(CollectionExists):
                self._gallery.create_collection(ref, model=embedder.identity, dimension=embedder.dimension)
        return self._gallery.index(ref, new, source=source)

    def _search(self, jobs: Batch[RecognitionJob]) -> Batch[Event]:
        """Return the outcomes of jobs in one collection, from one search."""
        try:
            found = jobs.map_together(self._find_candidates, raises=(CollectionNotFound, ModelMismatch))
        except CollectionNotFound:
            why = "There is no such collection. Index a face into it first."
            return jobs.map(lambda job: _rejected(job.upload, "COLLECTION_NOT_FOUND", why))
        except ModelMismatch:
            return jobs.map(lambda job: _model_mismatch(job.upload))
        return found.map(self._matched)

    def _find_candidates(self, jobs: Sequence[RecognitionJob]) -> list[FoundCandidates]:
        collection = self._searcher.refresh(collection_of(jobs[0].upload))
        former = self._former_of(collection.model)
        scale = former.scale() if former else self._scale()
        if former:
            jobs = [_embedded_by(former, job) for job in jobs]
        thresholds = [self._threshold_of(job) for job in jobs]
        cosines = [scale.cosine(threshold) if threshold > 0 else -1.0 for threshold in thresholds]
        probes = np.concatenate([job.templates.reshape(-1, collection.dimension) for job in jobs])
        candidates = iter(
            self._searcher.search(
                collection,
                probes,
                limit=self._max_candidates,
                min_cosine=min(cosines),
                model=former.identity if former else self._embedder().identity,
            )
        )
        rows = [list(itertools.islice(candidates, len(job.templates))) for job in jobs]
        # The search used the lowest threshold of all jobs.
        own = [
            [[one for one in row if one.cosine >= cosine] for row in found]
            for found, cosine in zip(rows, cosines, strict=True)
        ]
        ids = {candidate.face_id for found in own for row in found for candidate in row}
        named = self._gallery.get_faces(collection, list(ids)) if ids else []
        names = {face.id: face.external_image_id for face in named}
        return [
            FoundCandidates(*parts, names, collection.model, scale)
            for parts in zip(jobs, thresholds, own, strict=True)
        ]

    def _former_of(self, model: str) -> FormerEmbedding | None:
        """Return what makes the templates of a model other than the deployed one; None if nothing here does."""
        return None if model == self._embedder().identity else self._former().get(model)

    def _threshold_of(self, job: RecognitionJob) -> float:
        """Return the similarity that a candidate must reach."""
        asked = job.detected.permitted.face_match_threshold
        threshold = self._threshold if asked is None else asked
        return max(threshold, job.decision.min_similarity or 0.0)

    def _matched(self, found: FoundCandidates) -> Event:
        job, threshold, candidates, names, model, scale = found
        detected = job.detected
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
        event = events.FacesMatched.of(
            job.upload,
            decision=job.decision,
            model=model,
            threshold=threshold,
            faces=faces,
            unsearched=_set_aside(detected),
            left_out=_count_matches(searched) - _count_matches(faces),
            reviewers=job.decision.human_review if _count_matches(faces) else 0,
            video=detected.video,
        )
        return self._withhold(event) if event.reviewers else event

    def _withhold(self, event: events.FacesMatched) -> Event:
        """Put the candidates aside until people have reviewed them; return the event without them."""
        key = review_key(event.upload)
        self._objects.put(self._chips_bucket, key, msgspec.json.encode(event), "application/json")
        hidden = tuple(msgspec.structs.replace(face, matches=()) for face in event.faces)
        return msgspec.structs.replace(event, faces=hidden)


def _embedded_by(former: FormerEmbedding, job: RecognitionJob) -> RecognitionJob:
    """Return a job with the templates of another model."""
    return job._replace(templates=former.embedder().embed(job.chips)) if len(job.chips) else job


def _averaged(templates: np.ndarray, views: Sequence[int]) -> np.ndarray:
    """Return one template a face, (n, d) of unit length.

    ``templates`` are those of the faces and, behind them, of further views of the faces in ``views``.
    """
    if not views:
        return templates
    averaged = templates[: len(templates) - len(views)].copy()
    np.add.at(averaged, list(views), templates[len(averaged) :])
    averaged /= np.linalg.norm(averaged, axis=1, keepdims=True)
    return averaged


def _kept(job: RecognitionJob) -> list[DetectedFace]:
    return [face for face in job.detected.faces if face.chip >= 0]


def _set_aside(detected: events.FacesDetected) -> tuple[DetectedFace, ...]:
    return tuple(face for face in detected.faces if face.chip < 0)


def _model_mismatch(upload: Upload) -> Event:
    message = "The collection was made with another model. Re-embed it, or name its model."
    return _rejected(upload, "MODEL_MISMATCH", message)


def _count_matches(faces: Sequence[SearchedFace]) -> int:
    return sum(len(face.matches) for face in faces)


def _fitting(faces: tuple[SearchedFace, ...]) -> tuple[SearchedFace, ...]:
    """Return the faces with as many of their nearest candidates, the same number for each, as an event can carry."""
    most = max((len(face.matches) for face in faces), default=0)
    while len(msgspec.json.encode(faces)) > MAX_SEARCHED_BYTES and most:
        most -= 1
        faces = tuple(msgspec.structs.replace(face, matches=face.matches[:most]) for face in faces)
    return faces
