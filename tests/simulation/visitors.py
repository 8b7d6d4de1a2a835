"""The people and programs that visit a simulated deployment: callers of the API, officers, schedules, operators."""

from __future__ import annotations

import base64
import contextlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from msgspec import structs
from tests.simulation import actions, people
from tests.simulation.model import COLLECTIONS, PEOPLE, flags

from abeyance.deployment import build
from abeyance.deployment.flags import build_announcements, build_watch
from abeyance.gallery.errors import GalleryError
from abeyance.gallery.model import CollectionRef
from abeyance.moratorium.authorization import Authorization
from abeyance.moratorium.document import instant_text
from abeyance.moratorium.errors import MoratoriumError
from abeyance.moratorium.subjects import AuthorizationChange, FlagsChange, RevocationChange, TenantChange
from abeyance.moratorium.tenants import Tenant
from abeyance.rekognition.call import ApiRequest

if TYPE_CHECKING:
    from tests.simulation.world import World

OFFICERS = ("clara", "dora")
#: A tenant that is registered in the course of a seed, or never.
NEWCOMER = Tenant(
    id="newcomer",
    sector="commercial",
    jurisdiction="US-WA",
    actions=("index", "search", "analyze"),
    purposes=("unspecified",),
)


def call_api(world: World) -> None:
    """Somebody calls the Rekognition API, some times in a row."""
    for _ in range(3):
        _call_once(world)


def _call_once(world: World) -> None:
    chance, tenant = world.random, world.random.choice(("acme", "acme", "icmec"))
    collection = chance.choice(COLLECTIONS)
    faces = faces_of(world, tenant, collection)
    user = f"user-{chance.randrange(3)}"
    photo = picture([chance.choice(PEOPLE)], world)
    here: dict[str, Any] = {"CollectionId": collection}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("IndexFaces", {**here, "Image": photo, "ExternalImageId": f"{chance.randrange(4)}.jpg"}),
        ("IndexFaces", {**here, "Image": photo, "ExternalImageId": f"{chance.randrange(4)}.jpg"}),
        ("SearchFacesByImage", {**here, "Image": photo}),
        ("CreateUser", {**here, "UserId": user}),
        ("CreateUser", {**here, "UserId": user, "ClientRequestToken": f"t{chance.randrange(3)}"}),
        ("DeleteUser", {**here, "UserId": user}),
        ("CreateCollection", here),
        ("DeleteCollection", here),
        ("ListFaces", here),
        ("ListUsers", here),
        ("ListCollections", {}),
        ("DescribeCollection", here),
        ("SearchUsers", {**here, "UserId": user}),
        ("SearchUsersByImage", {**here, "Image": photo}),
        ("CompareFaces", {"SourceImage": photo, "TargetImage": photo}),
    ]
    if faces:
        some = chance.sample(faces, 1)
        calls += [
            ("DeleteFaces", {**here, "FaceIds": some}),
            ("SearchFaces", {**here, "FaceId": some[0]}),
            ("AssociateFaces", {**here, "UserId": user, "FaceIds": some, "UserMatchThreshold": 0}),
            ("AssociateFaces", {**here, "UserId": user, "FaceIds": some, "UserMatchThreshold": 0}),
            ("DisassociateFaces", {**here, "UserId": user, "FaceIds": some}),
        ]
    call(world, tenant, *chance.choice(calls))


def call(world: World, tenant: str, operation: str, parameters: dict[str, Any], named: str = "") -> None:
    """Call one operation as a tenant, and look at the answer."""
    # The caller may never learn what became of these.
    if operation == "DeleteFaces":
        world.deleted_faces.update(parameters["FaceIds"])
    elif operation == "DeleteCollection":
        world.deleted_collections.add(CollectionRef(tenant, parameters["CollectionId"]))
    request = ApiRequest(
        target=f"RekognitionService.{operation}",
        body=json.dumps(parameters).encode(),
        principal=tenant,
        id=f"request-{world.nonce()}",
        purpose=world.purpose_of(tenant),
        authorization=named,
    )
    # Others may delete some in the middle of the call.
    before = world.face_ids(tenant)
    ended, answer = world.run("api", lambda: world.process("api", build.build_rekognition)(request))
    if ended and answer.status == 200:
        world.check_answer(tenant, operation, json.loads(answer.body), before | world.face_ids(tenant))


def picture(who: list[int], world: World) -> dict[str, str]:
    """Return a photo as the API takes it."""
    return {"Bytes": base64.b64encode(people.photo(who, world.nonce())).decode()}


