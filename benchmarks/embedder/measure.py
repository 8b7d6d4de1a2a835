"""The embedding endpoint beside its model alone, and the model beside the device.

Three rates: the roof of the device (its matrix products a second over the model's operations), the model in a bare loop
of ONNX Runtime, and the server under load. Bare loop and server are measured in turn, because the speed of a shared
machine changes.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from contextlib import ExitStack

import msgspec

from benchmarks.comparison import BenchmarkPart, Progress, compare, figure
from benchmarks.embedder.endpoint import BareLoop, MeasuredEndpoint, Server
from benchmarks.embedder.load import request, run_load
from benchmarks.machine import graphics_name, processor_name

#: Clients of the headline.
CLIENTS = 16
#: Least share of the bare loop that the server is to reach, on a processor and on a GPU.
GOAL_CPU, GOAL_GPU = 0.90, 0.85

_PASSES = 4


class Device(msgspec.Struct, frozen=True):
    """The device that ran the model."""

    name: str
    provider: str
    precision: str
    cpus: int
    #: Floating-point operations a second in a large matrix product, best of many.
    peak_flops: float


class BareRun(msgspec.Struct, frozen=True):
    """ONNX Runtime alone in a loop."""

    threads: int
    callers: int
    batch: int
    faces_per_second: float


class ServerRun(msgspec.Struct, frozen=True):
    """The server under load; milliseconds."""

    clients: int
    chips: int
    faces_per_second: float
    p50: float
    p95: float
    errors: int
    #: Processor seconds of the clients in a second, taken from the same machine.
    client_cpu: float


class Round(msgspec.Struct, frozen=True):
    """Bare loop and server one after the other."""

    bare: float
    server: float
    p50: float
    p95: float
    #: Processor milliseconds a face in the bare loop and in the server.
    bare_cpu: float
    server_cpu: float

    @property
    def share(self) -> float:
        return self.server / self.bare


class Headline(msgspec.Struct, frozen=True):
    """At :data:`CLIENTS` clients: medians of the rounds."""

    chips: int
    bare: float
    server: float
    share: float
    #: Processor time of the bare loop as a share of the server's, a face each: :attr:`share` without the effect of
    #: other processes. Without meaning on a GPU.
    cpu_share: float
    p50: float
    p95: float
    rounds: tuple[Round, ...]


class Report(msgspec.Struct, frozen=True):
    """The result of ``python -m benchmarks embedder``."""

    model: str
    device: Device
    #: Of one face, and the faces a second that the device's peak would allow.
    flops_per_face: int
    roof: float
    bare: tuple[BareRun, ...]
    server: tuple[ServerRun, ...]
    #: One for each size of request.
    headlines: tuple[Headline, ...]
    goal: float

    @property
    def best(self) -> BareRun:
        return max(self.bare, key=lambda run: run.faces_per_second)

    @property
    def reached(self) -> bool:
        """True if the server reaches its goal with every size of request."""
        return all(headline.share >= self.goal for headline in self.headlines)

    def part(self) -> BenchmarkPart:
        """Return the report as comparisons and figures."""
        device = self.device
        clients = f"{CLIENTS} clients"
        return BenchmarkPart(
            name=self.model,
            comparisons=tuple(
                compare(
                    f"embedder.{one.chips}",
                    f"{clients}, {one.chips} faces a request",
                    [each.server for each in one.rounds],
                    "the model alone",
                    [each.bare for each in one.rounds],
                    unit="faces/s",
                    more_is_better=True,
                    aim=self.goal,
                )
                for one in self.headlines
            ),
            figures=(
                *(
                    figure(
                        "embedder.bare",
                        f"the model alone: {run.callers} callers x {run.threads} threads, batch {run.batch}",
                        "faces/s",
                        [run.faces_per_second],
                        note=f"{run.faces_per_second / self.roof:.0%} of the roof",
                    )
                    for run in self.bare
                ),
                *(
                    figure(
                        "embedder.server",
                        f"the server: {run.clients} clients, {run.chips} faces a request",
                        "faces/s",
                        [run.faces_per_second],
                        note=f"p50 {run.p50:,.1f} ms, p95 {run.p95:,.1f} ms, {run.errors} errors, clients' own CPUs "
                        f"{run.client_cpu:.2f}",
                    )
                    for run in self.server
                ),
            ),
            notes=(
                f"{self.model}: {self.flops_per_face / 1e9:.2f} GFLOP a face. {device.name}, {device.provider}, "
                f"{device.precision}, {device.cpus} CPUs: {device.peak_flops / 1e9:,.0f} GFLOP/s in a matrix product, "
                f"so at most {self.roof:,.0f} faces/s (the roof).",
                *(
                    f"{clients}, {one.chips} faces a request: by processor time {one.cpu_share:.1%} of the "
                    f"model alone; p50 {one.p50:,.1f} ms, p95 {one.p95:,.1f} ms; medians of {len(one.rounds)} rounds."
                    for one in self.headlines
                ),
            ),
        )


class MeasurementPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes and durations of the measurements."""

    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    clients: tuple[int, ...] = (1, 4, CLIENTS)
    #: Chips of a request: one face, and a batch of the queue.
    chips: tuple[int, ...] = (1, 8)
    seconds: float = 3.0
    rounds: int = 5


