"""People who are in a set twice: by a judged list, and by a cosine that must not chain strangers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from abeyance.evaluation.cleaning import (
    components,
    describe_cleaning,
    judged_people,
    people_by_cosine,
    read_repeats,
    strangers_only,
)
from abeyance.evaluation.datasets import LabelledPhoto, PhotoSet
from abeyance.evaluation.errors import DataInvalid

scipy = pytest.importorskip("scipy")


def circle(*degrees: float) -> NDArray[np.float32]:
    """Unit vectors in a plane, at these angles."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_components_link_through_others() -> None:
    roots = components(6, np.array([1, 2, 4], np.int32), np.array([2, 3, 5], np.int32))
    assert roots.tolist() == [0, 1, 1, 1, 4, 4]


def test_a_chain_of_strangers_does_not_become_one_person() -> None:
    # Each is 20 degrees from the next: single linkage would make one person of all ten.
    chain = circle(*range(0, 200, 20))
    people = people_by_cosine(chain, float(np.cos(np.radians(25))))
    assert np.bincount(people).max() == 2
    twice = people_by_cosine(circle(0, 5, 120, 122, 240), 0.9)
    assert twice.tolist() == [0, 0, 2, 2, 4]


def test_only_photos_of_one_block_are_linked() -> None:
    assert people_by_cosine(circle(0, 1, 2), 0.9, np.array([0, 1, 0])).tolist() == [0, 1, 0]


def test_a_judged_list_joins_photos_by_name(tmp_path: Path) -> None:
    listed = tmp_path / "judged.csv"
    listed.write_text(
        "# who judged\nimage_a,image_b,same\nval/1.jpg,val/2.jpg,1\n2.jpg,3.jpg,1\n"
        "1.jpg,4.jpg,0\n5.jpg,9.jpg,1\n"
    )
    pairs = read_repeats([str(listed)])
    assert len(pairs) == 3
    paths = [Path("images") / f"{n}.jpg" for n in (4, 3, 2, 1, 5)]
    assert judged_people(paths, pairs).tolist() == [0, 1, 1, 1, 4]
    # The photo in between is not there, and its neighbours are still one person.
    assert judged_people([Path("1.jpg"), Path("3.jpg"), Path("4.jpg")], pairs).tolist() == [0, 0, 2]
    with pytest.raises(DataInvalid, match=r"two photos are called 1\.jpg"):
        judged_people([*paths, Path("other/1.jpg")], pairs)
    listed.write_text("image_a,image_b\n1.jpg,2.jpg\n")
    with pytest.raises(DataInvalid, match="same"):
        read_repeats([str(listed)])


def test_strangers_are_one_photo_each_and_nobody_known(tmp_path: Path) -> None:
    def photos(*names: str) -> PhotoSet:
        return PhotoSet("p", tuple(LabelledPhoto(Path(name), name) for name in names), persons_given=False)

    pairs = [("2.jpg", "3.jpg"), ("official.jpg", "5.jpg"), ("5.jpg", "6.jpg")]
    kept = strangers_only(photos(*(f"{n}.jpg" for n in range(1, 8))), [photos("official.jpg")], pairs)
    assert [path.name for path in kept.paths] == ["1.jpg", "2.jpg", "4.jpg", "7.jpg"]
    assert len(strangers_only(photos("1.jpg", "2.jpg"), [], [])) == 2


def test_the_list_that_comes_with_the_package_can_be_read() -> None:
    pairs = read_repeats(["fairface"])
    assert len(pairs) > 200
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)


def test_the_report_says_how_many_of_whom_and_warns() -> None:
    people = np.array([0] * 9 + list(range(9, 120)))
    ages = ["0-2"] * 60 + ["20-29"] * 60
    kept, found = describe_cleaning("judged list x", people, {"age": ages})
    assert kept.tolist() == [0, *range(9, 120)]
    assert (found.photos_left_out, found.people_with_several, found.largest) == (8, 1, 9)
    assert [(row.group, row.removed) for row in found.removed["age"]] == [("0-2", 8), ("20-29", 0)]
    assert any("9 photos" in warning for warning in found.warnings)
    assert any("13% of age 0-2" in warning for warning in found.warnings)
