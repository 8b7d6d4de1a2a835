"""The endpoint dies in mid-load: clients wait or say so, and every template is the right one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from abeyance.embedding.http import HttpTransport
from abeyance.embedding.onnx import OnnxEmbedder
from abeyance.embedding.port import EmbedderUnavailable
from abeyance.embedding.remote import RemoteEmbedder, RetryPolicy
from abeyance.vision.models.manifest import ModelEntry
from abeyance.vision.session import open_session

from .conftest import Server


def chips(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (seed % 4 + 1, 112, 112, 3), dtype=np.uint8)


def test_killed_in_mid_load_nothing_is_lost_or_doubled(
    serve: Callable[..., Server], tiny: ModelEntry
) -> None:
    server = serve().start()
    policy = RetryPolicy(attempts=3, backoff_base_s=0.02, backoff_cap_s=0.1, read_timeout_s=5.0)
    embedder = RemoteEmbedder(tiny, HttpTransport(server.url, policy), policy)
    waiting = list(range(400))
    done: dict[int, np.ndarray] = {}
    twice: list[int] = []
    returned: list[float] = []
    lock = threading.Lock()

    def consumer() -> None:
        """Consume a queue: chips that cannot be embedded go back, and come again."""
        while True:
            with lock:
                if not waiting:
                    return
                item = waiting.pop(0)
            try:
                made = embedder.embed(chips(item))
            except EmbedderUnavailable as error:
                with lock:
                    waiting.append(item)
                    returned.append(error.retry_after)
                time.sleep(0.05)
                continue
            with lock:
                if item in done:
                    twice.append(item)
                done[item] = made

    threads = [threading.Thread(target=consumer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for share in (100, 200):
        while len(done) < share:
            time.sleep(0.01)
        server.kill()
        time.sleep(0.5)
        server.start()
    for thread in threads:
        thread.join(120)
    assert sorted(done) == list(range(400))
    assert not twice
    assert returned  # the outage was seen, and what it hit went back
    oracle = OnnxEmbedder(open_session(tiny.path), tiny)
    for item, made in done.items():
        assert np.allclose(made, oracle.embed(chips(item)), atol=1e-5)


def test_an_endpoint_that_is_back_is_asked_at_once(serve: Callable[..., Server], tiny: ModelEntry) -> None:
    server = serve().start()
    policy = RetryPolicy(attempts=2, backoff_base_s=0.01, backoff_cap_s=0.02)
    embedder = RemoteEmbedder(tiny, HttpTransport(server.url, policy), policy)
    embedder.embed(chips(0))
    server.kill()
    for _ in range(10):
        with pytest.raises(EmbedderUnavailable):
            embedder.embed(chips(0))
    server.start()
    assert embedder.embed(chips(0)).shape == (1, 32)
