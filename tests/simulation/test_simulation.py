"""Seeds of the simulation, the same ones every time. ``python -m tests.simulation --seeds 20000`` runs more."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.run import Simulation, simulation

SEEDS = 300
#: Seeds of one test, so that several processes share them.
_EACH = 50


@pytest.fixture(scope="module")
def simulated() -> Iterator[Simulation]:
    """Virtual time holds for the module: its tests run one after the other."""
    with simulation() as running:
        yield running


@pytest.mark.parametrize("first", range(0, SEEDS, _EACH))
def test_nothing_is_lost_left_or_doubled(simulated: Simulation, first: int) -> None:
    found = {}
    for seed in range(first, first + _EACH):
        outcome, _ = simulated.run(seed)
        if outcome.violations:
            found[seed] = outcome.violations
    assert found == {}, json.dumps(found, indent=1)


def test_a_seed_replays_exactly(simulated: Simulation) -> None:
    first, faults = simulated.run(7)
    again, repeated = simulated.run(7)
    assert first == again
    assert faults.seen == repeated.seen
    assert faults.deaths == repeated.deaths


#: Seeds after which these must be found; ``python -m tests.simulation --mutations`` tries all, and for longer.
_SOON = 40
_FOUND_SOON = (
    "chips-of-replaced-stay",
    "emit-before-record",
    "one-event-a-call",
    "redelivery-dropped",
    "detect-trusts-the-gate",
    "claim-any-order",
    "sweep-does-nothing",
    "ledger-tail-lost",
    "judgements-off-the-ledger",
    "wrong-tenant",
)


@pytest.mark.parametrize(
    "mutation", [one for one in MUTATIONS if one.name in _FOUND_SOON], ids=lambda one: one.name
)
def test_a_fault_that_is_put_in_is_found(simulated: Simulation, mutation: Mutation) -> None:
    with mutation.patch():
        assert any(simulated.run(seed)[0].violations for seed in range(_SOON))
