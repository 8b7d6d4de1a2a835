"""The whole system on one machine: local AWS, and a poller for each stage in the place of Lambda's own."""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import tempfile
import time
from pathlib import Path
from typing import Any, Final, Self

from botocore.exceptions import BotoCoreError, ClientError

from abeyance.deployment.build import build_lapse
from abeyance.deployment.flags import build_use_log, build_watch
from abeyance.deployment.parts import build_ledger_queue, build_log_objects
from abeyance.deployment.settings import DeploymentSettings, FlagsSettings
from abeyance.ledger.documents import DocumentLog
from abeyance.ledger.errors import LedgerError
from abeyance.local.aws import LocalAws
from abeyance.local.gateway import FunctionGateway, mount_api, mount_changes
from abeyance.local.moto import Inbox
from abeyance.local.poller import Poller
from abeyance.local.timekeeper import Timekeeper
from abeyance.local.worker import Worker
from abeyance.moratorium.errors import MoratoriumError
from abeyance.moratorium.presets import new_deployment
from abeyance.pipeline import topology
from abeyance.vision.models.manifest import Manifest

log = logging.getLogger("abeyance.local")

#: Longest time for a checkpoint.
SIGNER_TIMEOUT_S: Final = 600


class LocalSystem:
    """Abeyance on this machine, as a context manager.

    Parameters
    ----------
    settings
        Names and choices.
    port
        Port on 127.0.0.1; 0 takes a free one.
    flags
        The flags document; created as for a new deployment if it is missing. Without a path, it lies in a folder
        that is deleted with the system.
    """

    def __init__(
        self, settings: DeploymentSettings | None = None, port: int = 0, flags: Path | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="abeyance-")
        self.flags = (flags or Path(self._folder.name) / "flags.json").resolve()
        settings = settings or DeploymentSettings()
        model = Manifest.load()[settings.embedder_model].identity
        settings = settings.replace(
            flags=f"file:{self.flags}", deployed_model=model, notification_topics="arn:aws:sns:*"
        )
        self.settings = settings
        #: Signs the sign-ins of this run, which are made up.
        self.sign_in_key = secrets.token_hex(32)
        self.aws = LocalAws(port, settings)
        self.endpoint = self.aws.endpoint
        self.pollers: dict[str, Poller] = {}
        self.services: list[FunctionGateway] = []
        self._running = contextlib.ExitStack()

    def client(self, service: str, principal: str = "local") -> Any:
        """Return a boto3 client for this system."""
        return self.aws.client(service, principal)

    def __enter__(self) -> Self:
        with self._running as starting:
            starting.callback(self._folder.cleanup)
            starting.callback(self.aws.stop)
            if not self.flags.exists():
                self.flags.write_text(json.dumps(new_deployment(), indent=2) + "\n")
            self.aws.start()
            for stage in topology.STAGES:
                self.pollers[stage.name] = Poller(self.aws, stage)
                starting.callback(self.pollers[stage.name].stop)
            for poller in self.pollers.values():
                for worker in poller.workers:
                    worker.ready()
            starting.callback(self._stop_services)
            self.services.append(mount_api(self.aws))
            self.services.append(mount_changes(self.aws, self.sign_in_key))
            signer = Worker(topology.CHECKPOINT.function, self.aws.variables(), SIGNER_TIMEOUT_S)
            starting.callback(signer.stop)
            documents = DocumentLog(
                build_ledger_queue(self.settings, self.client), build_log_objects(self.settings, self.client)
            )
            self.timekeeper = Timekeeper(
                self.client("events"),
                self.settings.event_bus,
                self.flags,
                signer,
                documents.record,
                [build_use_log(self.settings, self.client), build_lapse(self.settings, self.client)],
            )
            starting.callback(self.timekeeper.stop)
            for poller in self.pollers.values():
                poller.start()
            self.timekeeper.start()
            self._running = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _stop_services(self) -> None:
        for service in self.services:
            service.stop()

    def watch_flags(self) -> None:
        """Have the change service note what is in force, and put it on the ledger; in AWS it does so every minute.

        What it cannot read, such as a file that is being edited, it notes the next time.
        """
        known = FlagsSettings.variables().values()
        own = {name: value for name, value in self.settings.values().items() if name in known}
        try:
            build_watch(FlagsSettings.of(**own), self.client)()
        except (OSError, MoratoriumError, LedgerError, BotoCoreError, ClientError) as error:
            log.warning("what is in force is not noted yet: %s", type(error).__name__)

    def waiting(self) -> dict[str, int]:
        """Return the number of messages in each queue, those in flight included, and in each dead-letter queue.

        The queues are read in the order in which events flow, so if every number is zero, nothing waits anywhere.
        """
        queues = [stage.queue for stage in topology.STAGES]
        dead = [stage.dead_letter_queue for stage in topology.STAGES]
        return {name: Inbox(name).depth() for name in queues + dead}

    def photos(self) -> tuple[int, int]:
        """Return the number of photos that wait for detection or are in it, and of those that came out of it."""
        detect = Inbox(topology.DETECT.queue)
        return Inbox(topology.GATE.queue).depth() + detect.depth(), detect.done()

    def busy(self) -> bool:
        """Return True while a message is on its way; one in a dead-letter queue is not."""
        return any(Inbox(stage.queue).depth() for stage in topology.STAGES)

    def drain(self, timeout: float) -> None:
        """Wait until nothing is on its way; raises ``TimeoutError`` after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        while self.busy():
            if time.monotonic() > end:
                raise TimeoutError(f"still waiting after {timeout:.0f} s: {self.waiting()}")
            time.sleep(0.02)
