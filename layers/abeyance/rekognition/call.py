"""One request on its way through an operation: who asks for what, under which conditions, and what took how long."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from abeyance.gallery.model import CollectionRef
from abeyance.moratorium.decide import Decision


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrives, from whatever carries HTTP."""

    #: Value of the header X-Amz-Target.
    target: str
    body: bytes
    #: IAM ARN, or locally the access key id; empty if the caller is unknown.
    principal: str
    #: Names the request in the ledger and in the answer.
    id: str
    #: Why it is asked, ``lower_snake``.
    purpose: str
    account: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Grant:
    """That the tenant may, and under which conditions."""

    tenant: str
    decisions: tuple[Decision, ...] = ()

    @property
    def min_similarity(self) -> float:
        """Lowest similarity, 0 to 100, that an answer may hold; 0 where no flag asks for one."""
        return max((d.min_similarity for d in self.decisions if d.min_similarity is not None), default=0.0)

    @property
    def reviewers(self) -> int:
        """People who must look at each match before the caller sees it."""
        return max((decision.human_review for decision in self.decisions), default=0)

    @property
    def flags(self) -> tuple[str, ...]:
        """Keys of the flags that restrict."""
        return tuple(
            sorted({part.key for d in self.decisions for part in d.flags if part.clause == "restricts"})
        )


class Timings:
    """Milliseconds spent in each part of a request, for the header Server-Timing."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}
        self._began = time.perf_counter()

    @contextlib.contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the time of the block to ``part``."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._spent[part] = self._spent.get(part, 0.0) + time.perf_counter() - began

    def header(self) -> str:
        """As in W3C Server-Timing: ``detect;dur=12.3, total;dur=40.1``."""
        spent = {**self._spent, "total": time.perf_counter() - self._began}
        return ", ".join(f"{part};dur={1000 * seconds:.1f}" for part, seconds in spent.items())


@dataclass(slots=True)
class Call:
    """A request whose parameters are valid and whose caller may make it."""

    request: Request
    params: Mapping[str, Any]
    grant: Grant
    timings: Timings
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def ref(self) -> CollectionRef:
        """The tenant's collection that the request names."""
        return CollectionRef(self.grant.tenant, self.params["CollectionId"])

    def threshold(self, name: str, default: float) -> float:
        """The similarity that an answer must reach: what was asked for, or what a flag demands if that is more."""
        asked = float(self.params.get(name, default))
        least = self.grant.min_similarity
        if least > asked:
            self.headers["x-abeyance-similarity-threshold"] = f"{least:g}"
        return max(asked, least)
