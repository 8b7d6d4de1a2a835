"""Effort in units that no other process on the machine changes: calls and bytes, not seconds."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Effort:
    """Calls of functions in Python and in C, and the most bytes that Python's allocator held beyond the start."""

    calls: int = 0
    peak_bytes: int = 0


@contextmanager
def counted() -> Iterator[Effort]:
    """Count the effort of this thread inside the ``with`` statement; read it afterwards."""
    effort = Effort()

    def count(frame: FrameType, event: str, argument: object) -> None:
        effort.calls += event in ("call", "c_call")

    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    sys.setprofile(count)
    try:
        yield effort
    finally:
        sys.setprofile(None)
        effort.peak_bytes = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
