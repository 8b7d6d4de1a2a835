"""What people decide about users: in answers for good, on the ledger first, and never doubled or lost half-way."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.fakes import InMemoryGallery

from abeyance.curation import decisions
from abeyance.curation.decisions import Curation, CurationRefused
from abeyance.curation.findings import FindingKind
from abeyance.gallery.model import CollectionRef, NewFace, RefusalReason, TemplateKind
from abeyance.gallery.search import Searcher
from abeyance.gallery.verdicts import CollectionSubject
from abeyance.ledger.entry import Record, make_entry
from abeyance.ledger.errors import LedgerUnavailable
from abeyance.moratorium.decide import Clause, Decision
from abeyance.rekognition.call import Call, Timings
from abeyance.rekognition.operations.search import search_faces, search_users
from abeyance.rekognition.operations.services import EmbeddingModel, Services
from abeyance.vision.similarity import SimilarityScale

REF = CollectionRef("acme", "staff")
SCALE = SimilarityScale([(-1.0, 0.0), (1.0, 100.0)])
ADA = "clara@local"


def face(number: int) -> str:
    return str(uuid.UUID(int=number + 1))


def user(name: str) -> CollectionSubject:
    return CollectionSubject(TemplateKind.USER, name)


def of_face(number: int) -> CollectionSubject:
    return CollectionSubject(TemplateKind.FACE, face(number))


class World:
    """Faces 0 to 2 of ann, 3 and 4 of her look-alike bea, 5 of cid, and 6 of nobody, the same picture as 0."""

    def __init__(self) -> None:
        self.gallery = InMemoryGallery()
        self.gallery.create_collection(REF, model="m@0", dimension=16)
        random = np.random.default_rng(3)
        ann, cid = random.normal(size=(2, 16))
        for number, base in enumerate([ann, ann, ann, ann, ann, cid, ann]):
            noise = 0.0 if number in (0, 6) else 0.35
            vector = base + noise * random.normal(size=16)
            weak = {"sharpness": 12.0, "brightness": 50.0} if number == 5 else {"sharpness": 80.0}
            made = NewFace(
                id=face(number),
                model="m@0",
                template=(vector / np.linalg.norm(vector)).astype(np.float32),
                quality=weak,
                confidence=0.95,
            )
            self.gallery.index(REF, [made])
        for name, numbers in (("ann", (0, 1, 2)), ("bea", (3, 4)), ("cid", (5,))):
            self.gallery.create_user(REF, name)
            self.gallery.associate_faces(REF, name, [face(number) for number in numbers])
        self.records: list[Record] = []
        self.outcome: dict[str, Any] = {"outcome": "permit", "clause": Clause.PERMITTED, "reason": "ok"}
        self.broken = False
        self.curation = Curation(
            self.gallery,
            SimpleNamespace(decide=self.decide),  # type: ignore[arg-type]
            SimpleNamespace(put=self.put),  # type: ignore[arg-type]
            lambda text: f"p-{uuid.uuid5(uuid.NAMESPACE_URL, text).hex}",
            lambda model: SCALE if model == "m@0" else None,
        )
        self.services = Services(
            gallery=self.gallery,
            searcher=Searcher(self.gallery),
            photos=None,  # type: ignore[arg-type]
            videos=None,  # type: ignore[arg-type]
            analyzer=None,  # type: ignore[arg-type]
            embedder=None,  # type: ignore[arg-type]
            scale=lambda: SCALE,
            embedding_model=lambda: EmbeddingModel("m@0", 16),
        )

    def decide(self, tenant: str, action: str, purpose: str) -> Decision:
        return Decision(tenant=tenant, action=action, purpose=purpose, **self.outcome)

    def put(self, record: Record) -> None:
        if self.broken:
            raise LedgerUnavailable("down")
        make_entry(record, bytes(16))
        assert not {"ann", "bea", "cid"} & set(map(str, record.body.values()))
        self.records.append(record)

    def ask(self, operation: Any, **params: Any) -> list[str]:
        grant: Any = SimpleNamespace(tenant="acme", min_similarity=0.0)
        call = Call(None, {"CollectionId": "staff", **params}, grant, Timings())  # type: ignore[arg-type]
        answer = operation(call, self.services)
        return [one["User"]["UserId"] for one in answer.get("UserMatches", ())] + [
            one["Face"]["FaceId"] for one in answer.get("FaceMatches", ())
        ]

    def faces_of(self, name: str) -> set[str]:
        (found,) = self.gallery.get_users(REF, [name])
        return set(found.face_ids)

    def kinds(self) -> list[str]:
        return [record.type for record in self.records]


@pytest.fixture
def world() -> World:
    return World()


def test_a_verdict_on_two_users_takes_each_from_the_others_answers(world: World) -> None:
    assert "bea" in world.ask(search_users, UserId="ann", UserMatchThreshold=0)
    world.curation.reject(ADA, REF, user("ann"), user("bea"))
    assert world.kinds() == [decisions.NOT_THE_PERSON]
    assert "bea" not in world.ask(search_users, UserId="ann", UserMatchThreshold=0)
    assert "ann" not in world.ask(search_users, UserId="bea", UserMatchThreshold=0)
    assert "bea" not in world.ask(search_users, FaceId=face(0), UserMatchThreshold=0)
    # A face of the one finds no face of the other, and an answer is as long as it was asked to be.
    found = world.ask(search_faces, FaceId=face(0), FaceMatchThreshold=0, MaxFaces=3)
    assert not {face(3), face(4)} & set(found)
    assert len(found) == 3
    # Who is nobody's yet is compared with both.
    assert {face(3), face(0)} <= set(world.ask(search_faces, FaceId=face(6), FaceMatchThreshold=0))


def test_a_face_that_is_not_the_person_leaves_them_for_good(world: World) -> None:
    world.curation.reject(ADA, REF, user("ann"), of_face(2))
    assert world.faces_of("ann") == {face(0), face(1)}
    assert "ann" not in world.ask(search_users, FaceId=face(2), UserMatchThreshold=0)
    assert not {face(0), face(1)} & set(world.ask(search_faces, FaceId=face(2), FaceMatchThreshold=0))
    assert face(2) not in world.ask(search_faces, FaceId=face(0), FaceMatchThreshold=0)
    outcome = world.gallery.associate_faces(REF, "ann", [face(2)])
    assert [one.reason for one in outcome.refused] == [RefusalReason.LOW_MATCH_CONFIDENCE]
    shown = world.curation.show(REF, "ann")
    assert shown.others == (of_face(2),)
    world.curation.withdraw(ADA, REF, of_face(2), user("ann"))
    assert world.gallery.associate_faces(REF, "ann", [face(2)]).done == (face(2),)
    assert world.gallery.describe(REF).verdicts == 0
    with pytest.raises(CurationRefused, match="no such verdict"):
        world.curation.withdraw(ADA, REF, of_face(2), user("ann"))


def test_two_users_become_one(world: World) -> None:
    world.curation.reject(ADA, REF, user("bea"), user("cid"))
    assert world.curation.merge(ADA, REF, "ann", "bea", "hr") == 2
    assert world.faces_of("ann") == {face(number) for number in range(5)}
    assert world.gallery.get_users(REF, ["bea"]) == []
    assert world.curation.show(REF, "ann").others == (user("cid"),)
    record = world.records[-1]
    assert (record.type, record.body["faces"]) == (decisions.MERGED, 2)
    assert record.body["decision"]["purpose"] == "hr"
    # The template is that of all five.
    template = world.gallery.user_template(REF, "ann")
    whole = np.sum(list(world.gallery.templates(REF, [face(n) for n in range(5)]).values()), axis=0)
    assert template == pytest.approx(whole / np.linalg.norm(whole), abs=2e-3)


def test_what_people_said_is_not_merged_away(world: World) -> None:
    for verdict in ((user("ann"), user("bea")), (of_face(3), user("ann")), (user("bea"), of_face(0))):
        world.curation.reject(ADA, REF, *verdict)
        with pytest.raises(CurationRefused, match="not the same person"):
            world.curation.merge(ADA, REF, "ann", "bea", "hr")
        world.curation.withdraw(ADA, REF, *verdict)
        if verdict[1] == of_face(0):
            break
    assert decisions.MERGED not in world.kinds()


def test_a_user_is_split_and_stays_split(world: World) -> None:
    assert world.curation.split(ADA, REF, "ann", "ann-2", [face(1), face(2)], "hr") == 2
    assert (world.faces_of("ann"), world.faces_of("ann-2")) == ({face(0)}, {face(1), face(2)})
    assert "ann-2" not in world.ask(search_users, UserId="ann", UserMatchThreshold=0)
    for faces in ([face(0)], [face(5)], []):
        with pytest.raises(CurationRefused, match="not all"):
            world.curation.split(ADA, REF, "ann", "third", faces, "hr")
    with pytest.raises(CurationRefused, match="already"):
        world.curation.split(ADA, REF, "bea", "cid", [face(3)], "hr")


@pytest.mark.parametrize("interrupted", ["move_faces", "add_verdict"])
def test_a_split_that_was_cut_off_is_finished_by_the_next(
    world: World, interrupted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> Any:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(world.gallery, interrupted, die)
        with pytest.raises(ConnectionError):
            world.curation.split(ADA, REF, "ann", "ann-2", [face(1)], "hr")
    world.curation.split(ADA, REF, "ann", "ann-2", [face(1)], "hr")
    assert (world.faces_of("ann"), world.faces_of("ann-2")) == ({face(0), face(2)}, {face(1)})
    assert world.curation.show(REF, "ann").others == (user("ann-2"),)


@pytest.mark.parametrize("interrupted", ["move_faces", "delete_user"])
def test_a_merge_that_was_cut_off_is_finished_by_the_next(
    world: World, interrupted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> Any:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(world.gallery, interrupted, die)
        with pytest.raises(ConnectionError):
            world.curation.merge(ADA, REF, "ann", "bea", "hr")
    assert world.faces_of("ann") | world.faces_of("bea") == {face(number) for number in range(5)}
    world.curation.merge(ADA, REF, "ann", "bea", "hr")
    assert world.faces_of("ann") == {face(number) for number in range(5)}
    assert world.gallery.get_users(REF, ["bea"]) == []


def test_without_a_permit_or_a_ledger_nothing_changes(world: World) -> None:
    before = world.gallery.describe(REF)
    world.outcome = {"outcome": "deny", "clause": Clause.HALTED, "reason": "Halted by the council."}
    with pytest.raises(CurationRefused, match="Halted by the council"):
        world.curation.merge(ADA, REF, "ann", "bea", "hr")
    with pytest.raises(CurationRefused, match="Halted by the council"):
        world.curation.check(ADA, REF, "hr", threshold=90)
    assert world.kinds() == [decisions.DENIED, decisions.DENIED]
    # A verdict only takes away, and no halt stands in its way.
    world.broken = True
    with pytest.raises(CurationRefused, match="ledger"):
        world.curation.reject(ADA, REF, user("ann"), user("bea"))
    assert world.gallery.describe(REF) == before


def test_a_user_who_is_erased_is_in_no_verdict(world: World) -> None:
    world.curation.reject(ADA, REF, user("ann"), user("bea"))
    world.curation.reject(ADA, REF, user("bea"), of_face(6))
    world.gallery.delete_user(REF, "bea", only_empty=True)
    assert len(list(world.gallery.list_verdicts(REF))) == 2
    world.gallery.delete_user(REF, "bea")
    assert list(world.gallery.list_verdicts(REF)) == []
    pk = world.gallery.describe(REF).pk
    assert not any("bea" in str(item) for item in world.gallery.table.query(pk, "N#", "N~"))


def test_look_alikes_duplicates_and_weak_enrolments_are_found(world: World) -> None:
    ages = {face(1): (9, 13), face(2): (30, 40)}
    found = list(world.curation.check(ADA, REF, "hr", threshold=80, ages=lambda one: ages.get(one.id)))
    assert [(one.kind, one.one, one.other) for one in found] == [
        (FindingKind.LOOK_ALIKE, "ann", "bea"),
        (FindingKind.DUPLICATE, face(0), face(6)),
        (FindingKind.CHILD, face(1), ""),
        (FindingKind.LOW_QUALITY, face(5), ""),
    ]
    assert [one.reason for one in found[2:]] == ["9 to 13 years", "sharpness"]
    actions = [record.body["decision"]["action"] for record in world.records]
    assert actions == ["search", "analyze"]
    # What was decided is not found again.
    world.curation.reject(ADA, REF, user("bea"), user("ann"))
    world.curation.reject(ADA, REF, of_face(0), of_face(6))
    left = [one.kind for one in world.curation.check(ADA, REF, "hr", threshold=80)]
    assert left == [FindingKind.LOW_QUALITY]


def test_a_collection_that_goes_during_a_check_is_a_refusal(world: World) -> None:
    def deleted(ref: CollectionRef) -> Iterator[tuple[CollectionSubject, CollectionSubject]]:
        world.gallery.delete_collection(ref)
        return iter(())

    world.gallery.list_verdicts = deleted
    with pytest.raises(CurationRefused, match="no collection"):
        world.curation.check(ADA, REF, "hr", threshold=80)


def test_where_matches_need_reviewers_no_list_of_them_is_made(world: World) -> None:
    world.outcome["human_review"] = 2
    with pytest.raises(CurationRefused, match="several reviewers"):
        world.curation.check(ADA, REF, "hr", threshold=80)
