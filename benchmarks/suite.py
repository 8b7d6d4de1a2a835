"""All parts one after the other, each in a process of its own, and their ratios beside the stored ones.

A part is a module with ``run(quick, progress) -> BenchmarkPart``.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks.comparison import BenchmarkPart, Comparison, Progress
from benchmarks.machine import Machine
from benchmarks.process import ROOT

#: In the order of the report. Every one is measured in a process of its own.
PARTS = {
    "photos": "Photos to templates, beside OpenCV, dlib and deepface.",
    "video": "Stored video to tracks, beside a loop of PyAV and OpenCV.",
    "search": "Exact search in large galleries, beside FAISS, usearch and NumPy.",
    "freshness": "Time until a cold searcher is ready, and until a warm one sees a change.",
    "pipeline": "Upload to result, and the models' share of that.",
    "neighbours": "Clients of the API beside a tenant that sends the most expensive photos.",
    "ledger": "Entries of the ledger, and the verification of a million of them.",
    "certificates": "The certificate of a year of a million decisions, and checking it.",
    "coldstart": "Time of each function until its first event.",
    "scale": "Ten million photos a day, simulated with the durations measured here.",
}
#: A ratio is lower when even its upper quartile is below this share of the stored lower quartile: what takes a
#: millisecond differs that much from one process to the next.
TOLERANCE = 0.75
#: A part that takes longer is ended and counts as failed.
LIMIT_S = 600


class Regression(msgspec.Struct, frozen=True):
    """A ratio that is lower than it was."""

    key: str
    what: str
    other: str
    before: float
    now: float


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """One run of everything on one machine."""

    measured: datetime
    quick: bool
    machine: Machine
    seconds: float
    parts: tuple[BenchmarkPart, ...]
    #: By part: the end of its error output.
    failed: dict[str, str] = {}

    @property
    def comparisons(self) -> list[Comparison]:
        """The comparisons of every part, in order."""
        return [comparison for part in self.parts for comparison in part.comparisons]

    def regressions(self, stored: Suite) -> list[Regression]:
        """Return the ratios that both runs have and that are lower now, beyond the spreads."""
        before = {one.key: one for one in stored.comparisons}
        return [
            Regression(now.key, now.what, now.other, before[now.key].ratio.median, now.ratio.median)
            for now in self.comparisons
            if now.key in before and now.ratio.high < TOLERANCE * before[now.key].ratio.low
        ]


def run(names: Sequence[str], quick: bool, progress: Progress) -> Suite:
    """Measure the named parts; ``progress`` gets the name of each as it begins."""
    machine, start = Machine.here(), time.monotonic()
    parts, failed = [], {}
    for name in names:
        progress(name)
        found = _apart(name, quick)
        if isinstance(found, BenchmarkPart):
            parts.append(found)
        else:
            failed[name] = found
    return Suite(
        measured=datetime.now(UTC).replace(microsecond=0),
        quick=quick,
        machine=machine,
        seconds=round(time.monotonic() - start, 1),
        parts=tuple(parts),
        failed=failed,
    )


def confirmed(found: Suite, stored: Suite, progress: Progress) -> list[Regression]:
    """Return the ratios that are lower now, and lower again when their parts are measured once more."""
    lower = found.regressions(stored)
    keys = {one.key for one in lower}
    names = [part.name for part in found.parts if any(one.key in keys for one in part.comparisons)]
    if not names:
        return []
    again = {one.key for one in run(names, found.quick, progress).regressions(stored)}
    return [one for one in lower if one.key in again]


def _apart(name: str, quick: bool) -> BenchmarkPart | str:
    """Measure a part in a process of its own; return it, or the end of the error output."""
    command = [sys.executable, "-m", "benchmarks", name, "--json", *(["--quick"] * quick)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=LIMIT_S, check=True)  # noqa: S603
        return msgspec.json.decode(done.stdout, type=BenchmarkPart)
    except subprocess.TimeoutExpired:
        return f"not done within {LIMIT_S} s"
    except subprocess.CalledProcessError as error:
        return error.stderr.decode(errors="replace").strip()[-1000:] or f"exit code {error.returncode}"
    except msgspec.DecodeError as error:
        return f"its answer cannot be read: {error}"


def load(path: Path) -> dict[str, Suite]:
    """Return the stored runs, the latest of each kind of processor (see :attr:`Machine.kind`)."""
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Suite]) if path.is_file() else {}


def store(found: Suite, path: Path) -> None:
    """Store a run in the place of the one of the same kind of processor."""
    runs = load(path) | {found.machine.kind: found}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(runs), indent=1) + b"\n")
