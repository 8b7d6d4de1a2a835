"""Any history of changes, crashes and retries leaves a gallery as a plain dict would be."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.fakes import MemoryObjects, MemoryTable

from abeyance.aws.objects import Objects
from abeyance.aws.table import Table
from abeyance.gallery.errors import Superseded, UserExists
from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import CollectionRef, NewFace, SourceObject, TemplateKind, UserStatus
from abeyance.gallery.search import Searcher

MODEL = "test@000000000000"
DIMENSION = 8
STAFF = CollectionRef("acme", "staff")
PROBES = np.random.default_rng(1).standard_normal((3, DIMENSION)).astype(np.float32)
CHANGING = {"transact", "delete_many", "put", "delete"}


class Crash(BaseException):
    """The end of the process; the code under test never catches it."""


class Fragile:
    """A table or bucket that crashes at one of the next changing calls, before or after it took effect."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.calls = 0
        self.crash_at: int | None = None

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)
        if name not in CHANGING:
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            step, self.calls = self.calls, self.calls + 1
            if self.crash_at == 2 * step:
                raise Crash
            result = method(*args, **kwargs)
            if self.crash_at == 2 * step + 1:
                raise Crash
            return result

        return call


def template_of(face_id: str) -> np.ndarray:
    vector = np.random.default_rng(uuid.UUID(face_id).int).standard_normal(DIMENSION).astype(np.float32)
    return vector / np.linalg.norm(vector)


def new_faces(photo: str, count: int) -> list[NewFace]:
    ids = [str(uuid.uuid5(uuid.NAMESPACE_URL, f"{photo}/{n}")) for n in range(count)]
    return [NewFace(id=i, model=MODEL, template=template_of(i)) for i in ids]


def best(named: dict[str, np.ndarray]) -> list[list[tuple[str, float]]]:
    """Return the expected result of a search, computed the obvious way."""
    answers = []
    for probe in PROBES.astype(np.float64):
        rows = []
        for name, template in named.items():
            stored = template.astype(np.float16).astype(np.float64)
            rows.append(
                (name, float(np.float32(stored @ probe / np.linalg.norm(stored) / np.linalg.norm(probe))))
            )
        answers.append(sorted(rows, key=lambda row: (-row[1], row[0])))
    return answers