def measure(
    endpoint: MeasuredEndpoint,
    flops_per_face: int,
    plan: MeasurementPlan,
    progress: Progress = lambda _: None,
) -> Report:
    """Measure bare loop, roof and server."""
    with ExitStack() as stack:
        bare = stack.enter_context(endpoint.bare())
        about = bare.about()
        on_cpu = about["provider"] == "CPU"

        def peak() -> float:
            progress("the device's peak")
            # Small on a processor: such a product is done before another process gets its turn.
            flops: float = bare.ask(gemm=1024 if on_cpu else 8192, seconds=plan.seconds / 2)["flops"]
            return flops

        peaks = [peak()]
        loops: dict[int, tuple[BareLoop, set[int]]] = {1: (bare, {1, about["workers"]})}
        if on_cpu and about["cpus"] > 1:
            # The other way to use all cores: one caller, and ONNX Runtime's own threads.
            threaded = stack.enter_context(endpoint.bare(threads=about["cpus"], workers=1))
            loops[about["cpus"]] = threaded, {1}
            threaded.about()
        runs = _sweep(loops, plan, progress)
        best = max(runs, key=lambda run: run.faces_per_second)
        peaks.append(peak())
        server = stack.enter_context(endpoint.serve())
        server.wait_until_ready()
        served = _serve(server.port, plan, progress)
        loop = loops[best.threads][0]
        headlines = tuple(_compare(loop, best, server, chips, plan, progress) for chips in plan.chips)
        peaks.append(peak())
    return Report(
        model=about["model"],
        device=Device(
            processor_name() if on_cpu else graphics_name(),
            about["provider"],
            about["precision"],
            about["cpus"],
            max(peaks),
        ),
        flops_per_face=flops_per_face,
        roof=max(peaks) / flops_per_face,
        bare=tuple(runs),
        server=tuple(served),
        headlines=headlines,
        goal=GOAL_CPU if on_cpu else GOAL_GPU,
    )


def _sweep(
    loops: Mapping[int, tuple[BareLoop, set[int]]], plan: MeasurementPlan, progress: Progress
) -> list[BareRun]:
    best: dict[tuple[int, int, int], float] = {}
    # The best of several short passes: a long one would be slowed down by whatever else runs at its moment.
    for number in range(_PASSES):
        for threads, (process, callers) in loops.items():
            for count in sorted(callers):
                for batch in plan.batches:
                    progress(
                        f"bare loop: {count} x {threads} threads, batch {batch}, {number + 1} of {_PASSES}"
                    )
                    rate = process.ask(batch=batch, callers=count, seconds=plan.seconds / _PASSES)["rate"]
                    key = threads, count, batch
                    best[key] = max(best.get(key, 0.0), rate)
    return [BareRun(*key, rate) for key, rate in best.items()]


def _serve(port: int, plan: MeasurementPlan, progress: Progress) -> list[ServerRun]:
    runs = []
    for chips in plan.chips:
        for clients in plan.clients:
            progress(f"server: {clients} clients, {chips} chips a request")
            load = run_load(port, [request(chips)], clients, plan.seconds)
            runs.append(
                ServerRun(
                    clients,
                    chips,
                    load.rate,
                    load.percentile(50),
                    load.percentile(95),
                    load.errors,
                    load.processor / load.seconds,
                )
            )
    return runs


def _compare(
    bare: BareLoop, best: BareRun, server: Server, chips: int, plan: MeasurementPlan, progress: Progress
) -> Headline:
    content = [request(chips)]
    rounds = []
    for number in range(plan.rounds):
        progress(f"bare loop and server in turn, {chips} chips a request: {number + 1} of {plan.rounds}")
        # Bare, server, bare: a machine that slows down between slows both.
        ask = {"batch": best.batch, "callers": best.callers, "seconds": plan.seconds / 2}
        before, spent = bare.ask(**ask), server.processor_s()
        load = run_load(server.port, content, CLIENTS, plan.seconds)
        spent, after = server.processor_s() - spent, bare.ask(**ask)
        rounds.append(
            Round(
                (before["rate"] + after["rate"]) / 2,
                load.rate,
                load.percentile(50),
                load.percentile(95),
                500 * (before["processor"] + after["processor"]),
                1000 * spent / max(load.chips, 1),
            )
        )
    return Headline(
        chips=chips,
        bare=statistics.median(one.bare for one in rounds),
        server=statistics.median(one.server for one in rounds),
        share=statistics.median(one.share for one in rounds),
        cpu_share=sum(one.bare_cpu for one in rounds) / max(sum(one.server_cpu for one in rounds), 1e-9),
        p50=statistics.median(one.p50 for one in rounds),
        p95=statistics.median(one.p95 for one in rounds),
        rounds=tuple(rounds),
    )
