"""A long run at steady load: whether the embedding endpoint's memory stays where it is, and nobody sees an error."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec

from benchmarks.comparison import Tell
from benchmarks.embedder.load import Load, closed_loop, paced, request
from benchmarks.embedder.measure import CLIENTS, Process, free_port


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


#: Seconds between two measurements of what the machine gives, and how long one takes.
_CALIBRATE_EVERY, _CALIBRATION = 120.0, 5.0
#: Sizes of a soak's requests: photos with few faces and with many.
_MIX = (1, 1, 2, 1, 3, 8, 1, 2, 16, 4, 1, 64)


def soak(
    command: Sequence[str],
    environment: Mapping[str, str],
    model: str,
    minutes: float,
    load: float,
    progress: Tell = lambda _: None,
    interval: float = 15.0,
    settings: Mapping[str, object] | None = None,
) -> Soak:
    """Ask for ``load`` (0 to 1) of what the endpoint gives, in requests of many sizes, and watch memory and errors.

    What it gives is measured again every two minutes: on a shared machine it changes. See
    :func:`~benchmarks.embedder.measure.measure` for the
    other parameters.
    """
    requests = [request(chips, seed) for seed, chips in enumerate(_MIX)]
    port = free_port()
    total = Load()
    samples: list[Sample] = []
    with Process(command, "serve", environment, model=model, port=port, **(settings or {})) as server:
        server.ready(port)
        began = time.monotonic()
        rate, calibrated = 0.0, float("-inf")
        while (passed := time.monotonic() - began) < 60 * minutes:
            if passed - calibrated >= _CALIBRATE_EVERY:
                calibrated = passed
                rate = load * closed_loop(port, requests, CLIENTS, min(_CALIBRATION, 10 * minutes)).rate
            seen = paced(port, requests, CLIENTS, min(interval, max(1.0, 60 * minutes - passed)), rate)
            for name in ("latencies", "answers"):
                setattr(total, name, getattr(total, name) + getattr(seen, name))
            total.chips += seen.chips
            minute = (time.monotonic() - began) / 60
            samples.append(Sample(minute, server.memory(), rate, seen.rate, seen.percentile(95), seen.errors))
            progress(
                f"minute {minute:.1f} of {minutes:g}: {seen.rate:.0f} faces/s, "
                f"{samples[-1].memory / 2**20:.0f} MiB, {total.errors} errors"
            )
    settled = [one for one in samples if one.minute >= min(2.0, minutes / 10)] or samples[-1:]
    return Soak(
        model=model,
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
