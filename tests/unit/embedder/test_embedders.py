"""The client side: tries, circuit, identity, and what each answer means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from abeyance.pipeline import npy
from abeyance.pipeline.embedders import (
    Answer,
    ChipsRefused,
    Circuit,
    EmbedderUnavailable,
    Policy,
    RemoteEmbedder,
    Unreachable,
    WrongModel,
    embedder_from,
)
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

    def __init__(self, entry: ModelEntry, *says: Answer | Exception) -> None:
        self.entry = entry
        self.says: Iterator[Answer | Exception] = iter(says)
        self.requests: list[int] = []

    def __call__(self, body: bytes) -> Answer:
        count = len(npy.decode_chips(body))
        self.requests.append(count)
        said = next(self.says, None)
        if isinstance(said, Exception):
            raise said
        return said or Answer(200, self.entry.identity, npy.encode(np.ones((count, 32), np.float32)))


def refusal(status: int, reason: str, retry_after: float = 0.0) -> Answer:
    return Answer(status, "", msgspec.json.encode({"reason": reason, "message": "no"}), retry_after)


def remote(wire: Wire, **policy: Any) -> tuple[RemoteEmbedder, Clock]:
    clock = Clock()
    return RemoteEmbedder(wire.entry, wire, Policy(**policy), clock=clock, sleep=clock.sleep), clock


PAGE = b"<html>Bad gateway</html>"


@pytest.mark.parametrize(
    "says",
    [
        Unreachable("no connection"),
        refusal(429, "OVERLOADED"),
        refusal(408, "SLOW_BODY"),
        refusal(500, "MODEL_FAILED"),
        refusal(503, "NOT_READY"),
        Answer(502, "", PAGE),
        Answer(503, "", PAGE),
        Answer(504, "", PAGE),
    ],
)
def test_what_passes_by_itself_is_tried_again(tiny: ModelEntry, says: Answer | Exception) -> None:
    wire = Wire(tiny, says, says)
    embedder, clock = remote(wire)
    assert embedder.embed(CHIPS).shape == (2, 32)
    assert wire.requests == [2, 2, 2]
    assert len(clock.slept) == 2


@pytest.mark.parametrize(("status", "reason"), [(400, "BAD_SHAPE"), (413, "TOO_LARGE"), (415, "MEDIA_TYPE")])
def test_what_will_be_refused_again_is_not(tiny: ModelEntry, status: int, reason: str) -> None:
    wire = Wire(tiny, refusal(status, reason))
    embedder, _ = remote(wire, failures=1)
    with pytest.raises(ChipsRefused) as refused:
        embedder.embed(CHIPS)
    assert refused.value.reason == reason
    assert wire.requests == [2]
    assert embedder.embed(CHIPS).shape == (2, 32)  # a refusal is an answer: the circuit stays closed


@pytest.mark.parametrize(
    "says",
    [Answer(404, "", PAGE), Answer(403, "", b""), Answer(301, "", b""), Unreachable("no right", again=False)],
)
def test_a_wrong_address_is_said_at_once(tiny: ModelEntry, says: Answer | Exception) -> None:
    wire = Wire(tiny, says)
    embedder, _ = remote(wire)
    with pytest.raises(EmbedderUnavailable):
        embedder.embed(CHIPS)
    assert wire.requests == [2]


def test_retry_after_is_heeded_and_handed_on(tiny: ModelEntry) -> None:
    embedder, clock = remote(Wire(tiny, refusal(429, "OVERLOADED", 3.0)))
    embedder.embed(CHIPS)
    assert clock.slept == [3.0]
    embedder, clock = remote(Wire(tiny, refusal(429, "OVERLOADED", 30.0)))
    with pytest.raises(EmbedderUnavailable) as unavailable:
        embedder.embed(CHIPS)
    assert unavailable.value.retry_after == 30.0
    assert clock.slept == []


def test_tries_stay_below_the_budget_and_are_jittered(tiny: ModelEntry) -> None:
    wire = Wire(tiny, *[Unreachable("no")] * 100)
    embedder, clock = remote(wire, attempts=50, budget=5.0, base=0.5, cap=2.0)
    with pytest.raises(EmbedderUnavailable):
        embedder.embed(CHIPS)
    assert sum(clock.slept) < 5.0
    assert len(set(clock.slept)) == len(clock.slept) > 1
    assert all(0 <= pause <= 2.0 for pause in clock.slept)


def test_an_open_circuit_asks_nobody(tiny: ModelEntry) -> None:
    wire = Wire(tiny, *[Unreachable("no")] * 6)
    embedder, clock = remote(wire, attempts=2, failures=3, cooldown=15.0)
    for _ in range(3):
        with pytest.raises(EmbedderUnavailable):
            embedder.embed(CHIPS)
    asked = len(wire.requests)
    with pytest.raises(EmbedderUnavailable) as unavailable:
        embedder.embed(CHIPS)
    assert len(wire.requests) == asked
    assert 0 < unavailable.value.retry_after <= 15.0
    clock.now += 15.0
    assert embedder.embed(CHIPS).shape == (2, 32)
    assert embedder.embed(CHIPS).shape == (2, 32)


def test_half_open_lets_one_through() -> None:
    clock = Clock()
    circuit = Circuit(1, 10.0, clock)
    circuit.enter()
    circuit.leave(answered=False)
    clock.now += 10.0
    circuit.enter()
    with pytest.raises(EmbedderUnavailable):
        circuit.enter()
    circuit.leave(answered=False)
    with pytest.raises(EmbedderUnavailable):
        circuit.enter()
    clock.now += 10.0
    circuit.enter()
    circuit.leave(answered=True)
    circuit.enter()


@pytest.mark.parametrize("model", ["", "other@000000000000"])
def test_templates_of_another_model_never_get_through(tiny: ModelEntry, model: str) -> None:
    wire = Wire(tiny, Answer(200, model, npy.encode(np.ones((2, 32), np.float32))))
    embedder, _ = remote(wire)
    with pytest.raises(WrongModel, match=tiny.identity):
        embedder.embed(CHIPS)
    assert wire.requests == [2]


def test_an_unreadable_answer_is_no_template(tiny: ModelEntry) -> None:
    for body in (b"", npy.encode(np.ones((1, 32), np.float32)), npy.encode(np.ones((2, 32)))):
        embedder, _ = remote(Wire(tiny, Answer(200, tiny.identity, body)))
        with pytest.raises(EmbedderUnavailable):
            embedder.embed(CHIPS)


def test_many_chips_are_several_requests(tiny: ModelEntry) -> None:
    wire = Wire(tiny)
    embedder, _ = remote(wire, chips=64)
    assert embedder.embed(np.zeros((150, 112, 112, 3), np.uint8)).shape == (150, 32)
    assert wire.requests == [64, 64, 22]
    assert embedder.embed(CHIPS[:0]).shape == (0, 32)
    assert wire.requests == [64, 64, 22]


def test_the_port_needs_chips(tiny: ModelEntry) -> None:
    embedder, _ = remote(Wire(tiny))
    for bad in (CHIPS[0], CHIPS.astype(np.float32), CHIPS[:, :96]):
        with pytest.raises(ValueError, match="chips"):
            embedder.embed(bad)
    with pytest.raises(ValueError, match="1 to 128"):
        Policy(chips=129)


def test_the_setting_chooses() -> None:
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
