"""The client side: tries, identity, and the meaning of each response."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from abeyance.embedding import npy
from abeyance.embedding.port import ChipsRefused, EmbedderUnavailable, WrongModel
from abeyance.embedding.remote import EndpointResponse, EndpointUnreachable, RemoteEmbedder, RetryPolicy
from abeyance.embedding.selection import embedder_from
from abeyance.vision.models.manifest import Manifest, ModelEntry

CHIPS = np.zeros((2, 112, 112, 3), np.uint8)


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Wire:
    """A transport that says what it was told to say, then embeds for ever."""

    def __init__(self, entry: ModelEntry, *says: EndpointResponse | Exception) -> None:
        self.entry = entry
        self.says: Iterator[EndpointResponse | Exception] = iter(says)
        self.requests: list[int] = []

    def __call__(self, body: bytes) -> EndpointResponse:
        count = len(npy.decode_chips(body))
        self.requests.append(count)
        said = next(self.says, None)
        if isinstance(said, Exception):
            raise said
        return said or EndpointResponse(
            200, self.entry.identity, npy.encode(np.ones((count, 32), np.float32))
        )


def refusal(status: int, reason: str, retry_after: float = 0.0) -> EndpointResponse:
    return EndpointResponse(status, "", msgspec.json.encode({"reason": reason, "message": "no"}), retry_after)


def remote(wire: Wire, **policy: Any) -> tuple[RemoteEmbedder, Clock]:
    clock = Clock()
    return RemoteEmbedder(wire.entry, wire, RetryPolicy(**policy), clock=clock, sleep=clock.sleep), clock


PAGE = b"<html>Bad gateway</html>"


@pytest.mark.parametrize(
    "says",
    [
        EndpointUnreachable("no connection"),
        refusal(429, "OVERLOADED"),
        refusal(408, "SLOW_BODY"),
        refusal(500, "MODEL_FAILED"),
        refusal(503, "NOT_READY"),
        EndpointResponse(502, "", PAGE),
        EndpointResponse(503, "", PAGE),
        EndpointResponse(504, "", PAGE),
    ],
)
def test_a_temporary_failure_is_retried(tiny: ModelEntry, says: EndpointResponse | Exception) -> None:
    wire = Wire(tiny, says, says)
    embedder, clock = remote(wire)
    assert embedder.embed(CHIPS).shape == (2, 32)
    assert wire.requests == [2, 2, 2]
    assert len(clock.slept) == 2


@pytest.mark.parametrize(("status", "reason"), [(400, "BAD_SHAPE"), (413, "TOO_LARGE"), (415, "MEDIA_TYPE")])
def test_a_refusal_is_not_retried(tiny: ModelEntry, status: int, reason: str) -> None:
    wire = Wire(tiny, refusal(status, reason))
    embedder, _ = remote(wire)
    with pytest.raises(ChipsRefused) as refused:
        embedder.embed(CHIPS)
    assert refused.value.reason == reason
    assert wire.requests == [2]
    assert embedder.embed(CHIPS).shape == (2, 32)


@pytest.mark.parametrize(
    "says",
    [
        EndpointResponse(404, "", PAGE),
        EndpointResponse(403, "", b""),
        EndpointResponse(301, "", b""),
        EndpointUnreachable("no right", retryable=False),
    ],
)
def test_a_wrong_address_is_not_retried(tiny: ModelEntry, says: EndpointResponse | Exception) -> None:
    wire = Wire(tiny, says)
    embedder, _ = remote(wire)
    with pytest.raises(EmbedderUnavailable):
        embedder.embed(CHIPS)
    assert wire.requests == [2]


def test_retry_after_is_respected_and_reported(tiny: ModelEntry) -> None:
    embedder, clock = remote(Wire(tiny, refusal(429, "OVERLOADED", 3.0)))
    embedder.embed(CHIPS)
    assert clock.slept == [3.0]
    embedder, clock = remote(Wire(tiny, refusal(429, "OVERLOADED", 30.0)))
    with pytest.raises(EmbedderUnavailable) as unavailable:
        embedder.embed(CHIPS)
    assert unavailable.value.retry_after == 30.0
    assert clock.slept == []


def test_tries_stay_below_the_budget_and_are_jittered(tiny: ModelEntry) -> None:
    wire = Wire(tiny, *[EndpointUnreachable("no")] * 100)
    embedder, clock = remote(wire, attempts=50, budget_s=5.0, backoff_base_s=0.5, backoff_cap_s=2.0)
    with pytest.raises(EmbedderUnavailable):
        embedder.embed(CHIPS)
    assert sum(clock.slept) < 5.0
    assert len(set(clock.slept)) == len(clock.slept) > 1
    assert all(0 <= pause <= 2.0 for pause in clock.slept)


def test_every_call_asks_anew_after_an_outage(tiny: ModelEntry) -> None:
    wire = Wire(tiny, *[EndpointUnreachable("no")] * 6)
    embedder, _ = remote(wire, attempts=2)
    for _ in range(3):
        with pytest.raises(EmbedderUnavailable):
            embedder.embed(CHIPS)
    assert len(wire.requests) == 6
    assert embedder.embed(CHIPS).shape == (2, 32)


@pytest.mark.parametrize("model", ["", "other@000000000000"])
def test_templates_of_another_model_never_get_through(tiny: ModelEntry, model: str) -> None:
    wire = Wire(tiny, EndpointResponse(200, model, npy.encode(np.ones((2, 32), np.float32))))
    embedder, _ = remote(wire)
    with pytest.raises(WrongModel, match=tiny.identity):
        embedder.embed(CHIPS)
    assert wire.requests == [2]


def test_an_unreadable_answer_is_no_template(tiny: ModelEntry) -> None:
    for body in (b"", npy.encode(np.ones((1, 32), np.float32)), npy.encode(np.ones((2, 32)))):
        embedder, _ = remote(Wire(tiny, EndpointResponse(200, tiny.identity, body)))
        with pytest.raises(EmbedderUnavailable):
            embedder.embed(CHIPS)


def test_many_chips_are_several_requests(tiny: ModelEntry) -> None:
    wire = Wire(tiny)
    embedder, _ = remote(wire, chips_per_request=64)
    assert embedder.embed(np.zeros((150, 112, 112, 3), np.uint8)).shape == (150, 32)
    assert wire.requests == [64, 64, 22]
    assert embedder.embed(CHIPS[:0]).shape == (0, 32)
    assert wire.requests == [64, 64, 22]


def test_other_shapes_and_types_are_refused(tiny: ModelEntry) -> None:
    embedder, _ = remote(Wire(tiny))
    for bad in (CHIPS[0], CHIPS.astype(np.float32), CHIPS[:, :96]):
        with pytest.raises(ValueError, match="chips"):
            embedder.embed(bad)
    with pytest.raises(ValueError, match="1 to 128"):
        RetryPolicy(chips_per_request=129)


def test_the_setting_selects_the_client() -> None:
    name = "sface-2021dec"
    expected = Manifest.load()[name].identity
    for setting in ("http:http://10.0.0.1:8080", "http://10.0.0.1:8080", "https://embedder.internal"):
        assert embedder_from(setting, name).identity == expected
    assert embedder_from("sagemaker:faces", name, sagemaker_runtime=object).identity == expected
    for setting in ("", "http:", "ftp://x", "sagemaker:", "remote", "http:file:///etc/passwd"):
        with pytest.raises(ValueError, match="ABEYANCE_EMBEDDER="):
            embedder_from(setting, name, sagemaker_runtime=object)
    with pytest.raises(ValueError, match="embedder"):
        embedder_from("http://10.0.0.1", "yunet-2023mar")


def test_random_weights_are_for_load_tests_only(tiny_environment: ModelEntry) -> None:
    for setting in ("local", "http://10.0.0.1"):
        with pytest.raises(ValueError, match="random weights"):
            embedder_from(setting, tiny_environment.name)
