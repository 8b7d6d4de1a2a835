"""Cost of a call in processor time and memory, as growth with the size of its input."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.effort import counted

#: Cheaper calls are measured as this much: below it the clock shows other things than the input.
_FLOOR_S = 0.004


def seconds(call: Callable[[], object], rounds: int = 3) -> float:
    """Return the processor time of the fastest of some calls."""
    fastest = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        call()
        fastest = min(fastest, time.process_time() - start)
    return max(fastest, _FLOOR_S)


def growth(call: Callable[[bytes], object], grow: Callable[[int], bytes], size: int) -> float:
    """Return how many times as long four times the input takes: about 4 where time is linear, 16 where it is quadratic.

    Fewer parts are measured first, so that caches and imports are warm.
    """
    small, large = grow(size), grow(4 * size)
    call(small)
    return seconds(lambda: call(large)) / seconds(lambda: call(small))


def memory_growth(call: Callable[[bytes], object], grow: Callable[[int], bytes], size: int) -> float:
    """Return the bytes that Python holds at the peak of a call, as a multiple of the input's bytes."""
    data = grow(size)
    with counted() as effort:
        call(data)
    return effort.peak_bytes / len(data)
