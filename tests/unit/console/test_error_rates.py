"""Error rates in words come from the manifest, and claim no more than was measured."""

from __future__ import annotations

import itertools

import pytest

from abeyance.console.error_rates import (
    UNKNOWN,
    MeasuredErrorRates,
    describe,
    fmr_at,
    one_in,
    operating_points,
    search_curve,
)
from abeyance.vision.models.manifest import Manifest

TEXT = (
    "10 photos. 50: cosine 0.2653 (0.256 to 0.273), FMR 1.00e-01 (8.8e-02 to 1.1e-01, 5 of 50 pairs) in the worst "
    "group, A / B; 1e-02 of all pairs. 80: cosine 0.5099 (0.4 to 0.5), FMR 1.00e-03 (5e-04 to 2e-03, 6 of 60 pairs) "
    "in the worst group, C. By group at 80: A 2.2e-04 (1e-04 to 4e-04)."
)


def test_operating_points_are_read_from_the_provenance() -> None:
    assert operating_points(TEXT) == ((50.0, 0.1), (80.0, 0.001))
    assert operating_points("Provisional.") == ()


def test_the_rate_is_interpolated_between_points_and_bounded_above_them() -> None:
    found = operating_points(TEXT)
    assert fmr_at(65, found) == pytest.approx(0.01)
    assert fmr_at(80, found) == fmr_at(99, found) == 0.001
    assert fmr_at(49, found) is None


def test_description() -> None:
    found = operating_points(TEXT)
    assert "about 1 in 1\u202f000 pairs" in describe(80, found)
    assert "fewer than 1 in 1\u202f000 pairs" in describe(90, found)
    assert describe(90, ()) == describe(10, found) == UNKNOWN
    assert one_in(9.99e-5) == "1 in 10\u202f000"


def test_the_default_model_has_measured_rates() -> None:
    entry = Manifest.load()["sface-2021dec"]
    found = MeasuredErrorRates.of(entry).points
    assert len(found) >= 3
    assert all(one > other for (_, one), (_, other) in itertools.pairwise(found))


def test_the_pictures_of_the_accuracy_page_have_their_numbers_in_the_manifest() -> None:
    found = MeasuredErrorRates.of(Manifest.load()["sface-2021dec"])
    assert [curve.similarity for curve in found.searches] == [50, 65, 80, 99]
    assert [len(source.shares) for source in found.missed] == [4, 4]
    assert found.missed[0].source == "congress/members.csv"
    assert all(0 <= share <= 1 for source in found.missed for _, share in source.shares)
    assert len(found.groups) == 14
    assert all(row.low <= row.fmr <= row.high * 1.01 for row in found.groups)
    assert found.groups[0].fmr == pytest.approx(dict(found.points)[80], rel=0.05)


def test_false_candidates_grow_with_the_collection() -> None:
    curve = search_curve(99, 1e-5)
    shares = dict(curve.points)
    assert shares[1000] == pytest.approx(0.00995, rel=1e-3)
    assert shares[10_000_000] == pytest.approx(1)
    assert [share for _, share in curve.points] == sorted(shares.values())
