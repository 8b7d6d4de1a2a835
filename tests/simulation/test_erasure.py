"""An erasure whose process dies at one call after another, on the graph that is deployed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest
from tests.simulation import people
from tests.simulation.actions import try_erasure
from tests.simulation.faults import CallSite, Faults
from tests.simulation.invariants import check
from tests.simulation.model import Erasure, flags
from tests.simulation.plan import settle
from tests.simulation.run import Simulation, simulation
from tests.simulation.world import World

from abeyance.deployment import build
from abeyance.gallery.model import CollectionRef

STAFF = CollectionRef("acme", "staff")
#: A death at every n-th call in a test, because each takes a tenth of a second.
STRIDE = 12


@pytest.fixture(scope="module")
def running() -> Iterator[Simulation]:
    with simulation() as made:
        yield made


def world_with_people(running: Simulation, *, reviewed: bool) -> World:
    """Return a deployment with faces, users, results, a review and uploads under way."""
    running._clock.reset()
    running._chance.seed(1)
    faults = Faults(random=random.Random(1))
    faults.active = False
    world = World(1, faults, running._clock)
    world.aws.duplicate = 0.0
    world.agree(flags(halted=False, reviewed=reviewed))
    for nonce, (name, who) in enumerate({"0.jpg": [1], "1.jpg": [1, 2], "2.jpg": [2]}.items()):
        world.change(f"acme/index/staff/{name}", people.photo(who, nonce))
        world.network.drain()
    for name, who in {"3.jpg": [1], "4.jpg": [1, 2]}.items():
        world.change(f"acme/search/staff/{name}", people.photo(who, 9))
        world.network.drain()
    gallery = build.build_gallery(world.settings, world.aws.client)
    ids = [face.id for face in gallery.list_faces(STAFF).items if face.external_image_id != "2.jpg"]
    gallery.create_user(STAFF, "user-1")
    gallery.associate_faces(STAFF, "user-1", ids[:2])
    # Whoever opens the queue has the comparisons written.
    assert len(world.console().reviews.open_reviews()) == 2 * reviewed
    # Under way: one that the gate permitted, one whose faces were detected.
    for folder, stages in (("a", ["gate"]), ("b", ["gate", "detect"])):
        world.change(f"acme/index/staff/{folder}/0.jpg", people.photo([1], 20))
        for stage in stages:
            queue = next(one for one in world.aws.sqs.queues.values() if one.name == f"abeyance-{stage}")
            while world.network.deliver(queue, chaos=False):
                pass
    return world


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("named_by", "name"), [("external_image_id", "0.jpg"), ("user_id", "user-1"), ("original_name", "1.jpg")]
)
def test_a_death_at_any_call_leaves_no_trace_and_no_false_receipt(
    running: Simulation, when: str, named_by: str, name: str
) -> None:
    for number, deadly in enumerate(itertools.count(1, STRIDE)):
        world = world_with_people(running, reviewed=number % 2 == 0)
        calls = itertools.count(1)

        def wanted(site: CallSite, deadly: int = deadly, calls: Iterator[int] = calls) -> str:
            return when if site.unit == "console" and next(calls) == deadly else ""

        world.faults.wanted, world.faults.active = wanted, True
        erasure = Erasure(STAFF, named_by, name, world.clock.now_s)
        world.erasures.append(erasure)
        try_erasure(world, erasure)
        world.faults.active = False
        settle(world)
        assert check(world) == [], f"death {when} call {deadly}"
        assert erasure.ended
        if not world.faults.died:
            break
    assert deadly > 50


def test_what_an_erasure_changes_does_not_come_back_once_its_photo_is_deleted(running: Simulation) -> None:
    """The photo is deleted between a read and the write of what was made of it."""
    for wanted in itertools.count(1):
        world, writes = world_with_people(running, reviewed=True), itertools.count(1)
        deleted: list[str] = []

        def delete(world: World = world, deleted: list[str] = deleted) -> None:
            deleted.extend(sorted(world.photos))
            for key in deleted:
                world.change(key, None)
            world.network.drain()

        def interrupt(
            site: CallSite, world: World = world, writes: Iterator[int] = writes, wanted: int = wanted
        ) -> str:
            if (site.operation, site.place) == ("s3.PutObject", "pipeline/aws.py:change") and (
                next(writes) == wanted
            ):
                with world.quietly():
                    world.faults._interleave(delete)
            return ""

        world.faults.wanted, world.faults.active = interrupt, True
        erasure = Erasure(STAFF, "external_image_id", "1.jpg", world.clock.now_s)
        world.erasures.append(erasure)
        try_erasure(world, erasure)
        world.faults.active = False
        settle(world)
        assert check(world) == [], f"deleted in front of write {wanted}"
        if not deleted:
            break
    assert wanted > 2
