"""Behaviour of DynamoDB and S3 that the fake does not have: pages, unprocessed keys, cancelled transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError

from abeyance.aws.dynamodb import BACKOFF_S, DynamoTable
from abeyance.aws.table import Conflict, Delete, Put, Update
from abeyance.gallery.errors import GalleryBusy
from abeyance.gallery.model import CollectionRef, NewFace
from abeyance.gallery.search import Searcher
from abeyance.gallery.store import DynamoGallery

STAFF = CollectionRef("acme", "staff")
MakeFace = Callable[..., NewFace]


class PatchedClient:
    """A client of which some calls are replaced."""

    def __init__(self, client: Any, **answers: Callable[..., Any]) -> None:
        self.client = client
        self.answers = answers

    def __getattr__(self, name: str) -> Any:
        if name in self.answers:
            return lambda **request: self.answers[name](getattr(self.client, name), request)
        return getattr(self.client, name)


@pytest.fixture
def table(aws: tuple[Any, Any]) -> DynamoTable:
    return DynamoTable(aws[0], "gallery")


def test_values_come_back_as_they_were(table: DynamoTable) -> None:
    item = {
        "pk": "p",
        "sk": "s",
        "text": "é",
        "number": -7,
        "real": 0.1,
        "bytes": b"\0\xff",
        "list": ["b", "a"],
        "none": [],
        "set": frozenset({3, 1}),
    }
    table.transact([Put(item)])
    assert table.get(("p", "s")) == item
    assert table.get_many([("p", "s"), ("p", "other")]) == {("p", "s"): item}
    assert table.get_transactional([("p", "s"), ("p", "other")]) == {("p", "s"): item}


def test_updates_change_the_named_attributes(table: DynamoTable) -> None:
    key = ("p", "s")
    table.transact([Put({"pk": "p", "sk": "s", "a": 1, "b": 2})])
    more = {"set": {"c": 3}, "unset": ("b",), "add": {"d": frozenset({1, 2})}, "expect": {"a": 1, "x": None}}
    table.transact([Update(key, **more), Put({"pk": "p", "sk": "t"}, absent=True)])
    table.transact([Update(key, discard={"d": frozenset({1})})])
    assert table.get(key) == {"pk": "p", "sk": "s", "a": 1, "c": 3, "d": frozenset({2})}
    table.transact([Update(key, discard={"d": frozenset({2})})])
    assert "d" not in (table.get(key) or {})
    for operations in (
        [Update(key, set={"z": 1}, expect={"a": 2})],
        [Put({"pk": "p", "sk": "t"}, absent=True)],
        [Delete(key, expect={"a": 2})],
        [Put({"pk": "p", "sk": "new"}), Update(key, set={"z": 1}, expect={"a": None})],
    ):
        with pytest.raises(Conflict):
            table.transact(operations)
    assert table.get(("p", "new")) is None


def test_a_query_reads_all_pages(table: DynamoTable) -> None:
    big = b"x" * 300_000
    for number in range(12):
        table.transact([Put({"pk": "p", "sk": f"s{number:02}", "v": big})])
    assert [item["sk"] for item in table.query("p", "s", "s~")] == [f"s{n:02}" for n in range(12)]
    assert [item["sk"] for item in table.query("p", "s03", "s09", limit=5)] == [
        f"s{n:02}" for n in range(3, 8)
    ]
    assert next(iter(table.query("p", "s00", "s00", attributes=("sk",)))) == {"sk": "s00"}


def test_unprocessed_keys_are_requested_again(aws: tuple[Any, Any]) -> None:
    def half_read(call: Callable[..., Any], request: dict[str, Any]) -> Any:
        keys = request["RequestItems"]["gallery"]["Keys"]
        some, rest = keys[: len(keys) // 2 or 1], keys[len(keys) // 2 or 1 :]
        answer = call(RequestItems={"gallery": {"Keys": some, "ConsistentRead": True}})
        return answer | {"UnprocessedKeys": {"gallery": {"Keys": rest}} if rest else {}}

    def half_write(call: Callable[..., Any], request: dict[str, Any]) -> Any:
        deletes = request["RequestItems"]["gallery"]
        some, rest = deletes[: len(deletes) // 2 or 1], deletes[len(deletes) // 2 or 1 :]
        return call(RequestItems={"gallery": some}) | {"UnprocessedItems": {"gallery": rest} if rest else {}}

    table = DynamoTable(
        PatchedClient(aws[0], batch_get_item=half_read, batch_write_item=half_write), "gallery"
    )
    keys = [("p", f"s{n}") for n in range(60)]
    for pk, sk in keys:
        table.transact([Put({"pk": pk, "sk": sk})])
    assert len(table.get_many(keys)) == 60
    table.delete_many(keys)
    assert table.get_many(keys) == {}


def _cancelled(*codes: str) -> Callable[..., Any]:
    def answer(call: Any, request: Any) -> Any:
        raise call.__self__.exceptions.TransactionCanceledException(
            {
                "Error": {"Code": "TransactionCanceledException", "Message": ""},
                "CancellationReasons": [{"Code": code} for code in codes],
            },
            "TransactWriteItems",
        )

    return answer


def test_a_conflict_is_tried_again_and_then_raised(
    aws: tuple[Any, Any], new_face: MakeFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    dynamodb, s3 = aws
    waits: list[float] = []
    monkeypatch.setattr("abeyance.aws.dynamodb.time.sleep", waits.append)
    DynamoGallery(dynamodb, "gallery", s3, "gallery").create_collection(
        STAFF, model="test@000000000000", dimension=8
    )
    client = dynamodb._client
    busy = PatchedClient(client, transact_write_items=_cancelled("None", "TransactionConflict"))
    gallery = DynamoGallery(busy, "gallery", s3, "gallery")
    with pytest.raises(GalleryBusy):
        gallery.index(STAFF, [new_face("x")])
    assert len(waits) == 7
    assert all(0 <= wait <= BACKOFF_S * 2 ** (n + 1) for n, wait in enumerate(waits))


def test_a_transaction_that_can_never_succeed_is_not_tried_again(
    aws: tuple[Any, Any], new_face: MakeFace
) -> None:
    dynamodb, s3 = aws
    DynamoGallery(dynamodb, "gallery", s3, "gallery").create_collection(
        STAFF, model="test@000000000000", dimension=8
    )
    waits: list[int] = []
    broken = PatchedClient(dynamodb._client, transact_write_items=_cancelled("None", "ValidationError"))
    gallery = DynamoGallery(broken, "gallery", s3, "gallery", pause=waits.append)
    with pytest.raises(ClientError):
        gallery.index(STAFF, [new_face("x")])
    assert waits == []


def test_a_log_item_that_a_query_does_not_show_yet_is_read_again(
    aws: tuple[Any, Any], new_face: MakeFace
) -> None:
    """DynamoDB may show META as a transaction left it before it shows the transaction's other items."""
    dynamodb, s3 = aws

    def without_the_last(call: Callable[..., Any], request: dict[str, Any]) -> Any:
        answer = call(**request)
        log = [item for item in answer["Items"] if item["sk"]["S"].startswith("S#")]
        return answer | {"Items": [item for item in answer["Items"] if item not in log[-2:]]}

    gallery = DynamoGallery(PatchedClient(dynamodb, query=without_the_last), "gallery", s3, "gallery")
    gallery.create_collection(STAFF, model="test@000000000000", dimension=8)
    faces = [new_face(f"{n}") for n in range(5)]
    warm = Searcher(gallery)
    warm.refresh(STAFF)
    gallery.index(STAFF, faces)
    gallery.delete_faces(STAFF, [faces[0].id])
    for searcher in (warm, Searcher(gallery)):
        found = searcher.search(STAFF, np.ones((1, 8)), limit=99)[0]
        assert {c.face_id for c in found} == {face.id for face in faces[1:]}


