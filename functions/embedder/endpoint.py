"""The life of the endpoint: starting, ready, unwell, draining."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from enum import StrEnum

import numpy as np

from abeyance.embedding.npy import CHIP

from .batcher import Batcher, ModelFailed, check_templates
from .metrics import Metrics
from .model import Model
from .settings import EmbedderSettings

log = logging.getLogger("abeyance.embedder")


class State(StrEnum):
    """The answer of /ping; only READY is 200."""

    STARTING = "starting"
    READY = "ready"
    #: The model failed or is stuck; it is probed once a second until it answers.
    UNWELL = "unwell"
    DRAINING = "draining"


class NotServing(Exception):
    """The model is not open."""


class Endpoint:
    """The model behind the wire.

    Parameters
    ----------
    settings
        EmbedderSettings of the endpoint.
    open_model
        Opens the model; called once, in a thread.
    stop
        Called with the error if the model cannot be opened.
    """

    def __init__(
        self,
        settings: EmbedderSettings,
        open_model: Callable[[EmbedderSettings], Model],
        stop: Callable[[Exception], None],
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.model: Model | None = None
        self.batcher: Batcher | None = None
        #: Requests answered with templates.
        self.answered = 0
        self._open_model = open_model
        self._stop = stop
        self._draining = False
        self._well = False
        #: Time of the last good answer of the model.
        self._last_success = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def state(self) -> State:
        if self._draining:
            return State.DRAINING
        if self.batcher is None:
            return State.STARTING
        return State.READY if self._well else State.UNWELL

    def serving(self) -> Batcher:
        """Return the batcher; raises :class:`NotServing` while the model is not open.

        An unwell or draining endpoint still embeds: health is for the load balancer.
        """
        if self.batcher is None:
            raise NotServing(f"the endpoint is {self.state}")
        return self.batcher

    def start(self) -> None:
        """Begin to open the model. Call this on the event loop."""
        self._tasks.append(asyncio.create_task(self._run()))

    def drain(self) -> None:
        """Turn /ping to 503 at once; accepted and new requests are still answered."""
        self._draining = True
        self._update_ready()

    async def stop(self) -> None:
        """End background work."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self.batcher:
            self.batcher.close()

    def started(self, chips: int, waited: float) -> None:
        """See :class:`~embedder.batcher.Observer`."""
        self.metrics.started(chips, waited)

    def ended(self, chips: int, seconds: float, error: BaseException | None) -> None:
        """See :class:`~embedder.batcher.Observer`."""
        self.metrics.ended(chips, seconds, error)
        if error is None:
            self._last_success = time.monotonic()
        else:
            log.error("the model failed", exc_info=error, extra={"chips": chips})
        self._set_well(error is None)

    async def _run(self) -> None:
        try:
            await self._open()
        except Exception as error:  # noqa: BLE001
            # Any error of any library: without a model there is nothing to serve.
            log.critical("the model cannot be opened", extra={"because": str(error)})
            self._stop(error)
            return
        while True:
            await asyncio.sleep(1.0 if not self._well else min(1.0, self.settings.probe / 2))
            await self._probe()

    async def _open(self) -> None:
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        model = await loop.run_in_executor(None, self._open_model, self.settings)
        for size in model.warm_up:
            templates = await loop.run_in_executor(None, model.run, probe_chips(size))
            check_templates(templates, size, model.dimension)
        self.model = model
        self.batcher = Batcher(
            model.run,
            model.dimension,
            batch=model.batch,
            workers=model.workers,
            spread=model.spread,
            capacity=model.capacity,
            linger=self.settings.linger / 1000,
            observer=self,
        )
        self._last_success = time.monotonic()
        self.metrics.info.labels(model.identity, model.provider, model.precision).set(1)
        fields = {name: getattr(model, name) for name in ("provider", "precision", "batch", "workers")}
        seconds = round(time.monotonic() - began, 2)
        log.info("ready", extra={"model": model.identity, **fields, "seconds": seconds})
        self._set_well(True)

    async def _probe(self) -> None:
        """Fail a stuck run; embed a chip of noise if there was no good answer for a while."""
        assert self.batcher
        if self.batcher.longest_run() > self.settings.stuck:
            self._set_well(False)
            self.batcher.fail(ModelFailed("the model does not answer"))
            return
        if self._well and time.monotonic() - self._last_success < self.settings.probe:
            return
        if self.batcher.longest_run():
            return  # ``ended`` gets the result of the run under way
        probe = self.batcher.submit(probe_chips(1), first=True)
        with contextlib.suppress(ModelFailed, TimeoutError):  # ``ended`` gets the result
            await asyncio.wait_for(probe, self.settings.stuck)

    def _set_well(self, well: bool) -> None:
        if well != self._well:
            self._well = well
            (log.info if well else log.error)("the model answers" if well else "the model does not answer")
        self._update_ready()

    def _update_ready(self) -> None:
        self.metrics.ready.set(self.state is State.READY)


def probe_chips(count: int) -> np.ndarray:
    """Return (``count``, 112, 112, 3) uint8 noise, always the same."""
    return np.random.default_rng(0).integers(0, 256, (count, *CHIP), dtype=np.uint8)
