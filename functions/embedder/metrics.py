"""Prometheus metrics. They identify nobody."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

#: Media type of :meth:`Metrics.text`.
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_CHIPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The endpoint's metrics; also the batcher's :class:`~embedder.batcher.Observer`."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)

        common: Any = {"namespace": "abeyance_embedder", "registry": self._registry}
        latency = {**common, "buckets": _SECONDS}
        self.requests = Counter("requests_total", "Answers to /invocations, by status", ["status"], **common)
        self.seconds = Histogram(
            "request_seconds", "From the first byte of a request to its answer", **latency
        )
        self.chips = Counter("chips_total", "Chips embedded", **common)
        self.failures = Counter("model_failures_total", "Runs of the model that failed", **common)
        self.batch = Histogram("batch_chips", "Chips of one run of the model", buckets=_CHIPS, **common)
        self.waited = Histogram("queue_seconds", "How long the oldest chip of a run had waited", **latency)
        self.run = Histogram("run_seconds", "One run of the model", **latency)
        self.pending = Gauge("pending_chips", "Chips accepted and not answered", **common)
        self.ready = Gauge("ready", "1 if /ping answers 200", **common)
        self.info = Gauge("model_info", "Always 1", ["model", "provider", "precision"], **common)

    def started(self, chips: int, waited: float) -> None:
        """See :class:`~embedder.batcher.Observer`."""
        self.batch.observe(chips)
        self.waited.observe(waited)

    def ended(self, chips: int, seconds: float, error: BaseException | None) -> None:
        """See :class:`~embedder.batcher.Observer`."""
        self.run.observe(seconds)
        if error is None:
            self.chips.inc(chips)
        else:
            self.failures.inc()

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
