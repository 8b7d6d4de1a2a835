"""The endpoint as a process: SageMaker's contract, limits, health, back-pressure, drain."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from abeyance.embedding import npy
from abeyance.embedding.onnx import OnnxEmbedder
from abeyance.vision.models.manifest import ModelEntry
from abeyance.vision.session import open_session

from .conftest import Server

Serve = Callable[..., Server]
NPY = {"content_type": npy.MEDIA_TYPE}


def chips(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *npy.CHIP), dtype=np.uint8)


def test_ping_and_invocations(server: Server, tiny: ModelEntry) -> None:
    status, headers, body = server.ask("GET", "/ping")
    assert (status, json.loads(body)) == (200, {"state": "ready"})
    assert headers["x-abeyance-model"] == tiny.identity
    sent = chips(5)
    status, headers, body = server.embed(npy.encode(sent))
    assert status == 200
    assert headers["content-type"] == "application/x-npy"
    assert headers["x-abeyance-model"] == headers["x-amzn-sagemaker-custom-attributes"] == tiny.identity
    made = npy.decode_templates(body, 5, tiny.dimension)
    local = OnnxEmbedder(open_session(tiny.path), tiny)
    assert np.abs(made - local.embed(sent)).max() < 1e-6


def test_no_chips_are_no_templates(server: Server, tiny: ModelEntry) -> None:
    status, _, body = server.embed(npy.encode(chips(0)))
    assert status == 200
    assert npy.decode_templates(body, 0, tiny.dimension).shape == (0, tiny.dimension)


def _chunks() -> Any:
    for _ in range(200):
        yield b"x" * 50_000


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "reason"),
    [
        ("GET", "/", None, {}, 404, "NOT_FOUND"),
        ("GET", "/invocations", None, {}, 405, "METHOD"),
        ("POST", "/ping", b"", {}, 405, "METHOD"),
        ("POST", "/invocations", b"{}", {"content_type": "application/json"}, 415, "MEDIA_TYPE"),
        ("POST", "/invocations", b"{}", {}, 415, "MEDIA_TYPE"),
        ("POST", "/invocations", b"x", {**NPY, "content_encoding": "gzip"}, 415, "CONTENT_ENCODING"),
        ("POST", "/invocations", b"", NPY, 400, "BAD_NPY"),
        ("POST", "/invocations", b"hello", NPY, 400, "BAD_NPY"),
        ("POST", "/invocations", npy.encode(chips(1)[0]), NPY, 400, "BAD_SHAPE"),
        ("POST", "/invocations", npy.encode(np.zeros((1, 112, 112, 3))), NPY, 400, "BAD_DTYPE"),
        ("POST", "/invocations", npy.encode(chips(2))[:-9], NPY, 400, "BAD_LENGTH"),
        ("POST", "/invocations", npy.encode(np.zeros((129, 1), np.uint8)), NPY, 400, "BAD_SHAPE"),
        ("POST", "/invocations", b"x" * 6_000_000, NPY, 413, "TOO_LARGE"),
        ("POST", "/invocations", _chunks, NPY, 413, "TOO_LARGE"),
    ],
)  # fmt: skip
def test_bad_requests_are_told_why(
    server: Server, method: str, path: str, body: Any, headers: dict[str, str], status: int, reason: str
) -> None:
    if callable(body):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request(method, path, body(), {"Content-Type": npy.MEDIA_TYPE}, encode_chunked=True)
        answer = connection.getresponse()
        got, said, kind = answer.status, answer.read(), answer.getheader("content-type")
        connection.close()
    else:
        got, answered, said = server.ask(method, path, body, **headers)
        kind = answered["content-type"]
    assert (got, kind) == (status, "application/json")
    document = json.loads(said)
    assert document["reason"] == reason
    assert document["message"]
    assert server.embed(npy.encode(chips(1)))[0] == 200


def test_a_bad_body_does_no_harm_to_its_neighbours(server: Server) -> None:
    good, bad = npy.encode(chips(3)), npy.encode(chips(3))[:-1]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(server.embed, [good, bad] * 24))
    assert Counter(status for status, _, _ in answers) == {200: 24, 400: 24}
    assert len({body for status, _, body in answers if status == 200}) == 1


def test_metrics_count(server: Server, tiny: ModelEntry) -> None:
    before = server.metric("abeyance_embedder_chips_total")
    server.embed(npy.encode(chips(7)))
    assert server.metric("abeyance_embedder_chips_total") == before + 7
    assert server.metric('abeyance_embedder_requests_total{status="200"}') >= 1
    assert server.metric("abeyance_embedder_pending_chips") == 0
    assert server.metric("abeyance_embedder_ready") == 1
    text = server.ask("GET", "/metrics")[2].decode()
    assert f'model="{tiny.identity}"' in text


def test_it_listens_on_loopback_alone_unless_told(server: Server) -> None:
    listening = {
        line.split()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{server.port:04X}")
    }
    assert listening == {f"0100007F:{server.port:04X}"}


def test_past_its_capacity_it_refuses_before_it_reads(serve: Serve, tiny: ModelEntry) -> None:
    server = serve(capacity=128, workers=1, batch=1).start()
    body = npy.encode(chips(64))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(server.embed, [body] * 16))
    count = Counter(status for status, _, _ in answers)
    assert set(count) == {200, 429}
    for status, headers, said in answers:
        if status == 429:
            assert int(headers["retry-after"]) >= 1
            assert json.loads(said)["reason"] == "OVERLOADED"
            assert headers["x-abeyance-model"] == tiny.identity
    assert server.metric("abeyance_embedder_pending_chips") == 0
    assert server.embed(body)[0] == 200


def test_a_body_that_never_comes_does_not_hold_its_place(serve: Serve) -> None:
    server = serve(capacity=128, body_timeout=0.5).start()
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\n"
            b"Content-Length: 4000000\r\n\r\nonly this"
        )
        assert b"408" in slow.recv(100)
    with socket.create_connection(("127.0.0.1", server.port)) as gone:
        gone.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\n"
            b"Content-Length: 4000000\r\n\r\nonly this"
        )
    server.wait_for(200)
    assert server.embed(npy.encode(chips(100)))[0] == 200
    assert server.metric("abeyance_embedder_pending_chips") == 0


def test_what_nobody_waits_for_is_not_embedded(serve: Serve) -> None:
    server = serve(workers=1, batch=1).start()
    body = npy.encode(chips(128))
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: {npy.MEDIA_TYPE}\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.port)) as impatient:
            impatient.sendall(head.encode() + body)
    assert server.embed(npy.encode(chips(1)))[0] == 200
    assert server.metric("abeyance_embedder_chips_total") < 3 * 128


def test_sigterm_answers_what_was_accepted_and_ends(serve: Serve) -> None:
    server = serve(workers=1, batch=1).start()
    body, answers, refused = npy.encode(chips(64)), [], []

    def client() -> None:
        while True:
            try:
                answers.append(server.embed(body)[0])
            except (OSError, http.client.HTTPException) as error:
                refused.append(type(error))
                return

    threads = [threading.Thread(target=client) for _ in range(6)]
    for thread in threads:
        thread.start()
    while server.metric("abeyance_embedder_pending_chips") < 64:
        time.sleep(0.01)
    assert server.terminate() == 0
    for thread in threads:
        thread.join()
    assert set(answers) == {200}
    assert set(refused) <= {ConnectionRefusedError, ConnectionResetError, http.client.RemoteDisconnected}
    # Who got an error had not been accepted: every answer that was made arrived, and nothing was left.
    ended = json.loads(server.log().splitlines()[-1])
    assert (ended["message"], ended["answered"], ended["unanswered_chips"]) == ("ended", len(answers), 0)


def test_without_a_model_it_ends_and_says_why(serve: Serve, tiny: ModelEntry, tmp_path: Path) -> None:
    for settings, because in (
        ({"model": "nobody"}, "no model"),
        ({"providers": "CUDA"}, "CUDA"),
        ({"model": "yunet-2023mar"}, "embedder"),
    ):
        server = serve(**settings).start(wait=False)
        assert server.process
        assert server.process.wait(60) == 3
        assert because in server.log()


def test_health_turns_bad_when_the_model_cannot_answer_and_good_again(tmp_path: Path, serve: Serve) -> None:
    # A model that can be told to fail, in the real server: opened by a start-up script of the test.
    script = tmp_path / "fragile.py"
    script.write_text(
        """
import os, sys, time
from pathlib import Path
import numpy as np
import embedder.server as server
from embedder.model import Model
folder = Path(sys.argv[1])
def run(chips):
    if (folder / "fail").exists(): raise RuntimeError("CUDA error: device lost")
    while (folder / "hang").exists(): time.sleep(0.02)
    return np.ones((len(chips), 4), np.float32) / 2
server.open_model = lambda settings: Model("fragile@0", 4, "CPU", "fp32", run, 4, 1, False, 512, (1,), None)
sys.exit(server.main([]))
"""
    )
    server = serve(probe=0.3, stuck=1.0)
    server.process = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=server._environment)
    server.wait_for(200)
    for fault in ("fail", "hang"):
        (tmp_path / fault).touch()
        server.wait_for(503, timeout=20)  # nobody asked for anything: its own probe
        status, _, said = server.embed(npy.encode(chips(1)))
        assert (status, json.loads(said)["reason"]) == (500, "MODEL_FAILED")
        assert server.metric("abeyance_embedder_ready") == 0
        (tmp_path / fault).unlink()
        server.wait_for(200, timeout=20)
        assert server.embed(npy.encode(chips(1)))[0] == 200
