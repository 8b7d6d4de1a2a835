"""The signed statement of an audit: each figure, and what it rests on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from abeyance.evaluation.audit import Audit, AuditAtThreshold
from abeyance.evaluation.demographics import differential
from abeyance.evaluation.intervals import Rate
from abeyance.evaluation.statement import in_words, statement_of

NOW = datetime(2027, 1, 1, 12, 0, 0, 5, tzinfo=UTC)


def rate(errors: int, pairs: int) -> Rate:
    return Rate.of(errors, pairs, float(pairs), 100)


def grouping(measure: str, attributes: tuple[str, ...], **rates: Rate) -> Any:
    return differential(measure, attributes, list(rates), list(rates.values()), min_errors=10, expected=0.01)


@pytest.fixture
def found() -> Audit:
    at = AuditAtThreshold(
        similarity=99.0,
        cosine=0.5,
        fmr=None,
        fnmr=None,
        false_matches=(
            grouping("fmr", ("gender",), men=rate(20, 100_000), women=rate(60, 100_000)),
            grouping("fmr", ("age",), old=rate(0, 40), young=rate(80, 190_000)),
        ),
        false_non_matches=(grouping("fnmr", ("gender",), men=rate(10, 1000), women=rate(30, 1000)),),
        matrices=(),
        combined=(),
    )
    return Audit(
        model="sface@1",
        strangers="faces",
        mated="members",
        people=100,
        pairs=200_000,
        photos_left_out_as_same_person=0,
        mated_pairs=2000,
        mated_pairs_left_out_as_same_shot=0,
        groupings=(("gender",), ("age",)),
        failure_to_detect=(),
        thresholds=(at,),
    )


def test_a_figure_is_the_end_of_its_interval_and_says_what_it_rests_on(found: Audit) -> None:
    stated = statement_of(found, NOW)
    assert (stated.model, stated.measured) == ("sface@1", "2027-01-01T12:00:00Z")
    (at,) = stated.thresholds
    worst = at.worst_fmr
    # No error in 40 pairs shows little: it is the worst that this group may be.
    assert worst is not None
    assert (worst.group, worst.errors, worst.pairs, worst.value) == ("old", 0, 40, 0.0)
    assert worst.limit == pytest.approx(0.0876, abs=1e-3)
    assert at.fmr_ratio == pytest.approx(3.0)
    assert (at.ratio_groups, at.ratio_left_out) == (3, 1)
    lowest = at.lowest_accuracy
    assert lowest is not None
    assert (lowest.group, lowest.value, lowest.pairs) == ("women", pytest.approx(0.97), 1000)
    assert 0.95 < lowest.limit < 0.97
    words = " ".join(in_words(stated))
    assert "40 pairs" in words
    assert "1000 pairs" in words


def test_what_was_not_measured_is_none_and_another_result_another_report(found: Audit) -> None:
    import msgspec

    at = msgspec.structs.replace(found.thresholds[0], false_matches=(), false_non_matches=())
    other = msgspec.structs.replace(found, thresholds=(at,))
    stated = statement_of(other, NOW)
    assert (stated.thresholds[0].worst_fmr, stated.thresholds[0].fmr_ratio) == (None, None)
    assert stated.thresholds[0].lowest_accuracy is None
    assert stated.report != statement_of(found, NOW).report
