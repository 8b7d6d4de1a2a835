"""Tables and folders of photos."""

from __future__ import annotations

from pathlib import Path

import pytest

from abeyance.evaluation.datasets import read_boxes, read_pairs, read_photos
from abeyance.evaluation.errors import DataInvalid


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_a_folder_per_person(tmp_path: Path) -> None:
    touch(tmp_path, "ann/1.jpg", "ann/2.PNG", "bob/1.webp", "bob/notes.txt")
    photos = read_photos(tmp_path)
    assert photos.persons == ["ann", "ann", "bob"]
    assert photos.persons_given


def test_a_flat_folder_is_of_strangers(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg")
    photos = read_photos(tmp_path)
    assert len(set(photos.persons)) == 2
    assert not photos.persons_given


def test_a_table_with_two_photos_a_row(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "a/2.jpg")
    table = tmp_path / "members.csv"
    table.write_text(
        "person_id,name,gender,ethnicity,photo_a,photo_b\n1,Ann,female,x,a/1.jpg,b/1.jpg\n2,Bob,male,y,a/2.jpg,\n"
    )
    photos = read_photos(table)
    assert photos.persons == ["1", "1", "2"]
    assert photos.attributes == ["gender", "race"]
    assert photos.labels(["race", "gender"]) == ["x / female", "x / female", "y / male"]
    assert len(photos.of_column("photo_b")) == 1
    with pytest.raises(DataInvalid, match="photo_a, photo_b"):
        photos.of_column("photo_c")
    with pytest.raises(DataInvalid, match="gender, race"):
        photos.labels(["age"])


def test_images_beside_the_table_and_ages_as_numbers(tmp_path: Path) -> None:
    touch(tmp_path, "images/1.jpg", "images/2.jpg", "images/3.jpg")
    table = tmp_path / "faces.csv"
    table.write_text("image,age\n1.jpg,1\n2.jpg,34\n3.jpg,88\n")
    assert [p.attributes["age"] for p in read_photos(table).photos] == ["0-2", "30-39", "more than 70"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("image\n", "no rows"),
        ("name,age\nx,1\n", "no column of photos"),
        ("image\nmissing.jpg\n", "1 of 1 photos.*first of them missing.jpg in row 1"),
        ("\xff\xfe", "no column of photos|no rows|UTF-8"),
    ],
)
def test_invalid_tables(tmp_path: Path, content: str, says: str) -> None:
    table = tmp_path / "faces.csv"
    table.write_text(content, encoding="utf-8")
    with pytest.raises(DataInvalid, match=says):
        read_photos(table)


def test_pairs_of_a_table_and_of_lfw(tmp_path: Path) -> None:
    touch(tmp_path, *(f"images/Ann/Ann_000{n}.jpg" for n in (1, 2)), "images/Bob/Bob_0001.jpg")
    table = tmp_path / "pairs.csv"
    table.write_text(
        "fold,image_a,image_b,same\n1,Ann/Ann_0001.jpg,Ann/Ann_0002.jpg,1\n2,Ann/Ann_0001.jpg,Bob/Bob_0001.jpg,0\n"
    )
    text = tmp_path / "pairs.txt"
    text.write_text("2\t1\nAnn\t1\t2\nAnn\t1\tBob\t1\nAnn\t2\t1\nAnn\t2\tBob\t1\n")
    from_table, from_text = read_pairs(table), read_pairs(text)
    assert [(p.same, p.fold) for p in from_table] == [(True, "1"), (False, "2")]
    assert [(p.same, p.fold) for p in from_text] == [(True, "1"), (False, "1"), (True, "2"), (False, "2")]
    assert from_text[1].b == from_table[1].b
    table.write_text("image_a,image_b,same\nAnn/Ann_0001.jpg,Ann/Ann_0002.jpg,perhaps\n")
    with pytest.raises(DataInvalid, match="neither 1 nor 0"):
        read_pairs(table)
    text.write_text("what\n")
    with pytest.raises(DataInvalid, match="format"):
        read_pairs(text)


def test_boxes(tmp_path: Path) -> None:
    touch(tmp_path, "images/1.jpg", "images/2.jpg")
    table = tmp_path / "boxes.csv"
    table.write_text("image,x,y,width,height\n1.jpg,1,2,3,4\n1.jpg,5,6,7,8\n2.jpg,,,,\n")
    images = read_boxes(table)
    assert [len(image.boxes) for image in images] == [2, 0]
    table.write_text("image,x,y,width,height\n1.jpg,a,2,3,4\n")
    with pytest.raises(DataInvalid, match="four numbers"):
        read_boxes(table)
