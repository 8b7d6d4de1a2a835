"""The embedding endpoint beside its model alone, and the model beside the device.

Three rates: the roof of the device (its matrix products a second over the model's operations), the model in a bare loop
of ONNX Runtime, and the server under load. Bare loop and server are measured in turn, because the speed of a shared
machine changes.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import msgspec

from benchmarks.comparison import BenchmarkPart, Comparison, Figure, Progress, compare, figure
from benchmarks.embedder.endpoint import OPEN_WITHIN_S, MeasuredEndpoint, Server
from benchmarks.embedder.load import Load, request, run_load
from benchmarks.machine import graphics_name, processor_name
from benchmarks.process import Child

#: Clients of the headline.
CLIENTS = 16
#: Least share of the bare loop that the server is to reach, on a processor and on a GPU.
GOAL_CPU, GOAL_GPU = 0.90, 0.85

_PASSES = 4

#: (x, y) by name of a line.
Curves = dict[str, list[tuple[float, float]]]


class EndpointReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of ``python -m benchmarks embedder``: its tables, and the curves behind them."""

    part: BenchmarkPart
    #: ``bare`` (faces/s over batch), ``server`` (faces/s over clients), ``p95_ms`` (over clients) with their ``roof``;
    #: of a soak ``memory_mib`` and ``faces`` (a second), over minutes.
    curves: dict[str, Curves]
    #: Heading of the plot; empty where there is none.
    caption: str = ""
    #: Faces a second that the device's peak would allow.
    roof: float = 0.0


class MeasurementPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes and durations of the measurements."""

    batches: tuple[int, ...]
    clients: tuple[int, ...]
    #: Chips of a request.
    chips: tuple[int, ...]
    seconds: float
    rounds: int


class _BareRun(NamedTuple):
    """A way to run the model in the bare loop."""

    threads: int
    callers: int
    batch: int


class _Round(NamedTuple):
    """Bare loop and server one after the other: faces a second, and processor milliseconds a face."""

    bare: float
    bare_cpu_ms: float
    server: Load
    server_cpu_ms: float


def measure(
    endpoint: MeasuredEndpoint,
    flops_per_face: int,
    plan: MeasurementPlan,
    progress: Progress = lambda _: None,
) -> EndpointReport:
    """Measure bare loop, roof and server."""
    with ExitStack() as stack:
        bare = stack.enter_context(endpoint.bare())
        about = bare.ask(within=OPEN_WITHIN_S, about=True)
        on_cpu, cpus = about["provider"] == "CPU", about["cpus"]

        def peak() -> float:
            progress("the device's peak")
            # Small on a processor: such a product is done before another process gets its turn.
            flops: float = bare.ask(gemm=1024 if on_cpu else 8192, seconds=plan.seconds / 2)["flops"]
            return flops

        peaks = [peak()]
        loops = {1: bare}
        callers = [(1, 1), (1, about["workers"])]
        if on_cpu and cpus > 1:
            # The other way to use all cores: one caller, and ONNX Runtime's own threads.
            loops[cpus] = stack.enter_context(endpoint.bare(threads=cpus, workers=1))
            loops[cpus].ask(within=OPEN_WITHIN_S, about=True)
            callers.append((cpus, 1))
        runs = [_BareRun(*pair, batch) for pair in dict.fromkeys(callers) for batch in plan.batches]
        rates = _bare_rates(loops, runs, plan, progress)
        best = max(rates, key=rates.__getitem__)
        peaks.append(peak())
        server = stack.enter_context(endpoint.serve())
        server.wait_until_ready()
        loads = {}
        for chips in plan.chips:
            for clients in plan.clients:
                progress(f"server: {clients} clients, {chips} chips a request")
                loads[chips, clients] = run_load(server.port, [request(chips)], clients, plan.seconds)
        loop = loops[best.threads]
        rounds = {chips: _rounds(loop, best, server, chips, plan, progress) for chips in plan.chips}
        peaks.append(peak())
    model, roof, goal = about["model"], max(peaks) / flops_per_face, GOAL_CPU if on_cpu else GOAL_GPU
    name = processor_name() if on_cpu else graphics_name()
    device = f"{about['provider']}, {about['precision']}, {cpus} CPUs"
    comparisons = [_comparison(chips, made, goal) for chips, made in rounds.items()]
    shares = zip(rounds, comparisons, strict=True)
    given = ", ".join(f"{one.ratio.median:.0%} with {chips} chips a request" for chips, one in shares)
    about_device = (
        f"{model}: {flops_per_face / 1e9:.2f} GFLOP a face. {name}, {device}: {max(peaks) / 1e9:,.0f} GFLOP/s in a "
        f"matrix product, so at most {roof:,.0f} faces/s (the roof)."
    )
    return EndpointReport(
        part=BenchmarkPart(
            name=model,
            comparisons=tuple(comparisons),
            figures=tuple(_figures(rates, roof, loads)),
            notes=(about_device, *(_note(chips, made) for chips, made in rounds.items())),
        ),
        curves=_curves(rates, loads),
        caption=f"{model} on {name} ({device})\n"
        f"At {CLIENTS} clients the server gives {given} of what the model gives alone in a loop",
        roof=roof,
    )


def _bare_rates(
    loops: Mapping[int, Child], runs: list[_BareRun], plan: MeasurementPlan, progress: Progress
) -> dict[_BareRun, float]:
    """Return faces a second; of several short passes the best, as a long one would meet whatever else runs."""
    rates: dict[_BareRun, float] = defaultdict(float)
    for number in range(_PASSES):
        for run in runs:
            how = f"{run.callers} x {run.threads} threads, batch {run.batch}"
            progress(f"bare loop: {how}, {number + 1} of {_PASSES}")
            asked = {"batch": run.batch, "callers": run.callers, "seconds": plan.seconds / _PASSES}
            rates[run] = max(rates[run], loops[run.threads].ask(**asked)["rate"])
    return rates


def _rounds(
    bare: Child, best: _BareRun, server: Server, chips: int, plan: MeasurementPlan, progress: Progress
) -> list[_Round]:
    content, rounds = [request(chips)], []
    asked: dict[str, Any] = {"batch": best.batch, "callers": best.callers, "seconds": plan.seconds / 2}
    for number in range(plan.rounds):
        progress(f"bare loop and server in turn, {chips} chips a request: {number + 1} of {plan.rounds}")
        # Bare, server, bare: a machine that slows down between slows both.
        before, spent = bare.ask(**asked), server.metric("cpu_seconds_total")
        load = run_load(server.port, content, CLIENTS, plan.seconds)
        spent, after = server.metric("cpu_seconds_total") - spent, bare.ask(**asked)
        rate, bare_s = ((before[name] + after[name]) / 2 for name in ("rate", "processor"))
        rounds.append(_Round(rate, 1000 * bare_s, load, 1000 * spent / max(load.chips, 1)))
    return rounds


def _comparison(chips: int, rounds: list[_Round], goal: float) -> Comparison:
    what = f"{CLIENTS} clients, {chips} faces a request"
    both = [one.server.rate for one in rounds], "the model alone", [one.bare for one in rounds]
    return compare(f"embedder.{chips}", what, *both, unit="faces/s", more_is_better=True, aim=goal)


def _note(chips: int, rounds: list[_Round]) -> str:
    # The share without the effect of other processes; without meaning on a GPU.
    share = sum(one.bare_cpu_ms for one in rounds) / max(sum(one.server_cpu_ms for one in rounds), 1e-9)
    p50, p95 = (statistics.median(one.server.percentile(q) for one in rounds) for q in (50, 95))
    return (
        f"{CLIENTS} clients, {chips} faces a request: by processor time {share:.1%} of the model alone; "
        f"p50 {p50:,.1f} ms, p95 {p95:,.1f} ms; medians of {len(rounds)} rounds."
    )


def _figures(
    rates: Mapping[_BareRun, float], roof: float, loads: Mapping[tuple[int, int], Load]
) -> Iterator[Figure]:
    for run, rate in rates.items():
        what = f"the model alone: {run.callers} callers x {run.threads} threads, batch {run.batch}"
        yield figure("embedder.bare", what, "faces/s", [rate], note=f"{rate / roof:.0%} of the roof")
    for (chips, clients), load in loads.items():
        what = f"the server: {clients} clients, {chips} faces a request"
        note = (
            f"p50 {load.percentile(50):,.1f} ms, p95 {load.percentile(95):,.1f} ms, {load.errors} errors, "
            f"clients' own CPUs {load.processor_s / load.seconds:.2f}"
        )
        yield figure("embedder.server", what, "faces/s", [load.rate], note=note)


def _curves(rates: Mapping[_BareRun, float], loads: Mapping[tuple[int, int], Load]) -> dict[str, Curves]:
    curves: dict[str, Curves] = {name: defaultdict(list) for name in ("bare", "server", "p95_ms")}
    for run, rate in rates.items():
        curves["bare"][f"{run.callers} × {run.threads} threads"].append((run.batch, rate))
    for (chips, clients), load in loads.items():
        curves["server"][f"{chips} a request"].append((clients, load.rate))
        curves["p95_ms"][f"{chips} a request"].append((clients, load.percentile(95)))
    return curves
