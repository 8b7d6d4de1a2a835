"""The whole system on one machine: local AWS, and a poller for each stage in the place of Lambda's own."""

from __future__ import annotations

import json
import logging
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from abeyance.local.api import mount
from abeyance.local.aws import LocalAws, environment
from abeyance.local.timekeeper import Timekeeper
from abeyance.local.worker import FunctionError, Worker
from abeyance.moratorium.presets import new_deployment
from abeyance.pipeline import topology
from abeyance.pipeline.settings import Settings

log = logging.getLogger("abeyance.local")

#: Most seconds before a failed message is delivered again; in AWS it is the queue's visibility timeout.
LONGEST_BACKOFF = 20


class Service(Protocol):
    """What is served at the local URL beside AWS."""

    def stop(self) -> None:
        """End its processes."""
        ...


class Poller:
    """Receives from a stage's queue, invokes the stage's function, and deletes what it has done."""

    def __init__(self, aws: LocalAws, stage: topology.Stage) -> None:
        self.stage = stage
        self._sqs = aws.client("sqs")
        self._url = self._sqs.get_queue_url(QueueName=stage.queue)["QueueUrl"]
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
            try:
                self._poll(worker)
            except (BotoCoreError, ClientError) as error:
                if not self._stopping.wait(0.5):
                    log.warning("cannot poll %s: %s", self.stage.queue, error)

    def _poll(self, worker: Worker) -> None:
        answer = self._sqs.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=self.stage.batch_size,
            WaitTimeSeconds=1,
            AttributeNames=["All"],
        )
        messages = answer.get("Messages", [])
        if not messages:
            return
        event = {"Records": [_record(message, self._url) for message in messages]}
        try:
            failed = {item["itemIdentifier"] for item in worker.invoke(event)["batchItemFailures"]}
        except FunctionError as error:
            log.warning("%s failed: %s", self.stage.name, error)
            failed = {message["MessageId"] for message in messages}
        done = [message for message in messages if message["MessageId"] not in failed]
        if done:
            self._sqs.delete_message_batch(QueueUrl=self._url, Entries=_entries(done))
        for message in messages:
            if message["MessageId"] in failed:
                self._return(message)

    def _return(self, message: dict[str, Any]) -> None:
        """Deliver it again soon; in AWS that takes the visibility timeout."""
        receives = int(message["Attributes"]["ApproximateReceiveCount"])
        with suppress(ClientError):
            self._sqs.change_message_visibility(
                QueueUrl=self._url,
                ReceiptHandle=message["ReceiptHandle"],
                VisibilityTimeout=min(2 ** (receives - 1), LONGEST_BACKOFF) if receives > 1 else 0,
            )


def _record(message: dict[str, Any], url: str) -> dict[str, Any]:
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": url,
    }


def _entries(messages: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [
        {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
        for number, message in enumerate(messages)
    ]


class LocalSystem:
    """Abeyance on this machine, as a context manager.

    Parameters
    ----------
    settings
        Names and choices.
    port
        Port on 127.0.0.1; 0 takes a free one.
    flags
        The flags document; made as for a new deployment if it is not there. Without a path, it lies in a folder
        that goes with the system.
    """

    def __init__(self, settings: Settings | None = None, port: int = 0, flags: Path | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="abeyance-")
        self.flags = (flags or Path(self._folder.name) / "flags.json").resolve()
        settings = msgspec.structs.replace(settings or Settings(), flags=f"file:{self.flags}")
        self.aws = LocalAws(port, settings)
        self.pollers: dict[str, Poller] = {}
        self.services: list[Service] = []
        self._timekeeper: Timekeeper | None = None

    @property
    def endpoint(self) -> str:
        return self.aws.endpoint

    @property
    def settings(self) -> Settings:
        return self.aws.settings

    def client(self, service: str, principal: str = "local") -> Any:
        """A boto3 client for this system."""
        return self.aws.client(service, principal)

    def __enter__(self) -> Self:
        if not self.flags.exists():
            self.flags.write_text(json.dumps(new_deployment(), indent=2) + "\n")
        self.aws.start()
        try:
            for stage in topology.STAGES:
                self.pollers[stage.name] = Poller(self.aws, stage)
            for poller in self.pollers.values():
                for worker in poller.workers:
                    worker.ready()
            self.services = [mount(self.aws)]
            self._timekeeper = Timekeeper(
                self.client("events"),
                self.settings.event_bus,
                self.flags,
                self.pollers[topology.LEDGER.name].workers[0],
            )
            for poller in self.pollers.values():
                poller.start()
            self._timekeeper.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timekeeper:
            self._timekeeper.stop()
        for service in self.services:
            service.stop()
        for poller in self.pollers.values():
            poller.stop()
        self.aws.stop()
        self._folder.cleanup()

    def waiting(self) -> dict[str, int]:
        """Messages in each queue, those in work and dead ones included, upstream queues first.

        Read in the order in which events flow, so that nothing waits anywhere if every number is zero.
        """
        sqs = self.client("sqs")
        names = [stage.queue for stage in topology.STAGES] + [
            stage.dead_letter_queue for stage in topology.STAGES
        ]
        return {name: _depth(sqs, name) for name in names}

    def busy(self) -> bool:
        """Whether anything is still on its way; what lies in a dead-letter queue is not."""
        sqs = self.client("sqs")
        return any(_depth(sqs, stage.queue) for stage in topology.STAGES)

    def drain(self, timeout: float) -> None:
        """Wait until nothing is on its way; raises ``TimeoutError`` after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        while self.busy():
            if time.monotonic() > end:
                raise TimeoutError(f"still waiting after {timeout:.0f} s: {self.waiting()}")
            time.sleep(0.1)


def _depth(sqs: Any, name: str) -> int:
    kinds = (
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesDelayed",
    )
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(kinds))["Attributes"]
    return sum(int(attributes[kind]) for kind in kinds)
