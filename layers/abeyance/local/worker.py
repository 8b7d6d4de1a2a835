"""A Lambda execution environment on this machine: a process that loads one handler and runs it on events.

Parent and child exchange lines of JSON: an event on standard input, ``{"answer": ..., "seconds": ...}`` or
``{"error": ..., "message": ..., "seconds": ...}`` on the original standard output, with the processor time that it
took. The child can be killed at any time, as in Lambda.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, Final

#: Steps of priority by which what nobody waits for at a screen, or what costs others their time, stands back.
BACKGROUND_NICE: Final = 10


class FunctionError(Exception):
    """A handler that raised, or whose process ended before it answered."""


def function_folder() -> Path:
    """Return the folder of the handlers: beside the rooms in a wheel, at the root of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "functions"
    return installed if installed.is_dir() else package.parents[1] / "functions"


class Worker:
    """A process for one function, started at once and again after it dies.

    Parameters
    ----------
    nice
        Steps by which its priority is lower than this process's.
    """

    def __init__(
        self, function: str, environment: Mapping[str, str], timeout: float, *, nice: int = 0
    ) -> None:
        self._command = [
            sys.executable,
            "-m",
            "abeyance.local.worker",
            str(function_folder() / function / "handler.py"),
            str(nice),
        ]
        #: Processor time of the latest event; the whole of its time limit if the process ended.
        self.seconds = 0.0
        #: Events that the running process has answered.
        self.answered = 0
        self._environment = {**os.environ, **environment, "AWS_LAMBDA_FUNCTION_NAME": f"abeyance-{function}"}
        self._timeout = timeout
        self._lock = threading.Lock()
        self._process = self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - our own interpreter on our own handler
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._environment
        )

    def ready(self) -> None:
        """Wait until the handler is loaded; raises :class:`FunctionError` if it cannot be."""
        self.invoke(None)

    def invoke(self, event: Any) -> Any:
        """Run the handler on ``event`` and return its answer; raises :class:`FunctionError`."""
        with self._lock:
            if self._process.poll() is not None:
                self._process, self.answered = self._start(), 0
            process = self._process
            assert process.stdin
            assert process.stdout
            line = b""
            with suppress(OSError):
                process.stdin.write(json.dumps(event).encode() + b"\n")
                process.stdin.flush()
                if _readable(process.stdout, self._timeout):
                    line = process.stdout.readline()
            if not line:
                process.kill()
                process.wait()
                self.seconds = self._timeout
                raise FunctionError("the process ended, or ran out of time, before it answered")
        reply = json.loads(line)
        self.seconds, self.answered = reply["seconds"], self.answered + 1
        if "error" in reply:
            raise FunctionError(f"{reply['error']}: {reply['message']}")
        return reply["answer"]

    def stop(self) -> None:
        """End the process."""
        process = self._process
        if process.stdin:
            process.stdin.close()
        try:
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


def _readable(pipe: IO[bytes], timeout: float) -> bool:
    """Return True if data or the end of the pipe comes within ``timeout`` seconds."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(1000 * timeout))


def _load(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("handler", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.handler


def _serve(path: str) -> None:
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    handler: Any = None
    context = SimpleNamespace(
        function_name=os.environ["AWS_LAMBDA_FUNCTION_NAME"],
        function_version="$LATEST",
        aws_request_id="local",
    )
    for line in sys.stdin.buffer:
        event = json.loads(line)
        reply: dict[str, Any]
        start = time.process_time()
        try:
            handler = handler or _load(path)
            reply = {"answer": None if event is None else handler(event, context)}
        except Exception as error:  # noqa: BLE001 - as in Lambda, any exception becomes the invocation's error
            reply = {"error": type(error).__name__, "message": str(error)}
        reply["seconds"] = time.process_time() - start
        replies.write(json.dumps(reply).encode() + b"\n")


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told to stop, and stops this process
    os.nice(int(sys.argv[2]))
    _serve(sys.argv[1])
