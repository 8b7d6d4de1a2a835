"""Erasure: complete, resumable after a death at any call, and true on its receipt."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import time
import uuid
from typing import Any

import msgspec
import pytest

from abeyance.console.roles import Person, Role
from abeyance.erasure.erase import ERASED, ERASING, ErasureUnfinished, NobodyFound, receipt_id
from abeyance.gallery.model import SourceObject
from abeyance.ledger.errors import LedgerUnavailable
from abeyance.pipeline import events
from abeyance.pipeline.leftovers import face_id, review_key
from abeyance.pipeline.review_cases import Ground, Verdict
from abeyance.pipeline.uploads import name_id, result_key

from .conftest import STAFF, Died, World

JANE, JOHN = "Jane-Doe", "John-Roe"
ADA = Person(principal="ada@local", name="Ada", roles=(Role.REVIEWER,))


def people(world: World) -> tuple[list[str], list[str]]:
    """Put Jane and John into every store; return the ids of their faces."""
    jane, john = world.enrol("a.jpg", JANE), world.enrol("b.jpg", JOHN)
    jane += world.enrol("c.jpg", JANE, recorded=False)
    world.gallery.create_user(STAFF, "jane")
    world.gallery.associate_faces(STAFF, "jane", jane[:1])
    world.search("s1.jpg", (jane[0], JANE), (john[0], JOHN))
    world.search("s2.jpg", (jane[0], JANE))
    closed = world.search("s3.jpg", (jane[0], JANE), reviewers=1)
    given = world.reviews.next_comparison(ADA)
    assert given
    assert given.review.identity == closed.identity
    world.reviews.judge(ADA, closed.identity, 0, Verdict.SAME, Ground.EARS, f"It is {JANE}")
    world.search("s4.jpg", (jane[0], JANE), (john[0], JOHN), reviewers=1)
    assert len(world.reviews.open_reviews()) == 1
    world.search("s5.jpg", (jane[0], JANE), reviewers=1)
    world.permit(world.upload("d.jpg"), JANE)
    world.detect(world.upload("e.jpg"), 1, JANE)
    world.ledger.records.clear()
    return jane, john


def absent(world: World, faces: list[str], *texts: str) -> None:
    """Assert that nothing names or shows a person, and that others are still there."""
    assert world.mentions(*faces, *texts) == []
    for name in ("a.jpg", "c.jpg", "e.jpg"):
        assert world.visible(upload_named(world, name)) == [], name
    assert world.visible(upload_named(world, "b.jpg")) == [0]
    assert world.visible(upload_named(world, "s1.jpg", "search")) == [0], "John was a candidate too"
    assert world.visible(upload_named(world, "s2.jpg", "search")) == []
    assert world.visible(upload_named(world, "s5.jpg", "search")) == []
    assert JOHN in world.buckets.get("results", "acme/search/staff/s1.jpg.json").decode()
    assert JOHN in world.buckets.get("chips", review_key(upload_named(world, "s4.jpg", "search"))).decode()


def upload_named(world: World, name: str, action: str = "index") -> events.Upload:
    for recorded in world.records.all():
        upload = next(iter(recorded.values())).upload
        if upload.key == f"acme/{action}/staff/{name}":
            return upload
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("named_by", "name"), [("external_image_id", JANE), ("original_name", JANE), ("external_image_id", "")]
)
def test_everything_that_names_or_shows_a_person_is_erased(world: World, named_by: str, name: str) -> None:
    jane, john = people(world)
    if not name:
        with pytest.raises(NobodyFound):
            world.erasures.erase("clara", STAFF, named_by, name)
        return
    erasure = world.erasures.erase("clara", STAFF, named_by, name)
    absent(world, jane, JANE)
    assert [face.id for face in world.gallery.list_faces(STAFF).items] == john
    assert world.gallery.list_users(STAFF).items == ()
    kinds = [(record.id, record.type) for record in world.ledger.records.values()]
    assert kinds == [(f"erase:{erasure.id}:asked", ERASING), (receipt_id(erasure), ERASED)]
    receipt = erasure.receipt
    assert (receipt["faces"], receipt["users"], receipt["photos"], receipt["comparisons"]) == (2, 1, 2, 2)
    assert [one["until"] for one in receipt["remains"]].count("") == 3
    assert world.erasures.open() == []
    with pytest.raises(NobodyFound):
        world.erasures.find(STAFF, named_by, name)


@pytest.mark.parametrize("named_by", ["user_id", "face_id"])
def test_by_user_and_by_face_the_whole_person_goes(world: World, named_by: str) -> None:
    first, second = world.enrol("g.jpg", "group", 2)
    other = world.enrol("h.jpg", "alone")
    world.gallery.create_user(STAFF, "jane")
    world.gallery.associate_faces(STAFF, "jane", [first, *other])
    search = world.search("s.jpg", (first, "group"), (second, "group"))
    world.erasures.erase("clara", STAFF, named_by, "jane" if named_by == "user_id" else first)
    assert world.mentions(first, *other, "alone", "jane") == []
    assert [face.id for face in world.gallery.list_faces(STAFF).items] == [second]
    assert world.visible(upload_named(world, "g.jpg")) == [1]
    permitted = world.records.recorded(upload_named(world, "g.jpg").identity)["gate"]
    assert isinstance(permitted, events.UploadPermitted)
    assert permitted.external_image_id == "group", "it names another person's face too"
    result = json.loads(world.buckets.get("results", result_key(search.key)))
    assert [match["face_id"] for match in result["faces"][0]["matches"]] == [second]


def test_an_upload_under_way_ends_and_adds_no_face(world: World) -> None:
    people(world)
    world.erasures.erase("clara", STAFF, "external_image_id", JANE)
    for name, stage in (("d.jpg", "detect"), ("e.jpg", "recognize")):
        upload = upload_named(world, name)
        ended = world.records.recorded(upload.identity)[stage]
        assert isinstance(ended, events.UploadRejected)
        assert ended.reason == "ERASED"
        assert ended in world.emitted
        assert json.loads(world.buckets.get("results", result_key(upload.key)))["reason"] == "ERASED"
        source = SourceObject("uploads", upload.key, upload.version, upload.sequencer)
        with pytest.raises(Exception, match="deleted or replaced"):
            world.index([face_id(upload, 0)], JANE, source)
        later = msgspec.structs.replace(source, sequencer="0B")
        world.index([face_id(upload, 0)], JANE, later)
    assert len(world.erasures.find(STAFF, "external_image_id", JANE).faces) == 2, (
        "a later upload is a new one"
    )


@pytest.mark.parametrize("after", [False, True])
def test_a_death_at_any_call_leaves_nothing_and_no_false_receipt(after: bool) -> None:
    # Every fifth, because each takes a tenth of a second; the simulation does the same on the deployed graph.
    for calls in itertools.count(1, 5):
        world = World()
        world.gallery.create_collection(STAFF, model="test-model@000000000000", dimension=8)
        jane, _ = people(world)
        world.mortality.calls, world.mortality.dies_at, world.mortality.after = 0, calls, after
        try:
            world.erasures.erase("clara", STAFF, "external_image_id", JANE)
            break
        except Died:
            world.mortality.dies_at = -1
        if any(record.type == ERASED for record in world.ledger.records.values()):
            absent(world, jane, JANE)
        world.start()
        if calls % 10 == 1:
            world.erasures.resume()
            if not world.ledger.records:
                world.erasures.erase("clara", STAFF, "external_image_id", JANE)
        else:
            # Nobody is found if only the end of the erasure was not noted.
            with contextlib.suppress(NobodyFound):
                world.erasures.erase("clara", STAFF, "external_image_id", JANE)
        absent(world, jane, JANE)
        assert world.erasures.open() == []
        receipts = [record for record in world.ledger.records.values() if record.type == ERASED]
        assert [receipt.body["faces"] for receipt in receipts] == [2]
        published = {event.id for event in world.emitted}
        assert f"upload-rejected:{upload_named(world, 'd.jpg').identity}" in published
    assert calls > 100


def test_more_than_a_thousand_faces_and_open_reviews(world: World) -> None:
    ids = [str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))) for number in range(1005)]
    world.index(ids, JANE)
    for number in range(1005):
        world.search(f"s{number}.jpg", (ids[number], JANE), reviewers=1)
    assert len(world.reviews.open_reviews(0)) == 1005
    erasure = world.erasures.erase("clara", STAFF, "external_image_id", JANE)
    assert (erasure.receipt["faces"], erasure.receipt["comparisons"]) == (1005, 1005)
    assert world.mentions(JANE, ids[0], ids[1004]) == []
    assert world.gallery.describe(STAFF).face_count == 0
    assert world.reviews.open_reviews(0) == []


def test_names_that_used_to_collide_are_erased_one_by_one(world: World) -> None:
    names = ["张伟.jpg", "王芳.jpg", "Müller.jpg", "Möller.jpg", "x" * 300, "x" * 299 + "y"]
    ids = [world.enrol(f"{number}.jpg", name_id(name)) for number, name in enumerate(names)]
    for name, faces in zip(names, ids, strict=True):
        held = world.erasures.find(STAFF, "original_name", name)
        assert [face.id for face in held.faces] == faces
        assert world.erasures.erase("clara", STAFF, "original_name", name).receipt["faces"] == 1
    assert world.gallery.describe(STAFF).face_count == 0


def test_without_the_ledger_nothing_is_deleted_and_no_receipt_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    jane, _ = people(world)

    def refuse(record: object) -> None:
        raise LedgerUnavailable("no")

    with monkeypatch.context() as patch:
        patch.setattr(world.ledger, "put", refuse)
        with pytest.raises(ErasureUnfinished):
            world.erasures.erase("clara", STAFF, "external_image_id", JANE)
    assert len(world.gallery.list_faces(STAFF).items) == 3
    assert world.erasures.find(STAFF, "external_image_id", JANE).under_way
    assert world.erasures.resume() == {"finished": 1, "unfinished": 0}
    absent(world, jane, JANE)


def test_two_people_who_erase_the_same_person_at_once_share_one_erasure(world: World) -> None:
    jane, _ = people(world)
    step = world.gallery.delete_faces

    def meanwhile(*args: object, **named: object) -> object:
        world.erasures._gallery.delete_faces = step
        world.erasures.erase("edda", STAFF, "external_image_id", JANE)
        return step(*args, **named)

    world.erasures._gallery.delete_faces = meanwhile
    mine = world.erasures.erase("clara", STAFF, "external_image_id", JANE)
    absent(world, jane, JANE)
    receipts = [record.id for record in world.ledger.records.values() if record.type == ERASED]
    assert receipts == [receipt_id(mine)]


def test_a_face_that_comes_meanwhile_goes_too(world: World) -> None:
    people(world)
    step = world.gallery.delete_faces
    late = str(uuid.uuid4())

    def meanwhile(*args: object, **named: object) -> object:
        world.erasures._gallery.delete_faces = step
        world.index([late], JANE)
        return step(*args, **named)

    world.erasures._gallery.delete_faces = meanwhile
    assert world.erasures.erase("clara", STAFF, "external_image_id", JANE).receipt["faces"] == 3
    assert world.mentions(late) == []


def test_the_person_sees_what_is_held_and_which_searches_returned_them(world: World) -> None:
    jane, _ = people(world)
    held = world.erasures.find(STAFF, "external_image_id", JANE)
    assert {face.id for face in held.faces} == set(jane)
    assert {face.photo for face in held.faces} == {"acme/index/staff/a.jpg", "acme/index/staff/c.jpg"}
    assert held.users == ("jane",)
    assert len(held.uploads) == 4
    assert {(one.photo[-6:], one.event) for one in held.searches} == {
        ("s1.jpg", "Faces Matched"),
        ("s2.jpg", "Faces Matched"),
        ("s3.jpg", "Matches Released"),
        ("s4.jpg", "Awaiting Review"),
        ("s5.jpg", "Awaiting Review"),
    }
    assert held.reviews == 3
    assert not held.under_way


def test_a_restored_gallery_loses_the_erased_again_and_no_one_newer(world: World) -> None:
    jane, john = people(world)
    backup = {name: dict(table._partitions) for name, table in world.tables.items() if name != "erasures"}
    backup = copy.deepcopy(backup)
    before = world.gallery.describe(STAFF)
    first = world.erasures.erase("clara", STAFF, "external_image_id", JANE)
    restore(world, backup)
    newer = str(uuid.uuid4())
    restored = world.gallery.describe(STAFF)
    assert restored.face_count == 3
    time.sleep(0.005)  # The clock has milliseconds.
    world.index([newer], JANE)
    assert world.erasures.replay(first.verified, ["acme"]) == {"finished": 1, "unfinished": 0}
    assert {face.id for face in world.gallery.list_faces(STAFF).items} == {*john, newer}
    assert world.gallery.list_users(STAFF).items == ()
    assert world.mentions(*jane) == []
    assert world.gallery.describe(STAFF).generation != before.generation
    assert world.gallery.changes(STAFF, before).reset
    receipts = [record.id for record in world.ledger.records.values() if record.type == ERASED]
    assert receipts == [receipt_id(first), f"{receipt_id(first)}:2"]
    assert world.erasures.replay("2100-01-01T00:00:00Z", ["acme"]) == {"finished": 0, "unfinished": 0}


def test_a_restored_face_that_was_gone_before_the_erasure_is_erased(world: World) -> None:
    jane, john = people(world)
    backup = copy.deepcopy({"gallery": dict(world.tables["gallery"]._partitions)})
    photo = upload_named(world, "a.jpg")
    world.gallery.delete_source(STAFF, SourceObject(photo.bucket, photo.key, "", "0B"))
    erased = world.erasures.erase("clara", STAFF, "external_image_id", JANE)
    assert erased.receipt["faces"] < len(jane)
    restore(world, backup)
    assert world.erasures.replay(erased.verified, ["acme"]) == {"finished": 1, "unfinished": 0}
    assert {face.id for face in world.gallery.list_faces(STAFF).items} == set(john)


def restore(world: World, backup: dict[str, Any]) -> None:
    """Put tables back to what they were."""
    for name, partitions in backup.items():
        table = world.tables[name]
        table._partitions.clear()
        table._partitions.update(partitions)
        table._sorted.clear()
        table._sorted.update({pk: sorted(items) for pk, items in partitions.items()})
