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

from abeyance.cost.stations import ROUTES, SKEW, WAY, Station, latencies

#: Draws the factor of an invocation's duration; its mean is 1.
Vary = Callable[[np.random.Generator], float]


def skewed(random: np.random.Generator) -> float:
    """Draw from a log-normal distribution."""
    return float(random.lognormal(*SKEW))


class Queued(msgspec.Struct):
    """A message: its photo, its arrival in this queue, and its deliveries so far."""

    photo: int
    since: float
    receives: int = 0


class SimulatedStation:
    """A station of a simulation, and its counts. Times are in seconds."""

    def __init__(self, flow: Flow, station: Station) -> None:
        self.queue: deque[Queued] = deque()
        self.arrived = self.done = self.dead = self.invocations = self.batched = self.failed = 0
        #: Of each delivery, the time in the queue.
        self.waited: list[float] = []
        #: Busy servers, and the most of them at the same time.
        self.busy = self.servers = 0
        self._flow, self._station = flow, station
        self._allowed = float(station.first_servers)
        # Pollers are added over time.
        if station.first_servers < station.servers:
            flow.environment.process(self._scale())

    @property
    def fill(self) -> float:
        """Mean number of messages of an invocation."""
        return self.batched / self.invocations if self.invocations else 0.0

    def put(self, photo: int) -> None:
        self.arrived += 1
        self.queue.append(Queued(photo, self._flow.environment.now))
        if self._station.window and len(self.queue) == 1:
            self._flow.environment.process(self._gather())
        self._start()

    def _gather(self) -> Generator[Any, None, None]:
        """Start a batch that is not full when its first message has waited for the window."""
        yield self._flow.environment.timeout(self._station.window)
        self._start()

    def _ready(self) -> bool:
        """Return whether there is a batch to start: a full one, or one whose window has passed."""
        if not self.queue or len(self.queue) >= self._station.batch:
            return bool(self.queue)
        return self._flow.environment.now - self.queue[0].since >= self._station.window - 1e-9

    def _start(self) -> None:
        """Start batches as long as there are messages and free servers."""
        while self._ready() and self.busy < int(self._allowed):
            batch = [self.queue.popleft() for _ in range(min(self._station.batch, len(self.queue)))]
            self.busy += 1
            if self.queue and self._station.window:
                self._flow.environment.process(self._gather())
            self._flow.environment.process(self._work(batch))

    def _work(self, batch: list[Queued]) -> Generator[Any, None, None]:
        flow, station = self._flow, self._station
        for message in batch:
            message.receives += 1
            self.waited.append(flow.environment.now - message.since)
        taken = station.seconds(len(batch)) * flow.vary(flow.random)
        # Servers that wait for each other take as long as their common ceiling makes them.
        taken = max(taken, station.servers * len(batch) / station.ceiling - station.between)
        if self.busy > self.servers:
            self.servers = self.busy
            if self.servers > flow.warm:
                taken += station.cold
        self.invocations += 1
        self.batched += len(batch)
        if flow.failing and flow.random.random() < flow.failing:
            yield flow.environment.timeout(taken)
            self.failed += 1
            flow.environment.process(self._again(batch, station.visibility - taken))
        else:
            parts = [batch] if station.whole else [[message] for message in batch]
            for part in parts:
                yield flow.environment.timeout(taken / len(parts))
                for message in part:
                    self.done += 1
                    flow.done(station.name, message)
        yield flow.environment.timeout(station.between)
        self.busy -= 1
        self._start()

    def _again(self, batch: list[Queued], after: float) -> Generator[Any, None, None]:
        yield self._flow.environment.timeout(max(0.0, after))
        alive = [message for message in batch if message.receives < self._station.max_receives]
        self.dead += len(batch) - len(alive)
        self.queue.extend(alive)
        self._start()

    def _scale(self) -> Generator[Any, None, None]:
        while True:
            yield self._flow.environment.timeout(1.0)
            if self.queue:
                more = self._allowed + self._station.servers_a_second
                self._allowed = min(self._station.servers, more)
                self._start()


class Outcome(msgspec.Struct, frozen=True):
    """The result of a run."""

    photos: int
    stations: dict[str, SimulatedStation]
    #: Of the photos that have a result: when they were uploaded, and how long it took.
    uploaded: np.ndarray
    latencies: np.ndarray
    #: Ledger entries by photo.
    entries: np.ndarray
    #: Of each entry, from the event to the ledger.
    lags: np.ndarray


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
        routes: Mapping[str, tuple[str, ...]] = ROUTES,
        way: tuple[str, ...] = WAY,
    ) -> None:
        self.environment = simpy.Environment()
        self.random = np.random.default_rng(seed)
        self.vary, self.failing, self.warm = vary, failing, warm
        self.stations = {name: SimulatedStation(self, station) for name, station in made.items()}
        self._delays = latencies().seconds
        self._routes, self._way = routes, way
        self._uploaded: list[float] = []
        self._results: dict[int, float] = {}
        self._entries: list[int] = []
        self._lags: list[float] = []

    def run(self, arrivals: Iterable[float], seconds: float) -> Outcome:
        """Upload photos at these times, ascending, and stop after ``seconds``."""
        self.environment.process(self._upload(arrivals))
        self.environment.run(until=seconds)
        uploaded = np.array([self._uploaded[photo] for photo in self._results])
        return Outcome(
            photos=len(self._uploaded),
            stations=self.stations,
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
            self._send(listener, message.photo, "event_to_queue")

    def _send(self, name: str, photo: int, delay: str) -> None:
        event = self.environment.timeout(self._delays[delay])
        assert event.callbacks is not None
        event.callbacks.append(lambda _: self.stations[name].put(photo))

    def _upload(self, arrivals: Iterable[float]) -> Generator[Any, None, None]:
        for photo, when in enumerate(arrivals):
            yield self.environment.timeout(max(0.0, when - self.environment.now))
            self._uploaded.append(self.environment.now)
            self._send(self._way[0], photo, "upload_to_queue")


def poisson(rate: float, seconds: float, seed: int) -> np.ndarray:
    """Return the arrival times of a Poisson process, (n,) float64 ascending: ``rate`` a second."""
    expected = rate * seconds
    most = int(1.2 * expected + 10 * expected**0.5 + 20)
    times = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, most))
    return times[times < seconds]
