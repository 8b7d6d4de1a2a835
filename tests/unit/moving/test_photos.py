"""The place of a photo: by a rule, by a list; a name never leads anywhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from abeyance.moving.errors import MovingError
from abeyance.moving.journal import Ended, FaceOutcome, Journal, SourceFace
from abeyance.moving.photos import PhotoMissing, PhotoReader, by_list, by_rule
from abeyance.moving.rekognition import pair

ADA = SourceFace("f-1", "i-1", "team:ada.jpg", "ada")


@pytest.mark.parametrize(
    ("rule", "slash", "face", "place"),
    [
        ("s3://photos/{ExternalImageId}", "", ADA, "s3://photos/team:ada.jpg"),
        ("s3://photos/in/{ExternalImageId}", ":", ADA, "s3://photos/in/team/ada.jpg"),
        ("s3://photos/{UserId}/{ImageId}.png", "", ADA, "s3://photos/ada/i-1.png"),
        ("{FaceId}.jpg", "", ADA, "f-1.jpg"),
        ("s3://photos/{ExternalImageId}", "", SourceFace("f", "i"), ""),
        ("photos/{ExternalImageId}", ":", SourceFace("f", "i", "..:..:etc:passwd"), ""),
        ("photos/{ExternalImageId}", ":", SourceFace("f", "i", ":etc:passwd"), ""),
    ],
)
def test_rules(rule: str, slash: str, face: SourceFace, place: str) -> None:
    assert by_rule(rule, slash)(face) == place


def test_a_rule_with_another_name_is_refused() -> None:
    with pytest.raises(MovingError, match="Name"):
        by_rule("s3://photos/{Name}.jpg")


def test_a_list(tmp_path: Path) -> None:
    path = tmp_path / "photos.csv"
    path.write_text("ImageId,photo\ni-1,s3://b/k\ni-2,\n")
    locate = by_list(path)
    assert locate(ADA) == "s3://b/k"
    assert locate(SourceFace("f", "i-2")) == locate(SourceFace("f", "i-3")) == ""
    path.write_text("Person,photo\n")
    with pytest.raises(MovingError, match="ExternalImageId"):
        by_list(path)


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    (tmp_path / "f-1.jpg").write_bytes(b"pixels")
    reader = PhotoReader(by_rule(f"{tmp_path}/{{FaceId}}.jpg"), None)
    assert reader.read(ADA).content == b"pixels"
    with pytest.raises(PhotoMissing, match="no such file"):
        reader.read(SourceFace("f-2", "i"))


def test_boxes_are_paired_once_and_only_where_they_overlap() -> None:
    left, right = (0.1, 0.1, 0.2, 0.2), (0.6, 0.1, 0.2, 0.2)
    moved = (0.12, 0.09, 0.2, 0.24)
    assert pair([right, left], [moved, right]) == {0: 1, 1: 0}
    assert pair([left, left], [moved]) == {0: 0}
    assert pair([left], [right]) == {}
    assert pair([], [left]) == pair([left], []) == {}


def test_a_journal_is_of_one_import_and_forgets_on_request(tmp_path: Path) -> None:
    path = tmp_path / "x.import"
    with Journal(path, {"source": "a"}) as journal:
        journal.add([ADA, SourceFace("f-2", "i-2")])
        journal.end(
            [
                Ended("f-1", FaceOutcome.MOVED, new_id="n"),
                Ended("f-2", FaceOutcome.PHOTO_MISSING, "NoSuchKey"),
            ]
        )
        journal.add([ADA])
    assert path.stat().st_mode & 0o077 == 0
    with Journal(path, {"source": "a"}) as journal:
        assert list(journal.photos()) == []
        assert [one["reason"] for one in journal.unmoved()] == ["NoSuchKey"]
        journal.retry()
        assert [face.face_id for face in next(journal.photos())] == ["f-2"]
    with pytest.raises(MovingError, match="another import"):
        Journal(path, {"source": "b"})
