"""Dynamic batching by chips: what waits is cut into full batches, across the borders of requests.

    requests   [aaaaa][b][cccccccc]...            a run takes what there is, up to ``batch`` chips,
    runs       [aaaaabcc][cccccc..]               the moment a worker is free; it waits for nothing

So a batch grows with the load by itself: alone, a request starts at once; under load the next batch fills while the
last one runs. A full batch is handed over while its worker is still busy, so that the model never waits for the event
loop to get its turn. Everything but the model's run happens on the event loop, so there are no locks.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Chips = NDArray[np.uint8]
Templates = NDArray[np.float32]


class Overloaded(Exception):
    """More chips are waiting than will be answered in time; ``retry_after`` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


class ModelFailed(Exception):
    """The model raised, gave something that is no template, or is stuck."""


class Observer(Protocol):
    """Told what the batcher does; called on the event loop."""

    def started(self, chips: int, waited: float) -> None:
        """A run of ``chips`` begins; its oldest one waited ``waited`` seconds."""
        ...

    def ended(self, chips: int, seconds: float, error: BaseException | None) -> None:
        """A run has ended."""
        ...


class _Job:
    __slots__ = ("accepted", "chips", "future", "left", "taken", "templates")

    def __init__(self, chips: Chips, dimension: int, future: asyncio.Future[Templates], now: float) -> None:
        self.chips = chips
        self.templates = np.empty((len(chips), dimension), np.float32)
        self.taken = 0
        self.left = len(chips)
        self.future = future
        self.accepted = now


#: Chips [start, stop) of a job.
_Piece = tuple[_Job, int, int]


