"""The processes of the embedding endpoint under measurement: its server, and its model alone in a bare loop."""

from __future__ import annotations

import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.machine import processor_seconds
from benchmarks.process import BenchmarkError, Child

#: A GPU's engine may be built when the model is opened.
_OPEN_WITHIN_S = 600.0


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

    def bare(self, **settings: object) -> BareLoop:
        """Start the model alone."""
        command = [sys.executable, "-m", "benchmarks.embedder.bare"]
        return BareLoop("the bare loop", command, self._environ(settings))

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
        given = {**self._settings, **settings}
        return {
            **self._environment,
            **{f"ABEYANCE_EMBEDDER_{name.upper()}": str(value) for name, value in given.items()},
        }


class BareLoop(Child):
    """ONNX Runtime with the model, without a server."""

    def about(self) -> dict[str, Any]:
        """Wait until the model is open, and return its identity, device and threads."""
        return self.ask(within=_OPEN_WITHIN_S, about=True)


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
        end = time.monotonic() + _OPEN_WITHIN_S
        while time.monotonic() < end:
            self.check()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=5).close()
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
            else:
                return
        raise BenchmarkError(f"the server was not ready within {_OPEN_WITHIN_S:.0f} s")

    def memory_bytes(self) -> int:
        """Return the resident memory; 0 where the system does not say."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except OSError:
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def processor_s(self) -> float:
        """Return the processor seconds so far; 0.0 where the system does not say."""
        try:
            return processor_seconds(self.pid)
        except OSError:
            return 0.0
