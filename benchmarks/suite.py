"""All parts after one another, each in a process of its own, and the ratios of now beside the stored ones."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks.comparison import Comparison, Part, Tell
from benchmarks.machine import Machine

#: A ratio is lower when even its upper quartile is below this share of the stored lower quartile: what takes a
#: millisecond differs that much from one process to the next.
TOLERANCE = 0.75
#: Seconds after which a part is ended. It counts as failed then.
LIMIT = 600
_ROOT = Path(__file__).parents[1]


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
    parts: tuple[Part, ...]
    #: Part and what it said.
    failed: dict[str, str] = {}

    @property
    def comparisons(self) -> list[Comparison]:
        """Of every part, in order."""
        return [comparison for part in self.parts for comparison in part.comparisons]

    def regressions(self, stored: Suite) -> list[Regression]:
        """The ratios that both runs have and that are lower now, beyond what the spreads explain."""
        before = {one.key: one for one in stored.comparisons}
        return [
            Regression(now.key, now.what, now.other, before[now.key].ratio.median, now.ratio.median)
            for now in self.comparisons
            if now.key in before and now.ratio.high < TOLERANCE * before[now.key].ratio.low
        ]


def run(names: Sequence[str], quick: bool, tell: Tell) -> Suite:
    """Measure the parts named.

    Parameters
    ----------
    tell
        Is given the name of the part that is measured next.
    """
    machine, start = Machine.here(), time.monotonic()
    parts, failed = [], {}
    for name in names:
        tell(name)
        found = _apart(name, quick)
        if isinstance(found, Part):
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


def confirmed(found: Suite, stored: Suite, tell: Tell) -> list[Regression]:
    """The ratios that are lower now, and lower again when their parts are measured once more."""
    lower = found.regressions(stored)
    keys = {one.key for one in lower}
    names = [part.name for part in found.parts if any(one.key in keys for one in part.comparisons)]
    if not names:
        return []
    again = {one.key for one in run(names, found.quick, tell).regressions(stored)}
    return [one for one in lower if one.key in again]


def _apart(name: str, quick: bool) -> Part | str:
    """The part, or the last thing that its process said."""
    command = [sys.executable, "-m", "benchmarks", name, "--json", *(["--quick"] * quick)]
    try:
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, timeout=LIMIT, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return f"not done within {LIMIT} s"
    if done.returncode:
        return done.stderr.decode(errors="replace").strip()[-1000:] or f"exit code {done.returncode}"
    try:
        return msgspec.json.decode(done.stdout, type=Part)
    except msgspec.DecodeError as error:
        return f"its answer cannot be read: {error}"


def load(path: Path) -> Suite | None:
    """A stored run, or None where there is none."""
    return msgspec.json.decode(path.read_bytes(), type=Suite) if path.is_file() else None
