"""The legislators test on made-up officials."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from abeyance.evaluation.datasets import LabelledPhoto, PhotoSet
from abeyance.evaluation.legislators import PUBLISHED, at_least, is_white, police_search, search_legislators
from abeyance.evaluation.templates import TemplateSet
from abeyance.moratorium.document import parse
from abeyance.moratorium.presets import document, new_deployment

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def templates(*rows: tuple[float, ...]) -> TemplateSet:
    vectors = np.array(rows, np.float32)
    found = vectors.any(axis=1)
    return TemplateSet(vectors=vectors, found=found, faces=found.astype(np.int64), rejected=0)


def officials(*races: str) -> PhotoSet:
    photos = (LabelledPhoto(Path(f"{race}.jpg"), race, {"race": race}) for race in races)
    return PhotoSet("officials", tuple(photos), persons_given=True)


def test_counts_by_hand() -> None:
    strangers = PhotoSet("strangers", tuple(LabelledPhoto(Path(n), n) for n in "abc"), persons_given=False)
    found = search_legislators(
        officials("white-american", "african-american", "no face", "asian-american"),
        templates((1, 0, 0), (0, 1, 0), (0, 0, 0), (0, 0, 1)),
        strangers,
        templates((0.96, 0.28, 0), (1, 0, 0), (0, 0.6, 0.8)),
        model="m",
        knots=((0.0, 0.0), (0.5, 50.0), (0.7, 80.0), (0.95, 99.0), (1.0, 100.0)),
        flags=parse(new_deployment()),
        now=NOW,
    )
    assert (found.probes, found.gallery, found.comparisons, found.probes_without_face) == (4, 3, 9, 1)
    at_80, at_99 = found.thresholds
    assert (at_80.falsely_matched, at_80.candidates, at_99.falsely_matched, at_99.candidates) == (2, 3, 1, 2)
    shares = {share.group: share.falsely_matched for share in at_80.groups["race"]}
    assert shares == {"white-american": 1, "african-american": 0, "asian-american": 1}
    # At least one of two false matches is among two of three people: certain, since only one is not.
    assert at_80.chance == pytest.approx(1.0)
    assert [(s, n) for s, _, n in found.curve if s in (50, 80)] == [(50, 3), (80, 2)]
    assert [(m.probe, m.candidate) for m in found.false_matches] == [(0, 1), (0, 0), (3, 2)]
    assert found.clear_from == 100


def test_exact_test_by_hand() -> None:
    # 5 of 20 are marked; 4 drawn; 3 or more marked: (C(5,3) C(15,1) + C(5,4)) / C(20,4) = 155 / 4845.
    assert at_least(20, 5, 4, 3) == pytest.approx(155 / 4845)


def test_published_numbers() -> None:
    first, second = PUBLISHED
    assert (first.falsely_matched, first.probes, first.similarity) == (28, 535, 80)
    assert (second.falsely_matched, second.probes, second.gallery) == (26, 120, 25_000)


@pytest.mark.parametrize(("label", "white"), [("White", True), ("white-american", True), ("Black", False)])
def test_published_labels_of_white_people(label: str, white: bool) -> None:
    assert is_white(label) is white


def test_decision_on_a_police_search() -> None:
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