class Batcher:
    """Runs a model on what is submitted. Make it and use it on one event loop.

    Parameters
    ----------
    run
        (n, 112, 112, 3) uint8 -> (n, dimension) float32, unit length; called in threads, with n <= ``batch``.
    dimension
        Length of a template.
    batch
        Most chips of one run.
    workers
        Runs at the same time.
    spread
        Share few chips among idle workers (processor cores) instead of filling a batch (a GPU).
    linger
        Seconds that an incomplete batch waits for more while another run is under way.
    capacity
        Most chips accepted and not answered.
    """

    def __init__(
        self,
        run: Callable[[Chips], Templates],
        dimension: int,
        *,
        batch: int,
        workers: int,
        capacity: int,
        spread: bool = False,
        linger: float = 0.0,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._dimension = dimension
        self._batch = batch
        self._workers = workers
        self._capacity = capacity
        self._spread = spread
        self._linger = linger
        self._observer = observer
        self._clock = clock
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="model")
        self._queue: deque[_Job] = deque()
        self._queued = 0
        self._reserved = 0
        #: By number of run: when it began, and what it works on.
        self._running: dict[int, float] = {}
        self._pieces: dict[int, list[_Piece]] = {}
        self._runs = 0
        self._timer: asyncio.TimerHandle | None = None
        #: Chips a second of one worker, a moving average.
        self._rate = 0.0

    @property
    def pending(self) -> int:
        """Chips accepted and not answered."""
        return self._reserved

    def longest_run(self) -> float:
        """Seconds since the oldest run that has not ended began; 0.0 if none is under way."""
        return self._clock() - min(self._running.values()) if self._running else 0.0

    def reserve(self, chips: int) -> None:
        """Accept ``chips`` that are about to come; raises :class:`Overloaded`. Give them back with :meth:`release`."""
        if self._reserved + chips > self._capacity:
            speed = self._rate * self._workers
            seconds = self._reserved / speed if speed else 1
            raise Overloaded(min(30, max(1, math.ceil(seconds))))
        self._reserved += chips

    def release(self, chips: int) -> None:
        """Give back what was reserved, when it has been answered."""
        self._reserved -= chips

    def submit(self, chips: Chips, *, first: bool = False) -> asyncio.Future[Templates]:
        """Templates of ``chips``, in their order.

        The future raises :class:`ModelFailed`. Cancel it when nobody waits any more: what has not begun is dropped.
        ``first`` goes before everything that waits.
        """
        loop = asyncio.get_running_loop()
        job = _Job(chips, self._dimension, loop.create_future(), self._clock())
        if not len(chips):
            job.future.set_result(job.templates)
            return job.future
        (self._queue.appendleft if first else self._queue.append)(job)
        self._queued += len(chips)
        self._dispatch()
        return job.future

    def fail(self, error: ModelFailed) -> None:
        """Answer everybody who waits with ``error``; runs under way are not stopped, but nobody waits for them."""
        while self._queue:
            job = self._queue.popleft()
            self._queued -= len(job.chips) - job.taken
            _reject(job, error)
        for pieces in self._pieces.values():
            for job, _, _ in pieces:
                _reject(job, error)

    def close(self) -> None:
        """End the threads; runs under way end first."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def _idle(self) -> int:
        return self._workers - len(self._running)

    def _dispatch(self) -> None:
        while self._queue and (self._idle > 0 or self._ahead()):
            if self._linger and self._running and self._queued < self._batch:
                # Somebody is being served already: company may still come.
                if self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(self._linger, self._lingered)
                return
            self._start()

    def _ahead(self) -> bool:
        """Whether a batch may be handed to a busy worker: one each, and none that could still grow."""
        return len(self._running) < 2 * self._workers and self._queued >= self._batch

    def _lingered(self) -> None:
        self._timer = None
        if self._queue and self._idle > 0:
            self._start()
        self._dispatch()

    def _take(self) -> list[_Piece]:
        room = self._batch
        if self._spread and self._idle > 0:
            room = min(room, math.ceil(self._queued / self._idle))
        pieces: list[_Piece] = []
        while room and self._queue:
            job = self._queue[0]
            if job.future.done():  # cancelled, or failed with another part of it
                self._queue.popleft()
                self._queued -= len(job.chips) - job.taken
                continue
            start, stop = job.taken, min(len(job.chips), job.taken + room)
            pieces.append((job, start, stop))
            job.taken = stop
            room -= stop - start
            self._queued -= stop - start
            if stop == len(job.chips):
                self._queue.popleft()
        return pieces

    def _start(self) -> None:
        pieces = self._take()
        if not pieces:
            return
        now = self._clock()
        self._runs += 1
        number = self._runs
        self._running[number] = now
        self._pieces[number] = pieces
        count = sum(stop - start for _, start, stop in pieces)
        if self._observer:
            self._observer.started(count, now - min(job.accepted for job, _, _ in pieces))
        future = asyncio.get_running_loop().run_in_executor(self._pool, self._work, pieces)
        future.add_done_callback(lambda done: self._ended(number, now, count, done))

    def _work(self, pieces: Sequence[_Piece]) -> tuple[Templates, float]:
        """In a worker's thread: the templates, and the seconds that they took."""
        if all(job.future.done() for job, _, _ in pieces):
            return np.empty((0, self._dimension), np.float32), 0.0  # nobody waits any more
        began = self._clock()
        views = [job.chips[start:stop] for job, start, stop in pieces]
        chips = views[0] if len(views) == 1 else np.concatenate(views)
        templates = self._run(chips)
        if templates.shape != (len(chips), self._dimension) or not np.isfinite(templates).all():
            raise ModelFailed("the model's answer is not a template")
        return templates, self._clock() - began

    def _ended(
        self, number: int, began: float, count: int, done: asyncio.Future[tuple[Templates, float]]
    ) -> None:
        del self._running[number]
        pieces = self._pieces.pop(number)
        seconds = self._clock() - began
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is None:
            templates, seconds = done.result()
            if len(templates):
                rate = count / max(seconds, 1e-6)
                self._rate = rate if not self._rate else 0.9 * self._rate + 0.1 * rate
                _scatter(pieces, templates)
        else:
            failure = (
                error
                if isinstance(error, ModelFailed)
                else ModelFailed(f"the model raised {type(error).__name__}")
            )
            for job, _, _ in pieces:
                _reject(job, failure)
        if self._observer and (error or seconds):
            self._observer.ended(count, seconds, error)
        self._dispatch()


def _scatter(pieces: Sequence[_Piece], templates: Templates) -> None:
    offset = 0
    for job, start, stop in pieces:
        job.templates[start:stop] = templates[offset : offset + stop - start]
        offset += stop - start
        job.left -= stop - start
        if not job.left and not job.future.done():
            job.future.set_result(job.templates)


def _reject(job: _Job, error: ModelFailed) -> None:
    if not job.future.done():
        job.future.set_exception(error)
