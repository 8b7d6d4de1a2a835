"""Eight clients of the API beside one tenant that sends nothing but the most expensive photos."""

from __future__ import annotations

import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from abeyance.gallery.threads import cores
from abeyance.local.demo import prepare
from abeyance.local.moto import Inbox
from abeyance.local.system import LocalSystem
from abeyance.local.tenants import TENANTS, register
from abeyance.pipeline import topology
from benchmarks.comparison import BenchmarkPart, Progress, figure
from benchmarks.photo_set import KINDS, compose, costly_photo
from benchmarks.process import Child
from benchmarks.rivals import start

#: Clients whose answers are measured.
CLIENTS = 8
#: Requests that the costly tenant has in work at one time.
COSTLY_CLIENTS = 4
#: Most that the 95th percentile may rise by, as a factor.
AIM = 1.5
_COSTLY = "globex"
#: Seconds to milliseconds.
_MS = 1000
_WAYS = {"api": "DetectFaces with all attributes", "uploads": "uploads to the pipeline"}


def run(quick: bool, progress: Progress) -> BenchmarkPart:
    """Measure; see :mod:`benchmarks.suite`."""
    seconds, rounds = (6.0, 1) if quick else (10.0, 2)
    prepare()
    with ExitStack() as open_:
        folder = Path(open_.enter_context(tempfile.TemporaryDirectory(prefix="abeyance-bench-")))
        progress("making the most expensive photo")
        good, costly = folder / "good.jpg", folder / "costly.jpg"
        good.write_bytes(compose(KINDS[0], 1))
        costly.write_bytes(costly_photo())
        progress("starting the system")
        system = open_.enter_context(LocalSystem())
        register(system, [TENANTS[0], msgspec.structs.replace(TENANTS[0], id=_COSTLY, principals=(_COSTLY,))])

        def clients(tenant: str, photo: Path, count: int, **settings: Any) -> Child:
            given = {"uploads": "", "attributes": ["DEFAULT"], **settings}
            script, endpoint = "neighbours_clients", system.endpoint
            return open_.enter_context(
                start(script, threads=cores(), ours=True, tenant=tenant, photo=str(photo), count=count,
                      endpoint=endpoint, **given)
            )  # fmt: skip

        measured = clients("acme", good, CLIENTS)
        others = {
            "api": clients(_COSTLY, costly, COSTLY_CLIENTS, attributes=["ALL"]),
            "uploads": clients(_COSTLY, costly, 1, uploads=system.settings.uploads_bucket),
        }
        for one in (measured, others["api"]):
            one.ask(seconds=6.0)
        found: dict[str, list[float]] = {"alone": [], **{way: [] for way in others}}
        ratios: dict[str, list[float]] = {way: [] for way in others}
        refused, answered = {way: Counter[str]() for way in others}, dict.fromkeys(others, 0)
        for number in range(rounds):
            for way, other in others.items():
                progress(f"{_WAYS[way]}, round {number + 1} of {rounds}")
                alone = _p95(measured.ask(seconds=seconds))
                with ThreadPoolExecutor(1) as pool:
                    beside = pool.submit(other.ask, seconds=seconds)
                    p95 = _p95(measured.ask(seconds=seconds))
                    told = beside.result()
                found["alone"].append(alone)
                found[way].append(p95)
                ratios[way].append(p95 / alone)
                refused[way] += Counter(told["refused"])
                answered[way] += len(told["seconds"])
                # What the costly tenant uploaded would go on for minutes.
                inbox = Inbox(topology.DETECT.queue)
                while messages := inbox.receive(10, 0):
                    for message in messages:
                        inbox.delete(message)
    figures = [
        figure("neighbours.alone", "DetectFaces, 95th percentile, alone", "ms", found["alone"], scale=_MS)
    ]
    for way, what in _WAYS.items():
        codes = ", ".join(f"{count} {code}" for code, count in refused[way].items())
        note = f"{answered[way]} of its requests were answered, {codes or 'none'} refused"
        figures += [
            figure(f"neighbours.{way}", f"the same beside {what}", "ms", found[way], scale=_MS, note=note),
            figure(
                f"neighbours.{way}.ratio",
                f"beside {what}, as a multiple of alone",
                "×",
                ratios[way],
                at_most=AIM,
            ),
        ]
    return BenchmarkPart(
        name="neighbours",
        figures=tuple(figures),
        notes=(
            f"{CLIENTS} clients of one tenant send photos of 640 x 480 pixels, one after the other, to the API of "
            f"`abeyance serve`. Beside them another tenant has {COSTLY_CLIENTS} clients that send a progressive photo "
            "of 47 megapixels with a hundred tilted faces. All of it, the clients and the emulator of AWS too, shares "
            f"{cores()} cores.",
        ),
    )


def _p95(answer: dict[str, Any]) -> float:
    return float(np.percentile(answer["seconds"], 95))
