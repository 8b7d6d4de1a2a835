"""The photos and judgements of the photo benchmark; its tools are not installed for it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from abeyance.vision.errors import PackageUnavailable
from abeyance.vision.image import open_photo
from abeyance.vision.models.manifest import Manifest
from abeyance.vision.models.store import fetch, load_detector
from benchmarks.photo_set import KINDS, Kind, compose, write_portraits
from benchmarks.photos import Contestant, accuracy, agreement, best_accuracy, rates


@pytest.fixture(scope="module", autouse=True)
def detector_model() -> None:
    try:
        fetch([Manifest.load()["yunet-2023mar"]])
    except PackageUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.key)
def test_photos_have_the_promised_size_and_number_of_faces(kind: Kind) -> None:
    body = compose(kind, 1)
    with Image.open(io.BytesIO(body)) as image:
        assert image.size == (kind.width, kind.height)
        assert image.format == "JPEG"
    assert len(load_detector().detect(open_photo(body))) == kind.faces


def test_photos_of_one_kind_differ_and_can_be_made_again() -> None:
    kind = KINDS[0]
    assert compose(kind, 0) == compose(kind, 0) != compose(kind, 1)


def test_portraits_are_of_so_many_people(tmp_path: Path) -> None:
    people = write_portraits(tmp_path, 5, each=3)
    assert len(people) == 5
    assert all(len(paths) == 3 for paths in people.values())
    assert all(path.name.startswith(person) for person, paths in people.items() for path in paths)


class Clock:
    """A tool that takes so many seconds a photo, and finds the given faces."""

    def __init__(self, seconds: float, faces: list[Any] | None = None) -> None:
        self.seconds, self.faces, self.asked = seconds, faces, 0

    def ask(self, *, photos: list[str], times: int = 1, **_: Any) -> dict[str, Any]:
        self.asked += len(photos) * times
        took = self.seconds * len(photos) * times
        return {"seconds": 2 * took, "processor": took, "faces": self.faces}


def test_alone_processor_time_counts() -> None:
    teams: Any = {"quick": [Clock(0.01)], "slow": [Clock(3.0)]}
    found = rates(teams, [Path("a"), Path("b")])
    assert found["quick"] == pytest.approx([100] * 4)
    assert found["slow"] == pytest.approx([1 / 3] * 2)


def test_on_all_cores_the_clock_counts() -> None:
    teams: Any = {"both": [Clock(0.01), Clock(0.02)]}
    (rate, *_) = rates(teams, [Path("a")])["both"]
    assert rate == pytest.approx(2 / 0.04)


def test_the_best_threshold_and_no_better() -> None:
    assert best_accuracy([0.9, 0.8], [0.1, 0.2, 0.3, 0.0]) == (1.0, 4)
    assert best_accuracy([0.9, 0.1], [0.5, 0.5])[0] == 0.75
    # Equal scores are on one side of every threshold.
    assert best_accuracy([0.5, 0.5], [0.5, 0.5])[0] == 0.5


def test_accuracy_counts_photos_without_a_face_as_wrong(tmp_path: Path) -> None:
    people = {person: [tmp_path / f"{person}{i}" for i in range(2)] for person in "ab"}
    right = [[([0, 0, 9, 9], [1.0, 0.0])]] * 2 + [[([0, 0, 9, 9], [0.0, 1.0])]] * 2
    process: Any = Clock(0, right)
    assert "100.0 % of 4 pairs" in accuracy("Tool", process, people)
    process.faces = [[], *right[1:]]
    told = accuracy("Tool", process, people)
    assert "75.0 % of 4 pairs" in told
    assert "no face found in 1" in told


def test_agreement_compares_the_same_faces() -> None:
    a, b = np.eye(2).tolist()
    ours: Any = Clock(0, [[([0, 0, 10, 10], a), ([50, 0, 10, 10], b)]])
    theirs: Any = Clock(0, [[([51, 0, 10, 10], b), ([1, 0, 10, 10], a)]])
    assert agreement(ours, theirs, [Path("a")]).startswith(
        "faces found: 2 and 2; cosine of their templates 1.00000 at least"
    )
    theirs.faces = [[]]
    assert agreement(ours, theirs, [Path("a")]) == "faces found: 2 and 0"


def test_slow_tools_sit_out() -> None:
    small, twenty, large, _ = KINDS
    paces = [Contestant("x", "X", "x", slow=slow) for slow in (0, 1, 2)]
    part = {
        (kind.key, quick): [tool.takes_part(kind, quick) for tool in paces]
        for kind in (small, twenty, large)
        for quick in (True, False)
    }
    assert part[small.key, False] == part[large.key, False] == [True] * 3
    assert part[small.key, True] == part[large.key, True] == [True, True, False]
    assert part[twenty.key, False] == [True, True, False]
    assert part[twenty.key, True] == [True, False, False]
