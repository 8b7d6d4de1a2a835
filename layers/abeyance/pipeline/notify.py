"""Tells the caller of a job that it ended, through the SNS topic that the request names, as Amazon Rekognition does."""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from abeyance.aws.errors import aws_code
from abeyance.aws.timestamps import utc_now
from abeyance.pipeline import topology
from abeyance.pipeline.batch import Batch, Message
from abeyance.pipeline.events import Event
from abeyance.pipeline.jobs import VideoJob, VideoJobs, job_state
from abeyance.pipeline.outbox import Outbox
from abeyance.pipeline.upload_records import UploadState

log = logging.getLogger("abeyance")

#: SNS's answers that no later attempt changes: the topic is the caller's own matter.
_LASTING: Final = frozenset({"NotFound", "AuthorizationError", "InvalidParameter", "KMSAccessDenied"})


class Notify:
    """The end of a job becomes a message to its topic, at least once.

    Parameters
    ----------
    sns
        An SNS client.
    """

    def __init__(self, outbox: Outbox, jobs: VideoJobs, sns: Any) -> None:
        self._outbox = outbox
        self._jobs = jobs
        self._sns = sns

    def __call__(self, batch: Batch[Message]) -> None:
        """Tell the callers of the jobs of a batch."""
        ended = batch.map(Message.event)
        states = self._outbox.read_states(ended, lambda event: event.upload)
        states.map(lambda pair: self._tell(*pair))

    def _tell(self, event: Event, state: UploadState) -> None:
        if event.upload.bucket != topology.JOBS or self._outbox.verified(event, state) is None:
            return
        job = self._jobs.get(event.upload.version)
        if job is None or not job.topic:
            return
        found = job_state(state.recorded, None)
        if found.status == "IN_PROGRESS":
            return
        try:
            self._sns.publish(TopicArn=job.topic, Message=_message(job, found.status))
        except Exception as error:
            if aws_code(error) not in _LASTING:
                raise
            log.warning("a topic does not take the end of a job", extra={"because": aws_code(error)})


def _message(job: VideoJob, status: str) -> str:
    """Return the message, with the members of Rekognition's."""
    message = {
        "JobId": job.id,
        "Status": status,
        "API": job.operation,
        **({"JobTag": job.tag} if job.tag else {}),
        "Timestamp": int(1000 * utc_now().timestamp()),
        "Video": {"S3ObjectName": job.source.key, "S3Bucket": job.source.bucket},
    }
    return json.dumps(message)
