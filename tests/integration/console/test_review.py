"""From a search that has to be reviewed to a result, with people who are quick, slow, of two minds, or gone."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from abeyance.console import cases
from abeyance.console.cases import Ground, Verdict
from abeyance.console.errors import NotFound, Refused, Unavailable
from abeyance.console.identity import LOCAL_PEOPLE
from abeyance.ledger.errors import LedgerUnavailable
from abeyance.pipeline.recognize import review_key
from abeyance.pipeline.uploads import result_key

from .conftest import STAFF, World, restrict

ADA, BEN = LOCAL_PEOPLE[0], LOCAL_PEOPLE[1]
KEY = "acme/search/staff/who.png"


def judge_all(world: World, person: Any, verdict: Verdict = Verdict.SAME) -> int:
    count = 0
    while (given := world.parts.desk.next(person)) is not None:
        world.parts.desk.judge(person, given.identity, given.case.number, verdict, Ground.FEATURES)
        count += 1
    return count


def test_two_reviewers_see_the_same_person_and_the_result_is_released(world: World) -> None:
    jane, john = world.enrol("jane"), world.enrol("john", "acme/index/staff/b.png")
    upload = world.search(KEY, jane, john)
    assert judge_all(world, ADA) == 2
    assert world.result(upload) is None
    assert world.parts.desk.next(ADA) is None
    assert judge_all(world, BEN) == 2
    result = world.result(upload)
    assert result is not None
    assert result["event"] == "Matches Released"
    assert [one["face_id"] for one in result["faces"][0]["matches"]] == [jane, john]
    assert (result["reviewers"], result["withheld"]) == (2, 0)
    types = world.settle_ledger()
    assert types.count("review.judged") == 4
    assert types.index("Matches Released") > max(n for n, kind in enumerate(types) if kind == "review.judged")
    assert world.parts.desk.standing() == []
    with pytest.raises(world.local.client("s3").exceptions.NoSuchKey):
        world.s3("get_object", Key=review_key(upload))


@pytest.mark.parametrize("second", [Verdict.DIFFERENT, Verdict.CANNOT_TELL])
def test_doubt_and_disagreement_keep_a_candidate_back(world: World, second: Verdict) -> None:
    upload = world.search(KEY, world.enrol("jane"))
    judge_all(world, ADA)
    judge_all(world, BEN, second)
    result = world.result(upload)
    assert result is not None
    assert (result["event"], result["reason"]) == ("Matches Withheld", "NOT_CONFIRMED")
    assert "Jane" not in json.dumps(result)


def test_what_only_some_candidates_pass_is_released_in_part(world: World) -> None:
    jane, john = world.enrol("jane"), world.enrol("john", "acme/index/staff/b.png")
    upload = world.search(KEY, jane, john, reviewers=1)
    world.write_flags(restrict(human_review=1))
    for _ in range(2):
        given = world.parts.desk.next(ADA)
        assert given
        verdict = Verdict.SAME if given.case.face_id == john else Verdict.DIFFERENT
        world.parts.desk.judge(ADA, given.identity, given.case.number, verdict, Ground.EARS)
    result = world.result(upload)
    assert result is not None
    assert [one["face_id"] for one in result["faces"][0]["matches"]] == [john]
    assert result["withheld"] == 1


def test_a_halt_that_came_meanwhile_holds(world: World) -> None:
    upload = world.search(KEY, world.enrol("jane"))
    judge_all(world, ADA)
    halt = restrict(effect="halt")
    del halt["values"]["review"]["human_review"]
    world.write_flags(halt)
    judge_all(world, BEN)
    result = world.result(upload)
    assert result is not None
    assert (result["event"], result["reason"]) == ("Matches Withheld", "HALTED")


def test_flags_that_cannot_be_read_end_nothing(world: World) -> None:
    upload = world.search(KEY, world.enrol("jane"))
    judge_all(world, ADA)
    world.flags.write_text("{")
    judge_all(world, BEN)
    assert world.result(upload) is None
    world.write_flags(restrict())
    assert world.parts.desk.next(ADA) is None  # whoever asks next brings it about
    assert (world.result(upload) or {})["event"] == "Matches Released"


def test_flags_that_now_ask_for_more_people_or_more_similarity(world: World) -> None:
    upload = world.search(KEY, world.enrol("jane"), reviewers=1)
    judge_all(world, ADA)
    assert world.result(upload) is None, "two are asked for now"
    world.write_flags(restrict(min_similarity=99.0))
    judge_all(world, BEN)
    assert (world.result(upload) or {})["event"] == "Matches Withheld"


def test_a_ledger_that_does_not_confirm_keeps_the_judgement_and_releases_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = world.search(KEY, world.enrol("jane"))
    judge_all(world, ADA)
    given = world.parts.desk.next(BEN)
    assert given

    def refuse(record: object) -> None:
        raise LedgerUnavailable("no")

    with monkeypatch.context() as patch:
        patch.setattr(world.parts.desk._ledger, "put", refuse)
        with pytest.raises(Unavailable, match="kept"):
            world.parts.desk.judge(BEN, given.identity, 0, Verdict.SAME, Ground.FEATURES)
        assert world.parts.desk.next(ADA) is None
        assert world.result(upload) is None
    world.parts.desk.next(ADA)
    assert (world.result(upload) or {})["event"] == "Matches Released"
    assert world.settle_ledger().count("review.judged") == 2


def test_a_process_that_dies_after_the_judgement_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = world.search(KEY, world.enrol("jane"))
    judge_all(world, ADA)
    with monkeypatch.context() as patch:
        patch.setattr(world.parts.desk, "_retry", lambda identity: None)
        given = world.parts.desk.next(BEN)
        assert given
        world.parts.desk.judge(BEN, given.identity, 0, Verdict.SAME, Ground.FEATURES)
    assert world.result(upload) is None
    world.parts.desk.next(ADA)
    assert (world.result(upload) or {})["event"] == "Matches Released"


def test_a_browser_that_died_finds_its_comparison_again_and_claims_run_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.search(KEY, world.enrol("jane"), reviewers=1)
    first = world.parts.desk.next(ADA)
    assert first
    again = world.parts.desk.next(ADA)
    assert again
    assert (again.identity, again.case.number) == (first.identity, first.case.number)
    assert world.parts.desk.next(BEN) is None
    later = world.parts.desk._now() + cases.CLAIM_SECONDS + 1
    monkeypatch.setattr(world.parts.desk, "_now", lambda: later)
    assert world.parts.desk.next(BEN) is not None
    with pytest.raises(NotFound):
        world.parts.desk.held(ADA, first.identity, 0)
    with pytest.raises(Refused):
        world.parts.desk.judge(ADA, first.identity, 0, Verdict.SAME, Ground.FEATURES)


def test_an_upload_that_was_withdrawn_or_replaced_leaves_no_result(world: World) -> None:
    jane = world.enrol("jane")
    gone = world.search(KEY, jane)
    world.s3("delete_object", Key=review_key(gone))
    assert world.parts.desk.next(ADA) is None
    replaced = world.search("acme/search/staff/other.png", jane)
    judge_all(world, ADA)
    assert world.uploads.claim(msgspec.structs.replace(replaced, sequencer="0C", version="w"))
    judge_all(world, BEN)
    assert world.result(gone) is None
    assert world.result(replaced) is None
    assert {review.outcome for review, _ in world.parts.desk.closed()} == {"NOTHING_TO_REVIEW"}


def test_a_search_without_candidates_is_no_work(world: World) -> None:
    world.search(KEY)
    assert world.parts.desk.next(ADA) is None
    assert world.parts.desk.standing() == []


def test_an_erased_person_leaves_the_queue_and_is_never_released(world: World) -> None:
    jane, john = world.enrol("jane"), world.enrol("john", "acme/index/staff/b.png")
    upload = world.search(KEY, jane, john)
    judge_all(world, ADA)
    officer = LOCAL_PEOPLE[2]
    receipt = world.parts.galleries.erase(
        officer, world.gallery.describe(STAFF).ref, "external_image_id", "jane"
    )
    assert (receipt.faces, receipt.comparisons, receipt.pictures, receipt.photos) == (1, 1, 1, 1)
    kept = world.s3("get_object", Key=review_key(upload))["Body"].read()
    assert jane.encode() not in kept
    judge_all(world, BEN)
    result = world.result(upload)
    assert result is not None
    assert [one["face_id"] for one in result["faces"][0]["matches"]] == [john]
    types = world.settle_ledger()
    assert types.index("person.erasing") < types.index("person.erased")
    said = json.dumps([entry.body for entry in world.ledger.read() if entry.type.startswith("person")])
    assert "jane" not in said
    assert "clara" not in said
    assert world.gallery.describe(STAFF).face_count == 1


def test_the_whole_person_goes_when_one_of_their_faces_is_named(world: World) -> None:
    first, second = world.enrol("jane"), world.enrol("jane2", "acme/index/staff/b.png")
    world.gallery.create_user(STAFF, "jane")
    world.gallery.associate_faces(STAFF, "jane", [first, second])
    receipt = world.parts.galleries.erase(LOCAL_PEOPLE[2], STAFF, "face_id", first)
    assert (receipt.faces, receipt.users) == (2, 1)
    assert world.gallery.get_users(STAFF, ["jane"]) == []
    with pytest.raises(NotFound):
        world.parts.galleries.find(STAFF, "user_id", "jane")


def test_a_note_stays_off_the_ledger(world: World) -> None:
    world.search(KEY, world.enrol("jane"))
    given = world.parts.desk.next(ADA)
    assert given
    world.parts.desk.judge(ADA, given.identity, 0, Verdict.SAME, Ground.OTHER, "It is Jane, my neighbour")
    world.settle_ledger()
    (entry,) = [one for one in world.ledger.read() if one.type == "review.judged"]
    assert "neighbour" not in json.dumps(entry.body)
    assert len(entry.body["note_sha256"]) == 64
    assert result_key(given_upload(world).key) not in json.dumps(entry.body)


def given_upload(world: World) -> Any:
    return world.parts.desk.standing()[0][0].waiting.upload
