"""Faults of a simulated AWS: a process that dies before or after a call, a timeout after the write, throttling."""

from __future__ import annotations

import contextlib
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from botocore.exceptions import ClientError, ReadTimeoutError

ROOT = Path(__file__).parents[2]
_PRODUCT = str(ROOT / "layers" / "abeyance")
#: The plumbing that every adapter shares: a call belongs to the adapter or stage that uses it.
_PLUMBING = str(ROOT / "layers" / "abeyance" / "aws")


class Died(BaseException):
    """The end of the process. Like a kill, no ``except Exception`` of the product sees it."""


class CallSite(NamedTuple):
    """A place in the product that calls AWS: the unit that runs, the operation, and where it is called."""

    unit: str
    operation: str
    place: str

    def __str__(self) -> str:
        return f"{self.unit}: {self.operation} at {self.place}"


@dataclass
class Faults:
    """Which calls go wrong. Rates are per call; ``at`` names one call by its number and what happens to it."""

    random: random.Random
    death: float = 0.0
    timeout: float = 0.0
    throttle: float = 0.0
    #: A service that is throttled most of the time.
    weak_service: str = ""
    #: Call sites that died ("before", "after").
    deaths: Counter[tuple[CallSite, str]] = field(default_factory=Counter)
    #: Calls of each site, and those of them that might have failed.
    seen: Counter[CallSite] = field(default_factory=Counter)
    exposed: Counter[CallSite] = field(default_factory=Counter)
    #: Decides about sites that died rarely so far, so that every site gets its deaths.
    wanted: Callable[[CallSite], str] = lambda site: ""
    #: Calls of each service that failed and did not end the process.
    failed: Counter[str] = field(default_factory=Counter)
    #: Lets another invocation happen in the middle of this one, now and then.
    interleave: Callable[[], None] = lambda: None
    interleaving: float = 0.0
    #: True during that other invocation.
    nested: bool = False
    active: bool = True
    unit: str = ""
    died: int = 0
    #: The call of this process, counted from now, at which it dies for certain, and when; 0 for none.
    _dies_at: int = 0
    _dies_when: str = ""
    #: The place whose next call the process dies at for certain, as the end of its name; empty for none.
    _dies_in: str = ""
    #: The call of this process, counted from now, before which something happens for certain, and what; 0 for none.
    _overtaken_at: int = 0
    _overtaking: Callable[[], None] = lambda: None

    def call(self, service: str, operation: str, run: Callable[[], Any]) -> Any:
        """Run one call of the product, with what goes wrong with it."""
        site = CallSite(self.unit, f"{service}.{operation}", _caller())
        if self.unit:
            self.seen[site] += 1
        if not self.active or not self.unit:
            return run()
        self.exposed[site] += 1
        if not self.nested:
            self._overtaken_at -= 1
            if self._overtaken_at == 0:
                self._interleave(self._overtaking)
            elif self.random.random() < self.interleaving:
                self._interleave(self.interleave)
        fate = self._certain(site) or self.wanted(site) or self._fate()
        if fate == "before":
            self._die(site, fate)
        if service == self.weak_service and not fate and self.random.random() < 0.6:
            fate = "throttle"
        if fate == "throttle":
            self.failed[service] += 1
            raise ClientError(
                {"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}, operation
            )
        answer = run()
        if fate == "after":
            self._die(site, fate)
        if fate == "timeout":
            self.failed[service] += 1
            raise ReadTimeoutError(endpoint_url=f"https://{service}.simulated")
        return answer

    @contextlib.contextmanager
    def certain_death(self, call: int, when: str) -> Iterator[None]:
        """Let the process die at the n-th of its next calls, if it makes as many."""
        self._dies_at, self._dies_when = call, when
        try:
            yield
        finally:
            self._dies_at = 0

    @contextlib.contextmanager
    def certain_death_in(self, place: str, when: str) -> Iterator[None]:
        """Let the process die at its next call in a place, such as ``collections.py:unlist``, if it makes one."""
        self._dies_in, self._dies_when = place, when
        try:
            yield
        finally:
            self._dies_in = ""

    def _certain(self, site: CallSite) -> str:
        if not self.nested and self._dies_in and site.place.endswith(self._dies_in):
            self._dies_in = ""
            return self._dies_when
        if self.nested or not self._dies_at:
            return ""
        self._dies_at -= 1
        return "" if self._dies_at else self._dies_when

    @contextlib.contextmanager
    def certain_overtaking(self, call: int, happens: Callable[[], None]) -> Iterator[None]:
        """Let something happen before the n-th of the process's next calls, if it makes as many."""
        self._overtaken_at, self._overtaking = call, happens
        try:
            yield
        finally:
            self._overtaken_at = 0

    def _interleave(self, happens: Callable[[], None]) -> None:
        unit, self.nested = self.unit, True
        try:
            happens()
        finally:
            self.unit, self.nested = unit, False

    def _fate(self) -> str:
        drawn = self.random.random()
        for name, rate in (
            ("before", self.death),
            ("after", self.death),
            ("timeout", self.timeout),
            ("throttle", self.throttle),
        ):
            if drawn < rate:
                return name
            drawn -= rate
        return ""

    def _die(self, site: CallSite, when: str) -> None:
        self.deaths[site, when] += 1
        self.died += 1
        raise Died(f"{when} {site}")


def _caller() -> str:
    """Return ``file:function`` of the innermost frame of the product outside the shared plumbing."""
    frame = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(_PRODUCT) and not path.startswith(_PLUMBING):
            name = frame.f_code.co_name
            if not name.startswith("<"):
                return f"{path[len(_PRODUCT) + 1 :]}:{name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "?"
