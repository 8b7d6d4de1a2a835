"""A bucket that tenants register for uploads in the course of a seed, one after the other, each as it likes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any, Final

from msgspec import structs
from tests.simulation import people
from tests.simulation.model import DOOR_BUCKET, DOOR_PLACES, DOOR_PREFIX, DOOR_RULES, PEOPLE

from abeyance.deployment import build
from abeyance.moratorium.subjects import TenantChange
from abeyance.pipeline import topology
from abeyance.pipeline.events import Event, Upload, UploadWithdrawn
from abeyance.pipeline.uploads import result_key_of

if TYPE_CHECKING:
    from tests.simulation.model import Upload as Change
    from tests.simulation.world import World


def is_door_seed(world: World) -> bool:
    """Return whether the bucket is used in this seed; the others are what they were without it."""
    return world.seed % 4 == 3


def key_of(world: World) -> str:
    """Return one of the keys in the bucket."""
    return f"{DOOR_PREFIX}a/b/{world.random.randrange(3)}.jpg"


def upload(world: World) -> str:
    """Somebody puts a photo into the bucket, a new one or over another; return its key."""
    key = key_of(world)
    world.change(
        key, people.photo(world.random.sample(PEOPLE, world.random.choice((0, 1, 1))), world.nonce())
    )
    return key


def register(world: World, chosen: tuple[str, str] | None = None) -> None:
    """Two people register other rules for the bucket, or end them."""
    owner, rule = chosen or world.random.choice(DOOR_RULES)
    # Mostly it succeeds, and seldom it dies half-way.
    with (
        contextlib.suppress(Exception),
        world.quietly() if world.random.random() < 0.8 else contextlib.nullcontext(),
    ):
        world.run("operator", lambda: _register(world, owner, rule))
    world.rules_changed_s = world.clock.now_s


def _register(world: World, owner: str, rule: str) -> None:
    # A bucket's rules are one tenant's, so those of the other end first.
    for tenant in sorted(("acme", "icmec"), key=lambda name: name == owner):
        found = {one.id: one for one in world.officer("alice").tenants()}[tenant]
        rules = (f"{DOOR_BUCKET}/{DOOR_PREFIX}={rule}",) if tenant == owner else ()
        if found.uploads == rules:
            continue
        changed = structs.replace(found, buckets=(DOOR_BUCKET,), uploads=rules)
        made = world.officer("alice").submit(TenantChange(changed))
        if made.state == "proposed":
            world.officer("bob").approve(made.id, made.digest)


def change_hands(world: World) -> None:
    """Let a photo come to some stage, register other rules, and let it be written over, deleted, or left."""
    chance, network = world.random, world.network
    register(world)
    key = upload(world)
    with world.quietly():
        for stage in topology.PHOTO_STAGES[: chance.randrange(4)]:
            network.deliver(world.aws.sqs.queues[stage.queue], chaos=False)
    if chance.random() < 0.8:
        register(world)
    drawn = chance.random()
    if drawn < 0.3:
        world.change(key, None)
    elif drawn < 0.7:
        body = world.photos[key].body if drawn < 0.4 else people.photo([chance.choice(PEOPLE)], world.nonce())
        world.change(key, body)
    network.deliver_all(chance.randrange(4))


def search_under_review(world: World) -> None:
    """Let a photo in the bucket be searched for while matches are reviewed."""
    world.set_flags(halted=False, reviewed=True)
    world.clock.advance(world.settings.flags_poll_interval + 2)
    for rule in ("index:staff", "search:staff"):
        with world.quietly():
            _register(world, "acme", rule)
        world.rules_changed_s = world.clock.now_s
        world.change(f"{DOOR_PREFIX}a/b/0.jpg", people.photo([1], world.nonce()))
        world.network.deliver_all(5)


DEEDS: Final[tuple[Callable[[Any], Any], ...]] = (
    upload,
    register,
    change_hands,
    change_hands,
    search_under_review,
)


def same_before(world: World, recorded: Collection[str]) -> dict[str, Change]:
    """Return by key the earlier upload that is treated in the place of the latest one.

    The latest came while no rule was registered; the event of the earlier one, of the same bytes, came after that.
    """
    changes: dict[str, list[Change]] = {}
    for one in world.uploads:
        if one.bucket == DOOR_BUCKET:
            changes.setdefault(one.key, []).append(one)
    same = {
        key: [one for one in those if one.body == those[-1].body and one.upload.identity in recorded]
        for key, those in changes.items()
        if those[-1].body is not None
    }
    return {key: those[-1] for key, those in same.items() if those}


def check(world: World, evidence: Any) -> Iterator[str]:
    """Every object of the bucket is treated by one version of its rules, and leaves nothing under others."""
    latest = {one.key: one for one in world.uploads if one.bucket == DOOR_BUCKET}
    latest |= same_before(world, evidence.recorded)
    first: dict[str, Event] = {
        identity: stages["gate"] for identity, stages in evidence.recorded.items() if "gate" in stages
    }
    for event in evidence.events():
        upload = event.upload
        if (
            upload.bucket == DOOR_BUCKET
            and (upload.tenant, upload.action, upload.collection) not in DOOR_PLACES
        ):
            yield f"{event.id} is of {upload.tenant} {upload.action} {upload.collection}"
        if upload.bucket == DOOR_BUCKET and event.upload != first[upload.identity].upload:
            yield f"{event.id} is not of the upload that the gate recorded"
    registered = build.build_tenants(world.settings, world.aws.client).registrations(DOOR_BUCKET)
    in_force = bool(registered and registered[-1].rules)
    treated = {}
    for key, change in latest.items():
        recorded = first.get(change.upload.identity)
        if recorded is not None and not isinstance(recorded, UploadWithdrawn):
            treated[key] = recorded.upload
        elif recorded is None and in_force and change.body and change.at_s > world.rules_changed_s:
            yield f"{key} came to a place with a rule and was not treated"
        places = {result_key_of(_as(change.upload, tenant)): tenant for tenant in ("acme", "icmec")}
        results = sorted(tenant for place, tenant in places.items() if place in evidence.results)
        # Registered while events of several uploads waited, an earlier one may be the last that was treated.
        wanted = [treated[key].tenant] if key in treated else [] if recorded else results
        if results != wanted:
            yield f"{key} has results of {results}, not {wanted}"
    for ref, face in evidence.all_faces():
        if face.source is None or face.source.bucket != DOOR_BUCKET:
            continue
        own = treated.get(face.source.key)
        if own is None or (own.tenant, own.collection) != (ref.tenant, ref.name):
            yield f"a face of {face.source.key} is left in {ref.tenant} {ref.name}"


def _as(upload: Upload, tenant: str) -> Upload:
    return structs.replace(upload, tenant=tenant, registration=1)
