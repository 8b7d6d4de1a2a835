"""The checkpoints of a period: by size, and by date as a convenience."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from abeyance.aws.timestamps import rfc3339
from abeyance.ledger.checkpoint import CHECKPOINTS, checkpoint_key
from abeyance.ledger.objects import LogObjects
from abeyance.ledger.reading import LogReader

#: Steps back in which an earlier checkpoint is looked for, in entries.
_STEPS: Final = (1_000, 100_000, 10_000_000)


def size_before(objects: LogObjects, size: int, moment: datetime) -> int:
    """Return the size of the last checkpoint before which every entry is older than a moment; 0 if there is none.

    Parameters
    ----------
    objects
        The log.
    size
        Of its latest checkpoint.
    moment
        With a time zone.
    """
    index = _first_index(objects, size, moment)
    for step in (*_STEPS, index):
        found = list(_sizes(objects, max(0, index - step), index + 1))
        if found:
            return found[-1]
    return 0


def size_after(objects: LogObjects, size: int, moment: datetime) -> int:
    """Return the size of the first checkpoint that has every entry before a moment, or else ``size``, the latest.

    An entry that came late can be older than the moment and lie behind that checkpoint.
    """
    return next(_sizes(objects, _first_index(objects, size, moment), size), size)


def _first_index(objects: LogObjects, size: int, moment: datetime) -> int:
    """Return the index of the first entry that is not older than a moment."""
    reader, time = LogReader(objects, size), rfc3339(moment, "microseconds")
    start = reader.first_since(time)
    return next((one.index for one in reader.entries(start) if one.time >= time), size)


def _sizes(objects: LogObjects, start: int, stop: int) -> Iterator[int]:
    """Yield the sizes of checkpoints from ``start`` on, before ``stop``."""
    for key in objects.keys(f"{CHECKPOINTS}/", checkpoint_key(start - 1) if start else ""):
        number = int(key.rpartition("/")[2])
        if number >= stop:
            return
        yield number
