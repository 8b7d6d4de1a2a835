"""The photos that wait, and how long they will take, as lines for the person who runs the system."""

from __future__ import annotations

from collections import deque
from typing import Final

#: Fewer photos than this are done before their line is read.
_MIN_PHOTOS: Final = 10
#: The rate is that of this time, so that it follows what the machine does now.
_WINDOW_S: Final = 30.0


class Backlog:
    """The backlog of photos, observed from time to time."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._announced = False

    def observe(self, now_s: float, waiting: int, done: int) -> str:
        """Return the line to show, empty for none.

        Parameters
        ----------
        now_s
            Seconds of a clock that does not go back.
        waiting
            Photos that wait for detection or are in it.
        done
            Photos that came out of detection since the start.
        """
        self._seen.append((now_s, done))
        while self._seen[0][0] < now_s - _WINDOW_S:
            self._seen.popleft()
        if waiting < _MIN_PHOTOS:
            ended, self._announced = self._announced and not waiting, self._announced and bool(waiting)
            return "No photo waits any more." if ended else ""
        self._announced = True
        since_s, before = self._seen[0]
        rate = (done - before) / (now_s - since_s) if now_s > since_s else 0.0
        if rate <= 0:
            return f"{waiting} photos wait."
        return f"{waiting} photos wait; at {rate:.1f} a second they take about {_duration(waiting / rate)}."


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
