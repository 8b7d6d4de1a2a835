"""The contract of a log's objects, as a suite that runs on every adapter, and a log in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from abeyance.ledger.errors import LedgerCorrupt
from abeyance.ledger.objects import LogObjects, ObjectVersion, cut, differs


class MemoryLogObjects:
    """A log in memory, with all its versions like a bucket."""

    def __init__(self) -> None:
        self.stored: dict[str, list[bytes | None]] = {}

    def get(self, key: str, version: str | None = None) -> bytes | None:
        versions = self.stored.get(key)
        if not versions:
            return None
        if version is None:
            return versions[-1]
        return versions[int(version)]

    def put_new(self, key: str, data: bytes) -> bool:
        there = self.get(key)
        if there is not None and there != data:
            raise differs(key)
        if there is None:
            self.replace(key, data)
        return there is None

    def put_all(self, items: Iterable[tuple[str, bytes]]) -> None:
        for key, data in items:
            self.put_new(key, data)

    def part(self, key: str, first: int, length: int) -> bytes | None:
        return cut(self.get(key), first, length)

    def replace(self, key: str, data: bytes) -> None:
        self.stored.setdefault(key, []).append(data)

    def keys(self, prefix: str = "", after: str = "") -> Iterator[str]:
        names = [key for key in self.stored if key.startswith(prefix) and key.encode() > after.encode()]
        return iter([key for key in sorted(names, key=str.encode) if self.stored[key][-1] is not None])

    def versions(self, prefix: str = "") -> Iterator[ObjectVersion]:
        for key in sorted(filter(lambda key: key.startswith(prefix), self.stored), key=str.encode):
            for number, data in enumerate(self.stored[key]):
                yield ObjectVersion(key, str(number), data is None)


class LogObjectsContract:
    """A subclass has the fixture ``objects``: an empty log."""

    def test_a_missing_object_is_none(self, objects: LogObjects) -> None:
        assert objects.get("tile/0/000") is None
        assert list(objects.keys()) == []
        assert list(objects.versions()) == []

    def test_an_object_is_written_once(self, objects: LogObjects) -> None:
        assert objects.put_new("tile/0/000", b"one")
        assert objects.get("tile/0/000") == b"one"
        assert not objects.put_new("tile/0/000", b"one")
        with pytest.raises(LedgerCorrupt):
            objects.put_new("tile/0/000", b"two")
        assert objects.get("tile/0/000") == b"one"
        assert len(list(objects.versions())) == 1

    def test_an_empty_object_is_one(self, objects: LogObjects) -> None:
        assert objects.put_new("tile/entries/000", b"")
        assert objects.get("tile/entries/000") == b""
        assert not objects.put_new("tile/entries/000", b"")

    def test_a_pointer_is_written_over(self, objects: LogObjects) -> None:
        objects.replace("checkpoint", b"one")
        objects.replace("checkpoint", b"two")
        assert objects.get("checkpoint") == b"two"
        assert {one.key for one in objects.versions()} == {"checkpoint"}
        assert [objects.get(one.key, one.version or None) for one in objects.versions()].count(b"two") == 1

    def test_a_part_of_an_object(self, objects: LogObjects) -> None:
        objects.put_new("batch", b"0123456789")
        assert objects.part("batch", 0, 4) == b"0123"
        assert objects.part("batch", 3, 4) == b"3456"
        assert objects.part("batch", 8, 100) == b"89"
        assert objects.part("batch", 10, 1) is None
        assert objects.part("none", 0, 4) is None

    def test_keys_come_in_the_order_of_their_bytes(self, objects: LogObjects) -> None:
        names = [
            "tile/0/000",
            "tile/0/000.p/3",
            "tile/0/000.p/12",
            "tile/0/x001/000",
            "tile/1/000",
            "log",
            "tile/0/001",
        ]
        for name in names:
            objects.put_new(name, name.encode())
        assert list(objects.keys()) == sorted(names)
        assert list(objects.keys("tile/0/000.p/")) == ["tile/0/000.p/12", "tile/0/000.p/3"]
        assert list(objects.keys("tile/", after="tile/0/001")) == ["tile/0/x001/000", "tile/1/000"]
        assert list(objects.keys("none")) == []
        assert [one.key for one in objects.versions() if not one.deleted] == sorted(names)
