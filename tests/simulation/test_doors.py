"""A bucket that a tenant registered, stage by stage: other rules between any two stages, and forged events."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from tests.simulation import doors, people
from tests.simulation.actions import gallery_of
from tests.simulation.faults import Faults
from tests.simulation.invariants import check, entries_of
from tests.simulation.model import DOOR_BUCKET
from tests.simulation.plan import settle
from tests.simulation.run import Simulation, simulation
from tests.simulation.world import World

from abeyance.gallery.errors import CollectionNotFound
from abeyance.gallery.model import CollectionRef
from abeyance.pipeline import topology

KEY = "door/a/b/0.jpg"
ACME, ICMEC, NOBODY = ("acme", "index:staff"), ("icmec", "index:staff:missing_children"), ("", "")


@pytest.fixture(scope="module")
def running() -> Iterator[Simulation]:
    with simulation() as made:
        yield made


@pytest.fixture
def world(running: Simulation) -> World:
    running._clock.reset()
    running._chance.seed(1)
    made = World(3, Faults(random=random.Random(1)), running._clock)
    made.faults.active = False
    made.aws.duplicate = made.aws.refusal = 0.0
    doors.register(made, ACME)
    return made


def faces(world: World, tenant: str) -> int:
    try:
        return len(gallery_of(world).list_faces(CollectionRef(tenant, "staff")).items)
    except CollectionNotFound:
        return 0


def results(world: World) -> dict[str, dict[str, Any]]:
    found = world.aws.s3.buckets[world.settings.results_bucket]
    return {key: json.loads(stored.body) for key, stored in found.items()}


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("other", [ICMEC, NOBODY, ("acme", "index:guests")])
def test_other_rules_between_two_stages_end_the_upload(
    world: World, stages: int, other: tuple[str, str]
) -> None:
    world.change(KEY, people.photo([1]))
    for stage in topology.PHOTO_STAGES[:stages]:
        world.network.deliver(world.aws.sqs.queues[stage.queue], chaos=False)
    doors.register(world, other)
    settle(world)
    (result,) = results(world).values()
    assert (result["event"], result["reason"]) == ("Upload Rejected", "REGISTRATION_CHANGED")
    assert result["stage"] == topology.PHOTO_STAGES[stages].name
    assert faces(world, "acme") == faces(world, "icmec") == 0
    assert check(world) == []


@pytest.mark.parametrize("other", [ICMEC, NOBODY])
@pytest.mark.parametrize("body", [people.photo([2]), None])
def test_what_was_indexed_goes_with_its_photo_under_whatever_rules(
    world: World, other: tuple[str, str], body: bytes | None
) -> None:
    world.change(KEY, people.photo([1]))
    settle(world)
    assert faces(world, "acme") == 1
    doors.register(world, other)
    world.change(KEY, body)
    settle(world)
    assert faces(world, "acme") == 0
    assert faces(world, "icmec") == (1 if other is ICMEC and body else 0)
    assert list(results(world)) == ([f"icmec/s3:{DOOR_BUCKET}/{KEY}.json"] if other is ICMEC and body else [])
    assert check(world) == []


def test_a_forged_event_about_another_tenants_bucket_does_nothing(world: World) -> None:
    world.change(KEY, people.photo([1]))
    settle(world)
    table = world.aws.dynamodb.tables[world.settings.uploads_table]
    (stored,) = [item["stage_gate"]["S"] for item in table.all() if "stage_gate" in item]
    detail = json.loads(stored.split("\n", 1)[1])
    for forged in (
        {"tenant": "icmec"},
        {"registration": 2},
        {"registration": 0},
        {"bucket": "other"},
        {"key": "icmec/index/staff/a.jpg", "tenant": "icmec", "registration": 0},
    ):
        upload = {**detail["upload"], **forged}
        envelope = {"id": f"f{forged}", "source": "abeyance", "detail-type": "Upload Permitted"}
        world.aws.route({**envelope, "time": detail["time"], "detail": {**detail, "upload": upload}})
        settle(world)
        assert faces(world, "icmec") == 0
    refused = [entry for entry in entries_of(world) if entry.type == "Event Refused"]
    assert len(refused) == 5
    assert faces(world, "acme") == 1
