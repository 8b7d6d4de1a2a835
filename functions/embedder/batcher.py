"""Dynamic batching by chips: waiting requests are cut into full batches, across the borders of requests.

    requests   [aaaaa][b][cccccccc]...            a run takes the waiting chips, up to ``batch``,
    runs       [aaaaabcc][cccccc..]               as soon as a worker is free

So a batch grows with the load: alone, a request starts at once; under load the next batch fills while the last one
runs. A full batch is handed over while its worker is still busy, so that the model never waits for the event loop.
Everything but the model's run happens on the event loop, so there are no locks.
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
    """Too many chips are waiting; ``retry_after`` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


class ModelFailed(Exception):
    """The model raised an error, returned no templates, or is stuck."""


class Observer(Protocol):
    """A listener to the batcher, called on the event loop."""

    def started(self, chips: int, waited: float) -> None:
        """Note that a run of ``chips`` begins, whose oldest one waited ``waited`` seconds."""
        ...

    def ended(self, chips: int, seconds: float, error: BaseException | None) -> None:
        """Note that a run has ended."""
        ...


class _Job:
    """The chips of one request."""

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


class _Run:
    """One run of the model under way."""

    def __init__(self, pieces: Sequence[_Piece], began: float) -> None:
        self.pieces = pieces
        self.began = began
        self.count = sum(stop - start for _, start, stop in pieces)

    def reject(self, error: ModelFailed) -> None:
        """Fail the jobs of the run."""
        for job, _, _ in self.pieces:
            _reject(job, error)


class Batcher:
    """A queue of chips in front of a model. Make it and use it on one event loop.

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
        self._running: set[_Run] = set()
        self._timer: asyncio.TimerHandle | None = None
        #: Chips a second of one worker, a moving average.
        self._rate = 0.0

    @property
    def pending(self) -> int:
        """Chips accepted and not answered."""
        return self._reserved

    def longest_run(self) -> float:
        """Return the age of the oldest run under way in seconds; 0.0 without one."""
        return self._clock() - min(run.began for run in self._running) if self._running else 0.0

    def reserve(self, chips: int) -> None:
        """Reserve room for ``chips``, until :meth:`release`; raises :class:`Overloaded`."""
        if self._reserved + chips > self._capacity:
            speed = self._rate * self._workers
            seconds = self._reserved / speed if speed else 1
            raise Overloaded(min(30, max(1, math.ceil(seconds))))
        self._reserved += chips

    def release(self, chips: int) -> None:
        """Free the room of answered chips."""
        self._reserved -= chips

    def submit(self, chips: Chips, *, first: bool = False) -> asyncio.Future[Templates]:
        """Queue ``chips``, and return the future of their templates, in their order.

        The future raises :class:`ModelFailed`. Cancel it when the client is gone: chips whose run has not begun are
        dropped. ``first`` puts them at the head of the queue.
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
        """Fail all waiting chips with ``error``. Runs under way go on; their results are dropped."""
        while self._queue:
            job = self._queue.popleft()
            self._queued -= len(job.chips) - job.taken
            _reject(job, error)
        for run in self._running:
            run.reject(error)

    def close(self) -> None:
        """End the threads after the runs under way."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def _idle(self) -> int:
        return self._workers - len(self._running)

    def _dispatch(self) -> None:
        while self._queue and (self._idle > 0 or self._ahead()):
            if self._linger and self._running and self._queued < self._batch:
                # A run is under way; more chips may arrive before it ends.
                if self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(self._linger, self._lingered)
                return
            self._start()

    def _ahead(self) -> bool:
        """Return whether a busy worker may get a batch: one each, and full ones only."""
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
        run = _Run(pieces, self._clock())
        self._running.add(run)
        if self._observer:
            self._observer.started(run.count, run.began - min(job.accepted for job, _, _ in pieces))
        future = asyncio.get_running_loop().run_in_executor(self._pool, self._work, pieces)
        future.add_done_callback(lambda done: self._ended(run, done))

    def _work(self, pieces: Sequence[_Piece]) -> tuple[Templates, float]:
        """Run the model in a worker's thread, and return the templates and the seconds."""
        if all(job.future.done() for job, _, _ in pieces):
            return np.empty((0, self._dimension), np.float32), 0.0  # all clients are gone
        began = self._clock()
        views = [job.chips[start:stop] for job, start, stop in pieces]
        chips = views[0] if len(views) == 1 else np.concatenate(views)
        templates = self._run(chips)
        check_templates(templates, len(chips), self._dimension)
        return templates, self._clock() - began

    def _ended(self, run: _Run, done: asyncio.Future[tuple[Templates, float]]) -> None:
        self._running.remove(run)
        seconds = self._clock() - run.began
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is None:
            templates, seconds = done.result()
            if len(templates):
                rate = run.count / max(seconds, 1e-6)
                self._rate = rate if not self._rate else 0.9 * self._rate + 0.1 * rate
                _scatter(run.pieces, templates)
        elif isinstance(error, ModelFailed):
            run.reject(error)
        else:
            run.reject(ModelFailed(f"the model raised {type(error).__name__}"))
        if self._observer and (error or seconds):
            self._observer.ended(run.count, seconds, error)
        self._dispatch()


def check_templates(templates: Templates, count: int, dimension: int) -> None:
    """Raise :class:`ModelFailed` unless ``templates`` are (count, dimension) finite numbers."""
    if templates.shape != (count, dimension) or not np.isfinite(templates).all():
        raise ModelFailed(f"the model returned {templates.shape}, not {count} x {dimension} finite numbers")


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
