"""Seeds of the simulation, the same ones every time. ``python -m tests.simulation --seeds 20000`` runs more."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.simulation.run import Simulation, simulation

SEEDS = 300
#: Seeds of one test, so that several processes share them.
_EACH = 50


@pytest.fixture(scope="module")
def simulated() -> Iterator[Simulation]:
    """Virtual time holds for the module: its tests run one after the other."""
    with simulation() as running:
        yield running


@pytest.mark.xdist_group("simulation")
@pytest.mark.parametrize("first", range(0, SEEDS, _EACH))
def test_nothing_is_lost_left_or_doubled(simulated: Simulation, first: int) -> None:
    found = {}
    for seed in range(first, first + _EACH):
        outcome, _ = simulated.run(seed)
        if outcome.violations:
            found[seed] = outcome.violations
    assert found == {}, json.dumps(found, indent=1)


@pytest.mark.xdist_group("simulation")
def test_a_seed_replays_exactly(simulated: Simulation) -> None:
    first, faults = simulated.run(7)
    again, repeated = simulated.run(7)
    assert first == again
    assert faults.seen == repeated.seen
    assert faults.deaths == repeated.deaths