def faces_of(world: World, tenant: str, collection: str) -> list[str]:
    """Return the ids of a collection's faces."""
    with world.quietly(), contextlib.suppress(GalleryError):
        return [
            face.id for face in actions.gallery_of(world).list_faces(CollectionRef(tenant, collection)).items
        ]
    return []


def change_policy(world: World) -> None:
    """An officer changes something, approves, retries or withdraws."""
    chance = world.random
    document = flags(halted=chance.random() < 0.5, reviewed=chance.random() < 0.5)
    officer = world.officer(chance.choice(OFFICERS))

    def work() -> None:
        known = officer.all()
        drawn = chance.random()
        if drawn < 0.5 or not known:
            officer.submit(FlagsChange(document), wait=drawn < 0.3)
        # The one that was made last is the one that is still against the flags in force.
        elif drawn < 0.85:
            officer.approve(known[-1].id, known[-1].digest)
        elif drawn < 0.95:
            officer.retry(known[-1].id)
        else:
            officer.withdraw(chance.choice(known).id)

    with contextlib.suppress(MoratoriumError, Exception):
        world.run("console", work)


def watch(world: World) -> None:
    """The task of every minute of the change service."""
    with contextlib.suppress(Exception):
        world.task(build_watch, "flags")


def change_tenant(world: World) -> None:
    """One person suspends a tenant; two resume or register one."""
    chance = world.random
    tenant_id, status = (
        chance.choice(("acme", "acme", "newcomer")),
        chance.choice(("active", "active", "suspended")),
    )
    with contextlib.suppress(Exception):
        world.run("operator", lambda: set_status(world, tenant_id, status))
    with world.quietly():
        world.note_registrations()


def set_status(world: World, tenant_id: str, status: str) -> None:
    """Suspend or resume a tenant, or register the newcomer."""
    client = world.officer("alice")
    found = {one.id: one for one in client.tenants()}.get(tenant_id, NEWCOMER)
    if found is not NEWCOMER:
        found = structs.replace(found, status=status)
    made = client.submit(TenantChange(found))
    if made.state == "proposed":
        world.officer("bob").approve(made.id, made.digest)


def write_checkpoint(world: World) -> None:
    """The task of the function that signs."""
    for _ in range(2):
        with contextlib.suppress(Exception):
            world.task(build.build_checkpoint, "checkpoint")
        world.network.deliver_all(1)


def write_index(world: World) -> None:
    """The task of the function that writes the lookup index."""
    with contextlib.suppress(Exception):
        world.task(build.build_index, "index")


def announce(world: World) -> None:
    """The task of the flags function."""
    with contextlib.suppress(Exception):
        world.task(build_announcements, "flags")


def sweep(world: World) -> None:
    """The hourly tasks of the recognition function and of the console."""
    with contextlib.suppress(Exception):
        world.task(build.build_sweep, "recognize")
    with contextlib.suppress(Exception):
        world.run("console", lambda: world.console().galleries.resume())


def authorize(world: World, searches: int = 0) -> str:
    """Two people register an authorisation for icmec; return its number."""
    now = world.clock.utc()
    made = Authorization(
        tenant="icmec",
        number=f"26-{world.nonce()}",
        issuer="A court",
        purposes=("missing_children",),
        place="US",
        collection="" if world.random.random() < 0.8 else "staff",
        starts=instant_text((now - timedelta(hours=2)).replace(microsecond=0)),
        ends=instant_text((now + timedelta(days=2)).replace(microsecond=0)),
        searches=searches or world.random.choice((1, 1, 2, 3)),
    )

    def work() -> None:
        proposed = world.officer("alice").submit(AuthorizationChange(made))
        world.officer("bob").approve(proposed.id, proposed.digest)

    with contextlib.suppress(MoratoriumError, Exception):
        world.run("operator", work)
    world.orders.append(made.number)
    return made.number


def revoke(world: World) -> None:
    """One person revokes an authorisation."""
    if world.orders:
        change = RevocationChange("icmec", world.random.choice(world.orders))
        with contextlib.suppress(MoratoriumError, Exception):
            world.run("operator", lambda: world.officer("clara").submit(change))


def lapse(world: World) -> None:
    """The task of the recognition function that settles late searches."""
    with contextlib.suppress(Exception):
        world.task(build.build_lapse, "recognize")


def switch_embedder(world: World) -> None:
    """The embedding endpoint goes away, or comes back."""
    people.EMBEDDER.available = not people.EMBEDDER.available


def jump(world: World) -> None:
    """The clocks of the functions jump, ahead or back, or right again."""
    world.clock.skew_s = world.random.choice((0.0, 0.0, 3.0, 400.0, -400.0))
    world.skewed = world.skewed or world.clock.skew_s != 0.0
