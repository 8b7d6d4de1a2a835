"""Clients behind the port :class:`abeyance.vision.embedder.Embedder`: in this process, over HTTP, over SageMaker.

Whoever calls one sees templates, or one of three errors: :class:`EmbedderUnavailable` (nothing is wrong with the
chips: try later, and do not count it against the message), its kind :class:`WrongModel` (the endpoint serves another
model than this deployment expects), or :class:`ChipsRefused` (the same chips will be refused again).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from abeyance.pipeline import npy
from abeyance.vision.models.manifest import Manifest, ModelEntry, Role

if TYPE_CHECKING:
    from abeyance.vision.embedder import Embedder

#: Names that begin so are random weights for load tests; templates of theirs mean nothing.
LOAD_TEST_PREFIX = "loadtest-"


class EmbedderUnavailable(Exception):
    """The endpoint cannot answer now. Put the work back; it was not tried on the model.

    Attributes
    ----------
    retry_after
        Seconds after which another try is worth making.
    """

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class WrongModel(EmbedderUnavailable):
    """The endpoint serves another model than this deployment expects; its templates must not be mixed with ours."""


class ChipsRefused(ValueError):
    """The endpoint will not take these chips, now or later; ``reason`` is its machine-readable reason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How long a client tries, and when it stops trying. Times are in seconds.

    The whole of a call stays below ``budget``, so that a function answers for its batch before its own time is up.
    """

    connect_timeout: float = 1.0
    read_timeout: float = 10.0
    #: Tries of one request, the first included.
    attempts: int = 4
    #: No further try begins after this.
    budget: float = 20.0
    #: Between tries: a random time up to ``base`` * 2 ** tries, at most ``cap`` ("full jitter").
    base: float = 0.1
    cap: float = 2.0
    #: Requests in a row that failed after all their tries, until the circuit opens.
    failures: int = 3
    #: How long it stays open; then one request is let through to see.
    cooldown: float = 15.0
    #: Most chips of one request.
    chips: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.chips <= npy.MAX_CHIPS:
            raise ValueError(f"a request carries 1 to {npy.MAX_CHIPS} chips")


class Circuit:
    """Stops asking an endpoint that does not answer. One for each endpoint and process; safe in threads.

    closed --``failures`` in a row--> open --``cooldown`` later--> half open (one request) --> closed, or open again
    """

    def __init__(self, failures: int, cooldown: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._cooldown = cooldown
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._opened = 0.0
        self._trying = False

    def enter(self) -> None:
        """Before a request; raises :class:`EmbedderUnavailable` at once while the circuit is open."""
        with self._lock:
            if self._failures < self._limit:
                return
            left = self._opened + self._cooldown - self._clock()
            if left > 0 or self._trying:
                raise EmbedderUnavailable(
                    "the embedding endpoint has failed repeatedly and is left alone for now",
                    retry_after=max(left, 1.0),
                )
            self._trying = True

    def leave(self, *, answered: bool) -> None:
        """After a request: whether the endpoint answered it, be it with a refusal."""
        with self._lock:
            self._trying = False
            if answered:
                self._failures = 0
            else:
                self._failures += 1
                self._opened = self._clock()


class Answer(NamedTuple):
    """What an endpoint said: HTTP status as the container gave it, identity of its model, body."""

    status: int
    model: str
    body: bytes
    #: Seconds of its Retry-After; 0.0 if it gave none.
    retry_after: float = 0.0


class Transport(Protocol):
    """Carries one request to an endpoint."""

    def __call__(self, body: bytes) -> Answer:
        """Send ``body``; raises :class:`Unreachable` if no answer of the container came."""
        ...


class Unreachable(Exception):
    """No answer of the container came. ``again`` says whether another try may help."""

    def __init__(self, message: str, *, again: bool = True) -> None:
        super().__init__(message)
        self.again = again


class RemoteEmbedder:
    """An :class:`~abeyance.vision.embedder.Embedder` behind a wire. May be used from several threads at once.

    Parameters
    ----------
    entry
        The model that this deployment expects, from the manifest. Every answer must name it.
    transport
        See there.
    """

    def __init__(
        self,
        entry: ModelEntry,
        transport: Transport,
        policy: Policy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._identity = entry.identity
        self._dimension = entry.dimension
        self._transport = transport
        self._policy = policy or Policy()
        self._circuit = Circuit(self._policy.failures, self._policy.cooldown, clock)
        self._clock = clock
        self._sleep = sleep

    @property
    def identity(self) -> str:
        """``<name>@<12 hex digits>`` of the model that this deployment expects."""
        return self._identity

    @property
    def dimension(self) -> int:
        """Length of a template."""
        return self._dimension

    def embed(self, chips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Templates of aligned faces; see :meth:`abeyance.vision.embedder.Embedder.embed`.

        Raises
        ------
        EmbedderUnavailable
            At once while the circuit is open, else after the policy's tries.
        WrongModel
            If an answer came from another model.
        ChipsRefused
            If the endpoint does not take the chips.
        ValueError
            For other shapes or types.
        """
        if chips.ndim != 4 or chips.shape[1:] != npy.CHIP or chips.dtype != np.uint8:
            raise ValueError(f"expected (n, 112, 112, 3) uint8 chips, not {chips.shape} {chips.dtype}")
        deadline = self._clock() + self._policy.budget
        templates: NDArray[np.float32] = np.empty((len(chips), self._dimension), np.float32)
        for start in range(0, len(chips), self._policy.chips):
            part = slice(start, start + self._policy.chips)
            templates[part] = self._request(chips[part], deadline)
        return templates

    def _request(self, chips: NDArray[np.uint8], deadline: float) -> NDArray[np.float32]:
        self._circuit.enter()
        answered = False
        try:
            answer = self._ask(npy.encode(chips), deadline)
            answered = True
        except ChipsRefused:
            answered = True
            raise
        finally:
            self._circuit.leave(answered=answered)
        if answer.model != self._identity:
            raise WrongModel(
                f"the endpoint serves {answer.model or 'a model that it does not name'}, this deployment expects "
                f"{self._identity}; deploy the same ABEYANCE_EMBEDDER_MODEL on both sides",
                retry_after=60.0,
            )
        try:
            return npy.decode_templates(answer.body, len(chips), self._dimension)
        except npy.BadBody as error:
            raise EmbedderUnavailable(f"the endpoint's answer is unreadable: {error}") from error

    def _ask(self, body: bytes, deadline: float) -> Answer:
        """One request, tried again while that may help; the answer with status 200."""
        tries = 0
        while True:
            tries += 1
            pause = random.uniform(0.0, min(self._policy.cap, self._policy.base * 2**tries))
            cause: Unreachable | None = None
            try:
                answer = self._transport(body)
            except Unreachable as error:
                problem, again, cause = str(error), error.again, error
            else:
                if answer.status == 200:
                    return answer
                problem, again = _judge(answer), answer.status in _AGAIN or answer.status >= 500
                pause = max(pause, answer.retry_after)
            if not again or tries >= self._policy.attempts or self._clock() + pause >= deadline:
                raise EmbedderUnavailable(problem, retry_after=max(1.0, pause)) from cause
            self._sleep(pause)


