"""Detection: the only stage that decodes a photo. A bad photo ends here as Upload Rejected, with a reason."""

from __future__ import annotations

import functools
import io
import logging
from typing import NamedTuple

import numpy as np

from abeyance.aws.objects import ObjectUnreadable
from abeyance.embedding import npy
from abeyance.moratorium.guard import Guard
from abeyance.pipeline import events, topology
from abeyance.pipeline.batch import Batch, Message
from abeyance.pipeline.events import Event
from abeyance.pipeline.faces import detected_faces
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
from abeyance.pipeline.upload_records import UploadState
from abeyance.pipeline.uploads import chips_key
from abeyance.vision.analysis import ATTRIBUTE_ROLES, FaceAnalyzer
from abeyance.vision.errors import ImageRejected, RejectReason
from abeyance.vision.quality import QualityFilter

log = logging.getLogger("abeyance")

_rejected = functools.partial(rejected, topology.DETECT.name)


class _DetectionJob(NamedTuple):
    permitted: events.UploadPermitted
    is_last_delivery: bool


class Detect:
    """Upload Permitted becomes Faces Detected, with the aligned chips in the chips bucket, or Upload Rejected."""

    def __init__(
        self,
        guard: Guard,
        objects: ObjectStore,
        outbox: Outbox,
        analyzer: FaceAnalyzer,
        chips_bucket: str,
    ) -> None:
        self._guard = guard
        self._objects = objects
        self._outbox = outbox
        self._analyzer = analyzer
        self._chips_bucket = chips_bucket

    def __call__(self, batch: Batch[Message]) -> None:
        """Record an outcome for every message."""
        guard = self._guard.for_batch()
        jobs = batch.map(
            lambda message: _DetectionJob(
                message.event_of(events.UploadPermitted), message.receives >= topology.DETECT.max_receives
            )
        )
        states = self._outbox.read_states(jobs, lambda job: job.permitted.upload, guard)
        outcomes = states.map(lambda pair: self._outcome(*pair, guard.decide))
        self._outbox.record_outcomes(outcomes.select(Event, RecordedEvent))

    def _outcome(
        self, job: _DetectionJob, state: UploadState, decide: Decide
    ) -> Event | RecordedEvent | None:
        """Return the outcome to record for the upload; None if a later event has its key, or nothing permitted it."""
        permitted = self._outbox.verified(job.permitted, state)
        if permitted is None or permitted.media != events.PHOTO:
            return None
        job, upload = job._replace(permitted=permitted), permitted.upload
        if not state.latest:
            # A delivery that was cut off may have written chips after the later event's stages had deleted them.
            self._objects.delete(self._chips_bucket, chips_key(upload))
        if not state.latest or self._outbox.already_recorded(state):
            return self._outbox.already_recorded(state)
        if topology.LAPSE.task in state.recorded:
            # Its authorisation never came, and all that was made of it is deleted, whatever the flags say by now.
            return None
        if not self._outbox.registered.holds(upload):
            return registration_changed(topology.DETECT.name, upload)
        search = search_of(upload, permitted.authorization)
        decision = decide(upload.tenant, upload.action, permitted.purpose, search)
        if not decision.permitted:
            return halted(upload, decision)
        try:
            return self._detect(job)
        except ImageRejected as error:
            return _rejected(upload, str(error.reason), str(error))
        except ObjectUnreadable as error:
            if error.may_pass and not job.is_last_delivery:
                raise
            return _rejected(upload, error.reason, str(error))
        except ObjectGone:
            log.info(
                "object is gone, or was replaced; its next event will come", extra={"upload": upload.identity}
            )
            return None

    def _detect(self, job: _DetectionJob) -> Event:
        upload = job.permitted.upload
        max_bytes = self._analyzer.limits.max_bytes
        if upload.size > max_bytes:
            raise ImageRejected(
                RejectReason.TOO_MANY_BYTES,
                f"The image has {upload.size} bytes, at most {max_bytes} are accepted; make it smaller.",
            )
        body = self._objects.read(upload)
        roles = ATTRIBUTE_ROLES if upload.action == "analyze" else ()
        if job.is_last_delivery:
            # S3 answers and the models open, so this photo ended every attempt, by an exception or with the process.
            self._analyzer.open_models(roles)
            return _rejected(
                upload, "UNPROCESSABLE", "The image could not be processed. Save it anew and upload that."
            )
        quality_filter = QualityFilter.AUTO if upload.action == "index" else QualityFilter.NONE
        photo = self._analyzer.analyze(body, quality_filter=quality_filter, attributes=roles)
        if not photo.faces and upload.action != "analyze":
            return _rejected(upload, "NO_FACE", "No face was found in the image.")
        faces, rows = detected_faces(photo.faces)
        chips = io.BytesIO()
        np.save(chips, photo.chips[rows], allow_pickle=False)
        self._objects.put(self._chips_bucket, chips_key(upload), chips.getvalue(), npy.MEDIA_TYPE)
        return events.FacesDetected.of(
            upload,
            permitted=job.permitted,
            width=photo.width,
            height=photo.height,
            chips=chips_key(upload),
            faces=faces,
        )
