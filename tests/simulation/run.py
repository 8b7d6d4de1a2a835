"""Runs seeds: ``python -m tests.simulation --seeds 20000``. A failing seed replays with ``--seed N``."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import pkgutil
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import msgspec
import rfc8785
from tests.simulation.clock import VirtualClock, deterministic
from tests.simulation.faults import CallSite, Faults
from tests.simulation.invariants import check, check_restored
from tests.simulation.model import Outcome, Violation
from tests.simulation.plan import run_steps, settle
from tests.simulation.restore import restore
from tests.simulation.world import World, simulated_models

#: Deaths of each call site, before and after each, that 20 000 seeds are steered to.
_WANTED_DEATHS = 60
_SHARE_OF_NEW_SITES = 0.4


def _shares() -> dict[str, float]:
    """Return the share of its calls with which each call site dies before, and after, by its calls in 1000 seeds."""
    counted = json.loads(Path(__file__).with_name("sites.json").read_text())
    return {site: min(0.45, _WANTED_DEATHS / (20 * max(calls, 1))) for site, calls in counted.items()}


_SHARES = _shares()

_ROOMS = (
    "aws",
    "moratorium",
    "ledger",
    "gallery",
    "pipeline",
    "rekognition",
    "erasure",
    "console",
    "deployment",
)

#: Things that happen in one seed before everything comes to rest.
STEPS = 15


@dataclass
class Coverage:
    """How often each call site was seen, and died before and after its call."""

    seen: Counter[CallSite] = field(default_factory=Counter)
    exposed: Counter[CallSite] = field(default_factory=Counter)
    deaths: Counter[tuple[CallSite, str]] = field(default_factory=Counter)

    def add(self, faults: Faults) -> None:
        self.seen += faults.seen
        self.exposed += faults.exposed
        self.deaths += faults.deaths

    def merge(self, other: Coverage) -> None:
        """Add what other seeds covered."""
        self.seen += other.seen
        self.exposed += other.exposed
        self.deaths += other.deaths


class Simulation:
    """The process in which seeds run, one after the other, on one virtual clock."""

    def __init__(self, clock: VirtualClock, chance: random.Random, *, steered: bool = True) -> None:
        self._clock = clock
        self._chance = chance
        self._steered = steered

    def run(self, seed: int, *, steps: int = STEPS) -> tuple[Outcome, Faults]:
        """Run one seed to its end. The same seed does the same again."""
        self._clock.reset()
        self._chance.seed(seed)
        faults = _faults(random.Random(seed ^ 0xFA17), steered=self._steered)
        world = World(seed, faults, self._clock)
        try:
            run_steps(world, steps)
            settle(world)
            violations = check(world)
            if not violations and world.backup and not world.skewed:
                violations = restore(world)
                settle(world)
                violations += check_restored(world)
        except Violation as violation:
            violations = [violation.message]
        return Outcome(seed, faults.died, world.flips, violations), faults


def _faults(chance: random.Random, *, steered: bool) -> Faults:
    """Return the faults of a seed.

    One of its first calls dies for certain, and calls at rare sites die more often, each site once at most, so that
    whoever tries again comes further.
    """
    certain, counted = chance.randrange(60), 0
    when = chance.choice(("before", "after"))
    died: set[CallSite] = set()

    def wanted(site: CallSite) -> str:
        nonlocal counted
        counted += 1
        if counted == certain:
            return when
        if not steered or site in died:
            return ""
        drawn = chance.random()
        share = _SHARES.get(str(site), _SHARE_OF_NEW_SITES)
        if drawn >= 2 * share:
            return ""
        died.add(site)
        return "before" if drawn < share else "after"

    return Faults(
        random=chance,
        death=chance.choice((0.001, 0.004, 0.02)),
        timeout=chance.choice((0.0, 0.02)),
        throttle=chance.choice((0.0, 0.01)),
        weak_service=chance.choice(("", "", "", "", "", "", "appconfigdata", "events", "s3")),
        wanted=wanted,
        interleaving=chance.choice((0.0, 0.02, 0.05)),
    )


def _dumps(value: object) -> bytes:
    return msgspec.json.encode(value, order="deterministic")


@contextlib.contextmanager
def simulation(*, steered: bool = True) -> Iterator[Simulation]:
    """Open the simulation: virtual time, seeded randomness, stand-ins for the models.

    Unless ``steered``, deaths come at all calls alike, so that the calls of each site can be counted.
    """
    _import_product()
    clock, chance = VirtualClock(), random.Random()
    # The library of canonical JSON takes a third of the time; for what the ledger holds, this writes much the same.
    canonical = mock.patch.object(rfc8785, "dumps", _dumps)
    with simulated_models(), deterministic(clock, chance), canonical:
        yield Simulation(clock, chance, steered=steered)


def _import_product() -> None:
    """Import everything that is deployed: a module imported later would keep the clock of this simulation for good."""
    for room in _ROOMS:
        package = importlib.import_module(f"abeyance.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"abeyance.{room}."):
            importlib.import_module(module.name)


def run(seeds: Iterable[int], *, stop_at: int = 0, steered: bool = True) -> tuple[list[Outcome], Coverage]:
    """Run seeds and return those that failed, and the coverage; stop after ``stop_at`` failures if that is not 0."""
    coverage, failed = Coverage(), []
    with simulation(steered=steered) as running:
        for seed in seeds:
            outcome, faults = running.run(seed)
            coverage.add(faults)
            if outcome.violations:
                failed.append(outcome)
                if stop_at and len(failed) >= stop_at:
                    break
    return failed, coverage


def run_part(job: tuple[int, int, int, bool]) -> tuple[list[Outcome], Coverage]:
    """Run the seeds from ``first`` below ``last``, in a process of their own."""
    first, last, stop_at, steered = job
    # Seeds make little garbage beside what is imported, which need not be looked through again and again.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    return run(range(first, last), stop_at=stop_at, steered=steered)
