"""One virtual clock for everything in the process, and randomness that a seed replays."""

from __future__ import annotations

import contextlib
import inspect
import random
import secrets
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from unittest import mock

from abeyance.aws import timestamps

#: 2026-01-01T00:00:00Z, epoch seconds.
START_S = 1_767_225_600.0


class VirtualClock:
    """The time of a simulation, in epoch seconds. It moves only when it is told to, and a little at every look."""

    def __init__(self) -> None:
        self.now_s = START_S
        #: Seconds by which the clocks of functions are ahead of the true time.
        self.skew_s = 0.0

    def reset(self) -> None:
        """Begin again."""
        self.now_s = START_S
        self.skew_s = 0.0

    def advance(self, seconds: float) -> None:
        """Let time go by."""
        self.now_s += seconds

    def time(self) -> float:
        """Return epoch seconds as a function's clock shows them; no two looks see the same moment."""
        self.now_s += 1e-4
        return self.now_s + self.skew_s

    def monotonic(self) -> float:
        """Return seconds of a clock that never jumps."""
        self.now_s += 1e-4
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Let the time go by that somebody sleeps."""
        self.now_s += max(0.0, seconds)

    def utc(self) -> datetime:
        """Return the moment, aware."""
        return datetime.fromtimestamp(self.time(), UTC)


class _Datetime:
    """The ``datetime`` that :mod:`abeyance.aws.timestamps` reads the clock through."""

    max = datetime.max  # noqa: DTZ901 - the product's own use gives it its zone
    fromisoformat = datetime.fromisoformat

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def now(self, zone: Any = None) -> datetime:
        return self._clock.utc()


#: What product code takes as default arguments, by what stands in for it here.
_REAL: dict[Any, str] = {time.time: "time", time.sleep: "sleep", time.monotonic: "monotonic"}


def _constructors() -> Iterator[Any]:
    for name, module in list(sys.modules.items()):
        if name.startswith("abeyance.") and module is not None:
            for value in vars(module).values():
                if inspect.isclass(value) and value.__module__ == name and "__init__" in vars(value):
                    yield vars(value)["__init__"]


@contextlib.contextmanager
def virtual_defaults(clock: VirtualClock) -> Iterator[None]:
    """Let constructors of the product that take a clock or a sleep by default take the virtual ones."""
    undo: list[Callable[[], None]] = []
    for init in _constructors():
        if not inspect.isfunction(init):
            continue
        if init.__defaults__ and any(_known(value) for value in init.__defaults__):
            undo.append(lambda init=init, old=init.__defaults__: setattr(init, "__defaults__", old))
            init.__defaults__ = tuple(_virtual(value, clock) for value in init.__defaults__)
        if init.__kwdefaults__ and any(_known(value) for value in init.__kwdefaults__.values()):
            undo.append(lambda init=init, old=dict(init.__kwdefaults__): setattr(init, "__kwdefaults__", old))
            init.__kwdefaults__ = {n: _virtual(value, clock) for n, value in init.__kwdefaults__.items()}
    try:
        yield
    finally:
        for step in undo:
            step()


def _known(value: Any) -> bool:
    try:
        return value in _REAL
    except TypeError:
        return False


def _virtual(value: Any, clock: VirtualClock) -> Any:
    return getattr(clock, _REAL[value]) if _known(value) else value


@contextlib.contextmanager
def deterministic(clock: VirtualClock, chance: random.Random) -> Iterator[None]:
    """Take time from ``clock`` and randomness from ``chance``, everywhere in this process."""

    def token(nbytes: int | None = None) -> str:
        return chance.randbytes(nbytes or 32).hex()

    with (
        mock.patch.object(timestamps, "datetime", _Datetime(clock)),
        mock.patch.object(time, "time", clock.time),
        mock.patch.object(time, "monotonic", clock.monotonic),
        mock.patch.object(time, "sleep", clock.sleep),
        mock.patch.object(uuid, "uuid4", lambda: uuid.UUID(bytes=chance.randbytes(16), version=4)),
        mock.patch.object(secrets, "token_hex", token),
        mock.patch.object(random, "uniform", chance.uniform),
        virtual_defaults(clock),
    ):
        yield
