"""How near the embedding endpoint comes to its model alone, and the model to the device.

Three numbers, one above the other: what the device could do (a roof: its matrix products a second over the model's
operations), what ONNX Runtime does with the model in a bare loop, and what clients get from the server. Bare loop and
server are measured in turn, because a shared machine is never the same machine for long.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from benchmarks.comparison import Tell
from benchmarks.embedder.load import closed_loop, request
from benchmarks.errors import BenchError
from benchmarks.machine import graphics_name, processor_name, processor_seconds

#: Clients of the headline.
CLIENTS = 16
#: Least share of the bare loop that the server is to reach, on a processor and on a GPU.
GOAL_CPU, GOAL_GPU = 0.90, 0.85

_PASSES = 4


class Device(msgspec.Struct, frozen=True):
    """What ran the model."""

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
    #: Processor time of the bare loop as a share of the server's, a face each: what is left of :attr:`share` on a
    #: machine where others work too. Without meaning on a GPU.
    cpu_share: float
    p50: float
    p95: float
    rounds: tuple[Round, ...]


class Report(msgspec.Struct, frozen=True):
    """What ``python -m benchmarks embedder`` found."""

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
        """Whether the server reaches its goal with every size of request."""
        return all(headline.share >= self.goal for headline in self.headlines)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    clients: tuple[int, ...] = (1, 4, CLIENTS)
    #: Chips of a request: one face, and what a batch of the queue brings.
    chips: tuple[int, ...] = (1, 8)
    seconds: float = 3.0
    rounds: int = 5


class Process:
    """``python -m embedder <mode>`` with its settings in the environment."""

    def __init__(
        self, command: Sequence[str], mode: str, environment: Mapping[str, str], **settings: object
    ) -> None:
        given = {f"ABEYANCE_EMBEDDER_{name.upper()}": str(value) for name, value in settings.items()}
        self.settings = settings
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter on our own package
            [*command, mode],
            env={**os.environ, **environment, **given},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if mode == "bare" else subprocess.DEVNULL,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, **what: object) -> dict[str, Any]:
        """One line to the bare loop, one line back; with nothing, what it says when it starts."""
        assert self._process.stdin
        assert self._process.stdout
        if what:
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise BenchError("the model cannot be run; what it said is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ready(self, port: int, timeout: float = 600.0) -> None:
        """Wait until /ping answers 200."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise BenchError("the server ended; what it said is above")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
            else:
                return
        raise BenchError(f"the server was not ready within {timeout:.0f} s")

    def memory(self) -> int:
        """Resident bytes; 0 where the system does not say."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except OSError:
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def processor(self) -> float:
        """Processor seconds so far; 0.0 where the system does not say."""
        try:
            return processor_seconds(self.pid)
        except OSError:
            return 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()


def measure(
    command: Sequence[str],
    environment: Mapping[str, str],
    model: str,
    flops_per_face: int,
    plan: Plan,
    progress: Tell = lambda _: None,
    settings: Mapping[str, object] | None = None,
) -> Report:
    """Measure bare loop, roof and server.

    Parameters
    ----------
    command
        What starts the endpoint's package, such as ``python -m embedder``.
    environment
        Added to this process' own: where the package and the models lie.
    settings
        Of the endpoint, in lower case (``{"providers": "CUDA,CPU"}``).
    """
    with ExitStack() as stack:
        given = {"model": model, **(settings or {})}
        bare = stack.enter_context(Process(command, "bare", environment, **given))
        about = bare.ask()
        on_cpu = about["provider"] == "CPU"

        def peak() -> float:
            progress("the device's peak")
            # On a processor a product that is done before somebody else gets its turn.
            flops: float = bare.ask(gemm=1024 if on_cpu else 8192, seconds=plan.seconds / 2)["flops"]
            return flops

        peaks = [peak()]
        loops: dict[int, tuple[Process, tuple[int, ...]]] = {1: (bare, (1, about["workers"]))}
        if on_cpu and about["cpus"] > 1:
            # The other way to use all cores: one caller, and ONNX Runtime's own threads.
            threaded = Process(command, "bare", environment, **given, threads=about["cpus"], workers=1)
            loops[about["cpus"]] = (stack.enter_context(threaded), (1,))
            threaded.ask()
        runs = _sweep(loops, plan, progress)
        best = max(runs, key=lambda run: run.faces_per_second)
        peaks.append(peak())

        port = free_port()
        server = stack.enter_context(Process(command, "serve", environment, **given, port=port))
        server.ready(port)
        served = _serve(port, plan, progress)
        headlines = tuple(
            _compare(loops[best.threads][0], best, server, port, chips, plan, progress)
            for chips in plan.chips
        )
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


def _sweep(loops: Mapping[int, tuple[Process, tuple[int, ...]]], plan: Plan, progress: Tell) -> list[BareRun]:
    best: dict[tuple[int, int, int], float] = {}
    # In several short passes, the best of each: one long one would be at the mercy of its moment.
    for number in range(_PASSES):
        for threads, (process, callers) in loops.items():
            for count in sorted(set(callers)):
                for batch in plan.batches:
                    progress(
                        f"bare loop: {count} x {threads} threads, batch {batch}, {number + 1} of {_PASSES}"
                    )
                    rate = process.ask(batch=batch, callers=count, seconds=plan.seconds / _PASSES)["rate"]
                    key = threads, count, batch
                    best[key] = max(best.get(key, 0.0), rate)
    return [BareRun(*key, rate) for key, rate in best.items()]


def _serve(port: int, plan: Plan, progress: Tell) -> list[ServerRun]:
    runs = []
    for chips in plan.chips:
        for clients in plan.clients:
            progress(f"server: {clients} clients, {chips} chips a request")
            load = closed_loop(port, [request(chips)], clients, plan.seconds)
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
    bare: Process, best: BareRun, server: Process, port: int, chips: int, plan: Plan, progress: Tell
) -> Headline:
    content = [request(chips)]
    rounds = []
    for number in range(plan.rounds):
        progress(f"bare loop and server in turn, {chips} chips a request: {number + 1} of {plan.rounds}")
        # Bare, server, bare: a machine that slows down meanwhile slows both.
        ask = {"batch": best.batch, "callers": best.callers, "seconds": plan.seconds / 2}
        before, spent = bare.ask(**ask), server.processor()
        load = closed_loop(port, content, CLIENTS, plan.seconds)
        spent, after = server.processor() - spent, bare.ask(**ask)
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


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
