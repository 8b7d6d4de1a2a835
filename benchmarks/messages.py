"""Message by message: a discrete-event simulation (SimPy) of some minutes of the pipeline.

Every photo is a message in the queue of ``gate``; a station takes a batch as soon as one of its servers is free, as
Lambda's pollers do without a batch window, and what it says is sent to those who listen. A whole day has forty million
invocations, too many for Python; :mod:`abeyance.cost.day` does the day, and is held against this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
import simpy

from abeyance.cost.stations import ROUTES, SKEW, WAY, Latencies, Station, latencies

#: Draws how much longer or shorter than its mean an invocation takes; its own mean is 1.
Vary = Callable[[np.random.Generator], float]


def constant(random: np.random.Generator) -> float:
    """Every invocation takes what it takes."""
    return 1.0


def exponential(random: np.random.Generator) -> float:
    """As in the textbooks' M/M/c."""
    return float(random.exponential())


def skewed(random: np.random.Generator) -> float:
    """Log-normal."""
    return float(random.lognormal(*SKEW))


class Queued(msgspec.Struct):
    """A message: which photo, when it came into this queue, and how often it was handed out."""

    photo: int
    since: float
    receives: int = 0


class Seen(msgspec.Struct):
    """What happened at one station. Times are in seconds."""

    arrived: int = 0
    done: int = 0
    dead: int = 0
    invocations: int = 0
    batched: int = 0
    failed: int = 0
    #: Seconds of servers being busy, and of messages being in the queue.
    busy: float = 0.0
    waited: list[float] = []
    most_waiting: int = 0
    waiting: int = 0
    servers: int = 0
    #: Integral of the number of messages in the station, waiting or in work.
    inside: float = 0.0

    @property
    def fill(self) -> float:
        """Messages of an invocation, on average."""
        return self.batched / self.invocations if self.invocations else 0.0


class Outcome(msgspec.Struct, frozen=True):
    """What a run saw."""

    seconds: float
    photos: int
    stations: dict[str, Seen]
    #: Of the photos that have a result: when they were uploaded, and how long it took.
    uploaded: np.ndarray
    latencies: np.ndarray
    #: Photos with a result, and ledger entries by photo, in the end.
    results: int
    entries: np.ndarray
    #: Of each entry, from the event to the ledger.
    lags: np.ndarray


class _Line:
    """A station at work."""

    def __init__(self, flow: Flow, station: Station) -> None:
        self._flow = flow
        self.station = station
        self.queue: deque[Queued] = deque()
        self.seen = Seen(waited=[])
        self._allowed = float(station.first_servers)
        self._busy = 0
        self._warm = flow.warm
        self._present = 0
        self._moved = 0.0
        self._blocked = False
        # Where servers are added only in time, somebody has to look.
        if station.first_servers < station.servers:
            flow.environment.process(self._scale())

    def put(self, message: Queued) -> None:
        self.seen.arrived += 1
        self._inside(+1)
        self.queue.append(message)
        self.seen.most_waiting = max(self.seen.most_waiting, len(self.queue))
        self.start()

    def start(self) -> None:
        """Hand out batches as long as there are messages and free servers."""
        while self.queue and not self._blocked and self._busy < int(self._allowed):
            size = min(self.station.batch, len(self.queue))
            batch = [self.queue.popleft() for _ in range(size)]
            self._busy += 1
            self._flow.environment.process(self._work(batch))

    def _work(self, batch: list[Queued]) -> Generator[Any, None, None]:
        flow, station, seen = self._flow, self.station, self.seen
        now = flow.environment.now
        for message in batch:
            message.receives += 1
            seen.waited.append(now - message.since)
        taken = station.seconds(len(batch)) * flow.vary(flow.random)
        if self._busy > seen.servers:
            seen.servers = self._busy
            if seen.servers > self._warm:
                taken += station.cold
        seen.invocations += 1
        seen.batched += len(batch)
        fails = bool(flow.failing) and flow.random.random() < flow.failing
        if fails and station.fifo:
            # Its group waits until the messages are visible again.
            self._blocked = True
        if fails:
            yield flow.environment.timeout(taken)
            seen.failed += 1
            flow.environment.process(self._again(batch, station.visibility - taken))
        else:
            steps = 1 if station.fifo else len(batch)
            for number in range(steps):
                yield flow.environment.timeout(taken / steps)
                for message in batch[number : number + 1] if steps > 1 else batch:
                    seen.done += 1
                    self._inside(-1)
                    flow.done(station.name, message)
        yield flow.environment.timeout(station.between)
        seen.busy += taken + station.between
        self._busy -= 1
        self.start()

    def _again(self, batch: list[Queued], after: float) -> Generator[Any, None, None]:
        yield self._flow.environment.timeout(max(0.0, after))
        alive = []
        for message in batch:
            if message.receives >= self.station.max_receives:
                self.seen.dead += 1
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
        self.seen.inside += self._present * (now - self._moved)
        self._present += change
        self._moved = now

    def close(self) -> None:
        self._inside(0)
        self.seen.waiting = len(self.queue)


class Flow:
    """Stations joined by routes. Photos enter at the first of ``way``; the last of it makes the result."""

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
        self._lines = {name: _Line(self, station) for name, station in made.items()}
        self._uploaded: list[float] = []
        self._results: dict[int, float] = {}
        self._entries: list[int] = []
        self._lags: list[float] = []

    def run(self, arrivals: Iterable[float], seconds: float) -> Outcome:
        """Let photos come at these times, ascending, and stop after ``seconds``."""
        self.environment.process(self._come(arrivals))
        self.environment.run(until=seconds)
        for line in self._lines.values():
            line.close()
        uploaded = np.array([self._uploaded[photo] for photo in self._results])
        return Outcome(
            seconds=seconds,
            photos=len(self._uploaded),
            stations={name: line.seen for name, line in self._lines.items()},
            uploaded=uploaded,
            latencies=np.array(list(self._results.values())) - uploaded,
            results=len(self._results),
            entries=np.bincount(self._entries, minlength=len(self._uploaded)),
            lags=np.array(self._lags),
        )

    def done(self, name: str, message: Queued) -> None:
        """A station has settled a message: tell those who listen, and note the result or the entry."""
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
        line = self._lines[name]
        assert event.callbacks is not None
        event.callbacks.append(lambda _: line.put(Queued(photo, self.environment.now)))

    def _come(self, arrivals: Iterable[float]) -> Generator[Any, None, None]:
        delay = self._known.seconds["upload_to_queue"]
        for photo, when in enumerate(arrivals):
            if when > self.environment.now:
                yield self.environment.timeout(when - self.environment.now)
            self._uploaded.append(self.environment.now)
            self._send(self._way[0], photo, delay)


def poisson(rate: float, seconds: float, seed: int) -> np.ndarray:
    """Times at which photos come, (n,) float64 ascending: ``rate`` a second, independent of one another."""
    random = np.random.default_rng(seed)
    times = np.cumsum(
        random.exponential(1 / rate, int(rate * seconds * 1.2 + 10 * (rate * seconds) ** 0.5 + 20))
    )
    found: np.ndarray = times[times < seconds]
    return found
