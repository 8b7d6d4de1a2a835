"""The file of an export: nothing in it can be read without its key, and a user's faces are never parted."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto import mock_aws

from abeyance.moving.archive import Archive, ArchiveWriter
from abeyance.moving.errors import MovingError
from abeyance.moving.keys import KmsKey, MasterKey, PassphraseKey

KEY = PassphraseKey(b"correct horse battery")


def row(number: int, user: str | None = None) -> dict[str, Any]:
    return {
        "face_id": f"face-{number}",
        "user_id": user,
        "external_image_id": f"ada-lovelace-{number}",
        "quality": [("sharpness", 0.1 * number)],
        "template": bytes([number % 256]) * 256,
    }


def write(path: Path, rows: list[dict[str, Any]], key: MasterKey = KEY, group: int = 7) -> Path:
    with ArchiveWriter(path, key, model="m@0", collection="staff", templates=True) as archive:
        for start in range(0, len(rows), group):
            archive.write(rows[start : start + group])
    return path


def test_everything_comes_back_and_nothing_can_be_read_without_the_key(tmp_path: Path) -> None:
    rows = [row(number) for number in range(50)]
    path = write(tmp_path / "staff.parquet", rows)
    content = path.read_bytes()
    assert not any(word in content for word in (b"lovelace", b"face-", b"staff", b"m@0", bytes([9]) * 32))
    with Archive(path, KEY) as archive:
        assert (archive.model, archive.collection, archive.has_templates) == ("m@0", "staff", True)
        assert archive.rows == 50
        (page,) = archive.pages(100)
    assert [one["template"] for one in page] == [one["template"] for one in rows]
    assert [dict(one["quality"]) for one in page] == [dict(one["quality"]) for one in rows]


@pytest.mark.parametrize("after", [0, 1, 6, 7, 8, 40])
def test_a_page_has_whole_users_and_a_start_in_the_middle_leaves_nothing_out(
    tmp_path: Path, after: int
) -> None:
    rows = [row(number, f"user-{number // 9}" if number < 36 else None) for number in range(60)]
    with Archive(write(tmp_path / "x.parquet", rows), KEY) as archive:
        pages = list(archive.pages(10, after))
    assert [one["face_id"] for page in pages for one in page] == [one["face_id"] for one in rows[after:]]
    for page, following in itertools.pairwise(pages):
        assert not page[-1]["user_id"] or page[-1]["user_id"] != following[0]["user_id"]
        assert len(page) >= 10


def test_another_key_and_another_file_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", [row(1)])
    with pytest.raises(MovingError):
        Archive(path, PassphraseKey(b"another passphrase of some length"))
    damaged = bytearray(path.read_bytes())
    damaged[-20] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(MovingError):
        Archive(path, KEY)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "plain.parquet")
    with pytest.raises(MovingError):
        Archive(tmp_path / "plain.parquet", KEY)


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(MovingError, match="openssl rand"):
        PassphraseKey(b"secret")


def test_an_interrupted_export_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", [row(1)])
    before = path.read_bytes()
    with pytest.raises(MovingError), ArchiveWriter(path, KEY, model="m@0", collection="c", templates=False):
        raise MovingError
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_key_in_kms(tmp_path: Path) -> None:
    with mock_aws():
        kms = boto3.client("kms", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
        key = KmsKey(kms, kms.create_key()["KeyMetadata"]["KeyId"])
        path = write(tmp_path / "x.parquet", [row(1)], key)
        with Archive(path, key) as archive:
            assert archive.rows == 1
