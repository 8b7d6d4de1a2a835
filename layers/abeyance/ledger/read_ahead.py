"""Reading several objects at a time, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

_T = TypeVar("_T")
_R = TypeVar("_R")


def read_ahead(load: Callable[[_T], _R], items: Iterable[_T], readers: int) -> Iterator[_R]:
    """Yield ``load`` of every item, in order, with up to ``readers`` of them under way at once."""
    if readers <= 1:
        yield from map(load, items)
        return
    from concurrent.futures import ThreadPoolExecutor  # 2 MB of memory that a reader of a disk does without

    waiting: deque[Future[_R]] = deque()
    with ThreadPoolExecutor(readers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(load, item))
                if len(waiting) > readers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for left in waiting:
                left.cancel()
