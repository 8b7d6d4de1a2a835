"""The workers of a function on this machine, shared fairly between its callers.

In AWS a function has as many environments as its callers need, each with a processor of its own, and a tenant's rate
limits what it can take. Here a few workers share a few cores, and a caller whose requests take long would make
everybody wait. Its requests go to the background: one worker of lower priority, one request at a time. So do the first
ones of every caller, before its cost is known; they go ahead of the others there.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
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
#: Requests in work or waiting: of all callers in the foreground, as many in the background, and of those among them
#: whose callers are known as costly. Each takes a thread of the server, of which functions need some as well.
_MOST_REQUESTS: Final = 16
_MOST_COSTLY: Final = 4
#: Callers that are remembered; those before are forgotten.
_MAX_CALLERS: Final = 1000


class TooManyRequests(Exception):
    """More requests than may wait."""


@dataclass(slots=True)
class _Lane:
    """Workers, and the requests in work and waiting."""

    workers: list[Worker]
    idle: list[Worker] = field(init=False)
    #: Whether the caller is known as costly, and a number that grows with every request: the least is next.
    waiting: list[tuple[bool, int]] = field(default_factory=list)
    requests: int = 0

    def __post_init__(self) -> None:
        self.idle = list(self.workers)


class Lanes:
    """Workers in the foreground, and one of lower priority in the background.

    Parameters
    ----------
    start
        Starts a worker, of lower priority if it is given True.
    workers
        In the foreground, and so requests in work at one time.
    """

    def __init__(self, start: Callable[[bool], Worker], workers: int) -> None:
        self._foreground = _Lane([start(False) for _ in range(workers)])
        self._background = _Lane([start(True)])
        self._averages_s: dict[str, float] = {}
        self._tickets = itertools.count()
        self._changed = threading.Condition()

    @property
    def workers(self) -> list[Worker]:
        """All workers."""
        return self._foreground.workers + self._background.workers

    @contextlib.contextmanager
    def take(self, caller: str) -> Iterator[Worker]:
        """Wait for a worker for a request of ``caller``; raises :class:`TooManyRequests` if too many wait."""
        with self._changed:
            known = self._averages_s.get(caller)
            costly = known is not None and known >= COSTLY_S
            lane = self._background if known is None or costly else self._foreground
            if lane.requests >= (_MOST_COSTLY if costly else _MOST_REQUESTS):
                raise TooManyRequests
            lane.requests += 1
            ticket = costly, next(self._tickets)
            lane.waiting.append(ticket)
            self._changed.wait_for(lambda: lane.idle and min(lane.waiting) == ticket)
            lane.waiting.remove(ticket)
            worker = lane.idle.pop()
            self._changed.notify_all()
        try:
            yield worker
        finally:
            with self._changed:
                lane.idle.append(worker)
                lane.requests -= 1
                if worker.answered > _COLD_EVENTS:
                    self._count(caller, worker.seconds)
                self._changed.notify_all()

    def _count(self, caller: str, seconds: float) -> None:
        before = self._averages_s.pop(caller, seconds)
        self._averages_s[caller] = before + _LATEST * (seconds - before)
        if len(self._averages_s) > _MAX_CALLERS:
            del self._averages_s[next(iter(self._averages_s))]
