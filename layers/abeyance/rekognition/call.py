"""A request, its grant, its timings and its answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from abeyance.gallery.model import CollectionRef
from abeyance.moratorium.decide import Decision


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request as it arrives over HTTP."""

    #: Value of the header X-Amz-Target.
    target: str
    body: bytes
    #: IAM ARN, or locally the access key id; empty if the caller is unknown.
    principal: str
    #: Identifies the request on the ledger and in the answer.
    id: str
    #: Purpose of the request, ``lower_snake``.
    purpose: str
    #: Number of the authorisation that the caller names; empty for none.
    authorization: str = ""
    account: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request as it was sent: header names in lower case, the query decoded, the path as in the request line."""

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A response as it goes back over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Grant:
    """A tenant's permission, and the conditions that flags put on it."""

    tenant: str
    decisions: tuple[Decision, ...] = ()
    #: Id under which the request used an authorisation, if it needed one.
    search: str = ""

    @property
    def min_similarity(self) -> float:
        """Lowest similarity, 0 to 100, that an answer may hold; 0 where no flag sets one."""
        return max((d.min_similarity for d in self.decisions if d.min_similarity is not None), default=0.0)

    @property
    def reviewers(self) -> int:
        """Number of reviewers of each match before the caller sees it."""
        return max((decision.human_review for decision in self.decisions), default=0)

    @property
    def flags(self) -> tuple[str, ...]:
        """Keys of the flags that restrict, sorted."""
        return tuple(
            sorted({part.key for d in self.decisions for part in d.flags if part.clause == "restricts"})
        )


class Timings:
    """Time spent in each part of a request, for the header Server-Timing."""

    def __init__(self) -> None:
        self._spent_s: dict[str, float] = {}
        self._started = time.perf_counter()

    @contextlib.contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the time of the block to ``part``."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._spent_s[part] = self._spent_s.get(part, 0.0) + time.perf_counter() - started

    def header(self) -> str:
        """Return the header's value (W3C Server-Timing), in milliseconds: ``detect;dur=12.3, total;dur=40.1``."""
        spent_s = {**self._spent_s, "total": time.perf_counter() - self._started}
        return ", ".join(f"{part};dur={1000 * seconds:.1f}" for part, seconds in spent_s.items())


@dataclass(slots=True)
class Call:
    """A permitted request with valid parameters."""

    request: ApiRequest
    params: Mapping[str, Any]
    grant: Grant
    timings: Timings
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def ref(self) -> CollectionRef:
        """Collection that the request names, one of the tenant's own."""
        return CollectionRef(self.grant.tenant, self.params["CollectionId"])

    def threshold(self, name: str, default: float) -> float:
        """Return the similarity, 0 to 100, that matches must reach: the higher of the request's and the flags'."""
        asked = float(self.params.get(name, default))
        least = self.grant.min_similarity
        if least > asked:
            self.headers["x-abeyance-similarity-threshold"] = f"{least:g}"
        return max(asked, least)
