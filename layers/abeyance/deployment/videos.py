"""Builds what is about stored video: two stages, and the jobs of the API. As in :mod:`abeyance.deployment.build`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from abeyance.aws.clients import Clients, client
from abeyance.aws.dynamodb import DynamoTable
from abeyance.deployment.parts import (
    build_analyzer,
    build_embedder,
    build_guard,
    build_outbox,
    build_similarity_scale,
    build_upload_records,
)
from abeyance.deployment.settings import (
    ApiSettings,
    DeploymentSettings,
    FramesSettings,
    JobsGroup,
    NotifySettings,
)

if TYPE_CHECKING:
    from abeyance.pipeline.frames import Frames
    from abeyance.pipeline.jobs import JobProgress, VideoJobs
    from abeyance.pipeline.notify import Notify
    from abeyance.rekognition.photos import Photos
    from abeyance.rekognition.videos import StoredVideos


def build_frames(settings: FramesSettings | None = None, clients: Clients = client) -> Frames:
    """Return the stage that decodes videos."""
    from abeyance.pipeline.aws import S3Objects
    from abeyance.pipeline.frames import Frames
    from abeyance.pipeline.video_queue import VideoQueue

    settings = settings or FramesSettings.from_environment()
    return Frames(
        build_guard(settings, clients),
        S3Objects(clients("s3")),
        build_outbox("frames", settings, clients),
        build_upload_records(settings, clients),
        build_jobs(settings, clients),
        VideoQueue(clients("sqs"), settings.frames_queue),
        build_analyzer(settings),
        build_embedder(settings, clients),
        build_similarity_scale(settings),
        settings.chips_bucket,
    )


def build_notify(settings: NotifySettings | None = None, clients: Clients = client) -> Notify:
    """Return the stage that tells callers that their jobs ended."""
    from abeyance.pipeline.notify import Notify

    settings = settings or NotifySettings.from_environment()
    return Notify(build_outbox("notify", settings, clients), build_jobs(settings, clients), clients("sns"))


def build_jobs(settings: JobsGroup, clients: Clients = client) -> VideoJobs:
    """Return the jobs on stored video."""
    from abeyance.pipeline.jobs import VideoJobs

    return VideoJobs(DynamoTable(clients("dynamodb"), settings.jobs_table), time.time)


def build_job_progress(
    settings: DeploymentSettings, clients: Clients = client
) -> Callable[[str], JobProgress | None]:
    """Return the function that looks how far a job is, by its id; it returns None for an unknown job."""
    from abeyance.pipeline.events import VideoOpened
    from abeyance.pipeline.jobs import JobProgress, job_state
    from abeyance.pipeline.topology import FRAMES

    jobs, records = build_jobs(settings, clients), build_upload_records(settings, clients)

    def look(job_id: str) -> JobProgress | None:
        job = jobs.get(job_id)
        if job is None:
            return None
        upload = job.upload
        opened = records.recorded_parts(upload, ["video"]).get("video", {}).get(FRAMES.name)
        count = len(opened.segments) if isinstance(opened, VideoOpened) else 0
        state = job_state(records.recorded(upload.identity), None)
        return JobProgress(
            id=job.id,
            status=state.status,
            message=state.message,
            segments=count,
            examined=len(records.recorded_parts(upload, range(count))),
            people=len(state.result.faces) if state.result else None,
        )

    return look


def build_stored_videos(settings: ApiSettings, photos: Photos, clients: Clients = client) -> StoredVideos:
    """Return the jobs as the Rekognition API sees them."""
    from abeyance.pipeline.aws import S3Objects
    from abeyance.pipeline.findings import Findings
    from abeyance.pipeline.video_queue import VideoQueue
    from abeyance.rekognition.videos import StoredVideos

    return StoredVideos(
        photos,
        build_jobs(settings, clients),
        VideoQueue(clients("sqs"), settings.frames_queue),
        build_upload_records(settings, clients),
        Findings(S3Objects(clients("s3")), settings.chips_bucket),
        settings.notification_topics.split(),
    )
