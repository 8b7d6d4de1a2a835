"""Stored video: a video is opened and split, then each segment is decided for, decoded and examined by itself.

Opening sends a message for each segment to the stage's own queue. The last segment to end joins them: the people of all
segments before the first denied one become the outcome, and everything behind that one is discarded. For ``index`` and
``search`` the outcome is Faces Detected, with one averaged template a person, and :mod:`~abeyance.pipeline.recognize`
goes on as for a photo. For ``analyze`` no template is made, and the outcome is Faces Analyzed.

Every step finds its own record when its message is delivered again, and the join is made from records alone, so that
whoever dies, the next delivery goes on.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from abeyance.aws.objects import ObjectUnreadable
from abeyance.embedding import npy
from abeyance.embedding.port import Embedder
from abeyance.moratorium.decide import Decision
from abeyance.moratorium.guard import Guard
from abeyance.pipeline import events, topology
from abeyance.pipeline.batch import Batch, Message
from abeyance.pipeline.events import (
    Event,
    SegmentExamined,
    Upload,
    UploadPermitted,
    VideoExamined,
    VideoOpened,
)
from abeyance.pipeline.findings import Findings
from abeyance.pipeline.jobs import VideoJobs
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
from abeyance.pipeline.upload_records import UploadRecords, UploadState
from abeyance.pipeline.uploads import chips_key, people_key
from abeyance.pipeline.video_queue import REQUESTED, SEGMENT, VideoPointer, VideoQueue, pointer_of
from abeyance.vision.analysis import ATTRIBUTE_ROLES, FaceAnalyzer
from abeyance.vision.errors import VideoRejected
from abeyance.vision.quality import QualityFilter
from abeyance.vision.similarity import SimilarityScale
from abeyance.vision.video.examine import examine
from abeyance.vision.video.tracks import LinkThresholds, Track

log = logging.getLogger("abeyance")

_rejected = functools.partial(rejected, topology.FRAMES.name)

#: Outcomes of a segment.
EXAMINED, HALTED, UNREADABLE = "EXAMINED", "HALTED", "UNREADABLE"
#: Similarities of two templates of one person: in the same place a moment later, and anywhere. Between two tracks there
#: are as many comparisons as pairs of people in the video, and a mixture is worse than one person twice.
NEAR, FAR = 99.0, 99.25
#: What the embedder is tried with before the stage gives up on a segment.
_NO_FACE = np.zeros((1, 112, 112, 3), np.uint8)


class _VideoTask(NamedTuple):
    """A message: the gate's event, or a pointer to a job or to a segment."""

    upload: Upload
    permitted: UploadPermitted | None
    pointer: VideoPointer | None
    is_last_delivery: bool


