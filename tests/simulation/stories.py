"""Things that belong together and that chance alone seldom brings together: what a rare fault needs to show."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tests.simulation import actions, people, visitors
from tests.simulation.model import ALL_COLLECTIONS, COLLECTIONS, DUE_S, PEOPLE, flags
from tests.simulation.restore import back_up
from tests.simulation.visitors import OFFICERS

from abeyance.gallery.errors import GalleryError
from abeyance.gallery.model import CollectionRef
from abeyance.moratorium.errors import MoratoriumError
from abeyance.moratorium.subjects import FlagsChange
from abeyance.pipeline import topology

if TYPE_CHECKING:
    from tests.simulation.world import World

#: Calls of one invocation, at one of which it is cut off.
_CALLS = 16
#: Of these, those before its outcome is recorded.
_CALLS_BEFORE_A_RECORD = 10


def cut_off(world: World) -> None:
    """Cut an invocation off at one of its calls, let something happen to its photo, and deliver it again."""
    chance, network = world.random, world.network
    first = 1
    if chance.random() < 0.6:
        stage = chance.choice((topology.GATE, topology.DETECT, topology.RECOGNIZE, topology.RECOGNIZE))
        _upload(world, "index", chance.choice(COLLECTIONS), until=stage)
        queue = world.aws.sqs.queues[stage.queue]
        # An index comes late in its invocation.
        first = chance.choice((1, 8)) if stage is topology.RECOGNIZE else 1
    else:
        queue = chance.choice(list(world.aws.sqs.queues.values()))
    with world.faults.certain_death(chance.randint(first, _CALLS), chance.choice(("before", "after"))):
        network.deliver_next(queue)
    network.deliver_next(queue)


def overtaken(world: World) -> None:
    """Let photos be deleted or replaced, and that be processed, in the middle of an invocation for the photo."""
    chance = world.random
    for _ in range(3):
        stage = chance.choice((topology.DETECT, topology.RECOGNIZE, topology.RECOGNIZE))
        tenant = chance.choice(("acme", "icmec"))
        key = _upload(world, "index", chance.choice(ALL_COLLECTIONS), until=stage, tenant=tenant)
        with world.faults.certain_overtaking(
            chance.randint(2, _CALLS_BEFORE_A_RECORD), functools.partial(world.network.overtake, key)
        ):
            world.network.deliver_next(world.aws.sqs.queues[stage.queue], chaos=False)


def delete_a_collection(world: World) -> None:
    """Index somebody, delete the collection, and let the hourly task finish what was left."""
    chance, collection = world.random, world.random.choice(COLLECTIONS)
    _upload(world, "index", collection)
    with world.faults.certain_death(chance.randint(1, 2 * _CALLS), chance.choice(("before", "after"))):
        visitors.call(world, "acme", "DeleteCollection", {"CollectionId": collection})
    for _ in range(2):
        visitors.sweep(world)


def erase_from_a_deleted_collection(world: World) -> None:
    """Cut an erasure off before its faces are gone and the deletion of their collection half-way, and ask again."""
    chance, collection = world.random, world.random.choice(COLLECTIONS)
    _upload(world, "index", collection)
    with world.faults.certain_death_in("gallery/storage.py:step", "before"):
        actions.erase(world, collection=collection, attempts=1)
    place = chance.choice(("collections.py:unlist", "collections.py:_purge"))
    with world.faults.certain_death_in(place, "after"):
        visitors.call(world, "acme", "DeleteCollection", {"CollectionId": collection})
    for erasure in world.erasures[-1:]:
        for _ in range(3):
            if not erasure.ended:
                actions.try_erasure(world, erasure)


def replace_a_users_photo(world: World) -> None:
    """Index two photos of a person, make them one user, and delete or replace one of the photos."""
    chance, collection = world.random, world.random.choice(COLLECTIONS)
    first, second = (_upload(world, "index", collection, name=f"{number}.jpg", who=[5]) for number in (0, 1))
    ref = CollectionRef("acme", collection)
    with world.quietly(), contextlib.suppress(GalleryError):
        gallery = actions.gallery_of(world)
        faces = [face.id for face in gallery.list_faces(ref).items if face.source and not face.user_id]
        with contextlib.suppress(GalleryError):
            gallery.create_user(ref, "user-0")
        gallery.associate_faces(ref, "user-0", faces)
    world.change(chance.choice((first, second)), chance.choice((None, people.photo([6], world.nonce()))))
    for stage in topology.PHOTO_STAGES[:2]:
        world.network.deliver_next(world.aws.sqs.queues[stage.queue])
    for _ in range(2):
        world.network.deliver_next(world.aws.sqs.queues[topology.RECOGNIZE.queue])


def group_faces(world: World) -> None:
    """Make a user through the API, give it faces and take them away, with tokens, some of them used before."""
    chance, collection = world.random, world.random.choice(COLLECTIONS)
    user = {"CollectionId": collection, "UserId": f"user-{chance.randrange(3)}"}
    for _ in range(2):
        picture = visitors.picture([chance.choice(PEOPLE)], world)
        visitors.call(world, "acme", "IndexFaces", {"CollectionId": collection, "Image": picture})
    faces = visitors.faces_of(world, "acme", collection)
    token = {"ClientRequestToken": f"t{chance.randrange(3)}"}
    visitors.call(world, "acme", "CreateUser", {**user, **token})
    some = {**user, "FaceIds": chance.sample(faces, min(2, len(faces)))}
    if faces:
        for _ in range(2):
            visitors.call(world, "acme", "AssociateFaces", {**some, **token, "UserMatchThreshold": 0})
        if chance.random() < 0.5:
            visitors.call(world, "acme", "DisassociateFaces", some)
    if chance.random() < 0.5:
        visitors.call(world, "acme", "DeleteUser", {**user, **token})


def halt(world: World) -> None:
    """Halt everybody, give every process the time to see it, and upload."""
    chance, network = world.random, world.network
    network.deliver_all(2)
    world.set_flags(halted=True)
    world.clock.advance(world.settings.flags_poll_interval + 2)
    for _ in range(2):
        actions.upload(world)
    network.deliver_all(3)
    if chance.random() < 0.7:
        world.set_flags(halted=False)


def suspend_a_tenant(world: World) -> None:
    """Suspend a tenant whose registration every process has read, and let it upload."""
    world.network.deliver_all(2)
    for status in ("suspended", "active"):
        with world.quietly():
            with contextlib.suppress(MoratoriumError):
                visitors.set_status(world, "acme", status)
            world.note_registrations()
        for name in ("0.jpg", "1.jpg"):
            world.change(
                f"acme/index/staff/{name}", people.photo([world.random.choice(PEOPLE)], world.nonce())
            )
        world.network.deliver_all(3)


def review_a_match(world: World) -> None:
    """Index a person, search for them under review, and judge."""
    chance, collection = world.random, world.random.choice(COLLECTIONS)
    who = [chance.choice(PEOPLE)]
    world.set_flags(halted=False, reviewed=True)
    world.clock.advance(world.settings.flags_poll_interval + 2)
    _upload(world, "index", collection, who=who)
    _upload(world, "search", collection, who=who, until=chance.choice(topology.PHOTO_STAGES[:4]))
    for _ in range(2):
        world.network.deliver_all()
        for _ in range(3):
            actions.review(world)
    if chance.random() < 0.3:
        actions.send_forgery(world, topology.REVIEW)


def search_after_an_erasure(world: World) -> None:
    """Index, have somebody erased, which writes snapshots, and search through a new process of the API."""
    chance, collection = world.random, world.random.choice(COLLECTIONS)
    for name in ("0.jpg", "1.jpg"):
        _upload(world, "index", collection, name=name)
    with world.quietly():
        actions.erase(world, ("external_image_id", "0.jpg"), collection=collection)
    _upload(world, "index", collection, name="2.jpg")
    world.end("api")
    here = {"CollectionId": collection}
    picture = visitors.picture([chance.choice(PEOPLE)], world)
    visitors.call(world, "acme", "SearchFacesByImage", {**here, "Image": picture})
    for face in visitors.faces_of(world, "acme", collection)[:3]:
        visitors.call(world, "acme", "SearchFaces", {**here, "FaceId": face})


def loosen(world: World) -> None:
    """Tighten, propose to loosen, approve, and wait until it is in force."""
    chance = world.random
    first, second = chance.sample(OFFICERS, 2)
    looser = flags(halted=False, reviewed=chance.random() < 0.5)

    def tighten() -> None:
        world.officer(first).submit(FlagsChange(flags(halted=True, reviewed=True)))

    def propose() -> None:
        made = world.officer(first).submit(FlagsChange(looser), wait=True)
        world.officer(second).approve(made.id, made.digest)

    def loosen_alone() -> None:
        made = world.officer(first).submit(FlagsChange(looser))
        world.officer(first).approve(made.id, made.digest)

    for work, wait_s in ((tighten, 61.0), (loosen_alone, 61.0), (propose, 3661.0)):
        with contextlib.suppress(MoratoriumError, Exception):
            world.run("console", work)
        world.clock.advance(wait_s)
        world.network.deliver_all(1)
    actions.upload(world)


def erase_somebody(world: World) -> None:
    """Index a person, search for them, perhaps under review, and erase them, perhaps after a backup."""
    chance, collection = world.random, world.random.choice(COLLECTIONS)
    who, name = [chance.choice(PEOPLE)], f"{chance.randrange(4)}.jpg"
    if chance.random() < 0.5:
        world.set_flags(halted=False, reviewed=True)
        world.clock.advance(world.settings.flags_poll_interval + 2)
    for action in ("index", "search"):
        _upload(world, action, collection, who=who, name=name)
    with world.quietly():
        if chance.random() < 0.5:
            actions.associate(world)
        if chance.random() < 0.5:
            actions.review(world)
    # Another photo of that name is under way.
    _upload(
        world,
        "index",
        collection,
        who=who,
        name=f"more/{name}",
        until=chance.choice(topology.PHOTO_STAGES[:4]),
    )
    if chance.random() < 0.7:
        back_up(world)
    actions.erase(world, ("external_image_id", name) if chance.random() < 0.5 else None)


def race_for_an_order(world: World) -> None:
    """Let several searches by one authorisation come at once, one of which is cut off while it takes its own."""
    chance = world.random
    _need_orders(world)
    number = visitors.authorize(world, chance.choice((1, 1, 2)))
    for _ in range(3):
        _by_order(world, chance.choice(("", number, number)))
    if chance.random() < 0.5:
        here = {"CollectionId": chance.choice(COLLECTIONS), "Image": visitors.picture([1], world)}
        visitors.call(world, "icmec", "SearchFacesByImage", here, chance.choice(("", number)))
    gate = world.aws.sqs.queues[topology.GATE.queue]
    with world.faults.certain_death(chance.randint(2, _CALLS), chance.choice(("before", "after"))):
        world.network.deliver_next(gate)
    world.network.deliver_all(3)
    # Uses come onto the ledger at once, or by this task.
    visitors.watch(world)
    if chance.random() < 0.3:
        visitors.revoke(world)


def follow_an_order(world: World) -> None:
    """Let a search go ahead of its authorisation, which comes in time, too late, or never."""
    chance = world.random
    if chance.random() < 0.5:
        # The gate permitted it before one was needed.
        world.set_flags(halted=False, reviewed=False)
        world.clock.advance(world.settings.flags_poll_interval + 2)
        collection, until = chance.choice(COLLECTIONS), chance.choice((topology.DETECT, topology.RECOGNIZE))
        _upload(world, chance.choice(("index", "search")), collection, until=until, tenant="icmec")
    _need_orders(world)
    if chance.random() < 0.3:
        world.set_flags(halted=False, reviewed=True, ordered=True)
    for action in chance.sample(("index", "search", "search"), 2):
        _by_order(world, "late", action)
    world.network.deliver_all(chance.randint(1, 4))
    comes = chance.random()
    if comes < 0.3:
        visitors.authorize(world, 1)
    for _ in range(2):
        with world.faults.certain_death(chance.randint(1, _CALLS), chance.choice(("before", "after"))):
            visitors.lapse(world)
        world.clock.advance(chance.choice((600.0, DUE_S + 1.0)))
        world.network.deliver_all(1)
    if comes > 0.8:
        visitors.authorize(world, 2)
    visitors.lapse(world)


def _need_orders(world: World) -> None:
    world.set_flags(halted=False, reviewed=False, ordered=True)
    world.clock.advance(world.settings.flags_poll_interval + 2)


def _by_order(world: World, named: str, action: str = "") -> None:
    chance = world.random
    action = action or chance.choice(("index", "search", "search"))
    key = f"icmec/{action}/{chance.choice(COLLECTIONS)}/{chance.randrange(4)}.jpg"
    world.change(key, people.photo(chance.sample(PEOPLE, 1), world.nonce()), named)


def outage(world: World) -> None:
    """Let the embedding endpoint be away while photos come, and come back."""
    people.EMBEDDER.available = False
    for _ in range(2):
        actions.upload(world)
    world.network.deliver_all(4)
    people.EMBEDDER.available = world.random.random() < 0.8
    world.clock.advance(30.0)
    world.network.deliver_all(2)


def _upload(
    world: World,
    action: str,
    collection: str,
    *,
    until: topology.Stage = topology.LEDGER,
    tenant: str = "acme",
    who: Sequence[int] = (),
    name: str = "",
) -> str:
    """Upload a photo, have it delivered undisturbed until it waits for a stage, and return its key."""
    chance = world.random
    key = f"{tenant}/{action}/{collection}/{name or f'{chance.randrange(4)}.jpg'}"
    body = people.photo(list(who) or chance.sample(PEOPLE, chance.choice((1, 1, 2))), world.nonce())
    world.change(key, body)
    with world.quietly():
        for stage in topology.PHOTO_STAGES[: topology.PHOTO_STAGES.index(until)]:
            world.network.deliver(world.aws.sqs.queues[stage.queue], chaos=False)
    return key
