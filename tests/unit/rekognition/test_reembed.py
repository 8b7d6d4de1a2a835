"""A collection made again with another model: whatever dies in between, it ends the same."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.fakes import MemoryObjects, MemoryTable

from abeyance.gallery.errors import CollectionExists, CollectionNotFound
from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import CollectionRef, NewFace, SourceObject
from abeyance.gallery.search import Searcher
from abeyance.moving import reembed as client
from abeyance.rekognition.call import Call, Timings
from abeyance.rekognition.errors import ApiError, translate
from abeyance.rekognition.operations import reembed
from abeyance.rekognition.operations.services import EmbeddingModel, Services
from abeyance.vision.similarity import SimilarityScale

OLD, NEW = CollectionRef("acme", "staff"), CollectionRef("acme", "staff.next")
UNTOUCHED: Any = None


class Dead(Exception):
    """The process is gone."""


class DyingTable(MemoryTable):
    """A table that is out of reach from the n-th call on, before or after it has done what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.left: float = float("inf")
        self.late = False

    def transact(self, operations: Any) -> None:
        if self.late:
            super().transact(operations)
        self._count()
        if not self.late:
            super().transact(operations)

    def get(self, key: Any) -> Any:
        self._count()
        return super().get(key)

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Dead


class Photos:
    """Photos in which face number n is at x = n / 10; those named ``gone`` are not there."""

    def read(self, image: dict[str, Any], tenant: str) -> bytes:
        key: str = image["S3Object"]["Name"]
        assert key.startswith(f"{tenant}/")
        if "gone" in key:
            raise ApiError("InvalidS3ObjectException", "no object")
        return key.encode()


class Analyzer:
    """Finds three faces in each photo."""

    def analyze(self, data: bytes, **_: Any) -> Any:
        faces = [
            SimpleNamespace(
                relative_box=box_of(number), chip=np.full((2, 2), number, np.uint8), seed=data.decode()
            )
            for number in range(3)
        ]
        return SimpleNamespace(faces=faces)


def box_of(number: int) -> tuple[float, float, float, float]:
    return (number / 10, 0.1, 0.09, 0.2)