class Frames:
    """Upload Permitted of a video becomes Faces Detected, Faces Analyzed, Upload Rejected or Recognition Halted.

    Parameters
    ----------
    records
        Takes the claim of a job, which has no event of S3.
    queue
        The stage's own.
    """

    def __init__(
        self,
        guard: Guard,
        objects: ObjectStore,
        outbox: Outbox,
        records: UploadRecords,
        jobs: VideoJobs,
        queue: VideoQueue,
        analyzer: FaceAnalyzer,
        embedder: Callable[[], Embedder],
        scale: Callable[[], SimilarityScale],
        chips_bucket: str,
    ) -> None:
        self._guard = guard
        self._objects = objects
        self._outbox = outbox
        self._records = records
        self._jobs = jobs
        self._queue = queue
        self._analyzer = analyzer
        self._embedder = embedder
        self._scale = scale
        self._chips_bucket = chips_bucket
        self._findings = Findings(objects, chips_bucket)

    def __call__(self, batch: Batch[Message]) -> None:
        """Record an outcome for every message that ends an upload; the others leave a segment's record."""
        guard = self._guard.for_batch()
        tasks = batch.map(_task)
        states = self._outbox.read_states(tasks, lambda task: task.upload, guard)
        outcomes = states.map(lambda pair: (self._outcome(*pair, guard.decide), pair[1]))
        outcomes.map(lambda pair: self._end(*pair))

    def _end(self, outcome: Event | RecordedEvent | None, state: UploadState) -> None:
        """Record, emit and publish an outcome, then delete what is needed no longer."""
        if outcome is None:
            return
        if isinstance(outcome, RecordedEvent):
            event = outcome.event
            self._outbox.announce(event)
        else:
            event = self._outbox.record_outcome(outcome)
        self._findings.delete_segments(event.upload)
        if isinstance(event, events.FacesAnalyzed) and state.replaced:
            self._objects.delete_all(self._chips_bucket, event.upload.folder, keep={people_key(event.upload)})

    def _outcome(self, task: _VideoTask, state: UploadState, decide: Decide) -> Event | RecordedEvent | None:
        """Return the outcome to record for the upload; None if there is none yet, or a later event has its key."""
        try:
            if task.pointer is None or task.pointer.kind == REQUESTED:
                return self._begin(task, state, decide)
            return self._segment(task, state, decide)
        except VideoRejected as error:
            return _rejected(task.upload, str(error.reason), str(error))
        except ObjectUnreadable as error:
            if error.may_pass and not task.is_last_delivery:
                raise
            return _rejected(task.upload, error.reason, str(error))
        except ObjectGone:
            if task.upload.bucket == topology.JOBS:
                return _rejected(
                    task.upload, "VIDEO_GONE", "The video is gone or was replaced. Start a new job."
                )
            log.info("video is gone, or was replaced; its next event will come")
            return None

    def _begin(self, task: _VideoTask, state: UploadState, decide: Decide) -> Event | RecordedEvent | None:
        """Decide, open the video, and send its segments."""
        source: events.VideoSource | msgspec.UnsetType = msgspec.UNSET
        if task.permitted is not None:
            permitted = self._outbox.verified(task.permitted, state)
            if permitted is None or permitted.media != events.VIDEO:
                return None
            is_latest = state.latest
        else:
            job = self._jobs.get(task.upload.version)
            if job is None or job.upload != task.upload:
                raise msgspec.ValidationError("a pointer to a job that is not there")
            is_latest, source = self._records.claim(job.upload), job.source
            search = search_of(job.upload, job.authorization, job.search)
            requested = events.VideoRequested.of(
                job.upload,
                decision=decide(job.tenant, job.action, job.purpose, search),
                purpose=job.purpose,
            )
            self._outbox.record_outcome(requested)
            permitted = UploadPermitted.of(
                job.upload,
                decision=requested.decision,
                purpose=job.purpose,
                face_match_threshold=job.face_match_threshold,
                authorization=job.authorization,
                search=job.search,
                media=events.VIDEO,
            )
        upload = permitted.upload
        if recorded := self._outbox.already_recorded(state):
            return recorded
        if not is_latest:
            self._discard(upload)
            return None
        if not self._outbox.registered.holds(upload):
            return registration_changed(topology.FRAMES.name, upload)
        opened = self._outbox.recorded_parts(upload, ["video"]).get("video")
        if not isinstance(opened, VideoOpened):
            decision = _decision(decide, permitted)
            if not decision.permitted:
                return halted(upload, decision)
            if task.is_last_delivery:
                self._objects.read_range(_object_of(upload, source), 0, 0)
                return _unprocessable(upload)
            opened = self._open(permitted, decision, source)
        opened = self._outbox.record_outcome(opened)
        assert isinstance(opened, VideoOpened)
        self._queue.send(upload, range(len(opened.segments)))
        return None

    def _open(
        self,
        permitted: UploadPermitted,
        decision: Decision,
        source: events.VideoSource | msgspec.UnsetType,
    ) -> VideoOpened:
        from abeyance.vision.video.decode import open_video

        read, size = self._reader(permitted.upload, source)
        with open_video(read, size) as video:
            info = video.info
            segments = tuple(video.segments())
        return VideoOpened.of(
            permitted.upload,
            # The names of people stay in the gate's record, where an erasure finds them.
            permitted=msgspec.structs.replace(permitted, external_image_id=""),
            decision=decision,
            video=events.Video(
                duration_ms=info.duration_ms,
                width=info.width,
                height=info.height,
                frame_rate=info.frame_rate,
                codec=info.codec,
                container=info.container,
            ),
            segments=segments,
            source=source,
        )

    def _segment(self, task: _VideoTask, state: UploadState, decide: Decide) -> Event | RecordedEvent | None:
        """Decide for a segment, examine it, and join the segments if it was the last."""
        assert task.pointer is not None
        upload, number = task.upload, task.pointer.segment
        parts = self._outbox.recorded_parts(upload, ["video", number])
        opened, own = parts.get("video"), parts.get(number)
        if (
            not isinstance(opened, VideoOpened)
            or opened.upload != upload
            or number >= len(opened.segments)
            or number < 0
        ):
            raise msgspec.ValidationError("a pointer to a segment that is not there")
        if recorded := self._outbox.already_recorded(state):
            # The delivery that recorded the outcome may have died before it emitted it.
            return recorded if own else None
        if not state.latest:
            self._discard(upload)
            return None
        if not self._outbox.registered.holds(upload):
            return registration_changed(topology.FRAMES.name, upload)
        if own is None:
            examined = self._examine(opened, number, decide, is_last_delivery=task.is_last_delivery)
            self._outbox.record_outcome(examined)
        else:
            self._outbox.announce(own)
        return self._join(opened, state)

    def _examine(
        self, opened: VideoOpened, number: int, decide: Decide, *, is_last_delivery: bool
    ) -> SegmentExamined:
        """Return the record of a segment, with its findings in the chips bucket if it is permitted to its end."""
        upload, permitted = opened.upload, opened.permitted
        start_ms, end_ms = opened.segments[number]
        of = functools.partial(SegmentExamined.of_segment, upload, number, start_ms=start_ms, end_ms=end_ms)
        decision = _decision(decide, permitted)
        if not decision.permitted:
            return of(decision=decision, outcome=HALTED)
        if is_last_delivery:
            self._try_services(opened)
            return of(decision=decision, outcome=UNREADABLE)
        tracks = self._tracks(opened, number)
        decision = _decision(decide, permitted)
        if not decision.permitted:
            return of(decision=decision, outcome=HALTED)
        self._findings.keep(upload, number, tracks)
        made = sum(len(track.faces) for track in tracks) if upload.action != "analyze" else 0
        return of(decision=decision, outcome=EXAMINED, tracks=len(tracks), embedded=made)

    def _tracks(self, opened: VideoOpened, number: int) -> list[Track]:
        from abeyance.vision.video.decode import open_video

        upload, scale = opened.upload, self._scale()
        start_ms, end_ms = opened.segments[number]
        read, size = self._reader(upload, opened.source)
        with open_video(read, size) as video:
            return examine(
                video.frames(start_ms, end_ms, is_last=number == len(opened.segments) - 1),
                self._analyzer,
                self._embedder().embed if upload.action != "analyze" else None,
                LinkThresholds(near=scale.cosine(NEAR), far=scale.cosine(FAR)),
                quality_filter=QualityFilter.AUTO if upload.action == "index" else QualityFilter.NONE,
                attributes=ATTRIBUTE_ROLES if self._wants_attributes(opened) else (),
            )

    def _wants_attributes(self, opened: VideoOpened) -> bool:
        if opened.upload.action != "analyze":
            return False
        if opened.upload.bucket != topology.JOBS:
            return True
        job = self._jobs.get(opened.upload.version)
        return job is not None and job.attributes

    def _try_services(self, opened: VideoOpened) -> None:
        """Raise what ends every segment, so that a missing model or S3 is never taken for a bad video."""
        self._objects.read_range(_object_of(opened.upload, opened.source), 0, 0)
        self._analyzer.open_models(ATTRIBUTE_ROLES if self._wants_attributes(opened) else ())
        if opened.upload.action != "analyze":
            self._embedder().embed(_NO_FACE)

    def _join(self, opened: VideoOpened, state: UploadState) -> Event | RecordedEvent | None:
        """Return the outcome of the video; None while a segment before the first denied one is missing."""
        upload = opened.upload
        parts = self._outbox.recorded_parts(upload, range(len(opened.segments)))
        segments = [parts.get(number) for number in range(len(opened.segments))]
        ended = next(
            (
                n
                for n, one in enumerate(segments)
                if isinstance(one, SegmentExamined) and one.outcome == HALTED
            ),
            len(segments),
        )
        before = [one for one in segments[:ended] if isinstance(one, SegmentExamined)]
        if len(before) < ended:
            return None
        stop = segments[ended] if ended < len(segments) else None
        read = [one for one in before if one.outcome == EXAMINED]
        summary = VideoExamined(
            video=opened.video,
            examined_ms=before[-1].end_ms if before else 0,
            unreadable_ms=sum(one.end_ms - one.start_ms for one in before if one.outcome == UNREADABLE),
            halt=stop.decision if isinstance(stop, SegmentExamined) else msgspec.UNSET,
        )
        if isinstance(stop, SegmentExamined) and not read:
            return halted(upload, stop.decision, summary)
        if not read:
            return _unprocessable(upload)
        try:
            return self._people(opened, state, read, summary)
        except ObjectGone:
            # Another delivery may have joined the segments, and deleted their findings, at this moment.
            recorded = self._outbox.recorded_event(upload)
            if recorded is None:
                raise RuntimeError("the findings of a segment are gone") from None
            return RecordedEvent(recorded, is_new=False)

    def _people(
        self, opened: VideoOpened, state: UploadState, read: list[SegmentExamined], summary: VideoExamined
    ) -> Event:
        upload = opened.upload
        people = self._findings.people(upload, [one.segment for one in read], self._scale().cosine(FAR))
        summary = msgspec.structs.replace(summary, people_left_out=people.left_out)
        if upload.bucket == topology.JOBS:
            self._findings.write_samples(upload, people.samples)
        if upload.action == "analyze":
            return events.FacesAnalyzed.of(
                upload, decision=read[-1].decision, faces=people.faces, video=summary
            )
        if not people.faces:
            if summary.halt is not msgspec.UNSET:
                return halted(upload, summary.halt, summary)
            return _rejected(upload, "NO_FACE", "No face was found in the video.")
        self._objects.put(self._chips_bucket, chips_key(upload), npy.encode(people.chips), npy.MEDIA_TYPE)
        permitted = state.recorded.get(topology.GATE.name)
        return events.FacesDetected.of(
            upload,
            permitted=permitted if isinstance(permitted, UploadPermitted) else opened.permitted,
            width=opened.video.width,
            height=opened.video.height,
            chips=chips_key(upload),
            faces=people.faces,
            video=summary,
            views=people.views,
        )

    def _reader(
        self, upload: Upload, source: events.VideoSource | msgspec.UnsetType
    ) -> tuple[Callable[[int, int], bytes], int]:
        thing = _object_of(upload, source)
        return functools.partial(self._objects.read_range, thing), thing.size

    def _discard(self, upload: Upload) -> None:
        """Delete what this upload made after the later event's stages had deleted what they found."""
        self._objects.delete(self._chips_bucket, chips_key(upload))
        self._findings.delete_segments(upload)


def _task(message: Message) -> _VideoTask:
    is_last_delivery = message.receives >= topology.FRAMES.max_receives
    envelope: Mapping[str, Any] = message.envelope
    if envelope.get("detail-type") in (REQUESTED, SEGMENT):
        pointer = pointer_of(envelope)
        return _VideoTask(pointer.upload, None, pointer, is_last_delivery)
    permitted = message.event_of(UploadPermitted)
    return _VideoTask(permitted.upload, permitted, None, is_last_delivery)


def _decision(decide: Decide, permitted: UploadPermitted) -> Decision:
    upload = permitted.upload
    search = search_of(upload, permitted.authorization, permitted.search)
    return decide(upload.tenant, upload.action, permitted.purpose, search)


def _object_of(upload: Upload, source: events.VideoSource | msgspec.UnsetType) -> Upload:
    """Return the object to read: the upload itself, or the source of its job."""
    if source is msgspec.UNSET:
        return upload
    return Upload(
        bucket=source.bucket,
        key=source.key,
        version=source.version,
        etag=source.etag,
        sequencer="",
        size=source.size,
    )


def _unprocessable(upload: Upload) -> Event:
    return _rejected(
        upload, "UNPROCESSABLE", "The video could not be processed. Export it anew and upload that."
    )
