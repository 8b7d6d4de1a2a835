"""Single stages of the deployed graph at single moments: what a death, a halt and another clock do to one upload."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterator

import pytest
from msgspec import structs
from tests.simulation import people
from tests.simulation.actions import REVIEWERS, gallery_of, send_forgery
from tests.simulation.faults import Faults
from tests.simulation.invariants import check, entries_of
from tests.simulation.model import flags
from tests.simulation.plan import settle
from tests.simulation.run import Simulation, simulation
from tests.simulation.world import World

from abeyance.deployment import build
from abeyance.gallery.model import CollectionRef, Face
from abeyance.gallery.search import Searcher
from abeyance.moratorium.subjects import TenantChange
from abeyance.pipeline import events, topology
from abeyance.pipeline.review_cases import Ground, Verdict
from abeyance.pipeline.uploads import chips_key

STAFF = CollectionRef("acme", "staff")
KEY = "acme/index/staff/a.jpg"


@pytest.fixture(scope="module")
def running() -> Iterator[Simulation]:
    with simulation() as made:
        yield made


def new_world(running: Simulation) -> World:
    running._clock.reset()
    running._chance.seed(1)
    faults = Faults(random=random.Random(1))
    world = World(1, faults, running._clock)
    world.aws.duplicate = world.aws.refusal = 0.0
    return world


def deliver(world: World, *stages: topology.Stage) -> None:
    for stage in stages:
        world.network.deliver_next(world.aws.sqs.queues[stage.queue], chaos=False)


def templates(world: World) -> list[str]:
    """The faces that a new searcher finds."""
    searcher = Searcher(gallery_of(world))
    probe = people.template_of(1)[None]
    return [found.face_id for found in searcher.search(STAFF, probe, min_cosine=0.99)[0]]


def ledger(world: World) -> list[str]:
    return [entry.type for entry in entries_of(world)]


def halt(world: World) -> None:
    world.agree(flags(halted=True, reviewed=False))


def lose_chips(world: World) -> None:
    world.aws.s3.buckets[world.settings.chips_bucket].clear()


def unregister(world: World) -> None:
    client = world.officer("alice")
    acme = next(one for one in client.tenants() if one.id == "acme")
    with world.quietly():
        client.submit(TenantChange(structs.replace(acme, status="suspended")))


#: What comes between two deliveries, and the entry that says that no template was made.
DENIALS: dict[str, tuple[Callable[[World], None], str]] = {
    "a halt": (halt, "Recognition Halted"),
    "a suspension": (unregister, "Recognition Halted"),
    "the chips expire": (lose_chips, "Upload Rejected"),
}


@pytest.mark.parametrize("denial", DENIALS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupted_index_that_is_denied_then_leaves_no_template(
    running: Simulation, when: str, denial: str
) -> None:
    happens, entry = DENIALS[denial]
    denied = 0
    for call in itertools.count(1):
        world = new_world(running)
        # The collection is there, with somebody else.
        world.change("acme/index/staff/other.jpg", people.photo([2]))
        with world.quietly():
            world.network.drain()
        world.change(KEY, people.photo([1]))
        deliver(world, topology.GATE, topology.DETECT)
        with world.faults.certain_death(call, when):
            deliver(world, topology.RECOGNIZE)
        happens(world)
        settle(world)
        found, said = templates(world), ledger(world)
        # Either it was recorded before the process died, or there is nothing to find.
        assert bool(found) == (said.count("Faces Indexed") == 2), f"died {when} call {call}: {said}"
        assert (entry in said) is not found
        assert not found or entry not in said
        assert check(world) == []
        denied += entry in said
        if not world.faults.died:
            break
    assert denied >= 4, "the process died between the template and its record"


def test_a_review_that_was_interrupted_ends_once_though_its_photo_is_replaced(running: Simulation) -> None:
    released = 0
    for call in itertools.count(1):
        world = new_world(running)
        world.faults.active = False
        world.set_flags(halted=False, reviewed=True)
        for action in ("index", "search"):
            world.change(f"acme/{action}/staff/a.jpg", people.photo([1]))
            world.network.drain()
        reviews, person = world.console().reviews, REVIEWERS[0]
        found = reviews.next_comparison(person)
        assert found is not None
        judgement = (person, found.review.identity, found.case.number, Verdict.SAME, Ground.OTHER)
        world.faults.active = True
        with world.faults.certain_death(call, "after"):
            world.run("console", functools.partial(reviews.judge, *judgement))
        world.change("acme/search/staff/a.jpg", people.photo([2]))
        settle(world)
        assert check(world) == [], f"died after call {call}"
        released += ledger(world).count("Matches Released")
        if not world.faults.died:
            break
    assert released > 1, "the process died between the record and its event"


def test_a_deletion_leaves_the_result_of_an_upload_that_overtakes_it(running: Simulation) -> None:
    key = "acme/search/staff/a.jpg"

    def overtake(world: World) -> None:
        halt(world)
        world.clock.advance(world.settings.flags_poll_interval + 2)
        world.change(key, people.photo([2]))
        deliver(world, topology.GATE, topology.RECOGNIZE)

    for call in range(1, 8):
        world = new_world(running)
        world.change(key, people.photo([1]))
        with world.quietly():
            world.network.drain()
        world.change(key, None)
        deliver(world, topology.GATE)
        with world.faults.certain_overtaking(call, functools.partial(overtake, world)):
            deliver(world, topology.RECOGNIZE)
        settle(world)
        assert check(world) == [], f"overtaken before call {call}"


def test_a_picture_is_cut_again_from_a_bucket_without_versions(running: Simulation) -> None:
    world = new_world(running)
    world.faults.active = False
    world.change(KEY, people.photo([1, 2]))
    world.network.drain()
    lose_chips(world)
    faces: list[Face] = list(gallery_of(world).list_faces(STAFF).items)
    pictures = world.console().pictures
    assert {int(pictures.candidate(face)[0, 0, 0]) for face in faces} == {1, 2}
    # Other bytes under the key are not the photo of these faces.
    world.change(KEY, people.photo([3, 4]))
    assert [pictures.candidate(face) for face in faces] == [None, None]


def test_a_forged_event_keeps_no_decision_of_the_gate_off_the_ledger(running: Simulation) -> None:
    """The gate dies between its record and its event, and a forged event lets the next stage go on from the record."""
    world = new_world(running)
    world.change(KEY, people.photo([1]))
    with world.faults.certain_death_in("upload_records.py:record", "after"):
        deliver(world, topology.GATE)
    assert world.faults.died
    with world.quietly():
        send_forgery(world, topology.DETECT)
        deliver(world, topology.RECOGNIZE)
    settle(world)
    assert check(world) == []
    assert set(ledger(world)) >= {"Upload Permitted", "Event Refused", "Faces Indexed"}


def test_the_result_is_the_last_stages_whatever_its_clock_shows(running: Simulation) -> None:
    world = new_world(running)
    world.faults.active = False
    outbox = {
        name: build.build_outbox(name, world.settings, world.aws.client) for name in ("recognize", "review")
    }
    world.change("acme/search/staff/a.jpg", people.photo([1]))
    upload = world.uploads[-1].upload
    build.build_upload_records(world.settings, world.aws.client).claim(upload)
    decision = build.build_guard(world.settings, world.aws.client).decide("acme", "search", "unspecified")
    matched = events.FacesMatched.of(
        upload, decision=decision, model="m", threshold=80.0, faces=(), unsearched=(), left_out=0, reviewers=1
    )
    world.clock.skew_s = 400.0
    outbox["recognize"].record_outcome(matched)
    world.clock.skew_s = -400.0
    ended = events.MatchesWithheld.of(
        upload, decision=decision, reason="NOT_CONFIRMED", reviewers=1, withheld=1
    )
    outbox["review"].record_outcome(ended)
    results = world.aws.s3.buckets[world.settings.results_bucket]
    for again in ("review", "recognize"):
        outbox[again].republish(matched)
        assert b'"Matches Withheld"' in results["acme/search/staff/a.jpg.json"].body
    assert chips_key(upload) not in world.aws.s3.buckets[world.settings.chips_bucket]