class History(RuleBasedStateMachine):
    """A gallery beside the model of it. Each change may crash a few times before it succeeds."""

    @initialize()
    def begin(self) -> None:
        self.make_gallery()
        self.gallery.create_collection(STAFF, model=MODEL, dimension=DIMENSION)
        self.warm = Searcher(self.gallery)
        self.seldom = Searcher(self.gallery)
        self.start()

    def make_gallery(self, **options: Any) -> None:
        self.table, self.objects = Fragile(MemoryTable()), Fragile(MemoryObjects())
        table, objects = cast(Table, self.table), cast(Objects, self.objects)
        self.gallery = Gallery(table, objects, span=8, pause=lambda attempt: None, **options)

    def start(self) -> None:
        self.faces: dict[str, str] = {}  # face id -> user id
        self.sources: dict[int, tuple[str, list[str]]] = {}
        self.users: dict[str, list[str]] = {}
        self.erased: set[bytes] = set()
        self.tick = 0

    def change(self, crashes: list[int], action: Callable[[], Any]) -> Any:
        """Do the change, after crashes at these steps; searches between see nothing twice."""
        for step in crashes:
            for part, at in ((self.table, step), (self.objects, step - 8)):
                part.calls, part.crash_at = 0, at
            try:
                return action()
            except Crash:
                self.quiet()
                found = self.warm.search(STAFF, PROBES, limit=1000)
                assert all(len({c.face_id for c in row}) == len(row) for row in found)
                assert found == Searcher(self.gallery).search(STAFF, PROBES, limit=1000)
            finally:
                self.quiet()
        return action()

    def quiet(self) -> None:
        self.table.crash_at = self.objects.crash_at = None

    def forget(self, face_ids: list[str]) -> None:
        for face_id in face_ids:
            user = self.faces.pop(face_id)
            self.erased.add(template_of(face_id).astype("<f2").tobytes())
            if user:
                self.users[user].remove(face_id)

    crashes = st.lists(st.integers(0, 16), max_size=3)

    @rule(photo=st.integers(0, 5), count=st.integers(0, 4), crashes=crashes)
    def index(self, photo: int, count: int, crashes: list[int]) -> None:
        faces = new_faces(f"photo {photo}", count)
        indexed = self.change(crashes, lambda: self.gallery.index(STAFF, faces))
        assert [face.id for face in indexed] == [face.id for face in faces]
        for face in faces:
            self.faces.setdefault(face.id, "")
            self.erased.discard(face.template.astype("<f2").tobytes())

    @rule(key=st.integers(0, 2), count=st.sampled_from([0, 1, 3, 60]), crashes=crashes, late=st.booleans())
    def upload(self, key: int, count: int, crashes: list[int], late: bool) -> None:
        self.tick += 2
        version = f"v{self.tick}"
        source = SourceObject("bucket", f"key {key}", version, f"{self.tick - 3 if late else self.tick:08x}")
        faces = new_faces(f"{key}/{version}", count)
        try:
            self.change(crashes, lambda: self.gallery.index(STAFF, faces, source=source))
        except Superseded:
            assert late
            assert key in self.sources
            return
        if late and key in self.sources:
            # The event before was itself late, or the present one is not later than it.
            assert self.sources[key][0] < source.sequencer
        before = self.sources.get(key, ("", []))[1]
        self.forget([i for i in before if i in self.faces])
        self.faces.update({face.id: "" for face in faces})
        self.sources[key] = (source.sequencer, [face.id for face in faces])
        again = self.gallery.index(STAFF, faces, source=source)
        assert [face.id for face in again] == [face.id for face in faces]

    @rule(key=st.integers(0, 2), crashes=crashes)
    def withdraw(self, key: int, crashes: list[int]) -> None:
        self.tick += 2
        source = SourceObject("bucket", f"key {key}", "", f"{self.tick:08x}")
        self.change(crashes, lambda: self.gallery.delete_source(STAFF, source))
        self.forget([i for i in self.sources.get(key, ("", []))[1] if i in self.faces])
        self.sources[key] = (source.sequencer, [])

    @precondition(lambda self: self.faces)
    @rule(data=st.data(), crashes=crashes)
    def delete(self, data: st.DataObject, crashes: list[int]) -> None:
        asked = data.draw(st.lists(st.sampled_from(sorted(self.faces)), max_size=50, unique=True))
        self.change(crashes, lambda: self.gallery.delete_faces(STAFF, asked))
        self.forget([i for i in asked if not self.faces[i]])

    @rule(user=st.sampled_from(["ann", "bob"]), crashes=crashes)
    def create_user(self, user: str, crashes: list[int]) -> None:
        if user in self.users:
            with pytest.raises(UserExists):
                self.gallery.create_user(STAFF, user, token="another")
            return
        self.tick += 2
        self.change(crashes, lambda: self.gallery.create_user(STAFF, user, token=f"t{self.tick}"))
        self.users[user] = []

    @precondition(lambda self: self.users and self.faces)
    @rule(data=st.data(), crashes=crashes, take=st.booleans())
    def associate(self, data: st.DataObject, crashes: list[int], take: bool) -> None:
        user = data.draw(st.sampled_from(sorted(self.users)))
        asked = data.draw(st.lists(st.sampled_from(sorted(self.faces)), min_size=1, max_size=20, unique=True))
        if take:
            self.change(crashes, lambda: self.gallery.disassociate_faces(STAFF, user, asked))
            for face_id in asked:
                if self.faces[face_id] == user:
                    self.faces[face_id] = ""
                    self.users[user].remove(face_id)
            return
        free = [i for i in asked if not self.faces[i]]
        if len(self.users[user]) + len(free) > 100:
            return
        outcome = self.change(crashes, lambda: self.gallery.associate_faces(STAFF, user, asked))
        assert set(outcome.done) <= set(free)
        for face_id in free:
            self.faces[face_id] = user
            self.users[user].append(face_id)

    @precondition(lambda self: self.users)
    @rule(data=st.data(), crashes=crashes)
    def delete_user(self, data: st.DataObject, crashes: list[int]) -> None:
        user = data.draw(st.sampled_from(sorted(self.users)))
        token = f"t{self.tick}"
        self.tick += 2
        self.change(crashes, lambda: self.gallery.delete_user(STAFF, user, token=token))
        for face_id in self.users.pop(user):
            self.faces[face_id] = ""

    @rule(crashes=crashes)
    def compact(self, crashes: list[int]) -> None:
        self.change(crashes, lambda: self.gallery.compact(STAFF))

    @rule()
    def search_after_a_while(self) -> None:
        for kind in TemplateKind:
            found = self.seldom.search(STAFF, PROBES, limit=1000, kind=kind)
            assert found == self.warm.search(STAFF, PROBES, limit=1000, kind=kind)

    @invariant()
    def warm_and_cold_searches_agree_with_the_model(self) -> None:
        expected = best({face_id: template_of(face_id) for face_id in self.faces})
        for searcher in (self.warm, Searcher(self.gallery)):
            found = searcher.search(STAFF, PROBES, limit=1000)
            assert [[c.face_id for c in row] for row in found] == [[i for i, _ in row] for row in expected]
            np.testing.assert_array_equal(
                [c.cosine for row in found for c in row], [score for row in expected for _, score in row]
            )
            users = searcher.search(STAFF, PROBES, limit=1000, kind=TemplateKind.USER)
            assert {c.face_id for c in users[0]} == {user for user, faces in self.users.items() if faces}
            for candidate in users[0]:
                mean = np.sum([_stored(i) for i in self.users[candidate.face_id]], axis=0)
                cosine = mean @ PROBES[0] / np.linalg.norm(mean) / np.linalg.norm(PROBES[0])
                assert abs(candidate.cosine - cosine) < 2e-3

    @invariant()
    def items_agree_with_the_model(self) -> None:
        collection = self.gallery.describe(STAFF)
        assert (collection.face_count, collection.user_count) == (len(self.faces), len(self.users))
        listed = self.gallery.list_faces(STAFF).items
        assert {face.id: face.user_id for face in listed} == self.faces
        for user in self.gallery.list_users(STAFF).items:
            assert sorted(user.face_ids) == sorted(self.users[user.id])
            assert user.status is not UserStatus.UPDATING

    @invariant()
    def what_is_erased_is_nowhere(self) -> None:
        bodies = [self.objects.inner.get(key) for key in self.objects.inner.list("")]
        partitions = self.table.inner._partitions.values()
        bodies += [item["v"] for partition in partitions for item in partition.values() if "v" in item]
        assert not any(template in body for template in self.erased for body in bodies)


def _stored(face_id: str) -> np.ndarray:
    return template_of(face_id).astype(np.float16).astype(np.float32)


TestHistory = History.TestCase
TestHistory.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
