"""What hands a queue's messages to a stage's function: on this machine, in the place of Lambda's own poller."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any, Final

from moto.sqs.models import Message

from abeyance.local.aws import LocalAws, environment
from abeyance.local.moto import Inbox
from abeyance.local.worker import FunctionError, Worker
from abeyance.pipeline import topology

log = logging.getLogger("abeyance.local")

#: Most seconds before a failed message is delivered again; in AWS it is the queue's visibility timeout.
LONGEST_BACKOFF: Final = 20
#: Seconds of waiting for a message, after which it looks whether it is to stop.
WAIT: Final = 1


class Poller:
    """Receives from a stage's queue, invokes the stage's function, and deletes what it has done."""

    def __init__(self, aws: LocalAws, stage: topology.Stage) -> None:
        self.stage = stage
        self._inbox = Inbox(stage.queue)
        variables = {**environment(aws.endpoint), **aws.settings.to_environment()}
        self.workers = [Worker(stage.name, variables, stage.timeout) for _ in range(stage.local_workers)]
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(worker,), name=f"{stage.name}-{number}", daemon=True)
            for number, worker in enumerate(self.workers)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let running invocations end, then stop."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        for worker in self.workers:
            worker.stop()

    def _run(self, worker: Worker) -> None:
        while not self._stopping.is_set():
            messages = self._inbox.receive(self.stage.batch_size, WAIT)
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
                self._inbox.give_back(message, _backoff(message.approximate_receive_count))
            else:
                self._inbox.delete(message)


def _backoff(receives: int) -> int:
    """Seconds until the next delivery; in AWS that is the visibility timeout."""
    return min(2 ** (receives - 1), LONGEST_BACKOFF) if receives > 1 else 0


def _record(message: Message, arn: str) -> dict[str, Any]:
    return {
        "messageId": message.id,
        "receiptHandle": message.receipt_handle,
        "body": message.body,
        "attributes": _attributes(message),
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
    }


def _attributes(message: Message) -> dict[str, str]:
    known = {
        "ApproximateReceiveCount": message.approximate_receive_count,
        "SentTimestamp": message.sent_timestamp,
        "ApproximateFirstReceiveTimestamp": message.approximate_first_receive_timestamp,
        "SenderId": message.sender_id,
        "MessageGroupId": message.group_id,
        "MessageDeduplicationId": message.deduplication_id,
        "SequenceNumber": message.sequence_number,
    }
    return {name: str(value) for name, value in known.items() if value is not None}
