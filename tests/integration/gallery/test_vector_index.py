"""The exact search's contract, on a search through a vector index; and the index's own behaviour."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError, ParamValidationError
from tests.fakes import InMemoryGallery, MemoryObjects, MemoryTable
from tests.vector_index import Approximate, answer_search_vectors, over_dynamodb, over_memory

from abeyance.aws.clients import client
from abeyance.deployment.build import build_recognize, build_rekognition
from abeyance.gallery.errors import IndexUnavailable, InvalidInput, ModelMismatch
from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import CollectionRef, NewFace, TemplateKind
from abeyance.gallery.search import Searcher
from abeyance.gallery.store import DynamoGallery
from abeyance.gallery.vector_index import DynamoIndex, Index, IndexSearcher

from . import test_concurrency, test_contract
from .test_concurrency import test_no_search_misses_what_was_indexed_or_finds_what_was_erased
from .test_contract import MODEL, STAFF, TestCollections, TestFaces, TestSources, TestUsers, staff

__all__ = [
    "TestCollections",
    "TestFaces",
    "TestSources",
    "TestUsers",
    "staff",
    "test_no_search_misses_what_was_indexed_or_finds_what_was_erased",
]

MakeFace = Callable[..., NewFace]
NAME = "templates-test"


class IndexedStore:
    """A store, the galleries on it, and the index over it."""

    def __init__(self, request: pytest.FixtureRequest, *, dynamodb: bool, **how: Any) -> None:
        if dynamodb:
            client, s3 = request.getfixturevalue("aws")
            self.make: Callable[..., Gallery] = lambda **rest: DynamoGallery(
                client, "gallery", s3, "gallery", vector_index=NAME, **rest
            )
            self.approximate = over_dynamodb(client, "gallery", 8, **how)
            answer_search_vectors(client, "gallery", 8, self.approximate)
            self.index: Index = DynamoIndex(client, "gallery", NAME)
        else:
            table, objects = MemoryTable(), MemoryObjects()
            self.index = self.approximate = over_memory(table, **how)
            self.make = lambda **options: Gallery(table, objects, vector_index=NAME, **options)


#: An index that is up to date and nothing but it; one that never learns of anything; one a search behind the table.
@pytest.fixture(
    params=[(True, "now", 0), (False, "never", 4096), (False, "after", 256)],
    ids=["current", "stuck", "behind"],
)
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> IndexedStore:
    dynamodb, catches_up, recent = request.param
    made = IndexedStore(request, dynamodb=dynamodb, catches_up=catches_up)
    for module in (test_contract, test_concurrency):
        monkeypatch.setattr(
            module,
            "Searcher",
            lambda gallery: IndexSearcher(gallery, made.index, exact_up_to=0, recent=recent),
        )
    return made


@pytest.fixture
def make_gallery(made: IndexedStore) -> Callable[..., Gallery]:
    return made.make


@pytest.fixture
def gallery(make_gallery: Callable[..., Gallery]) -> Gallery:
    return make_gallery(span=16)


def vectors_of(gallery: Gallery) -> dict[str, tuple[bool, bool]]:
    """Return for each log item if it has a template, and a vector."""
    pk = f"acme#staff#{gallery.describe(STAFF).generation}"
    items = gallery.table.query(pk, "S#", "S#~")  # type: ignore[attr-defined]
    return {item["sk"]: ("v" in item, "vector8" in item) for item in items}


class TestWrites:
    def test_every_template_has_its_vector_and_an_erased_one_has_none(
        self, gallery: Gallery, new_face: MakeFace
    ) -> None:
        gallery.create_collection(STAFF, model=MODEL, dimension=8)
        faces = [new_face(f"{n}") for n in range(30)]
        gallery.index(STAFF, faces)
        gallery.create_user(STAFF, "ann")
        gallery.associate_faces(STAFF, "ann", [face.id for face in faces[:3]])
        gallery.associate_faces(STAFF, "ann", [faces[3].id])
        gallery.delete_faces(STAFF, [face.id for face in faces[20:]])
        found = vectors_of(gallery)
        assert all(template == vector for template, vector in found.values())
        assert sum(template for template, _ in found.values()) == 20 + 1

    def test_a_collection_of_another_length_can_be_changed_beside_the_index(
        self, gallery: Gallery, new_face: MakeFace
    ) -> None:
        gallery.create_collection(STAFF, model="former@0", dimension=4)
        face = new_face("x", dimension=4, model="former@0")
        gallery.index(STAFF, [face])
        gallery.delete_faces(STAFF, [face.id])
        assert gallery.describe(STAFF).face_count == 0


@pytest.fixture
def search_of(aws: tuple[Any, Any]) -> Callable[..., tuple[Gallery, Approximate, IndexSearcher]]:
    """Return a maker of a gallery on moto with a collection, its index, and a searcher that uses only the index."""

    def make(**how: Any) -> tuple[Gallery, Approximate, IndexSearcher]:
        client, s3 = aws
        gallery = DynamoGallery(client, "gallery", s3, "gallery", vector_index=NAME)
        gallery.create_collection(STAFF, model=MODEL, dimension=8)
        approximate = over_dynamodb(client, "gallery", 8, **how)
        answer_search_vectors(client, "gallery", 8, approximate)
        index = DynamoIndex(client, "gallery", NAME)
        return gallery, approximate, IndexSearcher(gallery, index, exact_up_to=0, recent=0)

    return make


class TestSearch:
    def test_templates_that_only_the_index_still_has_are_left_out(
        self, search_of: Callable[..., Any], new_face: MakeFace
    ) -> None:
        gallery, approximate, searcher = search_of(catches_up="never")
        faces = [new_face(f"{n}") for n in range(40)]
        gallery.index(STAFF, faces)
        gallery.create_user(STAFF, "ann")
        gallery.associate_faces(STAFF, "ann", [faces[0].id])
        approximate.catch_up()
        gallery.delete_user(STAFF, "ann")
        gallery.delete_faces(STAFF, [face.id for face in faces[:15]])
        for kind, left in ((TemplateKind.FACE, faces[15:]), (TemplateKind.USER, [])):
            (found,) = searcher.search(STAFF, faces[0].template[None], limit=99, kind=kind)
            assert {c.face_id for c in found} == {face.id for face in left}

    def test_users_are_not_crowded_out_by_faces(
        self, search_of: Callable[..., Any], new_face: MakeFace
    ) -> None:
        gallery, _, searcher = search_of()
        faces = [new_face(f"{n}") for n in range(130)]
        for some in (faces[:100], faces[100:]):
            gallery.index(STAFF, some)
        far = min(faces, key=lambda face: float(face.template @ faces[0].template))
        gallery.create_user(STAFF, "ann")
        gallery.associate_faces(STAFF, "ann", [far.id])
        probe = faces[0].template[None]
        assert [c.face_id for c in searcher.search(STAFF, probe, kind=TemplateKind.USER)[0]] == ["ann"]
        assert len(searcher.search(STAFF, probe, limit=1000)[0]) == 100

    def test_probes_and_limits_are_as_in_the_exact_search(
        self, search_of: Callable[..., Any], new_face: MakeFace
    ) -> None:
        gallery, _, searcher = search_of()
        gallery.index(STAFF, [new_face(f"{n}") for n in range(60)])
        probes = np.random.default_rng(3).standard_normal((12, 8)).astype(np.float32) * 3
        exactly = Searcher(gallery)
        for limit, least in ((1, -1.0), (7, 0.2), (99, 0.0)):
            expected = exactly.search(STAFF, probes, limit=limit, min_cosine=least)
            assert searcher.search(STAFF, probes, limit=limit, min_cosine=least) == expected
        assert searcher.search(STAFF, probes[:0]) == []

    @pytest.mark.parametrize(
        "probes", [np.ones(8), np.ones((1, 4)), np.zeros((1, 8)), np.full((1, 8), np.nan)]
    )
    def test_bad_probes_do_not_reach_the_index(
        self, search_of: Callable[..., Any], new_face: MakeFace, probes: np.ndarray
    ) -> None:
        gallery, approximate, searcher = search_of()
        gallery.index(STAFF, [new_face("x")])
        with pytest.raises(InvalidInput):
            searcher.search(STAFF, probes)
        with pytest.raises(InvalidInput):
            searcher.search(STAFF, np.ones((1, 8)), limit=0)
        with pytest.raises(ModelMismatch):
            searcher.search(STAFF, np.ones((1, 8)), model="other@0")
        assert approximate.searches == 0

    def test_tenants_and_collections_are_apart(
        self, search_of: Callable[..., Any], new_face: MakeFace
    ) -> None:
        gallery, _, searcher = search_of()
        theirs = CollectionRef("other", "staff")
        gallery.create_collection(theirs, model=MODEL, dimension=8)
        gallery.index(theirs, [new_face("x")])
        gallery.index(STAFF, [new_face("y")])
        (found,) = searcher.search(STAFF, new_face("x").template[None])
        assert [c.face_id for c in found] == [new_face("y").id]

    def test_a_collection_made_anew_during_a_search_is_not_mixed_with_the_old_one(
        self, new_face: MakeFace
    ) -> None:
        gallery = InMemoryGallery(vector_index=NAME)
        gallery.create_collection(STAFF, model=MODEL, dimension=8)
        gallery.index(STAFF, [new_face("old")])
        approximate = over_memory(gallery.table)

        class Meanwhile:
            name = NAME

            def nearest(self, pk: str, kind: TemplateKind, probe: np.ndarray) -> list[str]:
                found = approximate.nearest(pk, kind, probe)
                if approximate.searches == 1:
                    # Its items are still being removed when the name is taken again.
                    gallery.collections.unlist(STAFF)
                    gallery.create_collection(STAFF, model=MODEL, dimension=8)
                    gallery.index(STAFF, [new_face("new")])
                return found

        (found,) = IndexSearcher(gallery, Meanwhile(), exact_up_to=0).search(STAFF, np.ones((1, 8)))
        assert [c.face_id for c in found] == [new_face("new").id]

    def test_a_user_that_changes_during_a_search_is_found_once_as_it_is_now(
        self, new_face: MakeFace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gallery = InMemoryGallery(vector_index=NAME)
        gallery.create_collection(STAFF, model=MODEL, dimension=8)
        first, second = new_face("first"), new_face("second")
        gallery.index(STAFF, [first, second])
        gallery.create_user(STAFF, "ann")
        gallery.associate_faces(STAFF, "ann", [first.id])
        read = gallery.table.get_many

        def read_then_change(keys: Any, **rest: Any) -> Any:
            found = read(keys, **rest)
            monkeypatch.undo()
            gallery.associate_faces(STAFF, "ann", [second.id])
            return found

        monkeypatch.setattr(gallery.table, "get_many", read_then_change)
        searcher = IndexSearcher(gallery, over_memory(gallery.table), exact_up_to=0)
        probe = first.template[None]
        found = searcher.search(STAFF, probe, kind=TemplateKind.USER)
        assert found == Searcher(gallery).search(STAFF, probe, kind=TemplateKind.USER)
        assert found[0][0].cosine < 0.99


class TestChoice:
    def test_small_collections_are_searched_exactly(self, new_face: MakeFace) -> None:
        gallery = InMemoryGallery(vector_index=NAME)
        gallery.create_collection(STAFF, model=MODEL, dimension=8)
        approximate = over_memory(gallery.table, catches_up="never")
        searcher = IndexSearcher(gallery, approximate, exact_up_to=10, recent=5)
        faces = [new_face(f"{n}") for n in range(11)]
        gallery.index(STAFF, faces[:10])
        assert len(searcher.search(STAFF, np.ones((1, 8)), limit=99)[0]) == 10
        assert approximate.searches == 0
        gallery.index(STAFF, faces[10:])
        # Of what the index has not taken in, the latest five are all that is found.
        assert len(searcher.search(STAFF, np.ones((1, 8)), limit=99)[0]) == 5
        assert approximate.searches == 1

    def test_a_collection_from_before_the_index_is_searched_in_memory(self, new_face: MakeFace) -> None:
        gallery = InMemoryGallery()
        gallery.create_collection(STAFF, model=MODEL, dimension=8)
        gallery.index(STAFF, [new_face(f"{n}") for n in range(9)])
        later = Gallery(gallery.table, gallery.objects, vector_index=NAME)
        approximate = over_memory(later.table)
        searcher = IndexSearcher(later, approximate, exact_up_to=0)
        later.index(STAFF, [new_face("another")])
        assert len(searcher.search(STAFF, np.ones((1, 8)), limit=99)[0]) == 10
        assert approximate.searches == 0
        assert not any(vector for _, vector in vectors_of(later).values())

    def test_memory_holds_the_recent_changes_only(self, new_face: MakeFace) -> None:
        gallery = InMemoryGallery(vector_index=NAME)
        gallery.create_collection(STAFF, model=MODEL, dimension=8)
        searcher = IndexSearcher(
            gallery, over_memory(gallery.table, catches_up="never"), exact_up_to=0, recent=100
        )
        sizes = []
        for turn in range(30):
            gallery.index(STAFF, [new_face(f"{turn}/{n}") for n in range(90)])
            assert len(searcher.search(STAFF, np.ones((1, 8)), limit=9999)[0]) == min(100, 90 * (turn + 1))
            sizes.append(searcher.nbytes)
        assert max(sizes) <= 4 * sizes[0]
        assert IndexSearcher(gallery, over_memory(gallery.table), exact_up_to=0).refresh(STAFF).seq == 30 * 90

    @pytest.mark.parametrize(("exact_up_to", "expected"), [(0, 2), (10, 1)])
    def test_a_search_reads_meta_again_only_after_the_candidates_of_the_index(
        self, new_face: MakeFace, monkeypatch: pytest.MonkeyPatch, exact_up_to: int, expected: int
    ) -> None:
        gallery = InMemoryGallery(vector_index=NAME)
        gallery.create_collection(STAFF, model=MODEL, dimension=8)
        face = new_face("x")
        gallery.index(STAFF, [face])
        searcher = IndexSearcher(gallery, over_memory(gallery.table), exact_up_to=exact_up_to)
        searcher.search(STAFF, face.template[None])
        lookups: list[str] = []
        get = gallery.table.get
        monkeypatch.setattr(gallery.table, "get", lambda key: lookups.append(key[1]) or get(key))  # type: ignore[func-returns-value]
        collection = searcher.refresh(STAFF)
        (found,) = searcher.search(collection, face.template[None])
        assert gallery.get_faces(collection, [c.face_id for c in found])[0].id == face.id
        assert lookups.count("C#staff") == expected


class TestRefusals:
    def test_an_index_that_cannot_be_searched_raises(
        self, search_of: Callable[..., Any], aws: tuple[Any, Any], new_face: MakeFace
    ) -> None:
        gallery, _, _ = search_of()
        gallery.index(STAFF, [new_face("x")])
        client = aws[0]
        for index in (
            DynamoIndex(client, "gallery", "templates-other"),
            DynamoIndex(client, "elsewhere", NAME),
        ):
            with pytest.raises(IndexUnavailable):
                index.nearest("acme#staff#0", TemplateKind.FACE, np.ones(8))
        for probe, top in ((np.ones(4), 100), (np.ones(8), 101)):
            with pytest.raises(IndexUnavailable):
                DynamoIndex(client, "gallery", NAME, top=top).nearest("p", TemplateKind.FACE, probe)
        with pytest.raises(ParamValidationError):
            DynamoIndex(client, "gallery", NAME, top=0).nearest("p", TemplateKind.FACE, np.ones(8))

    def test_a_throttle_is_raised_as_it_is(self, aws: tuple[Any, Any]) -> None:
        client = aws[0]

        class Throttled:
            exceptions = client.exceptions

            def search_vectors(self, **_: Any) -> Any:
                raise ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "SearchVectors")

        with pytest.raises(ClientError, match="Throttling"):
            DynamoIndex(Throttled(), "gallery", NAME).nearest("p", TemplateKind.FACE, np.ones(8))

    def test_dynamodb_refuses_a_vector_of_another_length(
        self, search_of: Callable[..., Any], aws: Any
    ) -> None:
        search_of()
        item = {"pk": {"S": "p"}, "sk": {"S": "S#1"}, "k": {"S": "F"}, "vector8": {"L": [{"N": "1"}]}}
        with pytest.raises(ClientError, match="ValidationException"):
            aws[0].put_item(TableName="gallery", Item=item)


class TestDeployment:
    @pytest.fixture(autouse=True)
    def fresh_clients(self) -> Iterator[None]:
        client.cache_clear()
        yield
        client.cache_clear()

    @pytest.mark.parametrize(("name", "kind"), [("", Searcher), (NAME, IndexSearcher)])
    def test_stage_and_api_search_as_the_deployment_says(
        self, aws: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, name: str, kind: type[Searcher]
    ) -> None:
        for setting, value in {
            "GALLERY_TABLE": "gallery",
            "GALLERY_BUCKET": "gallery",
            "VECTOR_INDEX": name,
        }.items():
            monkeypatch.setenv(f"ABEYANCE_{setting}", value)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        stage, tools = build_recognize(), build_rekognition()._services
        assert {type(stage._searcher), type(tools.searcher)} == {kind}
        for number, gallery in enumerate((stage._gallery, tools.gallery)):
            ref = CollectionRef("acme", f"staff-{number}")
            gallery.create_collection(ref, model=MODEL, dimension=8)
            assert gallery.describe(ref).vector_index == name
