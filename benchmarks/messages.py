"""A discrete-event simulation (SimPy) of some minutes of the pipeline, message by message.

Every photo is a message in the queue of ``gate``. A station takes a batch as soon as one of its servers is free, as
Lambda's pollers do without a batch window, and its events go to the listening stations. A whole day has forty million
invocations, too many for Python; :mod:`abeyance.cost.day` simulates the day, and tests compare the two.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
import simpy

from abeyance.cost.stations import ROUTES, SKEW, WAY, Latencies, Station, latencies

#: Draws the factor of an invocation's duration; its mean is 1.
Vary = Callable[[np.random.Generator], float]


def constant(random: np.random.Generator) -> float:
    """Return 1: every invocation takes its mean."""
    return 1.0


def exponential(random: np.random.Generator) -> float:
    """Draw from an exponential distribution, as in the textbooks' M/M/c."""
    return float(random.exponential())


def skewed(random: np.random.Generator) -> float:
    """Draw from a log-normal distribution."""
    return float(random.lognormal(*SKEW))


class Queued(msgspec.Struct):
    """A message: its photo, its arrival in this queue, and its deliveries so far."""

    photo: int
    since: float
    receives: int = 0


class StationRecord(msgspec.Struct):
    """The counts of one station. Times are in seconds."""

    arrived: int = 0
    done: int = 0
    dead: int = 0
    invocations: int = 0
    batched: int = 0
    failed: int = 0
    #: Of each delivery, the time in the queue.
    waited: list[float] = []
    #: Messages in the queue at the end.
    waiting: int = 0
    #: Most servers at the same time.
    servers: int = 0
    #: Integral of the number of messages in the station, waiting or in work.
    inside: float = 0.0

    @property
    def fill(self) -> float:
        """Mean number of messages of an invocation."""
        return self.batched / self.invocations if self.invocations else 0.0


class Outcome(msgspec.Struct, frozen=True):
    """The result of a run."""

    seconds: float
    photos: int
    stations: dict[str, StationRecord]
    #: Of the photos that have a result: when they were uploaded, and how long it took.
    uploaded: np.ndarray
    latencies: np.ndarray
    #: Ledger entries by photo.
    entries: np.ndarray
    #: Of each entry, from the event to the ledger.
    lags: np.ndarray


class _RunningStation:
    """A station of a running simulation."""

    def __init__(self, flow: Flow, station: Station) -> None:
        self._flow = flow
        self.station = station
        self.queue: deque[Queued] = deque()
        self.record = StationRecord(waited=[])
        self._allowed = float(station.first_servers)
        self._busy = 0
        self._warm = flow.warm
        self._present = 0
        self._moved = 0.0
        self._blocked = False
        # Pollers are added over time.
        if station.first_servers < station.servers:
            flow.environment.process(self._scale())

    def put(self, message: Queued) -> None:
        self.record.arrived += 1
        self._inside(+1)
        self.queue.append(message)
        self.start()

    def start(self) -> None:
        """Start batches as long as there are messages and free servers."""
        while self.queue and not self._blocked and self._busy < int(self._allowed):
            size = min(self.station.batch, len(self.queue))
            batch = [self.queue.popleft() for _ in range(size)]
            self._busy += 1
            self._flow.environment.process(self._work(batch))

    def _work(self, batch: list[Queued]) -> Generator[Any, None, None]:
        flow, station, record = self._flow, self.station, self.record
        now = flow.environment.now
        for message in batch:
            message.receives += 1
            record.waited.append(now - message.since)
        taken = station.seconds(len(batch)) * flow.vary(flow.random)
        if self._busy > record.servers:
            record.servers = self._busy
            if record.servers > self._warm:
                taken += station.cold
        record.invocations += 1
        record.batched += len(batch)
        fails = bool(flow.failing) and flow.random.random() < flow.failing
        if fails and station.fifo:
            # Its group waits until the messages are visible again.
            self._blocked = True
        if fails:
            yield flow.environment.timeout(taken)
            record.failed += 1
            flow.environment.process(self._again(batch, station.visibility - taken))
        else:
            steps = 1 if station.fifo else len(batch)
            for number in range(steps):
                yield flow.environment.timeout(taken / steps)
                for message in batch[number : number + 1] if steps > 1 else batch:
                    record.done += 1
                    self._inside(-1)
                    flow.done(station.name, message)
        yield flow.environment.timeout(station.between)
        self._busy -= 1
        self.start()

    def _again(self, batch: list[Queued], after: float) -> Generator[Any, None, None]:
        yield self._flow.environment.timeout(max(0.0, after))
        alive = []
        for message in batch:
            if message.receives >= self.station.max_receives:
                self.record.dead += 1
                self._inside(-1)
            else:
                alive.append(message)
        if self.station.fifo:
            self.queue.extendleft(reversed(alive))
            self._blocked = False
        else:
            self.queue.extend(alive)
        self.start()

    def _scale(self) -> Generator[Any, None, None]:
        station = self.station
        while True:
            yield self._flow.environment.timeout(1.0)
            if self.queue:
                self._allowed = min(station.servers, self._allowed + station.servers_a_second)
                self.start()

    def _inside(self, change: int) -> None:
        now = self._flow.environment.now
        self.record.inside += self._present * (now - self._moved)
        self._present += change
        self._moved = now

    def close(self) -> None:
        self._inside(0)
        self.record.waiting = len(self.queue)


