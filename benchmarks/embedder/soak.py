"""A long run at steady load, to see errors of the embedding endpoint and growth of its memory."""

from __future__ import annotations

import time

from benchmarks.comparison import BenchmarkPart, Progress, figure
from benchmarks.embedder.endpoint import MeasuredEndpoint
from benchmarks.embedder.load import Load, request, run_load
from benchmarks.embedder.measure import CLIENTS, EndpointReport

#: Between two measurements of the endpoint's capacity.
_CALIBRATION_INTERVAL_S = 120.0
_CALIBRATION_S = 5.0
_SAMPLE_S = 15.0
#: Sizes of a soak's requests: photos with few faces and with many.
_MIX = (1, 1, 2, 1, 3, 8, 1, 2, 16, 4, 1, 64)


def soak(
    endpoint: MeasuredEndpoint, minutes: float, load: float, progress: Progress = lambda _: None
) -> EndpointReport:
    """Request ``load`` (0 to 1) of the endpoint's capacity, in requests of many sizes, and watch memory and errors.

    The capacity is measured again every two minutes: on a shared machine it changes.
    """
    requests = [request(chips, seed) for seed, chips in enumerate(_MIX)]
    total = Load()
    #: Resident MiB and faces a second by minute.
    memory: list[tuple[float, float]] = []
    faces: list[tuple[float, float]] = []
    with endpoint.serve() as server:
        server.wait_until_ready()
        began = time.monotonic()
        rate, calibrated = 0.0, float("-inf")
        while (passed := time.monotonic() - began) < 60 * minutes:
            if passed - calibrated >= _CALIBRATION_INTERVAL_S:
                calibrated = passed
                rate = load * run_load(server.port, requests, CLIENTS, min(_CALIBRATION_S, 10 * minutes)).rate
            duration = min(_SAMPLE_S, max(1.0, 60 * minutes - passed))
            sample = run_load(server.port, requests, CLIENTS, duration, rate)
            total.latencies += sample.latencies
            total.answers += sample.answers
            total.chips += sample.chips
            minute = (time.monotonic() - began) / 60
            memory.append((minute, server.metric("resident_memory_bytes") / 2**20))
            faces.append((minute, sample.rate))
            progress(
                f"minute {minute:.1f} of {minutes:g}: {sample.rate:.0f} faces/s, {memory[-1][1]:.0f} MiB, "
                f"{total.errors} errors"
            )
    # After the first two minutes (or tenth, if shorter).
    settled = [mib for minute, mib in memory if minute >= min(2.0, minutes / 10)] or [memory[-1][1]]
    growth = 100 * (settled[-1] / settled[0] - 1) if settled[0] else 0.0
    part = BenchmarkPart(
        name=f"{minutes:g} minutes at {load:.0%} load: {endpoint.model}",
        figures=(
            figure("soak.requests", "requests", "", [total.answers.total()], note=f"{total.chips:,} faces"),
            figure("soak.errors", "errors", "", [total.errors], at_most=0),
            figure("soak.p50", "median latency", "ms", [total.percentile(50)]),
            figure("soak.p95", "95th percentile of the latency", "ms", [total.percentile(95)]),
            figure("soak.start", "memory at the start", "MiB", [settled[0]]),
            figure("soak.end", "memory at the end", "MiB", [settled[-1]]),
            figure("soak.growth", "growth of the memory", "%", [growth], at_most=10),
            figure("soak.most", "most memory", "MiB", [max(settled)]),
        ),
    )
    return EndpointReport(part=part, curves={"memory_mib": {"server": memory}, "faces": {"server": faces}})
