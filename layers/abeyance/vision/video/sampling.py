"""The choice of frames in which faces are looked for: at least every half second, more at motion, and at every cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

#: Longest time between two samples.
MAX_STEP_MS: Final = 500
#: Time between two samples while there is motion.
MOTION_STEP_MS: Final = 250
#: Mean change of brightness, 0 to 255, since the last sample: from here on there is motion.
_MOTION: Final = 6.0
#: Mean change from one frame to the next, and share of the grid that changed by more than 20: from here on it is a cut.
_CUT: Final = 18.0
_CUT_SHARE: Final = 0.35
_CHANGED: Final = 20
#: Samples of a segment of 30 s; those that motion asks for are left out from there on, so that a shaken camera costs
#: no more than half as much again as a still one.
_MAX_MOTION_SAMPLES: Final = 90


class Frame(Protocol):
    """A frame, before it is converted to pixels."""

    @property
    def time_ms(self) -> int: ...

    def brightness(self) -> NDArray[np.int16]: ...

    def pixels(self) -> NDArray[np.uint8]: ...


class SampledFrame(NamedTuple):
    """A frame to look for faces in, and whether a cut lies between it and the sample before."""

    frame: Any
    is_cut: bool


def sample(frames: Iterable[Frame]) -> Iterator[SampledFrame]:
    """Yield the frames of a segment in which faces are looked for."""
    taken = 0
    last_ms: int | None = None
    sampled: NDArray[np.int16] | None = None
    before: NDArray[np.int16] | None = None
    for frame in frames:
        grid = frame.brightness()
        cut = before is None or before.shape != grid.shape or _is_cut(before, grid)
        before = grid
        if last_ms is not None and not cut:
            waited = frame.time_ms - last_ms
            moved = (
                waited >= MOTION_STEP_MS
                and taken < _MAX_MOTION_SAMPLES
                and sampled is not None
                and float(np.abs(grid - sampled).mean()) >= _MOTION
            )
            # Frames come at their own times: the next one may lie beyond the longest step.
            if waited < MAX_STEP_MS * 0.9 and not moved:
                continue
        taken += 1
        last_ms, sampled = frame.time_ms, grid
        yield SampledFrame(frame, cut)


def _is_cut(before: NDArray[np.int16], after: NDArray[np.int16]) -> bool:
    change = np.abs(after - before)
    return float(change.mean()) >= _CUT and float((change > _CHANGED).mean()) >= _CUT_SHARE
