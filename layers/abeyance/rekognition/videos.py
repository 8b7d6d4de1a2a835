"""Jobs on stored video, as the operations see them: where they are kept, started and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from abeyance.pipeline.events import Event, VideoOpened, VideoSource
from abeyance.pipeline.findings import Findings, FoundPerson
from abeyance.pipeline.jobs import JobState, VideoJob, VideoJobs, job_state
from abeyance.pipeline.ports import ObjectGone
from abeyance.pipeline.topology import FRAMES
from abeyance.pipeline.upload_records import UploadRecords
from abeyance.pipeline.video_queue import VideoQueue
from abeyance.rekognition.errors import ApiError, invalid
from abeyance.rekognition.photos import Photos

#: Largest video, as the service's quotas have it.
MAX_VIDEO_BYTES: Final = 10 * 1024**3


class StoredVideos:
    """The jobs of tenants.

    Parameters
    ----------
    photos
        Finds the objects that a tenant may name.
    topics
        ARNs of topics that may be told, with ``*`` and ``{tenant}``.
    """

    def __init__(
        self,
        photos: Photos,
        jobs: VideoJobs,
        queue: VideoQueue,
        records: UploadRecords,
        findings: Findings,
        topics: Sequence[str],
    ) -> None:
        self._photos = photos
        self._jobs = jobs
        self._queue = queue
        self._records = records
        self._findings = findings
        self._topics = topics

    def source(self, video: Mapping[str, Any], tenant: str) -> VideoSource:
        """Return the object that a ``Video`` names, in the version that there is now; its bytes are not read.

        Raises
        ------
        ApiError
            InvalidParameterException without a complete S3Object; InvalidS3ObjectException for an object that is not
            there, not the tenant's, or that S3 does not give; VideoTooLargeException.
        """
        if "S3Object" not in video:
            raise invalid("A video has an S3Object with a Bucket and a Name")
        where = video["S3Object"]
        head = self._photos.head(where, tenant)
        if head["ContentLength"] > MAX_VIDEO_BYTES:
            raise ApiError("VideoTooLargeException", "Video size is too large")
        etag = head["ETag"].strip('"')
        found = head.get("VersionId", "null")
        return VideoSource(
            bucket=where["Bucket"],
            key=where["Name"],
            version=etag if found == "null" else found,
            etag=etag,
            size=head["ContentLength"],
        )

    def topic(self, channel: Mapping[str, str] | None, tenant: str) -> str:
        """Return the ARN of the topic of a ``NotificationChannel``; raises ``ApiError`` if it may not be told."""
        if channel is None:
            return ""
        arn = channel["SNSTopicArn"]
        if not any(fnmatchcase(arn, pattern.replace("{tenant}", tenant)) for pattern in self._topics):
            raise invalid(
                "The SNS topic is none that this deployment may publish to; its operator names topics in "
                "notification_topics"
            )
        return arn

    def start(self, job: VideoJob, token: str) -> VideoJob:
        """Keep a job and send it to the pipeline; return the first one of the token. Raises ``JobTokenReused``."""
        kept = self._jobs.create(job, token)
        # Sent again for a token that came before: the first request may have died in between.
        self._queue.request(kept.upload)
        return kept

    def find(self, job_id: str, operation: str, tenant: str) -> VideoJob:
        """Return a tenant's job that ``operation`` started; raises ``ApiError`` ResourceNotFoundException."""
        job = self._jobs.get(job_id)
        if job is None or (job.tenant, job.operation) != (tenant, operation):
            raise ApiError("ResourceNotFoundException", "Could not find JobId")
        return job

    def state(self, job: VideoJob) -> tuple[JobState, Mapping[str, Event]]:
        """Return how far a job is, and what each stage recorded for it."""
        recorded = self._records.recorded(job.upload.identity)
        parts = self._records.recorded_parts(job.upload, ["video"]).get("video", {})
        opened = parts.get(FRAMES.name)
        return job_state(recorded, opened if isinstance(opened, VideoOpened) else None), recorded

    def people(self, job: VideoJob) -> list[FoundPerson]:
        """Return every sample of a job's people; raises ``ApiError`` if they are no longer kept."""
        try:
            return self._findings.read_samples(job.upload)
        except ObjectGone:
            raise ApiError("ResourceNotFoundException", "The results of the job are no longer kept") from None
