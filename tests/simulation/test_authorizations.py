"""Authorisations on the deployed graph: a race for the last one, a death after it is used, and one that never comes."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator

import pytest
from tests.simulation import people, visitors
from tests.simulation.actions import gallery_of
from tests.simulation.faults import Faults
from tests.simulation.invariants import check, entries_of
from tests.simulation.model import DUE_S
from tests.simulation.plan import settle
from tests.simulation.run import Simulation, simulation
from tests.simulation.world import World

from abeyance.deployment import build
from abeyance.gallery.errors import CollectionNotFound
from abeyance.gallery.model import CollectionRef
from abeyance.moratorium.authorization_uses import USED
from abeyance.pipeline import topology
from abeyance.pipeline.lapse import GRACE

STAFF = CollectionRef("icmec", "staff")
STAGES = (topology.GATE, topology.DETECT, topology.RECOGNIZE)


@pytest.fixture(scope="module")
def running() -> Iterator[Simulation]:
    with simulation() as made:
        yield made


def new_world(running: Simulation) -> World:
    """Return a deployment in which icmec has indexed somebody, and needs an authorisation from now on."""
    running._clock.reset()
    running._chance.seed(1)
    world = World(1, Faults(random=random.Random(1)), running._clock)
    world.aws.duplicate = world.aws.refusal = 0.0
    world.faults.active = False
    world.change("icmec/index/staff/known.jpg", people.photo([1]))
    world.network.drain()
    world.set_flags(halted=False, reviewed=False, ordered=True)
    world.clock.advance(world.settings.flags_poll_interval + 2)
    world.random.seed(3)  # an authorisation for any collection
    return world


def deliver(world: World, *stages: topology.Stage) -> None:
    for stage in stages:
        world.network.deliver_next(world.aws.sqs.queues[stage.queue], chaos=False)


def search(world: World, name: str, named: str = "", action: str = "search") -> str:
    key = f"icmec/{action}/staff/{name}.jpg"
    world.change(key, people.photo([1], world.nonce()), named)
    return key


def said(world: World, key: str) -> dict[str, object]:
    return dict(json.loads(world.aws.s3.buckets[world.settings.results_bucket][f"{key}.json"].body))


def faces(world: World) -> list[str]:
    try:
        return [face.source.key for face in gallery_of(world).list_faces(STAFF).items if face.source]
    except CollectionNotFound:
        return []


def used(world: World) -> list[str]:
    authorizations = build.build_authorizations(world.settings, world.aws.client)
    return [use.number for use in authorizations.uses.all()]


def test_of_two_that_race_for_the_last_one_exactly_one_searches(running: Simulation) -> None:
    winners = set()
    for call in itertools.count(1):
        world = new_world(running)
        visitors.authorize(world, 1)
        first = search(world, "a")

        def overtake(world: World = world) -> None:
            search(world, "b")
            deliver(world, topology.GATE)

        world.faults.active = True
        with world.faults.certain_overtaking(call, overtake):
            deliver(world, topology.GATE)
        if len(world.uploads) < 3:
            break  # the first has made fewer calls
        settle(world)
        outcomes = {upload.key: said(world, upload.key)["event"] for upload in world.uploads[1:]}
        assert sorted(map(str, outcomes.values())) == ["Faces Matched", "Upload Halted"], f"call {call}"
        winners.add(next(key for key, outcome in outcomes.items() if outcome == "Faces Matched"))
        assert len(used(world)) == 1
        assert check(world) == [], f"overtaken before call {call}"
    assert first in winners
    assert len(winners) == 2, "each of them was the first in some order of calls"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_death_between_using_and_searching_uses_one(
    running: Simulation, stage: topology.Stage, when: str
) -> None:
    for call in itertools.count(1):
        world = new_world(running)
        number = visitors.authorize(world, 2)
        key = search(world, "a", number)
        deliver(world, *STAGES[: STAGES.index(stage)])
        world.faults.active = True
        with world.faults.certain_death(call, when):
            deliver(world, stage)
        settle(world)
        assert said(world, key)["event"] == "Faces Matched"
        assert used(world) == [number]
        assert [entry.type for entry in entries_of(world)].count(USED) == 1
        assert check(world) == [], f"died {when} call {call}"
        if not world.faults.died:
            break
    assert call > 5


@pytest.mark.parametrize("action", ["index", "search"])
def test_nothing_is_left_of_a_search_whose_authorisation_never_comes(
    running: Simulation, action: str
) -> None:
    for call in itertools.count(1, 2):
        world = new_world(running)
        key = search(world, "a", "late", action)
        world.network.drain()
        assert said(world, key)["event"] == ("Faces Indexed" if action == "index" else "Faces Matched")
        assert said(world, key)["decision"]["clause"] == "authorization_due"  # type: ignore[index]
        assert len(faces(world)) == (2 if action == "index" else 1)
        visitors.lapse(world)
        assert len(faces(world)) == (2 if action == "index" else 1), "its time is not over"
        world.clock.advance(DUE_S + 1)
        world.faults.active = True
        with world.faults.certain_death(call, "before" if call % 4 == 1 else "after"):
            visitors.lapse(world)
        world.faults.active = False
        visitors.lapse(world)
        result = said(world, key)
        assert (result["event"], "faces" in result) == ("Authorization Lapsed", False)
        assert faces(world) == ["icmec/index/staff/known.jpg"]
        world.clock.advance(GRACE.total_seconds())
        visitors.lapse(world)
        settle(world)
        assert [entry.type for entry in entries_of(world)].count("Authorization Lapsed") == 1
        assert used(world) == []
        assert check(world) == [], f"died at call {call}"
        if not world.faults.died:
            break
    assert call > 8


def test_one_that_comes_in_time_is_used_and_everything_stays(running: Simulation) -> None:
    world = new_world(running)
    key = search(world, "a", "late")
    world.network.drain()
    matched = said(world, key)
    number = visitors.authorize(world, 1)
    visitors.lapse(world)
    world.clock.advance(DUE_S + GRACE.total_seconds() + 1)
    visitors.lapse(world)
    settle(world)
    assert said(world, key) == matched
    assert used(world) == [number]
    assert check(world) == []


def test_one_that_is_revoked_stops_what_is_under_way(running: Simulation) -> None:
    world = new_world(running)
    visitors.authorize(world, 1)
    key = search(world, "a")
    deliver(world, topology.GATE, topology.DETECT)
    visitors.revoke(world)
    settle(world)
    result = said(world, key)
    assert (result["event"], result["decision"]["clause"]) == (  # type: ignore[index]
        "Recognition Halted",
        "authorization_required",
    )
    assert check(world) == []
