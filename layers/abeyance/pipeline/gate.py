"""The gate: decides on an upload's metadata alone. It imports no image library and never asks for an object's bytes.

In a bucket that a tenant registered, it may read the tags of an object and nothing else.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import NamedTuple

from abeyance.aws.objects import ObjectUnreadable
from abeyance.moratorium.authorization import LATE, is_number
from abeyance.moratorium.guard import Guard
from abeyance.moratorium.vocabulary import PURPOSE_FORM, UNSPECIFIED, is_purpose
from abeyance.pipeline import events, topology
from abeyance.pipeline.batch import Batch, Message
from abeyance.pipeline.events import Event, Upload
from abeyance.pipeline.outbox import Decide, Outbox, RecordedEvent, rejected, search_of
from abeyance.pipeline.ports import Heads, ObjectGone
from abeyance.pipeline.upload_records import UploadRecords, UploadState
from abeyance.pipeline.uploads import (
    KeyNotUnderstood,
    S3Notification,
    external_image_id,
    media_of,
    parse_key,
    parse_notification,
)

log = logging.getLogger("abeyance")

_rejected = functools.partial(rejected, topology.GATE.name)


class _GateJob(NamedTuple):
    notification: S3Notification
    #: Purpose that a rule names; empty for the uploader's.
    purpose: str
    is_last_delivery: bool


class Gate:
    """S3's ``Object Created`` becomes Upload Permitted, Halted or Rejected; ``Object Deleted``, Upload Withdrawn."""

    def __init__(
        self, guard: Guard, heads: Heads, records: UploadRecords, outbox: Outbox, uploads_bucket: str
    ) -> None:
        self._uploads_bucket = uploads_bucket
        self._guard = guard
        self._heads = heads
        self._records = records
        self._outbox = outbox

    def __call__(self, batch: Batch[Message]) -> None:
        """Record an outcome for every message.

        The records are read once for the batch. Each message is decided for at its own moment.
        """
        guard = self._guard.for_batch()
        jobs = batch.map(self._job).select(_GateJob)
        states = self._outbox.read_states(jobs, lambda job: job.notification.upload, guard)
        outcomes = states.map(lambda pair: self._outcome(*pair, guard.decide))
        self._outbox.record_outcomes(outcomes.select(Event, RecordedEvent))

    def _job(self, message: Message) -> _GateJob | None:
        """Return what is to be done for a message; None for an object that is no upload of anybody's."""
        notification, purpose = parse_notification(message.envelope), ""
        if notification.upload.bucket != self._uploads_bucket:
            assigned = self._outbox.registered.assign(notification)
            if assigned is None:
                return None
            notification, purpose = assigned
        return _GateJob(notification, purpose, message.receives >= topology.GATE.max_receives)

    def _outcome(self, job: _GateJob, state: UploadState, decide: Decide) -> Event | RecordedEvent | None:
        """Return the outcome to record for the upload; None if a later event has its key."""
        if state.recorded:
            # Its event may never have been emitted, even if a later stage has a record: by a forged event, perhaps.
            return self._outbox.already_recorded(state)
        upload, is_deletion = job.notification
        # One version of many that is deleted for good is not the latest event on the key.
        if not (is_deletion and upload.is_version_only) and not self._records.claim(upload):
            return None
        try:
            return _withdrawn(upload) if is_deletion else self._decide(upload, job, decide)
        except ObjectGone:
            log.info(
                "object is gone, or was replaced; its next event will come", extra={"upload": upload.identity}
            )
            return None

    def _decide(self, upload: Upload, job: _GateJob, decide: Decide) -> Event:
        try:
            upload = upload if upload.registration else parse_key(upload)
        except KeyNotUnderstood as error:
            return _rejected(upload, "KEY_NOT_UNDERSTOOD", str(error))
        try:
            metadata = self._heads.tags(upload) if upload.registration else self._heads.head(upload)
            purpose = job.purpose or _purpose(metadata)
            threshold = _face_match_threshold(metadata)
            authorization = _authorization(metadata)
        except ObjectUnreadable as error:
            if error.may_pass and not job.is_last_delivery:
                raise
            return _rejected(upload, error.reason, str(error))
        except ValueError as error:
            return _rejected(upload, "INVALID_METADATA", str(error))
        decision = decide(upload.tenant, upload.action, purpose, search_of(upload, authorization))
        if not decision.permitted:
            return events.UploadHalted.of(upload, decision=decision)
        return events.UploadPermitted.of(
            upload,
            decision=decision,
            purpose=purpose,
            authorization=authorization,
            external_image_id=external_image_id(upload, metadata.get("external-image-id", "")),
            face_match_threshold=threshold,
            media=media_of(upload.key),
        )


def _withdrawn(upload: Upload) -> Event | None:
    """Return the end of a deleted upload; None if its key was never understood, so that nothing came from it."""
    try:
        return events.UploadWithdrawn.of(upload if upload.registration else parse_key(upload))
    except KeyNotUnderstood:
        return None


def _purpose(metadata: Mapping[str, str]) -> str:
    """Return the purpose that the uploader gives; raises ``ValueError`` if it is badly written."""
    purpose = metadata.get("purpose", UNSPECIFIED)
    if not is_purpose(purpose):
        raise ValueError(f"The metadata purpose is badly written. {PURPOSE_FORM}")
    return purpose


def _authorization(metadata: Mapping[str, str]) -> str:
    """Return the number of the authorisation that the uploader names, LATE, or ""; raises ``ValueError``."""
    named = metadata.get("authorization", "")
    if named and named != LATE and not is_number(named):
        raise ValueError(f"The metadata authorization must be the number of one, or {LATE}.")
    return named


def _face_match_threshold(metadata: Mapping[str, str]) -> float | None:
    """Return the lowest similarity, 0 to 100, that the uploader asks for, or None; raises ``ValueError``."""
    given = metadata.get("face-match-threshold")
    if given is None:
        return None
    try:
        threshold = float(given)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 100:
        raise ValueError("The metadata face-match-threshold must be a number from 0 to 100.")
    return threshold
