"""The endpoint as a real process on loopback, and a stand-in for SageMaker in front of it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from abeyance.vision.models.manifest import ModelEntry
from benchmarks.embedder import synthetic

ROOT = Path(__file__).parents[3]
FUNCTIONS = ROOT / "functions"

Reply = tuple[int, dict[str, str], bytes]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """``python -m embedder serve`` with a model from ``entry``'s manifest; may be killed and started again."""

    def __init__(self, entry: ModelEntry, log: Path, **settings: Any) -> None:
        self.entry = entry
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        given = {"model": entry.name, "port": self.port, **settings}
        self._environment = {
            **os.environ,
            **{f"ABEYANCE_EMBEDDER_{name.upper()}": str(value) for name, value in given.items()},
            "PYTHONPATH": os.pathsep.join((str(FUNCTIONS), str(ROOT / "layers"))),
        }
        if entry.path:
            self._environment["ABEYANCE_MANIFEST"] = str(Path(entry.path).parent / f"{entry.name}.json")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> Server:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "embedder", "serve"], env=self._environment, stdout=log, stderr=log
            )
        if wait:
            self.wait_for(200)
        return self

    def wait_for(self, status: int, timeout: float = 60) -> None:
        """Wait until /ping answers ``status``."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                if self.ask("GET", "/ping")[0] == status:
                    return
            except OSError:
                assert self.process
                assert self.process.poll() is None, self.log()
            time.sleep(0.05)
        raise TimeoutError(self.log())

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """One request on a connection of its own: status, headers in lower case, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body, headers=names, encode_chunked=False)
            answer = connection.getresponse()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def embed(self, body: bytes) -> Reply:
        return self.ask("POST", "/invocations", body, content_type="application/x-npy")

    def metric(self, name: str) -> float:
        """The value of a metric, its labels included in ``name``; 0.0 if there is none."""
        for line in self.ask("GET", "/metrics")[2].decode().splitlines():
            if line.startswith(name + " "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def kill(self) -> None:
        """Kill the process without a signal that it could handle."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.kill()

    def log(self) -> str:
        return self._log.read_text()


class SageMaker:
    """SageMaker's runtime on loopback: InvokeEndpoint of the endpoint ``faces``, handed to a container.

    Hands on what the service hands on and nothing else, and turns the container's errors into ModelError (424).
    """

    def __init__(self, server: Server) -> None:
        stub = self
        self._container = server
        #: Answers given instead of asking the container: (status, error type, fields of the error).
        self.says: list[tuple[int, str, dict[str, Any]]] = []
        self.asked = 0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                stub.asked += 1
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers, answer = stub.invoke(self.path, self.headers["Content-Type"], body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def invoke(self, path: str, content_type: str, body: bytes) -> Reply:
        if self.says:
            return _error(*self.says.pop(0))
        if path != "/endpoints/faces/invocations":
            return _error(400, "ValidationError", {"Message": "Endpoint not found."})
        try:
            status, headers, answer = self._container.ask(
                "POST", "/invocations", body, content_type=content_type
            )
        except OSError:
            return _error(424, "ModelError", {"OriginalStatusCode": 0, "OriginalMessage": "timed out"})
        if status != 200:
            return _error(
                424, "ModelError", {"OriginalStatusCode": status, "OriginalMessage": answer.decode()}
            )
        kept = ("content-type", "x-amzn-sagemaker-custom-attributes")
        return 200, {name: headers[name] for name in kept if name in headers}, answer

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _error(status: int, kind: str, fields: dict[str, Any]) -> Reply:
    return status, {"x-amzn-errortype": kind, "Content-Type": "application/json"}, json.dumps(fields).encode()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelEntry:
    """A network with random weights that costs next to nothing."""
    return synthetic.write(tmp_path_factory.mktemp("models"), "tiny")


@pytest.fixture
def serve(tiny: ModelEntry, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes servers that end with the test."""
    made: list[Server] = []

    def make(entry: ModelEntry = tiny, **settings: Any) -> Server:
        made.append(Server(entry, tmp_path / f"{len(made)}.log", **settings))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture(scope="module")
def server(tiny: ModelEntry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of a module that do it no harm."""
    running = Server(tiny, tmp_path_factory.mktemp("server") / "log").start()
    yield running
    running.close()
