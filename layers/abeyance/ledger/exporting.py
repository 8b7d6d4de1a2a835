"""Exports: a signed state of a log as the objects themselves, in a folder or a zip file, of any size.

An export is a log: a folder of one can be handed out by any web server as a static C2SP tlog-tiles log, verified,
exported again, and continued later. Without openings it shows nobody a single value, and verifies all the same.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Final

from abeyance.ledger.checkpoint import CHECKPOINTS, COSIGNATURES, LATEST, REFUSALS, LogCheckpoint
from abeyance.ledger.entry import blob_key
from abeyance.ledger.errors import LedgerCorrupt, LedgerError
from abeyance.ledger.identity import LOG
from abeyance.ledger.integrate import DIGITS
from abeyance.ledger.objects import LogObjects, ObjectVersion, cut
from abeyance.ledger.read_ahead import read_ahead
from abeyance.ledger.tiles import (
    ENTRIES,
    HEIGHT,
    OPENINGS,
    WIDTH,
    TileName,
    decode_bundle,
    encode_bundle,
    read_tile,
    split_hashes,
)

_BLOB: Final = re.compile(rb'\{"blob":"([0-9a-f]{64})","bytes":[1-9][0-9]{0,9}\}')
#: Largest member that is read: a bundle of the largest entries has half of it.
_MAX_MEMBER_BYTES: Final = 32 * 1024 * 1024
#: The date of every member of a zip file, so that equal logs give equal files.
_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)


def export_log(
    objects: LogObjects,
    checkpoint: LogCheckpoint,
    put: Callable[[str, bytes], object],
    *,
    first: int = 0,
    stop: int | None = None,
    openings: bool = True,
    readers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Copy the log of a checkpoint, or a piece of it, one object at a time.

    Parameters
    ----------
    objects
        The log. It may grow meanwhile.
    checkpoint
        The state to export; see :func:`abeyance.ledger.receipts.read_checkpoint`.
    put
        Takes key and content: ``put_new`` of a folder, or :meth:`ZipWriter.put`.
    first, stop
        Copy the objects that begin with these entries, the latter excluded: multiples of a bundle's entries. Pieces
        that follow each other, unpacked into one folder, are the export.
    openings
        Copy the openings, and the members that are stored by digest, too. They are what is withheld from the public.
    readers, progress
        As for :func:`abeyance.ledger.verification.verify_log`.

    Raises
    ------
    LedgerCorrupt
        An object is missing or damaged: verify the log itself.
    """
    size = checkpoint.size
    whole = stop is None or stop >= size
    stop = size if stop is None else min(stop, size)
    if first == 0:
        put(LOG, _needed(objects, LOG))
    for key in _notes(objects, first, size if whole else stop):
        put(key, _needed(objects, key))
    for key in objects.keys(f"{REFUSALS}/") if whole else ():
        put(key, _needed(objects, key))
    copied: set[bytes] = set()
    names = _names(first, stop, size, openings=openings)
    for name, items in read_ahead(lambda name: (name, _read(objects, name)), names, readers):
        put(str(name), b"".join(items) if name.level is not None else encode_bundle(items))
        if name.row == OPENINGS:
            for digest in sorted({digest for item in items for digest in _BLOB.findall(item)} - copied):
                blob = objects.get(blob_key(digest.decode()))
                if blob is not None:  # a value that only looks like a reference has none
                    put(blob_key(digest.decode()), blob)
                copied.add(digest)
        if progress and name.row == ENTRIES:
            progress(name.number * WIDTH)
    if whole:
        put(LATEST, str(checkpoint).encode())


def _names(first: int, stop: int, size: int, *, openings: bool) -> Iterator[TileName]:
    """Yield the bundles of these entries, and the tiles whose last leaf is one of them."""
    rows = [(ENTRIES, 0), (OPENINGS, 0)] if openings else [(ENTRIES, 0)]
    levels = -(-size.bit_length() // HEIGHT)
    for row, level in (*rows, *((f"tile/{level}", level) for level in range(levels))):
        count, leaves = size >> HEIGHT * level, WIDTH << HEIGHT * level
        for number in range(first // leaves, -(-stop // leaves)):
            width = min(WIDTH, count - number * WIDTH)
            if width > 0 and first < min((number + 1) * leaves, size) <= stop:
                yield TileName(row, number, width)


def _notes(objects: LogObjects, first: int, last: int) -> Iterator[str]:
    """Yield the keys of the checkpoints and cosignatures of the sizes above ``first``, up to ``last``."""
    for prefix in (CHECKPOINTS, COSIGNATURES):
        # "/" sorts before "0": behind all that belongs to ``first``.
        for key in objects.keys(f"{prefix}/", f"{prefix}/{first:0{DIGITS}d}0" if first else ""):
            if key.split("/")[1] > f"{last:0{DIGITS}d}":
                break
            yield key


def _read(objects: LogObjects, name: TileName) -> list[bytes]:
    return read_tile(objects, name, split_hashes if name.level is not None else decode_bundle)


def _needed(objects: LogObjects, key: str) -> bytes:
    data = objects.get(key)
    if data is None:
        raise LedgerCorrupt(f"{key} is missing; run: abeyance ledger verify")
    return data


class ZipWriter:
    """A zip file that is written object by object, to anything that takes bytes, also a pipe."""

    def __init__(self, out: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED)

    def put(self, key: str, data: bytes) -> None:
        """Add an object."""
        info = zipfile.ZipInfo(key, _ZIP_DATE)
        info.compress_type = zipfile.ZIP_DEFLATED
        self._zip.writestr(info, data)

    def close(self) -> None:
        """Write the end of the file."""
        self._zip.close()


class ZipObjects:
    """A log in a zip file, to read from. It holds the list of names in memory, some 400 bytes an object.

    A damaged member is one that is not there.

    Raises
    ------
    LedgerError
        The file is not a zip file.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise LedgerError(f"{path} is no export of a ledger: {type(error).__name__}") from None
        self._infos: dict[str, list[zipfile.ZipInfo]] = {}
        for info in self._zip.infolist():
            if not info.is_dir():
                self._infos.setdefault(info.filename, []).append(info)

    def get(self, key: str, version: str | None = None) -> bytes | None:
        infos = self._infos.get(key)
        if not infos:
            return None
        info = infos[int(version or -1)]
        if info.file_size > _MAX_MEMBER_BYTES:
            return None
        try:
            return self._zip.read(info)
        except (
            zipfile.BadZipFile,
            OSError,
            ValueError,
            EOFError,
            NotImplementedError,
            RuntimeError,
            zlib.error,
        ):
            return None

    def put_new(self, key: str, data: bytes) -> bool:
        raise LedgerError("an export in a zip file is only read")

    def put_all(self, items: Iterable[tuple[str, bytes]]) -> None:
        raise LedgerError("an export in a zip file is only read")

    def part(self, key: str, first: int, length: int) -> bytes | None:
        return cut(self.get(key), first, length)

    def replace(self, key: str, data: bytes) -> None:
        raise LedgerError("an export in a zip file is only read")

    def keys(self, prefix: str = "", after: str = "") -> Iterator[str]:
        found = (key for key in self._infos if key.startswith(prefix) and key.encode() > after.encode())
        return iter(sorted(found, key=str.encode))

    def versions(self, prefix: str = "") -> Iterator[ObjectVersion]:
        for key in self.keys(prefix):
            for number in range(len(self._infos[key])):
                yield ObjectVersion(key, str(number))
