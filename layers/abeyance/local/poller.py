"""Hands a queue's messages to a stage's function, as Lambda's own poller does in AWS."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any, Final

from moto.sqs.models import Message

from abeyance.local.aws import LocalAws
from abeyance.local.moto import Inbox
from abeyance.local.worker import BACKGROUND_NICE, FunctionError, Worker
from abeyance.pipeline import topology

log = logging.getLogger("abeyance.local")

#: Longest time until a failed message is delivered again; in AWS it is the queue's visibility timeout.
MAX_BACKOFF_S: Final = 20
#: Most messages of one invocation: an event of theirs has to stay below 6 MB, which Lambda sees to in AWS.
MAX_MESSAGES: Final = 1000
#: Longest wait for a message, before the poller checks if it is to stop.
WAIT_S: Final = 1


class Poller:
    """The threads that receive from a stage's queue, invoke its function, and delete the processed messages."""

    def __init__(self, aws: LocalAws, stage: topology.Stage) -> None:
        self.stage = stage
        self._inbox = Inbox(stage.queue)
        # Somebody waits for an answer of the API, and nobody for that of a queue.
        nice = BACKGROUND_NICE if stage is topology.DETECT else 0
        self.workers = [
            Worker(stage.name, aws.variables(), stage.timeout, nice=nice) for _ in range(stage.local_workers)
        ]
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(worker,), name=f"{stage.name}-{number}", daemon=True)
            for number, worker in enumerate(self.workers)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Wait for running invocations, then stop."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        for worker in self.workers:
            worker.stop()

    def _run(self, worker: Worker) -> None:
        while not self._stopping.is_set():
            messages = self._inbox.receive(min(self.stage.batch_size, MAX_MESSAGES), WAIT_S)
            if messages:
                self._invoke(worker, messages)

    def _invoke(self, worker: Worker, messages: Sequence[Message]) -> None:
        event = {"Records": [_record(message, self._inbox.arn) for message in messages]}
        try:
            failed = {item["itemIdentifier"] for item in worker.invoke(event)["batchItemFailures"]}
        except FunctionError as error:
            log.warning("%s failed: %s", self.stage.name, error)
            failed = {message.id for message in messages}
        for message in messages:
            if message.id in failed:
                self._inbox.release(message, _backoff_s(message.approximate_receive_count))
            else:
                self._inbox.delete(message)


def _backoff_s(receives: int) -> int:
    """Return the time until the next delivery; in AWS that is the visibility timeout."""
    return min(2 ** (receives - 1), MAX_BACKOFF_S) if receives > 1 else 0


def _record(message: Message, arn: str) -> dict[str, Any]:
    """Return a message as Lambda hands it on, with the attributes that functions read."""
    return {
        "messageId": message.id,
        "body": message.body,
        "attributes": {
            "ApproximateReceiveCount": str(message.approximate_receive_count),
            "SentTimestamp": str(message.sent_timestamp),
            "ApproximateFirstReceiveTimestamp": str(message.approximate_first_receive_timestamp),
        },
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
    }