#: Statuses below 500 after which the same request may succeed: too slow, too early, too many.
_AGAIN = frozenset({408, 425, 429})
#: Statuses that are about the body.
_REFUSALS = frozenset({400, 411, 413, 415, 422})


def _judge(answer: Answer) -> str:
    """What an answer other than 200 means; raises :class:`ChipsRefused`."""
    reason, message = "", ""
    try:
        said = msgspec.json.decode(answer.body, type=_Refusal)
        reason, message = said.reason, said.message
    except msgspec.MsgspecError:
        pass  # a load balancer's page, not ours
    if answer.status in _REFUSALS and reason:
        raise ChipsRefused(reason, f"the embedding endpoint refuses the chips: {message}")
    if answer.status in _AGAIN or answer.status >= 500:
        return f"the embedding endpoint answers {answer.status} {reason}".rstrip()
    return f"there is no embedding endpoint at the configured address: it answers {answer.status}"


class _Refusal(msgspec.Struct):
    reason: str
    message: str


class HttpTransport:
    """Straight to the container or through a load balancer (ECS). Keeps its connections.

    Parameters
    ----------
    url
        Of the service, ``http://...`` or ``https://...``; ``/invocations`` is added.
    """

    def __init__(self, url: str, policy: Policy | None = None) -> None:
        # The same HTTP library that botocore brings; it follows no proxy variables, and this is a private address.
        import urllib3

        policy = policy or Policy()
        self._url = url.rstrip("/") + "/invocations"
        self._pool = urllib3.PoolManager(
            maxsize=8,
            retries=False,
            timeout=urllib3.Timeout(connect=policy.connect_timeout, read=policy.read_timeout),
        )
        self._error = urllib3.exceptions.HTTPError

    def __call__(self, body: bytes) -> Answer:
        """See :class:`Transport`."""
        headers = {"Content-Type": npy.MEDIA_TYPE, "Accept": npy.MEDIA_TYPE}
        try:
            answer = self._pool.request("POST", self._url, body=body, headers=headers, redirect=False)
        except self._error as error:
            # Its text has the address in it; the kind says enough.
            raise Unreachable(f"the embedding endpoint cannot be reached: {type(error).__name__}") from error
        return Answer(
            answer.status,
            answer.headers.get(npy.MODEL_HEADER, ""),
            answer.data,
            _seconds(answer.headers.get("Retry-After", "")),
        )


