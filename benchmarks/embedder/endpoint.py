"""The processes of the embedding endpoint under measurement: its server, and its model alone in a bare loop."""

from __future__ import annotations

import socket
import sys
import time
import urllib.request
from collections.abc import Mapping

from benchmarks.process import BenchmarkError, Child

#: A GPU's engine may be built when the model is opened.
OPEN_WITHIN_S = 600.0


class MeasuredEndpoint:
    """The settings with which the endpoint's processes are started.

    Parameters
    ----------
    model
        Name in the manifest.
    environment
        Added to this process' own: where the package and the models lie.
    settings
        Of the endpoint, in lower case (``{"providers": "CUDA,CPU"}``).
    """

    def __init__(self, model: str, environment: Mapping[str, str], settings: Mapping[str, object]) -> None:
        self.model = model
        self._environment = environment
        self._settings = {"model": model, **settings}

    def bare(self, **settings: object) -> Child:
        """Start the model alone."""
        command = [sys.executable, "-m", "benchmarks.embedder.bare"]
        return Child("the bare loop", command, self._environ(settings))

    def serve(self) -> Server:
        """Start the server on a free port of 127.0.0.1."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        command = [sys.executable, "-m", "embedder", "serve"]
        server = Server("the server", command, self._environ({"port": port}), answers=False)
        server.port = port
        return server

    def _environ(self, settings: Mapping[str, object]) -> dict[str, str]:
        given = {**self._settings, **settings}.items()
        return {
            **self._environment,
            **{f"ABEYANCE_EMBEDDER_{name.upper()}": str(value) for name, value in given},
        }


class Server(Child):
    """The endpoint, listening on ``port``."""

    port: int

    def wait_until_ready(self) -> None:
        """Wait until /ping answers 200.

        Raises
        ------
        BenchmarkError
            If it ends before, or does not come up in time.
        """
        end = time.monotonic() + OPEN_WITHIN_S
        while time.monotonic() < end:
            self.check()
            try:
                self._get("ping")
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise BenchmarkError(f"the server was not ready within {OPEN_WITHIN_S:.0f} s")

    def metric(self, name: str) -> float:
        """Return one of the process metrics of /metrics; 0.0 where the system does not count it."""
        lines = [line.split() for line in self._get("metrics").splitlines()]
        return next((float(line[1]) for line in lines if line[0] == f"process_{name}"), 0.0)

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=5) as answer:
            return str(answer.read(), "utf-8")
