"""The contract of every adapter of a log's objects; the one of S3 runs it too, over moto."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.log_objects import LogObjectsContract, MemoryLogObjects

from abeyance.ledger.objects import DirectoryObjects, LogObjects, ObjectVersion


class TestMemoryLogObjects(LogObjectsContract):
    @pytest.fixture
    def objects(self) -> LogObjects:
        return MemoryLogObjects()

    def test_every_version_and_marker_is_listed(self) -> None:
        objects = MemoryLogObjects()
        objects.put_new("a", b"1")
        objects.replace("a", b"2")
        objects.stored["a"].append(None)
        assert list(objects.versions()) == [
            ObjectVersion("a", "0"),
            ObjectVersion("a", "1"),
            ObjectVersion("a", "2", deleted=True),
        ]
        assert (objects.get("a"), objects.get("a", "0"), list(objects.keys())) == (None, b"1", [])


class TestDirectoryObjects(LogObjectsContract):
    @pytest.fixture
    def objects(self, tmp_path: Path) -> LogObjects:
        return DirectoryObjects(tmp_path / "log")

    @pytest.mark.parametrize("key", ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", "."])
    def test_a_key_stays_in_the_folder(self, tmp_path: Path, key: str) -> None:
        with pytest.raises(ValueError, match="relative path"):
            DirectoryObjects(tmp_path).get(key)

    def test_a_file_that_is_not_complete_is_not_there(self, tmp_path: Path) -> None:
        objects = DirectoryObjects(tmp_path)
        objects.put_new("a", b"1")
        (tmp_path / ".part-x").write_bytes(b"half")
        assert list(objects.keys()) == ["a"]