class Flow:
    """Stations joined by routes. Photos enter at the first station of ``way``; its last one makes the result."""

    def __init__(
        self,
        made: Mapping[str, Station],
        *,
        seed: int,
        vary: Vary = skewed,
        failing: float = 0.0,
        warm: int = 10**9,
        known: Latencies | None = None,
        routes: Mapping[str, tuple[str, ...]] = ROUTES,
        way: tuple[str, ...] = WAY,
    ) -> None:
        self.environment = simpy.Environment()
        self.random = np.random.default_rng(seed)
        self.vary, self.failing, self.warm = vary, failing, warm
        self._known = known or latencies()
        self._routes, self._way = routes, way
        self._stations = {name: _RunningStation(self, station) for name, station in made.items()}
        self._uploaded: list[float] = []
        self._results: dict[int, float] = {}
        self._entries: list[int] = []
        self._lags: list[float] = []

    def run(self, arrivals: Iterable[float], seconds: float) -> Outcome:
        """Upload photos at these times, ascending, and stop after ``seconds``."""
        self.environment.process(self._upload(arrivals))
        self.environment.run(until=seconds)
        for running in self._stations.values():
            running.close()
        uploaded = np.array([self._uploaded[photo] for photo in self._results])
        return Outcome(
            seconds=seconds,
            photos=len(self._uploaded),
            stations={name: running.record for name, running in self._stations.items()},
            uploaded=uploaded,
            latencies=np.array(list(self._results.values())) - uploaded,
            entries=np.bincount(self._entries, minlength=len(self._uploaded)),
            lags=np.array(self._lags),
        )

    def done(self, name: str, message: Queued) -> None:
        """Send a finished message to the listening stations, and record the result or the entry."""
        now = self.environment.now
        if name == self._way[-1]:
            self._results[message.photo] = now
        if name not in self._way:
            self._entries.append(message.photo)
            self._lags.append(now - message.since)
        for listener in self._routes[name]:
            self._send(listener, message.photo, self._known.seconds["event_to_queue"])

    def _send(self, name: str, photo: int, delay: float) -> None:
        event = self.environment.timeout(delay)
        running = self._stations[name]
        assert event.callbacks is not None
        event.callbacks.append(lambda _: running.put(Queued(photo, self.environment.now)))

    def _upload(self, arrivals: Iterable[float]) -> Generator[Any, None, None]:
        delay = self._known.seconds["upload_to_queue"]
        for photo, when in enumerate(arrivals):
            if when > self.environment.now:
                yield self.environment.timeout(when - self.environment.now)
            self._uploaded.append(self.environment.now)
            self._send(self._way[0], photo, delay)


def poisson(rate: float, seconds: float, seed: int) -> np.ndarray:
    """Return the arrival times of a Poisson process, (n,) float64 ascending: ``rate`` a second."""
    random = np.random.default_rng(seed)
    times = np.cumsum(
        random.exponential(1 / rate, int(rate * seconds * 1.2 + 10 * (rate * seconds) ** 0.5 + 20))
    )
    found: np.ndarray = times[times < seconds]
    return found
