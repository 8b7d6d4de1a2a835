"""The legislators test on made-up officials."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from abeyance.evaluation.legislators import PUBLISHED, Moratorium, at_least, is_white, run
from abeyance.evaluation.officials import police_search
from abeyance.moratorium.document import parse
from abeyance.moratorium.presets import document, new_deployment

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NONE = Moratorium(permitted=True, reason="", min_similarity=None, human_review=0, flags_version="")


def test_counts_by_hand() -> None:
    probes = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    gallery = np.array([[0.96, 0.28, 0], [1, 0, 0], [0, 0.6, 0.8]], np.float32)
    found = run(
        probes,
        gallery,
        model="m",
        thresholds=[("80", 80.0, 0.7), ("99", 99.0, 0.95)],
        curve=[(50.0, 0.5), (80.0, 0.7)],
        similarity_of=((0.0, 0.0), (0.7, 80.0), (0.95, 99.0), (1.0, 100.0)),
        groups={"race": ["white-american", "african-american", "asian-american"]},
        people=["a", "b", "c"],
        moratorium=NONE,
        without_face=(1, 0),
    )
    assert (found.probes, found.gallery, found.comparisons) == (4, 3, 9)
    at_80, at_99 = found.thresholds
    assert (at_80.falsely_matched, at_80.candidates, at_99.falsely_matched, at_99.candidates) == (2, 3, 1, 2)
    shares = {share.group: share.falsely_matched for share in at_80.groups["race"]}
    assert shares == {"white-american": 1, "african-american": 0, "asian-american": 1}
    # One of two false matches at least among two of three: all but drawing none, which cannot be.
    assert at_80.chance == pytest.approx(1.0)
    assert found.curve == ((50.0, 0.5, 3), (80.0, 0.7, 2))
    assert [(m.probe, m.candidate) for m in found.false_matches] == [(0, 1), (0, 0), (2, 2)]
    assert found.clear_from == 100


def test_exact_test_by_hand() -> None:
    # 5 of 20 are marked; 4 drawn; 3 or more marked: (C(5,3) C(15,1) + C(5,4)) / C(20,4) = 155 / 4845.
    assert at_least(20, 5, 4, 3) == pytest.approx(155 / 4845)


def test_published_numbers() -> None:
    first, second = PUBLISHED
    assert (first.falsely_matched, first.probes, first.similarity) == (28, 535, 80)
    assert (second.falsely_matched, second.probes, second.gallery) == (26, 120, 25_000)


@pytest.mark.parametrize(("label", "white"), [("White", True), ("white-american", True), ("Black", False)])
def test_who_counts_as_white(label: str, white: bool) -> None:
    assert is_white(label) is white


def test_what_the_flags_say_to_the_police() -> None:
    halted = police_search(parse(new_deployment()), NOW)
    assert not halted.permitted
    assert halted.min_similarity is None
    behind = police_search(parse(document(["police-halt", "rekognition-public-safety"])), NOW)
    assert not behind.permitted
    assert behind.min_similarity == 99
    assert behind.human_review >= 1
    free = police_search(parse(document(["rekognition-public-safety"])), NOW)
    assert free.permitted
    assert free.min_similarity == 99
