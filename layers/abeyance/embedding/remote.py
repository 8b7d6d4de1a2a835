"""The embedder behind a wire: sends chips in requests, tries again, and checks whose templates come back."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from abeyance.embedding import npy
from abeyance.embedding.port import ChipsRefused, EmbedderUnavailable, WrongModel
from abeyance.vision.models.manifest import ModelEntry

#: Statuses below 500 after which the same request may succeed: too slow, too early, too many.
_RETRYABLE_STATUSES = frozenset({408, 425, 429})
#: Statuses that are about the body.
_REFUSAL_STATUSES = frozenset({400, 411, 413, 415, 422})


def is_retryable(status: int) -> bool:
    """Return True if the same request may succeed after a response of this HTTP status."""
    return status in _RETRYABLE_STATUSES or status >= 500


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Time limits and tries of a client.

    The tries are made here and not by urllib3 or botocore: both transports share them, SageMaker hides the container's
    status from botocore in an error that it does not retry, and a function has to answer for its batch in time.
    """

    connect_timeout_s: float = 1.0
    read_timeout_s: float = 10.0
    #: Tries of one request, the first included.
    attempts: int = 4
    #: No further try of a call begins after this.
    budget_s: float = 20.0
    #: Pause between tries: a random time up to ``base`` * 2 ** tries, at most ``cap`` ("full jitter").
    backoff_base_s: float = 0.1
    backoff_cap_s: float = 2.0
    chips_per_request: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.chips_per_request <= npy.MAX_CHIPS:
            raise ValueError(f"a request carries 1 to {npy.MAX_CHIPS} chips")


class EndpointResponse(NamedTuple):
    """A response of the container: its HTTP status, the identity of its model, its body."""

    status: int
    model: str
    body: bytes
    #: Seconds of its Retry-After; 0.0 if it gave none.
    retry_after: float = 0.0


class EndpointUnreachable(Exception):
    """No response of the container came. ``retryable`` is true if another try may help."""

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable


class Transport(Protocol):
    """A carrier of one request to an endpoint, without tries of its own."""

    def __call__(self, body: bytes) -> EndpointResponse:
        """Send ``body``; raises :class:`EndpointUnreachable` if no response of the container came."""
        ...


class RemoteEmbedder:
    """An :class:`~abeyance.embedding.port.Embedder` behind a wire. May be used from several threads at once.

    Parameters
    ----------
    entry
        The model that this deployment expects, from the manifest. Every response must name it.
    """

    def __init__(
        self,
        entry: ModelEntry,
        transport: Transport,
        policy: RetryPolicy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.identity = entry.identity
        self.dimension = entry.dimension
        self._transport = transport
        self._policy = policy or RetryPolicy()
        self._clock = clock
        self._sleep = sleep

    def embed(self, chips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Make the templates of aligned faces; see :meth:`abeyance.embedding.port.Embedder.embed`.

        Raises
        ------
        EmbedderUnavailable
            After the policy's tries.
        WrongModel
            If a response came from another model.
        ChipsRefused
            If the endpoint does not take the chips.
        ValueError
            For another shape or type.
        """
        if chips.ndim != 4 or chips.shape[1:] != npy.CHIP or chips.dtype != np.uint8:
            raise ValueError(f"expected (n, 112, 112, 3) uint8 chips, not {chips.shape} {chips.dtype}")
        deadline = self._clock() + self._policy.budget_s
        templates: NDArray[np.float32] = np.empty((len(chips), self.dimension), np.float32)
        for start in range(0, len(chips), self._policy.chips_per_request):
            part = slice(start, start + self._policy.chips_per_request)
            response = self._request(npy.encode(chips[part]), deadline)
            templates[part] = self._templates_of(response, len(chips[part]))
        return templates

    def _templates_of(self, response: EndpointResponse, count: int) -> NDArray[np.float32]:
        if response.model != self.identity:
            raise WrongModel(
                f"the endpoint serves {response.model or 'a model that it does not name'}, this deployment expects "
                f"{self.identity}; deploy the same ABEYANCE_EMBEDDER_MODEL on both sides",
                retry_after=60.0,
            )
        try:
            return npy.decode_templates(response.body, count, self.dimension)
        except npy.BadBody as error:
            raise EmbedderUnavailable(f"the endpoint's answer is unreadable: {error}") from error

    def _request(self, body: bytes, deadline: float) -> EndpointResponse:
        """Send one request, again while that may help; return the response with status 200."""
        tries = 0
        while True:
            tries += 1
            pause = random.uniform(
                0.0, min(self._policy.backoff_cap_s, self._policy.backoff_base_s * 2**tries)
            )
            cause: EndpointUnreachable | None = None
            try:
                response = self._transport(body)
            except EndpointUnreachable as error:
                problem, retryable, cause = str(error), error.retryable, error
            else:
                if response.status == 200:
                    return response
                problem, retryable = _judge(response)
                pause = max(pause, response.retry_after)
            if not retryable or tries >= self._policy.attempts or self._clock() + pause >= deadline:
                raise EmbedderUnavailable(problem, retry_after=max(1.0, pause)) from cause
            self._sleep(pause)


class _Refusal(msgspec.Struct):
    reason: str
    message: str


def _judge(response: EndpointResponse) -> tuple[str, bool]:
    """Return the problem of a response other than 200, and if it may pass by itself; raises :class:`ChipsRefused`."""
    reason, message = "", ""
    try:
        refusal = msgspec.json.decode(response.body, type=_Refusal)
        reason, message = refusal.reason, refusal.message
    except msgspec.MsgspecError:
        pass  # a load balancer's page, not ours
    if response.status in _REFUSAL_STATUSES and reason:
        raise ChipsRefused(reason, f"the embedding endpoint refuses the chips: {message}")
    if is_retryable(response.status):
        return f"the embedding endpoint answers {response.status} {reason}".rstrip(), True
    return f"there is no embedding endpoint at the configured address: it answers {response.status}", False
