"""The messages that the frames stage sends to itself, and the API to it: pointers to a job or to a segment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from abeyance.aws.dynamodb import batches
from abeyance.aws.sqs import queue_url
from abeyance.aws.timestamps import timestamp
from abeyance.pipeline.events import Upload
from abeyance.pipeline.fairness import group_of

#: The kinds of pointers, in the place of a detail-type.
REQUESTED: Final = "Video Requested"
SEGMENT: Final = "Video Segment"
#: SQS's limit for one call.
_MOST_SENT: Final = 10


class VideoPointer(msgspec.Struct, frozen=True, kw_only=True):
    """A pointer to a job, or to a segment of an upload; the records say whether there is any."""

    kind: str
    upload: Upload
    segment: int = -1


def pointer_of(envelope: Mapping[str, Any]) -> VideoPointer:
    """Return the pointer in a message; raises ``msgspec.ValidationError``."""
    detail = {**envelope.get("detail", {}), "kind": envelope["detail-type"]}
    return msgspec.convert(detail, VideoPointer)


class VideoQueue:
    """The queue of the frames stage.

    Parameters
    ----------
    sqs
        An SQS client.
    queue
        Its name or URL.
    """

    def __init__(self, sqs: Any, queue: str) -> None:
        self._sqs = sqs
        self._queue = queue
        self._url = ""

    def request(self, upload: Upload) -> None:
        """Send a pointer to a job; raises if SQS does not take it."""
        self._send([_envelope(REQUESTED, {"upload": msgspec.to_builtins(upload)})])

    def send(self, upload: Upload, segments: Iterable[int]) -> None:
        """Send a pointer to each segment; raises if SQS does not take them all."""
        named = msgspec.to_builtins(upload)
        for some in batches(
            [_envelope(SEGMENT, {"upload": named, "segment": n}) for n in segments], _MOST_SENT
        ):
            self._send(some)

    def _send(self, envelopes: list[dict[str, Any]]) -> None:
        self._url = self._url or queue_url(self._sqs, self._queue)
        answer = self._sqs.send_message_batch(
            QueueUrl=self._url,
            Entries=[
                {
                    "Id": str(number),
                    "MessageBody": msgspec.json.encode(envelope).decode(),
                    "MessageGroupId": group_of(envelope),
                }
                for number, envelope in enumerate(envelopes)
            ],
        )
        if failed := answer.get("Failed"):
            raise OSError(f"SQS did not take {len(failed)} messages: {failed[0]['Code']}")


def _envelope(kind: str, detail: dict[str, Any]) -> dict[str, Any]:
    return {"detail-type": kind, "source": "abeyance", "time": timestamp(), "detail": detail}