def unit(seed: str, dimension: int) -> np.ndarray:
    vector = np.random.default_rng(uuid.uuid5(uuid.NAMESPACE_URL, seed).int % 2**63).normal(size=dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class Embedder:
    identity, dimension = "new@0", 8

    def embed(self, chips: np.ndarray) -> np.ndarray:
        return np.stack([unit(f"new {int(chip.flat[0])}", 8) for chip in chips])


class World:
    """A gallery with a collection of a model that is gone, and the API over it."""

    def __init__(self) -> None:
        self.table = DyingTable()
        self.gallery = Gallery(self.table, MemoryObjects(), pause=lambda _: None)
        self.services = Services(
            gallery=self.gallery,
            searcher=Searcher(self.gallery),
            photos=Photos(),  # type: ignore[arg-type]
            analyzer=Analyzer(),  # type: ignore[arg-type]
            embedder=Embedder,
            scale=lambda: SimilarityScale([(-1.0, 0.0), (1.0, 100.0)]),
            embedding_model=lambda: EmbeddingModel("new@0", 8),
            videos=None,  # type: ignore[arg-type]
        )
        self.exceptions = SimpleNamespace(
            ResourceNotFoundException=CollectionNotFound, ConflictException=Conflicted
        )
        self.gallery.create_collection(OLD, model="old@0", dimension=4)
        self.faces: list[str] = []
        for number in range(3):
            self.photo(f"{number}.jpg", faces=number + 1)
        self.photo("3.jpg", faces=1)
        self.photo("gone.jpg", faces=1)
        (self.by_api,) = self.gallery.index(OLD, [self.face("by api", 0)])
        self.gallery.create_user(OLD, "ann")
        self.gallery.create_user(OLD, "empty")
        self.gallery.associate_faces(OLD, "ann", self.faces[:3])

    def face(self, name: str, number: int) -> NewFace:
        face_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{name} {number}"))
        return NewFace(
            id=face_id,
            model="old@0",
            template=unit(face_id, 4),
            box=box_of(number),
            external_image_id=name.replace(" ", "-"),
            quality={"sharpness": 50.0},
        )

    def photo(self, name: str, faces: int, version: str = "v1", at: str = "01") -> SourceObject:
        source = SourceObject("uploads", f"acme/index/staff/{name}", version, at)
        made = self.gallery.index(
            OLD, [self.face(f"{name}{version}", number) for number in range(faces)], source=source
        )
        self.faces += [face.id for face in made]
        return source

    def __getattr__(self, name: str) -> Any:
        """An operation of the API, as a client calls it."""

        def call(**params: Any) -> Any:
            grant: Any = SimpleNamespace(tenant="acme", min_similarity=0.0)
            called = Call(UNTOUCHED, params, grant, Timings())
            try:
                answer = OPERATIONS[name](called, self.services)
                return {key: value for key, value in answer.items() if value is not None}
            except (Dead, CollectionNotFound, CollectionExists):
                raise
            except Exception as error:
                if translate(error).name == "ConflictException":
                    raise Conflicted from error
                raise

        if name not in OPERATIONS:
            raise AttributeError(name)
        return call

    def content(self, ref: CollectionRef = NEW) -> dict[str, Any]:
        """Everything that a search of the collection could show."""
        faces = self.gallery.list_faces(ref).items
        templates = self.gallery.templates(ref, [face.id for face in faces])
        users = self.gallery.list_users(ref).items
        return {
            "faces": {
                face.id: (
                    face.user_id,
                    face.external_image_id,
                    face.source and face.source.version,
                    face.box,
                    face.quality,
                    templates[face.id].tobytes(),
                )
                for face in faces
            },
            "users": {
                user.id: (
                    sorted(user.face_ids),
                    user.status,
                    None if not user.seq else self.gallery.user_template(ref, user.id).tobytes(),  # type: ignore[union-attr]
                )
                for user in users
            },
        }


class Conflicted(Exception):
    """ConflictException."""


def create_collection(call: Call, services: Services) -> Any:
    made = services.gallery.create_collection(call.ref, model="new@0", dimension=8)
    return {"FaceModelVersion": made.model}


def describe_collection(call: Call, services: Services) -> Any:
    found = services.gallery.describe(call.ref)
    return {"FaceModelVersion": found.model, "FaceCount": found.face_count}


def delete_collection(call: Call, services: Services) -> Any:
    services.gallery.delete_collection(call.ref)
    return {}


OPERATIONS = {
    "create_collection": create_collection,
    "describe_collection": describe_collection,
    "delete_collection": delete_collection,
    "reembed_faces": reembed.reembed_faces,
    "switch_collections": reembed.switch_collections,
}


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reembed, "PAGE", 3)
    monkeypatch.setattr(reembed, "USERS_PAGE", 1)


def test_faces_are_made_again_from_their_photos() -> None:
    world = World()
    found = client.level(world, "staff", "staff.next")
    assert found.outcomes == {"embedded": 7, "no_photo": 2}
    content = world.content()
    assert set(content["faces"]) == set(world.faces) - {world.face("gone.jpgv1", 0).id}
    first = world.face("2.jpgv1", 2)
    _, name, source, box, quality, template = content["faces"][first.id]
    assert (name, box, quality) == ("2.jpgv1", box_of(2), {"sharpness": 50.0})
    assert source == "v1"
    assert template == unit("new 2", 8).astype("<f2").astype(np.float32).tobytes()
    assert content["users"]["ann"][0] == sorted(world.faces[:3])
    assert set(content["users"]) == {"ann", "empty"}
    with pytest.raises(client.MovingError, match="lacks 2 faces"):
        client.switch(world, found)


