"""The workers of a function on this machine, shared fairly between its callers.

In AWS a function has as many environments as its callers need, each with a processor of its own, and a tenant's rate
limits what it can take. Here a few workers share a few cores, and a caller whose requests take long would make
everybody wait. Its requests go to the background: one worker of lower priority, one request at a time. So do the first
ones of every caller, before its cost is known; they go ahead of the others there.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from abeyance.local.worker import Worker

#: Processor time of a caller's requests, on average, from which on they go to the background.
COSTLY_S: Final = 0.4
#: Share of the latest request in that average.
_LATEST: Final = 0.25
#: Events of a new process that load code and models, which is no cost of their caller.
_COLD_EVENTS: Final = 2
#: Requests in work or waiting, of all callers, and of those among them whose callers are known as costly. Each takes a
#: thread of the callers' server, which has some more for S3 and the other services.
_MAX_REQUESTS: Final = 256
_MAX_COSTLY: Final = 224
#: Longest wait for a worker; boto3 gives up after a minute, and API Gateway after half of one.
_MAX_WAIT_S: Final = 25.0
#: Callers that are remembered; those before are forgotten.
_MAX_CALLERS: Final = 1000


class TooManyRequests(Exception):
    """More requests than may wait, or a wait that was too long."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A request that waits for its worker."""

    caller: str
    given: threading.Event = field(default_factory=threading.Event)
    worker: Worker | None = None


class Lanes:
    """Workers in the foreground, and one of lower priority in the background.

    Parameters
    ----------
    start
        Starts a worker, of lower priority if it is given True.
    workers
        In the foreground, and so requests in work at one time.
    max_wait_s
        Longest wait for a worker.
    """

    def __init__(
        self, start: Callable[[bool], Worker], workers: int, *, max_wait_s: float = _MAX_WAIT_S
    ) -> None:
        self._foreground = [start(False) for _ in range(workers)]
        self._background = [start(True)]
        self._idle = {False: list(self._foreground), True: list(self._background)}
        self._max_wait_s = max_wait_s
        #: The callers of all requests, and how many each has in work or waiting.
        self._requests: Counter[str] = Counter()
        #: In the order in which they came.
        self._waiting: list[_Waiting] = []
        self._averages_s: dict[str, float] = {}
        self._lock = threading.Lock()

    @property
    def workers(self) -> list[Worker]:
        """All workers."""
        return self._foreground + self._background

    @contextlib.contextmanager
    def take(self, caller: str) -> Iterator[Worker]:
        """Wait for a worker for a request of ``caller``; raises :class:`TooManyRequests` if too many wait."""
        with self._lock:
            self._refuse_excess(caller)
            request = _Waiting(caller)
            self._requests[caller] += 1
            self._waiting.append(request)
            self._give_out()
        request.given.wait(self._max_wait_s)
        with self._lock:
            worker = request.worker
            if worker is None:
                self._waiting.remove(request)
                self._forget(caller)
                raise TooManyRequests
        try:
            yield worker
        finally:
            with self._lock:
                self._idle[worker in self._background].append(worker)
                self._forget(caller)
                if worker.answered > _COLD_EVENTS:
                    self._count(caller, worker.seconds)
                self._give_out()

    def _refuse_excess(self, caller: str) -> None:
        if self._requests.total() >= _MAX_REQUESTS:
            raise TooManyRequests
        if self._is_costly(caller):
            costly = sum(number for name, number in self._requests.items() if self._is_costly(name))
            if costly >= _MAX_COSTLY:
                raise TooManyRequests

    def _give_out(self) -> None:
        """Give each idle worker to the request that is next in its lane.

        The lane is that of this moment: requests that came when their caller's cost was unknown do not all wait for
        the one worker in the background.
        """
        for in_background, idle in self._idle.items():
            lane = [one for one in self._waiting if (self._cost_s(one.caller) >= COSTLY_S) is in_background]
            # Sorting is stable: among equals, first come, first served.
            for request in sorted(lane, key=lambda one: self._is_costly(one.caller))[: len(idle)]:
                self._waiting.remove(request)
                request.worker = idle.pop()
                request.given.set()

    def _cost_s(self, caller: str) -> float:
        """Return the average of a caller; one that is not known may cost anything."""
        return self._averages_s.get(caller, math.inf)

    def _is_costly(self, caller: str) -> bool:
        return COSTLY_S <= self._cost_s(caller) < math.inf

    def _forget(self, caller: str) -> None:
        self._requests[caller] -= 1
        if not self._requests[caller]:
            del self._requests[caller]

    def _count(self, caller: str, seconds: float) -> None:
        before = self._averages_s.pop(caller, seconds)
        self._averages_s[caller] = before + _LATEST * (seconds - before)
        if len(self._averages_s) > _MAX_CALLERS:
            del self._averages_s[next(iter(self._averages_s))]
