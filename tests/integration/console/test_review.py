"""From a search under review to its result: agreement, doubt, halts, failures, late and absent reviewers."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from abeyance.console.errors import NotFound, RequestRefused, Unavailable
from abeyance.console.identity import LOCAL_PEOPLE
from abeyance.ledger.errors import LedgerUnavailable
from abeyance.pipeline import review_cases
from abeyance.pipeline.leftovers import review_key
from abeyance.pipeline.review_cases import Ground, Verdict
from abeyance.pipeline.uploads import result_key

from .conftest import STAFF, World, restrict

ADA, BEN = LOCAL_PEOPLE[0], LOCAL_PEOPLE[1]
KEY = "acme/search/staff/who.png"


def judge_all(world: World, person: Any, verdict: Verdict = Verdict.SAME) -> int:
    count = 0
    while (given := world.services.reviews.next_comparison(person)) is not None:
        world.services.reviews.judge(
            person, given.review.identity, given.case.number, verdict, Ground.FEATURES
        )
        count += 1
    return count


def test_two_reviewers_see_the_same_person_and_the_result_is_released(world: World) -> None:
    jane, john = world.enrol("jane"), world.enrol("john", "acme/index/staff/b.png")
    upload = world.search(KEY, jane, john)
    assert judge_all(world, ADA) == 2
    assert world.result(upload) is None
    assert world.services.reviews.next_comparison(ADA) is None
    assert judge_all(world, BEN) == 2
    result = world.result(upload)
    assert result is not None
    assert result["event"] == "Matches Released"
    assert [one["face_id"] for one in result["faces"][0]["matches"]] == [jane, john]
    assert (result["reviewers"], result["withheld"]) == (2, 0)
    types = world.write_ledger()
    assert types.count("review.judged") == 4
    assert types.index("Matches Released") > max(n for n, kind in enumerate(types) if kind == "review.judged")
    assert world.services.reviews.open_reviews() == []
    with pytest.raises(world.local.client("s3").exceptions.NoSuchKey):
        world.s3("get_object", Key=review_key(upload))


@pytest.mark.parametrize("second", [Verdict.DIFFERENT, Verdict.CANNOT_TELL])
def test_doubt_and_disagreement_withhold_a_candidate(world: World, second: Verdict) -> None:
    upload = world.search(KEY, world.enrol("jane"))
    judge_all(world, ADA)
    judge_all(world, BEN, second)
    result = world.result(upload)
    assert result is not None
    assert (result["event"], result["reason"]) == ("Matches Withheld", "NOT_CONFIRMED")
    assert "Jane" not in json.dumps(result)


def test_only_confirmed_candidates_are_released(world: World) -> None:
    jane, john = world.enrol("jane"), world.enrol("john", "acme/index/staff/b.png")
    upload = world.search(KEY, jane, john, reviewers=1)
    world.write_flags(restrict(human_review=1))
    for _ in range(2):
        given = world.services.reviews.next_comparison(ADA)
        assert given
        verdict = Verdict.SAME if given.case.face_id == john else Verdict.DIFFERENT
        world.services.reviews.judge(ADA, given.review.identity, given.case.number, verdict, Ground.EARS)
    result = world.result(upload)
    assert result is not None
    assert [one["face_id"] for one in result["faces"][0]["matches"]] == [john]
    assert result["withheld"] == 1


def test_a_halt_during_the_review_withholds_the_matches(world: World) -> None:
    upload = world.search(KEY, world.enrol("jane"))
    judge_all(world, ADA)
    halt = restrict(effect="halt")
    del halt["values"]["review"]["human_review"]
    world.write_flags(halt)
    judge_all(world, BEN)
    result = world.result(upload)
    assert result is not None
    assert (result["event"], result["reason"]) == ("Matches Withheld", "HALTED")


def test_unreadable_flags_leave_the_review_open(world: World) -> None:
    upload = world.search(KEY, world.enrol("jane"))
    judge_all(world, ADA)
    world.flags.write_text("{")
    judge_all(world, BEN)
    assert world.result(upload) is None
    world.write_flags(restrict())
    assert world.services.reviews.next_comparison(ADA) is None  # the next request closes the review
    assert (world.result(upload) or {})["event"] == "Matches Released"


def test_new_flags_can_require_more_reviewers_or_more_similarity(world: World) -> None:
    upload = world.search(KEY, world.enrol("jane"), reviewers=1)
    judge_all(world, ADA)
    assert world.result(upload) is None, "two are asked for now"
    world.write_flags(restrict(min_similarity=99.0))
    judge_all(world, BEN)
    assert (world.result(upload) or {})["event"] == "Matches Withheld"


def test_without_the_ledger_the_judgement_is_saved_and_nothing_is_released(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = world.search(KEY, world.enrol("jane"))
    judge_all(world, ADA)
    given = world.services.reviews.next_comparison(BEN)
    assert given

    def refuse(record: object) -> None:
        raise LedgerUnavailable("no")

    with monkeypatch.context() as patch:
        patch.setattr(world.services.reviews._ledger, "put", refuse)
        with pytest.raises(Unavailable, match="saved"):
            world.services.reviews.judge(BEN, given.review.identity, 0, Verdict.SAME, Ground.FEATURES)
        assert world.services.reviews.next_comparison(ADA) is None
        assert world.result(upload) is None
    world.services.reviews.next_comparison(ADA)
    assert (world.result(upload) or {})["event"] == "Matches Released"
    assert world.write_ledger().count("review.judged") == 2


def test_a_crash_after_the_judgement_loses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = world.search(KEY, world.enrol("jane"))
    judge_all(world, ADA)
    with monkeypatch.context() as patch:
        patch.setattr(world.services.reviews, "_try_to_close", lambda identity: None)
        given = world.services.reviews.next_comparison(BEN)
        assert given
        world.services.reviews.judge(BEN, given.review.identity, 0, Verdict.SAME, Ground.FEATURES)
    assert world.result(upload) is None
    world.services.reviews.next_comparison(ADA)
    assert (world.result(upload) or {})["event"] == "Matches Released"


def test_a_reviewer_gets_the_same_comparison_again_until_the_claim_expires(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.search(KEY, world.enrol("jane"), reviewers=1)
    first = world.services.reviews.next_comparison(ADA)
    assert first
    again = world.services.reviews.next_comparison(ADA)
    assert again
    assert (again.review.identity, again.case.number) == (first.review.identity, first.case.number)
    assert world.services.reviews.next_comparison(BEN) is None
    later = world.services.reviews._now() + review_cases.CLAIM_S + 1
    monkeypatch.setattr(world.services.reviews, "_now", lambda: later)
    assert world.services.reviews.next_comparison(BEN) is not None
    with pytest.raises(NotFound):
        world.services.reviews.comparison(ADA, first.review.identity, 0)
    with pytest.raises(RequestRefused):
        world.services.reviews.judge(ADA, first.review.identity, 0, Verdict.SAME, Ground.FEATURES)


def test_a_deleted_or_replaced_upload_gets_no_result(world: World) -> None:
    jane = world.enrol("jane")
    gone = world.search(KEY, jane)
    world.s3("delete_object", Key=review_key(gone))
    assert world.services.reviews.next_comparison(ADA) is None
    replaced = world.search("acme/search/staff/other.png", jane)
    judge_all(world, ADA)
    assert world.uploads.claim(msgspec.structs.replace(replaced, sequencer="0C", version="w"))
    judge_all(world, BEN)
    assert world.result(gone) is None
    assert world.result(replaced) is None
    assert {review.outcome for review, _ in world.services.reviews.closed_reviews()} == {"NOTHING_TO_REVIEW"}


def test_a_search_without_candidates_is_closed(world: World) -> None:
    world.search(KEY)
    assert world.services.reviews.next_comparison(ADA) is None
    assert world.services.reviews.open_reviews() == []


def test_an_erased_person_leaves_the_queue_and_is_never_released(world: World) -> None:
    jane, john = world.enrol("jane"), world.enrol("john", "acme/index/staff/b.png")
    upload = world.search(KEY, jane, john)
    judge_all(world, ADA)
    officer = LOCAL_PEOPLE[2]
    receipt = world.services.galleries.erase(
        officer, world.gallery.describe(STAFF).ref, "external_image_id", "jane"
    ).receipt
    counts = (receipt["faces"], receipt["comparisons"], receipt["chips"], receipt["photos"])
    assert counts == (1, 1, 1, 1)
    kept = world.s3("get_object", Key=review_key(upload))["Body"].read()
    assert jane.encode() not in kept
    judge_all(world, BEN)
    result = world.result(upload)
    assert result is not None
    assert [one["face_id"] for one in result["faces"][0]["matches"]] == [john]
    types = world.write_ledger()
    assert types.index("person.erasing") < types.index("person.erased")
    said = json.dumps([entry.body for entry in world.entries() if entry.type.startswith("person")])
    assert "jane" not in said
    assert "clara" not in said
    assert world.gallery.describe(STAFF).face_count == 1


def test_naming_one_face_erases_the_whole_person(world: World) -> None:
    first, second = world.enrol("jane"), world.enrol("jane2", "acme/index/staff/b.png")
    world.gallery.create_user(STAFF, "jane")
    world.gallery.associate_faces(STAFF, "jane", [first, second])
    receipt = world.services.galleries.erase(LOCAL_PEOPLE[2], STAFF, "face_id", first).receipt
    assert (receipt["faces"], receipt["users"]) == (2, 1)
    assert world.gallery.get_users(STAFF, ["jane"]) == []
    with pytest.raises(NotFound):
        world.services.galleries.find(STAFF, "user_id", "jane")


def test_a_note_stays_off_the_ledger(world: World) -> None:
    world.search(KEY, world.enrol("jane"))
    given = world.services.reviews.next_comparison(ADA)
    assert given
    world.services.reviews.judge(
        ADA, given.review.identity, 0, Verdict.SAME, Ground.OTHER, "It is Jane, my neighbour"
    )
    world.write_ledger()
    (entry,) = [one for one in world.entries() if one.type == "review.judged"]
    assert "neighbour" not in json.dumps(entry.body)
    assert len(entry.body["note_sha256"]) == 64
    assert result_key(given_upload(world).key) not in json.dumps(entry.body)


def given_upload(world: World) -> Any:
    return world.services.reviews.open_reviews()[0][0].waiting.upload
