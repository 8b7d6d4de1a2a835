"""What a similarity means is taken from the manifest, and never sounds surer than what was measured."""

from __future__ import annotations

import itertools

import pytest

from abeyance.console.meaning import UNKNOWN, anchors, one_in, strangers, words
from abeyance.vision.models.manifest import Manifest

TEXT = (
    "10 photos. 50: cosine 0.2653 (0.256 to 0.273), FMR 1.00e-01 (8.8e-02 to 1.1e-01, 5 of 50 pairs) in the worst "
    "group, A / B; 1e-02 of all pairs. 80: cosine 0.5099 (0.4 to 0.5), FMR 1.00e-03 (5e-04 to 2e-03, 6 of 60 pairs) "
    "in the worst group, C. By group at 80: A 2.2e-04 (1e-04 to 4e-04)."
)


def test_anchors_are_read_from_the_provenance() -> None:
    assert anchors(TEXT) == ((50.0, 0.1), (80.0, 0.001))
    assert anchors("Provisional.") == ()


def test_between_anchors_the_logarithm_is_straight_and_beyond_them_there_is_a_bound() -> None:
    found = anchors(TEXT)
    assert strangers(65, found) == pytest.approx(0.01)
    assert strangers(80, found) == strangers(99, found) == 0.001
    assert strangers(49, found) is None


def test_words() -> None:
    found = anchors(TEXT)
    assert "about 1 in 1\u202f000 pairs" in words(80, found)
    assert "fewer than 1 in 1\u202f000 pairs" in words(90, found)
    assert words(90, ()) == words(10, found) == UNKNOWN
    assert one_in(9.99e-5) == "1 in 10\u202f000"


def test_the_model_in_use_says_what_its_similarity_means() -> None:
    entry = Manifest.load()["sface-2021dec"]
    assert entry.calibration
    found = anchors(entry.calibration.provenance)
    assert len(found) >= 3
    assert all(one > other for (_, one), (_, other) in itertools.pairwise(found))
