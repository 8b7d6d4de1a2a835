"""A long run at steady load, to see errors of the embedding endpoint and growth of its memory."""

from __future__ import annotations

import time

import msgspec

from benchmarks.comparison import BenchmarkPart, Progress, figure
from benchmarks.embedder.endpoint import MeasuredEndpoint
from benchmarks.embedder.load import Load, request, run_load
from benchmarks.embedder.measure import CLIENTS


class Sample(msgspec.Struct, frozen=True):
    """One interval of a soak; bytes, chips a second, milliseconds."""

    minute: float
    memory: int
    asked: float
    answered: float
    p95: float
    errors: int


class Soak(msgspec.Struct, frozen=True):
    """A long run at part of the load that the machine gives."""

    model: str
    minutes: float
    load: float
    requests: int
    faces: int
    errors: int
    p50: float
    p95: float
    #: Resident bytes after the first two minutes (or tenth, if shorter), at the end, and the most there ever was.
    memory_start: int
    memory_end: int
    memory_most: int
    samples: tuple[Sample, ...]

    @property
    def growth(self) -> float:
        """Growth of the memory, as a share of what it was at the start."""
        return self.memory_end / self.memory_start - 1 if self.memory_start else 0.0

    @property
    def reached(self) -> bool:
        """True without errors, and with memory that grew by less than a tenth."""
        return not self.errors and self.growth < 0.1

    def part(self) -> BenchmarkPart:
        """Return the soak as figures."""
        mib = 2**-20
        return BenchmarkPart(
            name=f"{self.minutes:g} minutes at {self.load:.0%} load: {self.model}",
            figures=(
                figure("soak.requests", "requests", "", [self.requests], note=f"{self.faces:,} faces"),
                figure("soak.errors", "errors", "", [self.errors], at_most=0),
                figure("soak.p50", "median latency", "ms", [self.p50]),
                figure("soak.p95", "95th percentile of the latency", "ms", [self.p95]),
                figure("soak.start", "memory at the start", "MiB", [self.memory_start], scale=mib),
                figure("soak.end", "memory at the end", "MiB", [self.memory_end], scale=mib),
                figure("soak.growth", "growth of the memory", "%", [self.growth], scale=100, at_most=10),
                figure("soak.most", "most memory", "MiB", [self.memory_most], scale=mib),
            ),
        )


#: Between two measurements of the endpoint's capacity.
_CALIBRATION_INTERVAL_S = 120.0
_CALIBRATION_S = 5.0
_SAMPLE_S = 15.0
#: Sizes of a soak's requests: photos with few faces and with many.
_MIX = (1, 1, 2, 1, 3, 8, 1, 2, 16, 4, 1, 64)


def soak(
    endpoint: MeasuredEndpoint, minutes: float, load: float, progress: Progress = lambda _: None
) -> Soak:
    """Request ``load`` (0 to 1) of the endpoint's capacity, in requests of many sizes, and watch memory and errors.

    The capacity is measured again every two minutes: on a shared machine it changes.
    """
    requests = [request(chips, seed) for seed, chips in enumerate(_MIX)]
    total = Load()
    samples: list[Sample] = []
    with endpoint.serve() as server:
        server.wait_until_ready()
        began = time.monotonic()
        rate, calibrated = 0.0, float("-inf")
        while (passed := time.monotonic() - began) < 60 * minutes:
            if passed - calibrated >= _CALIBRATION_INTERVAL_S:
                calibrated = passed
                rate = load * run_load(server.port, requests, CLIENTS, min(_CALIBRATION_S, 10 * minutes)).rate
            seen = run_load(
                server.port, requests, CLIENTS, min(_SAMPLE_S, max(1.0, 60 * minutes - passed)), rate
            )
            for name in ("latencies", "answers"):
                setattr(total, name, getattr(total, name) + getattr(seen, name))
            total.chips += seen.chips
            minute = (time.monotonic() - began) / 60
            samples.append(
                Sample(minute, server.memory_bytes(), rate, seen.rate, seen.percentile(95), seen.errors)
            )
            progress(
                f"minute {minute:.1f} of {minutes:g}: {seen.rate:.0f} faces/s, "
                f"{samples[-1].memory / 2**20:.0f} MiB, {total.errors} errors"
            )
    settled = [one for one in samples if one.minute >= min(2.0, minutes / 10)] or samples[-1:]
    return Soak(
        model=endpoint.model,
        minutes=minutes,
        load=load,
        requests=total.answers.total(),
        faces=total.chips,
        errors=total.errors,
        p50=total.percentile(50),
        p95=total.percentile(95),
        memory_start=settled[0].memory,
        memory_end=settled[-1].memory,
        memory_most=max(one.memory for one in settled),
        samples=tuple(samples),
    )
