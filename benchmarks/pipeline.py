"""From upload to result through the whole system on this machine, and the models' share of that."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from abeyance.gallery.threads import cores
from abeyance.local.aws import environment
from abeyance.local.demo import prepare
from abeyance.local.moto import object_exists
from abeyance.local.samples import as_png, fetch_samples
from abeyance.local.system import LocalSystem
from abeyance.local.tenants import TENANTS, register
from benchmarks.comparison import BenchmarkPart, Progress, by_rate, by_time, figure
from benchmarks.machine import processor_seconds
from benchmarks.process import BenchmarkError, Child
from benchmarks.rivals import start

#: Uploads that are indexed, and as many that are searched for, before the first that counts.
WARM_UP = 5
#: The least share of the models' throughput that we want with everything around them.
AIM = 0.8
_POLL_INTERVAL_S = 0.001
_RESULT_WITHIN_S = 60.0
#: Seconds to milliseconds.
_MS = 1000


@dataclass(slots=True)
class _Setup:
    """A running system, and the loops that are measured beside it."""

    system: LocalSystem
    #: One process for each core; the first of them is the loop.
    team: Sequence[Child]
    photos: Sequence[bytes]
    asked: int = 0

    def count(self, environ: Mapping[str, Any]) -> bool:
        """Count a request, and leave it to the next handler."""
        self.asked += 1
        return False

    def until_result(self, key: str, photo: bytes) -> float:
        """Upload a photo; return the seconds until its result is there, looked up inside the emulator."""
        results = self.system.settings.results_bucket
        start = time.perf_counter()
        self.put(key, photo)
        while not object_exists(results, f"{key}.json"):
            if time.perf_counter() - start > _RESULT_WITHIN_S:
                waiting = self.system.waiting()
                raise BenchmarkError(f"no result after {_RESULT_WITHIN_S:.0f} s; waiting: {waiting}")
            time.sleep(_POLL_INTERVAL_S)
        return time.perf_counter() - start

    def put(self, key: str, photo: bytes) -> None:
        uploads = self.system.settings.uploads_bucket
        self.system.client("s3").put_object(Bucket=uploads, Key=key, Body=photo)

    def round(self, number: int) -> dict[str, float]:
        """Put all photos at once through the pipeline, then through the loop, then through the models on every core.

        Returns uploads a second by the clock of ``pipeline``, ``loop`` and ``models``, seconds of processor a photo by
        ``processor.<process>``, and ``requests`` to AWS a photo, the upload not counted.
        """
        count = len(self.photos)
        pids = [worker.pid for poller in self.system.pollers.values() for worker in poller.workers]
        asked, stages, emulator = self.asked, sum(map(processor_seconds, pids)), time.process_time()
        start = time.perf_counter()
        for photo, body in enumerate(self.photos):
            self.put(f"acme/search/bench/all-{number}-{photo}", body)
        self.system.drain(10 * _RESULT_WITHIN_S)
        seconds = time.perf_counter() - start
        stages, emulator = sum(map(processor_seconds, pids)) - stages, time.process_time() - emulator
        asked = self.asked - asked - count
        looped = self.team[0].ask(alone=False, round=number)
        # The models alone on every core at the same time, as the stages share the cores.
        with ThreadPoolExecutor(len(self.team)) as pool:
            models = list(pool.map(lambda one: one.ask(alone=True), self.team))
        return {
            "pipeline": count / seconds,
            "loop": count / sum(looped["seconds"]),
            "models": sum(count / sum(one["seconds"]) for one in models),
            "processor.stages": stages / count,
            "processor.models": sum(one["processor"] for one in models) / count / len(models),
            "processor.loop": looped["processor"] / count,
            "processor.emulator": emulator / count,
            "requests": asked / count,
        }


def run(quick: bool, progress: Progress) -> BenchmarkPart:
    """Measure; see :mod:`benchmarks.suite`."""
    count, rounds = (12, 2) if quick else (60, 5)
    photos = sample_photos(count)
    with ExitStack() as open_:
        folder = Path(open_.enter_context(tempfile.TemporaryDirectory(prefix="abeyance-bench-")))
        for number, body in enumerate(photos):
            (folder / f"{number:04}").write_bytes(body)
        progress("starting the system")
        system = open_.enter_context(LocalSystem())
        register(system, TENANTS)
        os.environ.update(environment(system.endpoint))
        # Chips: not the uploads bucket, whose objects the pipeline would take.
        buckets: dict[str, Any] = {
            "uploads": system.settings.chips_bucket,
            "results": system.settings.results_bucket,
        }
        team = [
            open_.enter_context(start("pipeline_loop", first=core, ours=True, folder=str(folder), **buckets))
            for core in range(cores())
        ]
        setup = _Setup(system, team, photos)
        system.aws.router.mount(setup.count, _unreachable)
        for number, photo in enumerate(photos[:WARM_UP]):
            setup.until_result(f"acme/index/bench/{number}", photo)
            setup.until_result(f"acme/search/bench/warm-{number}", photo)
        progress("one upload at a time")
        waited: list[float] = []
        for number, photo in enumerate(photos):
            waited.append(setup.until_result(f"acme/search/bench/one-{number}", photo))
            # The ledger is still writing; somebody who uploads one photo at a time would not notice.
            system.drain(_RESULT_WITHIN_S)
        looped = team[0].ask(alone=False, round=-1)["seconds"]
        alone = team[0].ask(alone=True)["seconds"]
        measured = []
        for number in range(rounds):
            progress(f"all at once, round {number + 1} of {rounds}")
            measured.append(setup.round(number))
    found = {name: [one[name] for one in measured] for name in measured[0]}
    loop, all_at_once = "a loop over boto3", "Uploads a second, all at once"
    one_by_one = "Upload to result, one at a time"
    comparisons = (
        by_rate(
            "pipeline.uploads.loop",
            f"{all_at_once}, {cores()} cores",
            *(found["pipeline"], loop, found["loop"]),
            note=_WITHOUT,
        ),
        by_time("pipeline.latency.loop", one_by_one, waited, loop, looped, scale=_MS, note=_WITHOUT),
        by_rate(
            "pipeline.uploads.models",
            f"{all_at_once}, the emulator on the same cores",
            *(found["pipeline"], "the models alone, on every core", found["models"]),
            aim=AIM,
            note="By the wall clock.",
        ),
    )
    times_s = {
        "latency": ("Upload to result, warm", waited, ""),
        "latency.p95": ("Upload to result, warm, 95th percentile", [float(np.percentile(waited, 95))], ""),
        "latency.overhead": ("Upload to result, less the models", np.subtract(waited, alone).tolist(), ""),
    }
    for name, (what, note) in _PROCESSES.items():
        times_s[name] = f"Processor time a photo, {what}", found[name], note
    figures = [
        figure(f"pipeline.{key}", what, "ms", seconds, scale=_MS, note=note)
        for key, (what, seconds, note) in times_s.items()
    ]
    shares = np.divide(found["processor.models"], found["processor.stages"]).tolist()
    what = "The models' processor time, as a share of that of all our functions"
    figures.append(figure("pipeline.share", what, "", shares, at_least=AIM, note=_SHARE))
    what, note = (
        "Requests to AWS a photo, all at once",
        "Those of queues, which Lambda makes, are not counted.",
    )
    figures.append(figure("pipeline.requests", what, "", found["requests"], note=note))
    return BenchmarkPart(
        name="pipeline",
        comparisons=comparisons,
        figures=tuple(figures),
        notes=(
            f"{count} sample photos, searched for in a gallery of {WARM_UP} faces; every upload is decided twice more "
            "on its way, and every decision is on the ledger.",
            *_NOTES,
        ),
    )


_WITHOUT = (
    "The same models and the same emulator, one process: put, get, detect, embed, put. No queue, no decision, no "
    "record, no ledger, no search: the difference is what these cost."
)
_SHARE = (
    "Processor time a photo of the models alone, over that of the processes of gate, detect, recognize, review and "
    "ledger together. AWS, here the emulator, is not counted."
)
#: By key, with a note.
_PROCESSES = {
    "processor.stages": ("all our functions", ""),
    "processor.models": ("the models alone", ""),
    "processor.loop": ("the loop over boto3", ""),
    "processor.emulator": (
        "the emulator of AWS",
        "With the uploads and the pollers, which are threads of its process.",
    ),
}
_NOTES = (
    "AWS is moto, in one process on the same cores: it is no part of a deployment, takes as much of the processor as "
    "the stages or more, and holds up what is measured by the wall clock.",
    "The models alone are decoding, detection, alignment and embedding of the same photos, one process a core.",
)


def sample_photos(count: int) -> list[bytes]:
    """Return photos of the demonstration, decodable and with a face."""
    prepare()
    portraits = [p for n, p in sorted(fetch_samples("white-house-portraits").items()) if n.endswith("jpg")]
    scraps = [p for n, p in sorted(fetch_samples("csu-scrapshots").items()) if n.endswith(".pgm")]
    bodies = [path.read_bytes() for path in portraits if "partial" not in path.name]
    return (bodies + [as_png(path) for path in scraps])[:count]


def _unreachable(*_: Any) -> Any:
    raise AssertionError("requests are counted, not answered")
