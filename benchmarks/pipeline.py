"""From upload to result through the whole system on this machine, and what part of that is the models."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from abeyance.gallery.threads import cores
from abeyance.local.aws import environment
from abeyance.local.demo import prepare
from abeyance.local.moto import holds
from abeyance.local.samples import as_png, fetch_samples
from abeyance.local.system import LocalSystem
from abeyance.local.tenants import TENANTS, register
from benchmarks.comparison import Comparison, Figure, Part, Spread, Tell
from benchmarks.errors import BenchError
from benchmarks.machine import processor_seconds
from benchmarks.rivals import Rival

#: Uploads that are indexed, and as many that are searched for, before the first that counts.
WARM_UP = 5
#: The least share of the models' throughput that is left when everything around them is there.
AIM = 0.8
#: Seconds between two looks whether a result is there.
_LOOK = 0.001
#: Seconds for which a result is waited for.
_LONGEST = 60.0


@dataclass(slots=True)
class _Round:
    """All photos at once through the pipeline, then through the loop, then through the models alone on every core."""

    #: Uploads a second, by the wall clock.
    pipeline: float
    loop: float
    models: float
    #: Seconds of processor a photo.
    stages: float
    emulator: float
    looping: float
    modelling: float
    #: Requests to AWS a photo, the upload not counted.
    requests: float


@dataclass(slots=True)
class _Bench:
    """A running system, and what is measured beside it."""

    system: LocalSystem
    #: One process for each core; the first of them is the loop.
    team: Sequence[Rival]
    photos: Sequence[bytes]
    asked: int = field(default=0)

    def count(self, environ: Mapping[str, Any]) -> bool:
        """Counts requests that pass, and takes none of them."""
        self.asked += 1
        return False

    def until_result(self, key: str, photo: bytes) -> float:
        """Seconds from the upload until its result is there, looked up from inside so that looking costs nothing."""
        results = self.system.settings.results_bucket
        start = time.perf_counter()
        self.put(key, photo)
        while not holds(results, f"{key}.json"):
            if time.perf_counter() - start > _LONGEST:
                raise BenchError(f"no result after {_LONGEST:.0f} s; waiting: {self.system.waiting()}")
            time.sleep(_LOOK)
        return time.perf_counter() - start

    def put(self, key: str, photo: bytes) -> None:
        uploads = self.system.settings.uploads_bucket
        self.system.client("s3").put_object(Bucket=uploads, Key=key, Body=photo)

    def alone(self) -> list[dict[str, Any]]:
        """The models alone, on every core at the same time, as the stages share them with each other and with AWS."""
        with ThreadPoolExecutor(len(self.team)) as pool:
            return list(pool.map(lambda one: one.ask(alone=True), self.team))

    def round(self, number: int) -> _Round:
        count = len(self.photos)
        pids = [worker.pid for poller in self.system.pollers.values() for worker in poller.workers]
        asked, stages, emulator = self.asked, sum(map(processor_seconds, pids)), time.process_time()
        start = time.perf_counter()
        for photo, body in enumerate(self.photos):
            self.put(f"acme/search/bench/all-{number}-{photo}", body)
        self.system.drain(10 * _LONGEST)
        seconds = time.perf_counter() - start
        stages, emulator = sum(map(processor_seconds, pids)) - stages, time.process_time() - emulator
        asked = self.asked - asked - count
        looped = self.team[0].ask(alone=False, round=number)
        models = self.alone()
        return _Round(
            pipeline=count / seconds,
            loop=count / sum(looped["seconds"]),
            models=sum(count / sum(one["seconds"]) for one in models),
            stages=stages / count,
            emulator=emulator / count,
            looping=looped["processor"] / count,
            modelling=sum(one["processor"] for one in models) / count / len(models),
            requests=asked / count,
        )


def run(quick: bool, tell: Tell) -> Part:
    """Measure; see :mod:`benchmarks.parts`."""
    count, rounds = (12, 2) if quick else (60, 5)
    photos = sample_photos(count)
    with ExitStack() as open_:
        folder = Path(open_.enter_context(tempfile.TemporaryDirectory(prefix="abeyance-bench-")))
        for number, body in enumerate(photos):
            (folder / f"{number:04}").write_bytes(body)
        tell("starting the system")
        system = open_.enter_context(LocalSystem())
        register(system, TENANTS)
        os.environ.update(environment(system.endpoint))
        team = [open_.enter_context(_loop(system, folder, core)) for core in range(cores())]
        bench = _Bench(system, team, photos)
        system.aws.front.mount(bench.count, _nothing)
        for number, photo in enumerate(photos[:WARM_UP]):
            bench.until_result(f"acme/index/bench/{number}", photo)
            bench.until_result(f"acme/search/bench/warm-{number}", photo)
        tell("one upload at a time")
        waited: list[float] = []
        for number, photo in enumerate(photos):
            waited.append(bench.until_result(f"acme/search/bench/one-{number}", photo))
            # The ledger is still writing; who uploads one photo at a time does not meet his last one.
            system.drain(_LONGEST)
        looped = team[0].ask(alone=False, round=-1)["seconds"]
        alone = team[0].ask(alone=True)["seconds"]
        measured = []
        for number in range(rounds):
            tell(f"all at once, round {number + 1} of {rounds}")
            measured.append(bench.round(number))
    return Part(
        name="pipeline",
        comparisons=_comparisons(measured, waited, looped),
        figures=_figures(measured, waited, alone),
        notes=(
            f"{count} sample photos, searched for in a gallery of {WARM_UP} faces; every upload is decided twice more "
            "on its way, and every decision is on the ledger.",
            "AWS is moto, in one process on the same cores: it is no part of a deployment, takes as much of the "
            "processor as the stages or more, and holds up what is measured by the wall clock.",
            "The models alone are decoding, detection, alignment and embedding of the same photos, one process a core.",
        ),
    )


def sample_photos(count: int) -> list[bytes]:
    """Photos of the demonstration, decodable and with a face."""
    prepare()
    portraits = [p for n, p in sorted(fetch_samples("white-house-portraits").items()) if n.endswith("jpg")]
    scraps = [p for n, p in sorted(fetch_samples("csu-scrapshots").items()) if n.endswith(".pgm")]
    bodies = [path.read_bytes() for path in portraits if "partial" not in path.name]
    return (bodies + [as_png(path) for path in scraps])[:count]


def _comparisons(
    measured: Sequence[_Round], waited: Sequence[float], looped: Sequence[float]
) -> tuple[Comparison, ...]:
    loop = "a loop over boto3"
    without = (
        "The same models and the same emulator, one process: put, get, detect, embed, put. No queue, no decision, no "
        "record, no ledger, no search: what is between the two is what these cost."
    )
    return (
        Comparison(
            key="pipeline.uploads.loop",
            what=f"Uploads a second, all at once, {cores()} cores",
            unit="photos/s",
            ours=Spread.of([one.pipeline for one in measured]),
            other=loop,
            theirs=Spread.of([one.loop for one in measured]),
            ratio=Spread.of([one.pipeline / one.loop for one in measured]),
            note=without,
        ),
        Comparison(
            key="pipeline.latency.loop",
            what="Upload to result, one at a time",
            unit="ms",
            ours=_milliseconds(waited),
            other=loop,
            theirs=_milliseconds(looped),
            ratio=Spread.of([theirs / ours for ours, theirs in zip(waited, looped, strict=True)]),
            note=without,
        ),
        Comparison(
            key="pipeline.uploads.models",
            what="Uploads a second, all at once, the emulator on the same cores",
            unit="photos/s",
            ours=Spread.of([one.pipeline for one in measured]),
            other="the models alone, on every core",
            theirs=Spread.of([one.models for one in measured]),
            ratio=Spread.of([one.pipeline / one.models for one in measured]),
            aim=AIM,
            note="By the wall clock.",
        ),
    )


def _figures(
    measured: Sequence[_Round], waited: Sequence[float], alone: Sequence[float]
) -> tuple[Figure, ...]:
    return (
        Figure(key="pipeline.latency", what="Upload to result, warm", unit="ms", value=_milliseconds(waited)),
        Figure(
            key="pipeline.latency.p95",
            what="Upload to result, warm, 95th percentile",
            unit="ms",
            value=_milliseconds([float(np.percentile(waited, 95))]),
        ),
        Figure(
            key="pipeline.latency.overhead",
            what="Upload to result, less the models",
            unit="ms",
            value=_milliseconds([whole - models for whole, models in zip(waited, alone, strict=True)]),
        ),
        Figure(
            key="pipeline.share",
            what="The models' processor time, as a share of that of all our functions",
            unit="",
            value=Spread.of([one.modelling / one.stages for one in measured]),
            aim=AIM,
            more_is_better=True,
            note="Processor time a photo of the models alone, over that of the processes of gate, detect, recognize, "
            "review and ledger together. AWS, here the emulator, is not counted.",
        ),
        Figure(
            key="pipeline.processor.stages",
            what="Processor time a photo, all our functions",
            unit="ms",
            value=_milliseconds([one.stages for one in measured]),
        ),
        Figure(
            key="pipeline.processor.models",
            what="Processor time a photo, the models alone",
            unit="ms",
            value=_milliseconds([one.modelling for one in measured]),
        ),
        Figure(
            key="pipeline.processor.loop",
            what="Processor time a photo, the loop over boto3",
            unit="ms",
            value=_milliseconds([one.looping for one in measured]),
        ),
        Figure(
            key="pipeline.processor.emulator",
            what="Processor time a photo, the emulator of AWS",
            unit="ms",
            value=_milliseconds([one.emulator for one in measured]),
            note="With what uploads the photos and hands messages to the functions, which are threads of its process.",
        ),
        Figure(
            key="pipeline.requests",
            what="Requests to AWS a photo, all at once",
            unit="",
            value=Spread.of([one.requests for one in measured]),
            note="Those of queues, which Lambda makes, are not counted.",
        ),
    )


def _milliseconds(seconds: Sequence[float]) -> Spread:
    return Spread.of([1000 * one for one in seconds])


def _loop(system: LocalSystem, folder: Path, core: int) -> Rival:
    settings = system.settings
    return Rival(
        "pipeline_loop",
        first=core,
        python=sys.executable,
        folder=str(folder),
        # Beside the uploads bucket, whose objects the pipeline would take.
        uploads=settings.chips_bucket,
        results=settings.results_bucket,
    )


def _nothing(*_: Any) -> Any:
    raise AssertionError("it counts requests and takes none")
