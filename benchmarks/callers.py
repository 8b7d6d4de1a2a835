"""Many callers of ``abeyance serve`` at once, and a folder of photos that is copied to it with the AWS CLI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np

from abeyance.aws.timestamps import utc_now
from abeyance.deployment.parts import build_log_objects, build_policy
from abeyance.gallery.threads import cores
from abeyance.ledger.identity import LOG, read_identity
from abeyance.ledger.verification import verify_log
from abeyance.local.aws import environment
from abeyance.local.demo import prepare
from abeyance.local.system import LocalSystem
from abeyance.local.tenants import TENANTS, register
from benchmarks.comparison import BenchmarkPart, Progress, figure
from benchmarks.photo_set import KINDS, write_photos
from benchmarks.process import BenchmarkError
from benchmarks.rivals import start

#: Calls that start together, and clients that go on.
AT_ONCE: Final = 200
CLIENTS: Final = 8
#: Photos of the folder whose rate the larger one's is compared with, and different photos in either.
SMALL: Final = 50
_DIFFERENT: Final = 50
#: Least calls a second, most milliseconds of the 95th percentile, least share of the small folder's rate, most memory.
CALLS_PER_S, P95_MS, RATE, MEMORY_GB = 20.0, 700.0, 0.8, 1.5
_MS: Final = 1000


def calls(quick: bool, progress: Progress) -> BenchmarkPart:
    """Measure callers of the API: many at once, and some for a minute."""
    seconds = 10.0 if quick else 60.0
    prepare()
    with ExitStack() as open_:
        folder = Path(open_.enter_context(tempfile.TemporaryDirectory(prefix="abeyance-bench-")))
        write_photos(KINDS[0], folder, CLIENTS)
        progress("starting the system")
        system = open_.enter_context(LocalSystem())
        register(system, TENANTS[:1])
        for name in ("at-once", "going-on"):
            system.client("rekognition", "acme").create_collection(CollectionId=name)
        clients = open_.enter_context(
            start("callers_clients", threads=cores(), ours=True, tenant="acme", folder=str(folder),
                  endpoint=system.endpoint, most=AT_ONCE)
        )  # fmt: skip
        clients.ask(clients=CLIENTS, seconds=3.0, collection="going-on")
        progress(f"{AT_ONCE} calls at once")
        burst = clients.ask(within=600, at_once=AT_ONCE, collection="at-once")
        found = system.client("rekognition", "acme").describe_collection(CollectionId="at-once")
        progress(f"{CLIENTS} clients")
        steady = clients.ask(within=600, clients=CLIENTS, seconds=seconds, collection="going-on")
    p95 = float(np.percentile(steady["seconds"], 95))
    return BenchmarkPart(
        name="callers",
        figures=(
            figure("callers.at_once", f"{AT_ONCE} IndexFaces at once, until the last", "s", [max(burst["seconds"])]),
            figure("callers.at_once.errors", "of them refused", "", [_count(burst)], at_most=0, note=_said(burst)),
            figure("callers.at_once.faces", "faces in the collection after them", "", [found["FaceCount"]],
                   at_least=AT_ONCE),
            figure("callers.rate", f"calls a second of {CLIENTS} clients", "1/s", [len(steady["seconds"]) / seconds],
                   at_least=CALLS_PER_S),
            figure("callers.p95", "their 95th percentile", "ms", [p95], scale=_MS, at_most=P95_MS),
            figure("callers.errors", "of them refused", "", [_count(steady)], at_most=0, note=_said(steady)),
            figure("callers.stale", "searches that missed what was indexed, or found what was deleted", "",
                   [steady["stale"]], at_most=0),
        ),
        notes=(f"A client indexes a photo of 640 x 480 pixels, searches for it, deletes it and searches again. All of "
               f"it, callers and the emulator of AWS too, shares {cores()} cores.",),
    )  # fmt: skip


def folder(count: int, progress: Progress) -> BenchmarkPart:
    """Measure a folder of ``count`` photos beside one of fifty, each copied by ``aws s3 cp --recursive``."""
    if not shutil.which("aws", path=_path()):
        raise BenchmarkError("needs the AWS CLI: pip install awscli")
    prepare()
    with ExitStack() as open_:
        top = Path(open_.enter_context(tempfile.TemporaryDirectory(prefix="abeyance-bench-")))
        progress("composing photos")
        (top / "photos").mkdir()
        photos = write_photos(KINDS[0], top / "photos", _DIFFERENT)
        progress("starting the system")
        system = open_.enter_context(LocalSystem())
        register(system, TENANTS[:1])
        _copy(system, photos, top / "warm", 10)
        progress(f"a folder of {SMALL}")
        small = _copy(system, photos, top / "small", SMALL)
        progress(f"a folder of {count}")
        large = _copy(system, photos, top / "large", count)
        s3, results = system.client("s3"), system.settings.results_bucket
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=results, Prefix="acme/index/large/")
        keys = [one["Key"] for page in pages for one in page.get("Contents", [])]
        progress("verifying the ledger")
        system.timekeeper.stop()
        objects = build_log_objects(system.settings, system.client)
        policy = build_policy(system.settings, system.client)(read_identity(objects.get(LOG)).origin)
        report = verify_log(objects, policy, now=utc_now())
        dead = sum(waiting for name, waiting in system.waiting().items() if name.endswith("-dead"))
    return BenchmarkPart(
        name="folder",
        figures=(
            figure("folder.small", f"results a second of {SMALL} photos", "1/s", [small["rate"]]),
            figure("folder.large", f"results a second of {count}", "1/s", [large["rate"]]),
            figure("folder.ratio", "as a share of the small folder's", "×", [large["rate"] / small["rate"]],
                   at_least=RATE),
            figure("folder.upload", "until all are uploaded", "s", [large["upload"]]),
            figure("folder.results", "photos with one result", "", [len(set(keys))], at_least=count),
            figure("folder.dead", "messages given up on", "", [dead], at_most=0),
            figure("folder.defects", "defects of the ledger", "", [len(report.defects)], at_most=0,
                   note=f"{report.size} entries"),
            figure("folder.memory", "most memory of all processes together", "GB", [large["memory"]],
                   at_most=MEMORY_GB),
        ),
        notes=(f"Photos of 640 x 480 pixels, {_DIFFERENT} different ones. All of it shares {cores()} cores.",),
    )  # fmt: skip


def _copy(system: LocalSystem, photos: list[Path], folder: Path, count: int) -> dict[str, float]:
    """Copy a folder of photos to the uploads bucket; return rate, seconds of the upload, and most memory in GB."""
    folder.mkdir()
    for number in range(count):
        os.link(photos[number % len(photos)], folder / f"{number:05}.jpg")
    target = f"s3://{system.settings.uploads_bucket}/acme/index/{folder.name}/"
    began, most = time.perf_counter(), 0.0
    command = ["aws", "s3", "cp", "--recursive", "--only-show-errors", str(folder), target]
    variables = {**os.environ, **environment(system.endpoint, "acme"), "PATH": _path()}
    with subprocess.Popen(command, env=variables) as copying:  # noqa: S603 - the AWS CLI, no shell
        while copying.poll() is None:
            most = max(most, _memory_gb())
            time.sleep(0.5)
    if copying.returncode:
        raise BenchmarkError(f"aws s3 cp ended with {copying.returncode}")
    uploaded = time.perf_counter() - began
    while system.busy():
        most = max(most, _memory_gb())
        time.sleep(0.1)
    return {"rate": count / (time.perf_counter() - began), "upload": uploaded, "memory": most}


def _path() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def _memory_gb() -> float:
    """Return the memory of this process and all below it, with pages that several share counted once."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = int(stat.parent.name), stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[pid] = int(rest[1])
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    total = 0
    for pid in ours:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / 1e9


def _count(found: dict[str, Any]) -> int:
    return sum(found["errors"].values())


def _said(found: dict[str, Any]) -> str:
    return ", ".join(f"{count} {code}" for code, count in found["errors"].items())