def test_long_templates_fit(aws: tuple[Any, Any], new_face: MakeFace) -> None:
    dynamodb, s3 = aws
    gallery = DynamoGallery(dynamodb, "gallery", s3, "gallery")
    gallery.create_collection(STAFF, model="test@000000000000", dimension=512)
    faces = [new_face(f"{n}", dimension=512) for n in range(300)]
    for start in range(0, 300, 100):
        gallery.index(STAFF, faces[start : start + 100])
    assert len(gallery.list_faces(STAFF).items) == 300
    found = Searcher(gallery).search(STAFF, faces[7].template[None], limit=1)[0]
    assert found[0].face_id == faces[7].id


class TestRequests:
    """The DynamoDB requests of a search and of the reads that follow it."""

    @pytest.fixture
    def requests(self, aws: tuple[Any, Any]) -> list[str]:
        made: list[str] = []
        aws[0].meta.events.register(
            "before-call.dynamodb", lambda model, **_: made.append(model.name), unique_id="count"
        )
        return made

    def test_a_search_looks_its_collection_up_once(
        self, aws: tuple[Any, Any], new_face: MakeFace, requests: list[str]
    ) -> None:
        dynamodb, s3 = aws
        gallery = DynamoGallery(dynamodb, "gallery", s3, "gallery")
        gallery.create_collection(STAFF, model="test@000000000000", dimension=8)
        faces = [new_face(f"{n}") for n in range(5)]
        gallery.index(STAFF, faces[:4])
        searcher = Searcher(gallery)

        def search() -> tuple[set[str], list[str]]:
            requests.clear()
            collection = searcher.refresh(STAFF)
            (candidates,) = searcher.search(collection, faces[0].template[None])
            found = gallery.get_faces(collection, [candidate.face_id for candidate in candidates])
            return {face.id for face in found}, requests.copy()

        # Cold: the pointers to segments, and the change log.
        assert search() == ({f.id for f in faces[:4]}, ["GetItem", "Query", "Query", "BatchGetItem"])
        assert search() == ({f.id for f in faces[:4]}, ["GetItem", "BatchGetItem"])
        # After a change, the change log behind the last search.
        gallery.index(STAFF, faces[4:])
        assert search() == ({f.id for f in faces}, ["GetItem", "Query", "BatchGetItem"])
        gallery.delete_faces(STAFF, [faces[0].id])
        assert search() == ({f.id for f in faces[1:]}, ["GetItem", "Query", "BatchGetItem"])

    def test_reads_of_a_collection_that_is_known_do_not_look_it_up(
        self, aws: tuple[Any, Any], new_face: MakeFace, requests: list[str]
    ) -> None:
        dynamodb, s3 = aws
        gallery = DynamoGallery(dynamodb, "gallery", s3, "gallery")
        gallery.create_collection(STAFF, model="test@000000000000", dimension=8)
        face = new_face("x")
        gallery.index(STAFF, [face])
        gallery.create_user(STAFF, "ann")
        gallery.associate_faces(STAFF, "ann", [face.id])
        collection = gallery.describe(STAFF)
        for read, expected in (
            (lambda: gallery.get_faces(collection, [face.id]), ["BatchGetItem"]),
            (lambda: gallery.get_users(collection, ["ann"]), ["BatchGetItem"]),
            (lambda: gallery.templates(collection, [face.id]), ["BatchGetItem", "BatchGetItem"]),
            (lambda: gallery.user_template(collection, "ann"), ["GetItem", "BatchGetItem"]),
        ):
            requests.clear()
            read()
            assert requests == expected
