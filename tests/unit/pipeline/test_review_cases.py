"""The rules of review: independent judgements, claims that expire, and confirmation."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abeyance.pipeline.review_cases import CLAIM_S, Case, CaseNotFree, Ground, ReviewerJudgement, Verdict

NOW = 1_000_000.0


def case(required: int = 2) -> Case:
    return Case(number=0, face=0, chip=0, face_id="f", similarity=91.0, required=required)


def judgement(reviewer: str, verdict: Verdict = Verdict.SAME) -> ReviewerJudgement:
    return ReviewerJudgement(
        reviewer=reviewer, verdict=verdict, ground=Ground.FEATURES, note="", at="2026-01-01T00:00:00Z"
    )


def test_no_more_reviewers_claim_a_case_than_are_required() -> None:
    held = case(2).claim("ada", NOW).claim("ben", NOW)
    assert held.claimed_until("ada") > NOW
    assert held.claimed_until("ben") > NOW
    with pytest.raises(CaseNotFree, match="next one"):
        held.claim("cleo", NOW)


def test_an_expired_claim_frees_the_case_for_another_reviewer() -> None:
    held = case(1).claim("ada", NOW)
    assert not held.free_for("ben", NOW + CLAIM_S - 1)
    late = NOW + CLAIM_S
    taken = held.claim("ben", late)
    assert taken.claimed_until("ada") <= late
    with pytest.raises(CaseNotFree, match="ran out"):
        taken.judge(judgement("ada"), late)


def test_a_late_judgement_counts_while_the_place_is_free() -> None:
    late = NOW + 10 * CLAIM_S
    assert case(1).claim("ada", NOW).judge(judgement("ada"), late).confirmed


def test_nobody_judges_twice() -> None:
    once = case(2).claim("ada", NOW).judge(judgement("ada"), NOW)
    assert not once.closed
    assert not once.free_for("ada", NOW)
    with pytest.raises(CaseNotFree, match="twice"):
        once.judge(judgement("ada", Verdict.DIFFERENT), NOW)


def test_a_released_claim_frees_the_place() -> None:
    assert case(1).claim("ada", NOW).release("ada", NOW).free_for("ben", NOW)


def test_an_erased_candidate_is_closed_and_never_confirmed() -> None:
    gone = msgspec.structs.replace(case(1).judge(judgement("ada"), NOW), void=True)
    assert gone.closed
    assert not gone.confirmed
    assert not gone.free_for("ben", NOW)


@given(st.integers(1, 5), st.lists(st.sampled_from(list(Verdict)), min_size=5, max_size=5))
def test_a_case_is_confirmed_only_if_all_required_reviewers_say_same(
    required: int, verdicts: list[Verdict]
) -> None:
    state = case(required)
    for number, verdict in enumerate(verdicts[:required]):
        assert not state.closed
        assert not state.confirmed
        state = state.claim(f"r{number}", NOW).judge(judgement(f"r{number}", verdict), NOW)
    assert state.closed
    assert state.confirmed == (set(verdicts[:required]) == {Verdict.SAME})
    assert not state.free_for("another", NOW)


@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["claim", "judge", "release", "wait"])),
        max_size=40,
    ),
)
def test_no_sequence_of_steps_gives_too_many_judgements(required: int, steps: list[tuple[str, str]]) -> None:
    state, now = case(required), NOW
    for reviewer, step in steps:
        try:
            if step == "claim":
                state = state.claim(reviewer, now)
            elif step == "judge":
                state = state.judge(judgement(reviewer), now)
            elif step == "release":
                state = state.release(reviewer, now)
            else:
                now += CLAIM_S / 2
        except CaseNotFree:
            pass
        reviewers = [one.reviewer for one in state.judgements]
        assert len(reviewers) == len(set(reviewers)) <= required
        running = {one.reviewer for one in state.claims if one.until > now}
        assert len(reviewers) + len(running) <= required
        assert not running & set(reviewers)
