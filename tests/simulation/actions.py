"""Single things that people do to a simulated deployment: upload, delete, review, erase."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from tests.simulation import doors, people
from tests.simulation.model import ACTIONS, COLLECTIONS, PEOPLE, Erasure

from abeyance.console.errors import ConsoleError, NotFound
from abeyance.console.roles import Person, Role
from abeyance.deployment import build
from abeyance.gallery.errors import CollectionNotFound, GalleryError
from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import CollectionRef
from abeyance.pipeline import topology
from abeyance.pipeline.review_cases import Ground, Verdict

if TYPE_CHECKING:
    from tests.simulation.world import World

OFFICER = Person(principal="clara@local", name="Clara", roles=(Role.OFFICER,))
REVIEWERS = tuple(
    Person(principal=f"{name}@local", name=name, roles=(Role.REVIEWER,)) for name in ("ada", "ben", "eve")
)
READER = Person(principal="zoe@local", name="Zoe", roles=(Role.REVIEWER,))
#: Times that somebody asks at once for an erasure that does not come to its end.
_ATTEMPTS = 6
_TENANTS = ("acme", "acme", "acme", "acme", "acme", "icmec", "springfield-police", "newcomer")


def upload(world: World) -> None:
    """Somebody uploads a photo: a new one, one over another, or the same once more."""
    chance = world.random
    if doors.is_door_seed(world) and chance.random() < 0.4:
        doors.upload(world)
        return
    parts = (chance.choice(_TENANTS), chance.choice(ACTIONS), chance.choice(COLLECTIONS))
    key = "/".join((*parts, f"{chance.randrange(4)}.jpg"))
    before = world.photos.get(key)
    if before is not None and chance.random() < 0.2:
        world.change(key, before.body)
        return
    who = chance.sample(PEOPLE, chance.choice((0, 1, 1, 1, 2)))
    named = chance.choice(("", "late", *world.orders)) if world.orders else ""
    world.change(key, people.photo(who, world.nonce(), bad=chance.random() < 0.1), named)


def delete(world: World) -> None:
    """Somebody deletes a photo."""
    if keys := sorted(world.photos):
        world.change(world.random.choice(keys), None)


def flip(world: World) -> None:
    """Somebody turns a halt or review on or off."""
    world.set_flags(halted=world.random.random() < 0.2)


def review(world: World) -> None:
    """A reviewer takes the next comparison and judges it."""
    person = world.random.choice(REVIEWERS)
    verdict = world.random.choice((Verdict.SAME, Verdict.SAME, Verdict.DIFFERENT))

    def judge() -> None:
        service = world.console().reviews
        with contextlib.suppress(ConsoleError):
            found = service.next_comparison(person)
            if found:
                service.judge(person, found.review.identity, found.case.number, verdict, Ground.OTHER)

    with contextlib.suppress(Exception):
        world.run("console", judge)


def associate(world: World) -> None:
    """Somebody makes a user and gives it faces."""
    ref = CollectionRef("acme", world.random.choice(COLLECTIONS))
    user = f"user-{world.random.randrange(3)}"

    def work() -> None:
        gallery = gallery_of(world)
        with contextlib.suppress(GalleryError):
            faces = [face.id for face in gallery.list_faces(ref).items if not face.user_id]
            with contextlib.suppress(GalleryError):
                gallery.create_user(ref, user)
            if faces:
                gallery.associate_faces(ref, user, world.random.sample(faces, 1))

    with contextlib.suppress(Exception):
        world.run("api", work)


def erase(
    world: World, whom: tuple[str, str] | None = None, *, collection: str = "", attempts: int = _ATTEMPTS
) -> None:
    """Somebody asks for the erasure of a person; whoever is told to try again does so, later."""
    ref = CollectionRef("acme", collection or world.random.choice(COLLECTIONS))
    with world.quietly():
        gallery = gallery_of(world)
        try:
            faces = gallery.list_faces(ref).items
            users = gallery.list_users(ref).items
        except GalleryError:
            return
        named = [("user_id", user.id) for user in users]
        named += [("external_image_id", face.external_image_id) for face in faces]
        named += [("face_id", face.id) for face in faces]
        if not named:
            return
        named_by, name = whom or world.random.choice(sorted(set(named)))
        try:
            world.console().galleries.find(ref, named_by, name)
        except ConsoleError:
            return
    erasure = Erasure(ref, named_by, name, world.clock.now_s)
    world.erasures.append(erasure)
    for _ in range(attempts):
        if not erasure.ended:
            try_erasure(world, erasure)


def try_erasure(world: World, erasure: Erasure) -> None:
    """Ask once (again)."""
    found: set[str] = set()
    with world.quietly(), contextlib.suppress(ConsoleError):
        held = world.console().galleries.find(erasure.ref, erasure.named_by, erasure.name)
        found = {face.id for face in held.faces}
    before = _requests(world), len(world.uploads)
    service = lambda: world.console().galleries  # noqa: E731
    try:
        ended, _ = world.run(
            "console", lambda: service().erase(OFFICER, erasure.ref, erasure.named_by, erasure.name)
        )
    except NotFound:
        ended = True
    except Exception:
        ended = False
    # A request that died before it was written down was never made; and photos may have changed meanwhile.
    if (ended or _requests(world) > before[0]) and len(world.uploads) == before[1]:
        erasure.attempted |= found
    if ended:
        erasure.ended, erasure.ended_at_s = True, world.clock.now_s
        again = {one for upload in world.uploads_since(erasure.asked_at_s) for one in upload.face_ids}
        with world.quietly(), contextlib.suppress(CollectionNotFound):
            found = gallery_of(world).get_faces(erasure.ref, sorted(erasure.attempted - again))
            if found:
                world.violations.append(f"{len(found)} faces were there when the receipt was given")


def _requests(world: World) -> int:
    items = world.aws.dynamodb.tables[world.settings.erasures_table].all()
    return sum(item["sk"]["S"] == "erasure" for item in items)


def send_poison(world: World) -> None:
    """Somebody puts an event onto the bus that nobody can read."""
    chance = world.random
    detail: Any = chance.choice(({"id": 1}, {}, [], "text"))
    envelope = {
        "id": f"poison-{chance.random()}",
        "source": topology.SOURCE,
        "detail-type": chance.choice(("Upload Permitted", "Faces Detected", "Nonsense")),
        "time": "2026-01-01T00:00:00Z",
        "detail": detail,
    }
    world.poison.append(envelope["id"])
    world.aws.route(envelope)


def send_forgery(world: World, stage: topology.Stage | None = None) -> None:
    """Somebody puts a message into a stage's queue that differs from what the stage before it recorded."""
    chance = world.random
    items = world.aws.dynamodb.tables[world.settings.uploads_table].all()
    recorded = [
        text["S"].split("\n", 1)
        for item in items
        for name, text in sorted(item.items())
        if name.startswith("stage_")
    ]
    stage = stage or chance.choice((topology.DETECT, topology.RECOGNIZE, topology.REVIEW))
    consumed = {name for subscription in stage.consumes for name in subscription.detail_types}
    if not (known := [one for one in recorded if one[0] in consumed]):
        return
    detail_type, text = chance.choice(known)
    detail = json.loads(text)
    if chance.random() < 0.5:
        detail["time"] = "2025-01-01T00:00:00.000Z"
    else:
        detail["upload"]["sequencer"] = "0000000000000000"
    envelope = {
        "id": f"forged-{chance.random()}",
        "source": topology.SOURCE,
        "detail-type": detail_type,
        "time": "2026-01-01T00:00:00Z",
        "detail": detail,
    }
    world.aws.sqs.enqueue(stage.queue, json.dumps(envelope))
    world.network.deliver_next(world.aws.sqs.queues[stage.queue])


def gallery_of(world: World) -> Gallery:
    """Return a gallery for whoever is not a function."""
    if world.gallery is None:
        world.gallery = build.build_gallery(world.settings, world.aws.client)
    return world.gallery