def change(world: World) -> None:
    """Do to the source what its tenant, uploads and erasures do."""
    world.photo("0.jpg", faces=2, version="v2", at="02")
    world.gallery.delete_source(OLD, SourceObject("uploads", "acme/index/staff/1.jpg", "", "03"))
    world.photo("1.jpg", faces=2, at="04")
    world.gallery.delete_source(OLD, SourceObject("uploads", "acme/index/staff/2.jpg", "", "05"))
    # The same photo again under another name.
    again = [msgspec.structs.replace(world.face("3.jpgv1", 0), external_image_id="renamed")]
    world.gallery.index(OLD, again, source=SourceObject("uploads", "acme/index/staff/3.jpg", "v1", "06"))
    world.gallery.delete_user(OLD, "empty")
    world.gallery.create_user(OLD, "ben")
    world.gallery.associate_faces(OLD, "ben", [world.face("0.jpgv2", 1).id])
    world.gallery.disassociate_faces(OLD, "ann", [world.face("1.jpgv1", 0).id])


def test_what_changes_meanwhile_is_changed_too() -> None:
    world = World()
    client.level(world, "staff", "staff.next")
    change(world)
    client.level(world, "staff", "staff.next")
    fresh = World()
    change(fresh)
    client.level(fresh, "staff", "staff.next")
    assert world.content() == fresh.content()
    # A deletion that comes late, before the latest upload of its photo, is late for both.
    for ref in (OLD, NEW):
        late = SourceObject("uploads", "acme/index/staff/1.jpg", "", "035")
        assert world.gallery.delete_source(ref, late) == ()
    assert set(world.content()["faces"]) == {
        world.face("0.jpgv2", 0).id,
        world.face("0.jpgv2", 1).id,
        world.face("1.jpgv1", 0).id,
        world.face("1.jpgv1", 1).id,
        world.face("3.jpgv1", 0).id,
    }
    assert world.content()["faces"][world.face("3.jpgv1", 0).id][1] == "renamed"


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_run_that_dies_at_any_call_ends_the_same(late: bool) -> None:
    whole = World()
    client.level(whole, "staff", "staff.next")
    change(whole)
    client.level(whole, "staff", "staff.next")
    expected = whole.content()
    at = deaths = 0
    done = False
    while not done:
        world = World()
        client.level(world, "staff", "staff.next")
        change(world)
        world.table.late, world.table.left = late, at
        try:
            client.level(world, "staff", "staff.next")
            done = True
        except Dead:
            deaths += 1
        world.table.left = float("inf")
        client.level(world, "staff", "staff.next")
        assert world.content() == expected
        at += 1
    assert deaths > 40


def test_the_switch_is_one_change_and_its_own_way_back() -> None:
    world = World()
    before = world.content(OLD)
    found = client.level(world, "staff", "staff.next")
    after = world.content()
    done = client.switch(world, found, accept_missing=True)
    assert done == {
        "collection": "staff",
        "model": "new@0",
        "former": "staff.next",
        "former_model": "old@0",
    }
    assert (world.content(OLD), world.content()) == (after, before)
    # A version that was seen before the switch is nobody's any more.
    with pytest.raises(client.MovingError, match="changed meanwhile"):
        client.switch(world, found, accept_missing=True)
    versions = [reembed.version_of(world.gallery.describe(ref)) for ref in (OLD, NEW)]
    world.switch_collections(
        CollectionId="staff",
        TargetCollectionId="staff.next",
        Version=versions[0],
        TargetVersion=versions[1],
    )
    assert (world.content(OLD), world.content()) == (before, after)


def test_a_collection_of_the_deployed_model_is_not_made_again() -> None:
    world = World()
    found = client.level(world, "staff", "staff.next")
    client.switch(world, found, accept_missing=True)
    with pytest.raises(client.MovingError, match="has the deployed model"):
        client.level(world, "staff", "third")
    with pytest.raises(CollectionNotFound):
        world.gallery.describe(CollectionRef("acme", "third"))


def test_labels(tmp_path: Any) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("UserId,group\nann,a\nben,b\n")
    group_of = client.read_labels(path)
    assert [group_of({"UserId": "ann"}), group_of({"UserId": "x"}), group_of({})] == ["a", "", ""]
    path.write_text("UserId,group,FaceId\n")
    with pytest.raises(client.MovingError, match="needs the column group"):
        client.read_labels(path)
