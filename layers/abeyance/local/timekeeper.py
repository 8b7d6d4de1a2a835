"""EventBridge Scheduler on this machine: announces moratoria in their time, and asks for the ledger's checkpoints.

It also puts the flags documents on the ledger, which AppConfig's validator does in AWS.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from abeyance.aws.eventbridge import put_events
from abeyance.aws.timestamps import utc_now
from abeyance.ledger.errors import LedgerError
from abeyance.local.worker import FunctionError, Worker
from abeyance.moratorium.boundaries import boundaries
from abeyance.moratorium.document import load, parse
from abeyance.moratorium.errors import FlagsError
from abeyance.pipeline import topology

log = logging.getLogger("abeyance.local")

POLL_INTERVAL_S: Final = 1.0
#: Shorter than in AWS: whoever tries the system on one machine verifies the log at once.
CHECKPOINT_INTERVAL_S: Final = 5.0


class Timekeeper:
    """A thread that puts the events of moratoria that start and end on the bus, and asks for checkpoints.

    Parameters
    ----------
    eventbridge, bus
        A low-level client, and the bus of the system.
    flags
        The flags document.
    signer
        The function that signs checkpoints.
    record
        Puts a document on the ledger.
    tasks
        Scheduled tasks that need no process of their own; done before each checkpoint.
    clock
        Aware wall clock.
    """

    def __init__(
        self,
        eventbridge: Any,
        bus: str,
        flags: Path,
        signer: Worker,
        record: Callable[[dict[str, Any]], object],
        tasks: Sequence[Callable[[], object]] = (),
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._eventbridge = eventbridge
        self._bus = bus
        self._flags = flags
        self._signer = signer
        self._record = record
        self._recorded = b""
        self._tasks = tasks
        self._clock = clock
        self._announced = clock()
        self._checkpointed = time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="timekeeper", daemon=True)

    def start(self) -> None:
        """Record the flags that are in force, and start."""
        self.record_flags()
        self._thread.start()

    def stop(self) -> None:
        """Stop, after a last checkpoint of the ledger."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self.checkpoint()

    def _run(self) -> None:
        while not self._stopping.wait(POLL_INTERVAL_S):
            self.record_flags()
            try:
                self.announce()
            except (BotoCoreError, ClientError, ConnectionError) as error:
                log.warning("announcements wait: %s", error)
            if time.monotonic() - self._checkpointed > CHECKPOINT_INTERVAL_S:
                self.do_tasks()
                self.checkpoint()

    def record_flags(self) -> None:
        """Put the flags document on the ledger if it has changed; one that cannot be read decides nothing."""
        try:
            raw = self._flags.read_bytes()
            if raw != self._recorded:
                self._record(load(raw))
                self._recorded = raw
        except (OSError, FlagsError, LedgerError) as error:
            log.warning("the flags are not on the ledger yet: %s", type(error).__name__)

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

    def do_tasks(self) -> None:
        """Do the tasks; one that fails is done again before the next checkpoint."""
        for task in self._tasks:
            try:
                task()
            except Exception as error:  # noqa: BLE001 - whatever it was, the others are done, and the thread goes on
                log.warning("a task failed: %s", type(error).__name__)

    def checkpoint(self) -> None:
        """Ask for a checkpoint."""
        self._checkpointed = time.monotonic()
        try:
            self._signer.invoke({"task": topology.CHECKPOINT.task})
        except FunctionError as error:
            log.warning("no checkpoint: %s", error)
