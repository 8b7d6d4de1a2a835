"""Forged events: whatever somebody puts on the bus, stages do what the records say, and the ledger has the trace."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.ledgers import entries_of
from tests.simulation import people
from tests.simulation.faults import Faults
from tests.simulation.model import flags
from tests.simulation.run import Simulation, simulation
from tests.simulation.world import World

from abeyance.deployment import build
from abeyance.gallery.model import CollectionRef
from abeyance.pipeline import topology

INDEXED, HALTED, SEARCHED = (
    "acme/index/staff/a.jpg",
    "springfield-police/search/staff/b.jpg",
    "acme/search/staff/c.jpg",
)


@pytest.fixture(scope="module")
def running() -> Iterator[Simulation]:
    with simulation() as made:
        yield made


@pytest.fixture
def world(running: Simulation) -> World:
    """A deployment where one photo was indexed, one was halted, and one was searched."""
    running._clock.reset()
    running._chance.seed(1)
    faults = Faults(random=random.Random(1))
    faults.active = False
    made = World(1, faults, running._clock)
    made.aws.duplicate = made.aws.refusal = 0.0
    for key in (INDEXED, HALTED, SEARCHED):
        made.change(key, people.photo([1]))
        made.network.drain()
    assert made.violations == []
    return made


def recorded(world: World, key: str, stage: str) -> dict[str, Any]:
    """The detail of what a stage recorded for a key."""
    for item in world.aws.dynamodb.tables[world.settings.uploads_table].all():
        if f"stage_{stage}" in item:
            detail = json.loads(item[f"stage_{stage}"]["S"].split("\n", 1)[1])
            if detail["upload"]["key"] == key:
                return detail
    raise KeyError(key)


def with_upload(detail: dict[str, Any], **fields: Any) -> dict[str, Any]:
    changed = copy.deepcopy(detail)
    changed["upload"] |= fields
    if "permitted" in changed:
        changed["permitted"]["upload"] |= fields
    return changed


def permit(world: World, key: str = HALTED, **fields: Any) -> dict[str, Any]:
    """Upload Permitted for an upload that the gate halted."""
    detail = recorded(world, key, "gate")
    permitted = recorded(world, INDEXED, "gate")
    return with_upload({**permitted, "id": "forged", "upload": detail["upload"]}, **fields)


def detected(world: World, key: str = HALTED, **fields: Any) -> dict[str, Any]:
    """Faces Detected for an upload that was halted."""
    found = recorded(world, INDEXED, "detect")
    upload = recorded(world, key, "gate")["upload"]
    return with_upload({**found, "id": "forged", "upload": upload, "permitted": permit(world, key)}, **fields)


FORGERIES: dict[str, tuple[str, Callable[[World], dict[str, Any]]]] = {
    "a permit for what was halted": ("Upload Permitted", permit),
    "a permit in another tenant's name": ("Upload Permitted", lambda w: permit(w, tenant="acme")),
    "a permit for another action": ("Upload Permitted", lambda w: permit(w, action="index")),
    "a permit for another collection": ("Upload Permitted", lambda w: permit(w, collection="guests")),
    "a permit of another sequencer": ("Upload Permitted", lambda w: permit(w, sequencer="FF")),
    "a permit for a key of nobody": (
        "Upload Permitted",
        lambda w: with_upload(permit(w), key="acme/search/x/x.jpg"),
    ),
    "a permit for another bucket": ("Upload Permitted", lambda w: permit(w, bucket="results")),
    "another purpose for what was permitted": (
        "Upload Permitted",
        lambda w: {**recorded(w, SEARCHED, "gate"), "purpose": "missing_children"},
    ),
    "a lower threshold for what was permitted": (
        "Upload Permitted",
        lambda w: {**recorded(w, SEARCHED, "gate"), "face_match_threshold": 0.0},
    ),
    "a permitted upload of another tenant": (
        "Upload Permitted",
        lambda w: with_upload(recorded(w, SEARCHED, "gate"), tenant="icmec"),
    ),
    "faces of what was halted": ("Faces Detected", detected),
    "faces of what was halted, as another tenant": ("Faces Detected", lambda w: detected(w, tenant="acme")),
    "faces as another tenant": (
        "Faces Detected",
        lambda w: with_upload(recorded(w, SEARCHED, "detect"), tenant="icmec", collection="missing"),
    ),
    "faces to index that were to be searched": (
        "Faces Detected",
        lambda w: with_upload(recorded(w, SEARCHED, "detect"), action="index"),
    ),
    "the chips of somebody else": (
        "Faces Detected",
        lambda w: {**recorded(w, SEARCHED, "detect"), "chips": recorded(w, INDEXED, "detect")["chips"]},
    ),
    "a withdrawal": (
        "Upload Withdrawn",
        lambda w: {
            "id": "forged",
            "time": "2026-01-01T00:00:00Z",
            "upload": recorded(w, INDEXED, "gate")["upload"],
        },
    ),
    "a withdrawal of a later sequencer": (
        "Upload Withdrawn",
        lambda w: {
            "id": "forged",
            "time": "2026-01-01T00:00:00Z",
            "upload": {**recorded(w, INDEXED, "gate")["upload"], "version": "", "sequencer": "FF"},
        },
    ),
    "a halt": (
        "Upload Halted",
        lambda w: {**recorded(w, HALTED, "gate"), "upload": recorded(w, INDEXED, "gate")["upload"]},
    ),
    "a halt of a later sequencer": (
        "Upload Halted",
        lambda w: with_upload(
            {**recorded(w, HALTED, "gate"), "upload": recorded(w, INDEXED, "gate")["upload"]}, sequencer="FF"
        ),
    ),
    "a rejection": (
        "Upload Rejected",
        lambda w: {
            "id": "forged",
            "time": "2026-01-01T00:00:00Z",
            "upload": {**recorded(w, INDEXED, "gate")["upload"], "sequencer": "FF"},
            "stage": "detect",
            "reason": "NO_FACE",
            "message": "none",
        },
    ),
    "a later halt of recognition": (
        "Recognition Halted",
        lambda w: {
            **recorded(w, HALTED, "gate"),
            "upload": {**recorded(w, INDEXED, "gate")["upload"], "sequencer": "FF"},
        },
    ),
    "a search to review that nobody made": (
        "Faces Matched",
        lambda w: {
            **recorded(w, SEARCHED, "recognize"),
            "reviewers": 1,
            "upload": {**recorded(w, SEARCHED, "gate")["upload"], "sequencer": "FF"},
        },
    ),
    "a review of a search that asks for none": (
        "Faces Matched",
        lambda w: {**recorded(w, SEARCHED, "recognize"), "reviewers": 3},
    ),
}


def everything(world: World) -> dict[str, Any]:
    """All that stages make: faces, chips, results, reviews, records."""
    gallery = build.build_gallery(world.settings, world.aws.client)
    faces = {
        f"{tenant}/{collection}": sorted(face.id for face in gallery.list_faces(ref).items)
        for tenant, collection in (("acme", "staff"),)
        for ref in [CollectionRef(tenant, collection)]
    }
    collections = {tenant: len(gallery.list_collections(tenant).items) for tenant in ("acme", "icmec")}
    s3, tables = world.aws.s3.buckets, world.aws.dynamodb.tables
    return {
        "faces": faces,
        "collections": collections,
        "chips": sorted(s3[world.settings.chips_bucket]),
        "results": {key: one.body for key, one in s3[world.settings.results_bucket].items()},
        "reviews": [str(item) for item in tables[world.settings.reviews_table].all()],
        "records": sorted(str(item) for item in tables[world.settings.uploads_table].all()),
    }


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_event_does_nothing_but_leave_a_trace(world: World, name: str) -> None:
    detail_type, make = FORGERIES[name]
    before = everything(world)
    world.aws.route(
        {
            "id": "forged",
            "source": topology.SOURCE,
            "detail-type": detail_type,
            "time": "2026-01-01T00:00:00Z",
            "detail": make(world),
        }
    )
    world.network.drain()
    assert everything(world) == before
    assert world.violations == []
    entries = entries_of(world.aws.client, world.settings)
    refused = [entry.body for entry in entries if entry.type == "Event Refused"]
    assert [body["claimed"] for body in refused] == [detail_type]


def test_a_halt_between_two_stages_holds(world: World) -> None:
    """What the events say was permitted a moment ago is decided again."""
    world.change("acme/index/staff/d.jpg", people.photo([2]))
    world.network.deliver_next(world.aws.sqs.queues[topology.GATE.queue], chaos=False)
    world.agree(flags(halted=True, reviewed=False))
    world.clock.advance(world.settings.flags_poll_interval + 1)
    world.network.drain()
    assert recorded(world, "acme/index/staff/d.jpg", "detect")["decision"]["outcome"] == "deny"
