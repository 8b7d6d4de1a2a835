"""Prometheus metrics. Nothing in them says whose chips they were."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

#: What an answer of :meth:`Metrics.text` is.
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_CHIPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The endpoint's metrics; also the batcher's :class:`~embedder.batcher.Observer`."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, namespace="abeyance_embedder", registry=self._registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, namespace="abeyance_embedder", registry=self._registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(
                name, text, namespace="abeyance_embedder", buckets=buckets, registry=self._registry
            )

        self.requests = counter("requests_total", "Answers to /invocations, by status", "status")
        self.seconds = histogram(
            "request_seconds", "From the first byte of a request to its answer", _SECONDS
        )
        self.chips = counter("chips_total", "Chips embedded")
        self.failures = counter("model_failures_total", "Runs of the model that failed")
        self.batch = histogram("batch_chips", "Chips of one run of the model", _CHIPS)
        self.waited = histogram("queue_seconds", "How long the oldest chip of a run had waited", _SECONDS)
        self.run = histogram("run_seconds", "One run of the model", _SECONDS)
        self.pending = gauge("pending_chips", "Chips accepted and not answered")
        self.ready = gauge("ready", "1 if /ping answers 200")
        self.info = gauge("model_info", "Always 1", "model", "provider", "precision")

    def started(self, chips: int, waited: float) -> None:
        self.batch.observe(chips)
        self.waited.observe(waited)

    def ended(self, chips: int, seconds: float, error: BaseException | None) -> None:
        self.run.observe(seconds)
        if error is None:
            self.chips.inc(chips)
        else:
            self.failures.inc()

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