#: SageMaker's own errors that pass by themselves; the rest (no such endpoint, no permission) do not.
_SAGEMAKER_AGAIN = frozenset(
    {
        "InternalDependencyException",
        "InternalFailure",
        "ModelNotReadyException",
        "RequestTimeout",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)


class SageMakerTransport:
    """Through SageMaker's InvokeEndpoint.

    Parameters
    ----------
    client
        A ``sagemaker-runtime`` client. Give it no retries of its own (``total_max_attempts`` 1) and the policy's
        time-outs: the tries are made here, where the container's own status is known.
    endpoint
        Name of the endpoint, or ``<endpoint>/<inference component>``.
    """

    def __init__(self, client: Any, endpoint: str) -> None:
        self._client = client
        name, _, component = endpoint.partition("/")
        self._where = {"EndpointName": name, **({"InferenceComponentName": component} if component else {})}

    def __call__(self, body: bytes) -> Answer:
        """See :class:`Transport`."""
        try:
            answer = self._client.invoke_endpoint(
                **self._where, Body=body, ContentType=npy.MEDIA_TYPE, Accept=npy.MEDIA_TYPE
            )
            # SageMaker hands on no other header of the container's answer.
            return Answer(200, answer.get("CustomAttributes", ""), answer["Body"].read())
        except self._client.exceptions.ModelError as error:
            # 424: the container answered with another status than 200, or not at all (then there is none).
            response: Mapping[str, Any] = error.response
            status = int(response.get("OriginalStatusCode") or 500)
            return Answer(status, "", str(response.get("OriginalMessage", "")).encode())
        except self._client.exceptions.ClientError as error:
            code = error.response["Error"]["Code"]
            again = code in _SAGEMAKER_AGAIN or error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500
            raise Unreachable(f"SageMaker answers {code}", again=again) from error
        except Exception as error:
            # No connection, no answer in time, no credentials. Rooms do not import botocore, hence by name.
            kinds = {kind.__name__ for kind in type(error).__mro__}
            if "BotoCoreError" not in kinds or "ParamValidationError" in kinds:
                raise
            raise Unreachable(f"SageMaker cannot be reached: {type(error).__name__}") from error


def embedder_from(
    setting: str,
    model: str,
    models: str = "",
    *,
    manifest: Manifest | None = None,
    policy: Policy | None = None,
    sagemaker_runtime: Callable[[], Any] | None = None,
    verify: bool = True,
) -> Embedder:
    """The embedder that the settings ask for. Imports and opens only what that one needs.

    Parameters
    ----------
    setting
        ``local``, ``http:<url>`` (``http://...`` and ``https://...`` alone are understood too) or
        ``sagemaker:<endpoint name>``.
    model
        Name in the manifest: what runs here, or what the endpoint must say that it serves.
    models
        Directory of the models; for ``local`` only.
    sagemaker_runtime
        Makes the client; see :class:`SageMakerTransport`.
    verify
        Whether a local model is compared with its checksum.

    Raises
    ------
    ValueError
        If the setting is none of these, or the model is one for load tests.
    ModelError
        If the manifest has no such embedder, or a local one cannot be opened.
    """
    if model.startswith(LOAD_TEST_PREFIX):
        raise ValueError(f"{model} has random weights: it is for load tests, and its templates mean nothing")
    if setting == "local":
        from abeyance.vision.models.store import load_embedder

        return load_embedder(model, models, manifest=manifest, verify=verify)
    entry = (manifest or Manifest.load())[model]
    if entry.role is not Role.EMBEDDER:
        raise ValueError(f"ABEYANCE_EMBEDDER_MODEL must name an embedder; {model} is for {entry.role}")
    kind, _, rest = setting.partition(":")
    if kind == "sagemaker" and rest and sagemaker_runtime:
        return RemoteEmbedder(entry, SageMakerTransport(sagemaker_runtime(), rest), policy)
    url = setting if rest.startswith("//") else rest
    if kind in ("http", "https") and url.startswith(("http://", "https://")):
        return RemoteEmbedder(entry, HttpTransport(url, policy), policy)
    raise ValueError(f"ABEYANCE_EMBEDDER={setting}: expected local, http:<url> or sagemaker:<endpoint name>")


def _seconds(text: str) -> float:
    """Seconds of a Retry-After header; 0.0 if there is none or it is a date."""
    return float(text) if text.isascii() and text.isdigit() else 0.0
