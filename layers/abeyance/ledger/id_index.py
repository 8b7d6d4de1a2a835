"""Duplicate ids among any number of entries, in bounded memory."""

from __future__ import annotations

import struct
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from hashlib import blake2b
from types import TracebackType
from typing import IO, Final

_RECORD: Final = struct.Struct(">16sQQ")
_FLUSH: Final = _RECORD.size * 1024


class IdIndex:
    """A 128-bit digest of every id with its place, spread over 256 buckets by its first byte.

    A bucket that is full goes to a temporary file (32 bytes an id), so at most 8 MiB are held in memory; at
    the end one bucket at a time is searched. 128 bits make a false alarm about as likely as a broken
    SHA-256.
    """

    def __init__(self) -> None:
        self._buckets: defaultdict[int, bytearray] = defaultdict(bytearray)
        self._chunks: defaultdict[int, list[int]] = defaultdict(list)
        self._file: IO[bytes] | None = None

    def __enter__(self) -> IdIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, name: bytes, line: int, seq: int) -> None:
        """Record that an id stands on this line, in the entry with this sequence number."""
        digest = blake2b(name, digest_size=16).digest()
        bucket = self._buckets[digest[0]]
        bucket += _RECORD.pack(digest, line, seq)
        if len(bucket) >= _FLUSH:
            self._spill(digest[0])

    def repeated(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield every id that came again: line and seq of the repetition, line and seq of the first."""
        for number, bucket in self._buckets.items():
            first: dict[bytes, tuple[int, int]] = {}
            for chunk in (*self._read(number), bytes(bucket)):
                for digest, line, seq in _RECORD.iter_unpack(chunk):
                    before = first.setdefault(digest, (line, seq))
                    if before != (line, seq):
                        yield (line, seq, *before)

    def _spill(self, number: int) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="abeyance-ids-")  # noqa: SIM115 - closed on exit
        self._chunks[number].append(self._file.seek(0, 2))
        self._file.write(self._buckets[number])
        self._buckets[number].clear()

    def _read(self, number: int) -> Iterator[bytes]:
        for offset in self._chunks[number]:
            assert self._file is not None
            self._file.seek(offset)
            yield self._file.read(_FLUSH)
