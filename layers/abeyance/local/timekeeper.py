"""EventBridge Scheduler on this machine: announces moratoria in their time, and asks for the ledger's checkpoints."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from abeyance.aws.eventbridge import put_events
from abeyance.aws.timestamps import utc_now
from abeyance.local.worker import FunctionError, Worker
from abeyance.moratorium.boundaries import boundaries
from abeyance.moratorium.document import parse
from abeyance.moratorium.errors import FlagsError
from abeyance.pipeline import topology

log = logging.getLogger("abeyance.local")

POLL_INTERVAL_S: Final = 1.0


class Timekeeper:
    """A thread that puts the events of moratoria that start and end on the bus, and asks for checkpoints."""

    def __init__(
        self,
        eventbridge: Any,
        bus: str,
        flags: Path,
        ledger: Worker,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._eventbridge = eventbridge
        self._bus = bus
        self._flags = flags
        self._ledger = ledger
        self._clock = clock
        self._announced = clock()
        self._checkpointed = time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="timekeeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop, after a last checkpoint of the ledger."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self.checkpoint()

    def _run(self) -> None:
        while not self._stopping.wait(POLL_INTERVAL_S):
            try:
                self.announce()
            except (BotoCoreError, ClientError, ConnectionError) as error:
                log.warning("announcements wait: %s", error)
            if time.monotonic() - self._checkpointed > 60 * topology.CHECKPOINT.every_minutes:
                self.checkpoint()

    def announce(self) -> None:
        """Announce what became due since the last call. While the flags are unreadable, announcements wait."""
        now = self._clock()
        try:
            due = boundaries(parse(self._flags.read_bytes()), self._announced, now)
        except (OSError, FlagsError):
            return
        put_events(
            self._eventbridge,
            (
                {
                    "EventBusName": self._bus,
                    "Source": topology.SOURCE,
                    "DetailType": str(boundary.type),
                    "Detail": msgspec.json.encode(boundary).decode(),
                }
                for boundary in due
            ),
        )
        self._announced = now

    def checkpoint(self) -> None:
        """Ask the ledger function for a checkpoint."""
        self._checkpointed = time.monotonic()
        try:
            self._ledger.invoke({"task": topology.CHECKPOINT.task})
        except FunctionError as error:
            log.warning("no checkpoint: %s", error)
