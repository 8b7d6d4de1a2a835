"""The jobs of the Rekognition API on stored video.

A job takes the way of an upload: its upload has the key ``<tenant>/<action>/<collection>/<job id>`` in a bucket that
does not exist, :data:`abeyance.pipeline.topology.JOBS`, so that tenant, action and collection follow from the key as
they always do. The object that is read is the job's ``source``.

==========================  ========  ==========================================================
``pk``                      ``sk``    holds
==========================  ========  ==========================================================
``job#<job id>``            ``job``   ``body``, the :class:`VideoJob`
``token#<tenant>#<token>``  ``job``   ``job``, the id; ``request``, the digest of what was asked
==========================  ========  ==========================================================
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from abeyance.aws.table import PARTITION, SORT, TTL, Conflict, Key, Put, Table
from abeyance.pipeline import events, topology
from abeyance.pipeline.events import Event, Upload, VideoSource

#: Days for which a job can be asked for.
KEEP_DAYS: Final = 7
_SORT: Final = "job"
#: Stages whose records end a job, the last one first.
_BACKWARDS: Final = (topology.REVIEW.name, topology.RECOGNIZE.name, topology.FRAMES.name)
_WITH_VIDEO: Final = (
    events.FacesAnalyzed,
    events.FacesMatched,
    events.FacesDetected,
    events.RecognitionHalted,
)


class JobTokenReused(Exception):
    """A client request token that came before with another request."""

    def __init__(self) -> None:
        super().__init__("The client request token was used for another request; use a new one")


class JobState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a job.

    Attributes
    ----------
    status
        ``IN_PROGRESS``, ``SUCCEEDED`` or ``FAILED``, as in Rekognition.
    message
        Why it failed; a job that a moratorium halted on its way has a result up to there.
    opened
        The video, once it was opened.
    result
        The event with the people; None if there is none.
    """

    status: str
    message: str = ""
    opened: events.VideoOpened | None = None
    result: events.FacesAnalyzed | events.FacesMatched | events.MatchesReleased | None = None


class JobProgress(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a job, for people.

    Attributes
    ----------
    status, message
        As in :class:`JobState`.
    segments, examined
        Number of segments, 0 until the video was opened, and of those that have ended.
    people
        Number of people in the result; None without one.
    """

    id: str
    status: str
    message: str
    segments: int
    examined: int
    people: int | None


class VideoJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job on a stored video, as it was asked for."""

    id: str
    #: The operation that started it, such as ``StartFaceSearch``.
    operation: str
    tenant: str
    #: ``analyze`` or ``search``.
    action: str
    #: Of the search; a dash for a job without one.
    collection: str
    source: VideoSource
    purpose: str
    #: Epoch seconds.
    started: float
    #: Number of the authorisation that the caller names, and the id under which the request used one.
    authorization: str = ""
    search: str = ""
    #: Lowest similarity that the caller asks for, 0 to 100; None for the deployment's.
    face_match_threshold: float | None = None
    #: Whether the attributes of faces are estimated.
    attributes: bool = False
    tag: str = ""
    #: ARN of the SNS topic that is told when the job ends; empty for none.
    topic: str = ""

    @property
    def upload(self) -> Upload:
        """The upload as which the job passes the stages."""
        return Upload(
            bucket=topology.JOBS,
            key=f"{self.tenant}/{self.action}/{self.collection}/{self.id}",
            version=self.id,
            sequencer="0",
            tenant=self.tenant,
            action=self.action,
            collection=self.collection,
            etag=self.id,
            size=self.source.size,
        )


class VideoJobs:
    """The table of jobs; ``now`` returns epoch seconds."""

    def __init__(self, table: Table, now: Callable[[], float]) -> None:
        self._table = table
        self._now = now

    def create(self, job: VideoJob, token: str = "") -> VideoJob:
        """Keep a new job, and return it; return the first one where its ``token`` came before with the same request.

        Raises
        ------
        JobTokenReused
            The token came with another request.
        """
        expires = int(self._now() + KEEP_DAYS * 86400)
        item = {**_key(f"job#{job.id}"), "body": msgspec.json.encode(job).decode(), TTL: expires}
        if not token:
            self._table.transact([Put(item, absent=True)])
            return job
        digest = _digest(job)
        entry = {**_key(f"token#{job.tenant}#{token}"), "job": job.id, "request": digest, TTL: expires}
        try:
            self._table.transact([Put(entry, absent=True), Put(item, absent=True)])
        except Conflict as conflict:
            if not any(conflict.failed):
                raise
        else:
            return job
        known = self._table.get((f"token#{job.tenant}#{token}", _SORT))
        first = self.get(known["job"]) if known and known["request"] == digest else None
        if first is None:
            raise JobTokenReused
        return first

    def get(self, job_id: str) -> VideoJob | None:
        """Return a job, or None."""
        key: Key = (f"job#{job_id}", _SORT)
        item = self._table.get(key)
        return msgspec.json.decode(item["body"], type=VideoJob) if item else None


def job_state(recorded: Mapping[str, Event], opened: events.VideoOpened | None) -> JobState:
    """Return how far a job is, from what each stage ``recorded`` for it."""
    video = next(
        (event.video for event in recorded.values() if isinstance(event, _WITH_VIDEO) and event.video), None
    )
    last = next((recorded[stage] for stage in _BACKWARDS if stage in recorded), None)
    if isinstance(last, events.FacesMatched) and last.reviewers:
        last = None
    if last is None or isinstance(last, events.FacesDetected):
        return JobState(status="IN_PROGRESS", opened=opened)
    if isinstance(last, events.UploadRejected):
        return JobState(status="FAILED", message=f"{last.reason}: {last.message}", opened=opened)
    halt = video.halt if video else msgspec.UNSET
    if isinstance(last, events.RecognitionHalted):
        halt = halt or last.decision
    message = ""
    if halt:
        message = f"Halted after {video.examined_ms if video else 0} ms of the video: {halt.reason}"
    found = recorded.get(topology.RECOGNIZE.name) if isinstance(last, events.MatchesWithheld) else last
    return JobState(
        status="FAILED" if halt else "SUCCEEDED",
        message=message,
        opened=opened,
        result=found
        if isinstance(found, events.FacesAnalyzed | events.FacesMatched | events.MatchesReleased)
        else None,
    )


def new_id() -> str:
    """Return the id of a new job: 64 hexadecimal digits, as Rekognition's."""
    return secrets.token_hex(32)


def _key(partition: str) -> dict[str, str]:
    return {PARTITION: partition, SORT: _SORT}


def _digest(job: VideoJob) -> str:
    """Return the digest of what was asked for, whenever that was."""
    asked = msgspec.structs.replace(job, id="", started=0.0, search="")
    return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()
