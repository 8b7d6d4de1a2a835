"""A file-like object over ranged reads, so that a container is opened without downloading the whole of it."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

#: Bytes of one range.
BLOCK_BYTES: Final = 1024 * 1024
#: Ranges that stay in memory.
MAX_BLOCKS: Final = 16


class RangeFile(io.RawIOBase):
    """A read-only, seekable file, read in blocks of :data:`BLOCK_BYTES`; the latest :data:`MAX_BLOCKS` are kept.

    Parameters
    ----------
    read
        Returns the bytes from a first to a last offset, both included.
    size
        Bytes of the whole file.

    Attributes
    ----------
    fault
        The exception that ``read`` raised, if it did. FFmpeg turns it into an error of its own.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        super().__init__()
        self._read = read
        self._size = size
        self._place = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self.fault: Exception | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes, those up to the end of a block; all that is left for -1."""
        if size < 0:
            return self.readall()
        if self._place >= self._size or not size:
            return b""
        number, start = divmod(self._place, BLOCK_BYTES)
        data = self._block(number)[start : start + size]
        self._place += len(data)
        return data

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        first = number * BLOCK_BYTES
        try:
            block = self._read(first, min(first + BLOCK_BYTES, self._size) - 1)
        except Exception as error:
            self.fault = error
            raise
        self._blocks[number] = block
        if len(self._blocks) > MAX_BLOCKS:
            self._blocks.popitem(last=False)
        return block
