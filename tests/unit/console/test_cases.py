"""The rules of review: independence, claims that run out, and what it takes to confirm."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abeyance.console.cases import CLAIM_SECONDS, Case, Ground, Judgement, Verdict, claim, judge, put_back
from abeyance.console.errors import Refused

NOW = 1_000_000.0


def case(required: int = 2) -> Case:
    return Case(number=0, face=0, chip=0, face_id="f", similarity=91.0, required=required)


def judgement(reviewer: str, verdict: Verdict = Verdict.SAME) -> Judgement:
    return Judgement(
        reviewer=reviewer, verdict=verdict, ground=Ground.FEATURES, note="", at="2026-01-01T00:00:00Z"
    )


def test_as_many_may_look_at_once_as_are_asked_for_and_no_more() -> None:
    held = claim(claim(case(2), "ada", NOW), "ben", NOW)
    assert held.held_by("ada", NOW)
    assert held.held_by("ben", NOW)
    with pytest.raises(Refused, match="next one"):
        claim(held, "cleo", NOW)


def test_a_claim_runs_out_and_the_place_goes_to_another() -> None:
    held = claim(case(1), "ada", NOW)
    assert not held.free_for("ben", NOW + CLAIM_SECONDS - 1)
    late = NOW + CLAIM_SECONDS
    taken = claim(held, "ben", late)
    assert not taken.held_by("ada", late)
    with pytest.raises(Refused, match="ran out"):
        judge(taken, judgement("ada"), late)


def test_what_took_too_long_still_counts_while_the_place_is_free() -> None:
    late = NOW + 10 * CLAIM_SECONDS
    assert judge(claim(case(1), "ada", NOW), judgement("ada"), late).confirmed


def test_nobody_judges_twice() -> None:
    once = judge(claim(case(2), "ada", NOW), judgement("ada"), NOW)
    assert not once.settled
    assert not once.free_for("ada", NOW)
    with pytest.raises(Refused, match="twice"):
        judge(once, judgement("ada", Verdict.DIFFERENT), NOW)


def test_put_back_frees_the_place() -> None:
    assert put_back(claim(case(1), "ada", NOW), "ada", NOW).free_for("ben", NOW)


def test_an_erased_candidate_is_settled_and_never_confirmed() -> None:
    gone = msgspec.structs.replace(judge(case(1), judgement("ada"), NOW), void=True)
    assert gone.settled
    assert not gone.confirmed
    assert not gone.free_for("ben", NOW)


@given(st.integers(1, 5), st.lists(st.sampled_from(list(Verdict)), min_size=5, max_size=5))
def test_confirmed_if_and_only_if_all_that_are_asked_for_say_same(
    required: int, verdicts: list[Verdict]
) -> None:
    state = case(required)
    for number, verdict in enumerate(verdicts[:required]):
        assert not state.settled
        assert not state.confirmed
        state = judge(claim(state, f"r{number}", NOW), judgement(f"r{number}", verdict), NOW)
    assert state.settled
    assert state.confirmed == (set(verdicts[:required]) == {Verdict.SAME})
    assert not state.free_for("another", NOW)


@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["claim", "judge", "back", "wait"])), max_size=40
    ),
)
def test_whatever_people_do_there_are_never_too_many_judgements(
    required: int, steps: list[tuple[str, str]]
) -> None:
    state, now = case(required), NOW
    for reviewer, step in steps:
        try:
            if step == "claim":
                state = claim(state, reviewer, now)
            elif step == "judge":
                state = judge(state, judgement(reviewer), now)
            elif step == "back":
                state = put_back(state, reviewer, now)
            else:
                now += CLAIM_SECONDS / 2
        except Refused:
            pass
        reviewers = [one.reviewer for one in state.judgements]
        assert len(reviewers) == len(set(reviewers)) <= required
        running = {one.reviewer for one in state.claims if one.until > now}
        assert len(reviewers) + len(running) <= required
        assert not running & set(reviewers)
