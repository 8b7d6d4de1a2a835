"""The objects that a log consists of, and their port: written once, never changed.

The bucket of a deployment, a folder of an export and a dictionary in a test are the same to whoever reads a log. One
suite of contract tests runs on every adapter.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from abeyance.ledger.errors import LedgerCorrupt


class ObjectVersion(NamedTuple):
    """A version of an object, or with ``deleted`` a delete marker."""

    key: str
    version: str
    deleted: bool = False


class LogObjects(Protocol):
    """The port of a log's objects: keys to bytes."""

    def get(self, key: str, version: str | None = None) -> bytes | None:
        """Return an object, or one version of it; ``None`` where there is none."""
        ...

    def put_new(self, key: str, data: bytes) -> bool:
        """Write an object that is never written over; return whether it was missing.

        If it is there with the same bytes, nothing is written: whoever comes next may repeat what was done.

        Raises
        ------
        LedgerCorrupt
            The object is there with other bytes.
        """
        ...

    def put_all(self, items: Iterable[tuple[str, bytes]]) -> None:
        """Write objects as :meth:`put_new` does, perhaps several at a time; raises as it does."""
        ...

    def part(self, key: str, first: int, length: int) -> bytes | None:
        """Return ``length`` bytes of an object from byte ``first`` on, fewer at its end.

        ``None`` where there is no such object, or none of these bytes.
        """
        ...

    def replace(self, key: str, data: bytes) -> None:
        """Write an object over what is there: the pointer to the latest checkpoint, or a file of the lookup index."""
        ...

    def keys(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """Yield the keys that begin with ``prefix`` and are greater than ``after``, ascending by their UTF-8."""
        ...

    def versions(self, prefix: str = "") -> Iterator[ObjectVersion]:
        """Yield every version of every object whose key begins with ``prefix``, and the delete markers.

        Keys ascend, and all versions and markers of one key come together.
        """
        ...


def differs(key: str) -> LedgerCorrupt:
    """Return the error for an object that is there with other bytes."""
    return LedgerCorrupt(
        f"{key} is stored with other content; write nothing, and run: abeyance ledger verify"
    )


def cut(data: bytes | None, first: int, length: int) -> bytes | None:
    """Return what :meth:`LogObjects.part` does, of an object that was read whole."""
    return None if data is None else data[first : first + length] or None


class DirectoryObjects:
    """A log in a folder, an object a file: an export, or what a web server hands out.

    A file system keeps no versions, so an overwritten file does not show it; the signatures do.

    Parameters
    ----------
    folder
        It is made when the first object is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str, version: str | None = None) -> bytes | None:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None

    def put_new(self, key: str, data: bytes) -> bool:
        path, partial = self._written(key, data)
        try:
            os.link(partial, path)
        except FileExistsError:
            if path.read_bytes() != data:
                raise differs(key) from None
            return False
        finally:
            partial.unlink()
        return True

    def put_all(self, items: Iterable[tuple[str, bytes]]) -> None:
        for key, data in items:
            self.put_new(key, data)

    def part(self, key: str, first: int, length: int) -> bytes | None:
        try:
            with self._path(key).open("rb") as file:
                file.seek(first)
                return file.read(length) or None
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None

    def replace(self, key: str, data: bytes) -> None:
        path, partial = self._written(key, data)
        partial.replace(path)

    def keys(self, prefix: str = "", after: str = "") -> Iterator[str]:
        folder = prefix.rpartition("/")[0]
        for key in self._walk(f"{folder}/" if folder else ""):
            if key.startswith(prefix) and key.encode() > after.encode():
                yield key

    def versions(self, prefix: str = "") -> Iterator[ObjectVersion]:
        for key in self.keys(prefix):
            yield ObjectVersion(key, "")

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if not key or any(part in ("", ".", "..") for part in parts):
            raise ValueError("the key of an object is a relative path without . and ..")
        return self._folder.joinpath(*parts)

    def _written(self, key: str, data: bytes) -> tuple[Path, Path]:
        """Return the path of a key, and a file beside it that holds ``data``."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=_PARTIAL, dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        return path, Path(name)

    def _walk(self, folder: str) -> Iterator[str]:
        try:
            with os.scandir(self._folder / folder) as found:
                names = [one.name + "/" if one.is_dir() else one.name for one in found]
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in sorted(names, key=os.fsencode):
            if name.endswith("/"):
                yield from self._walk(folder + name)
            elif not name.startswith(_PARTIAL):
                yield folder + name


_PARTIAL = ".part-"
