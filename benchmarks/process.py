"""A child process that answers a line of JSON with a line of JSON: the alternatives, and the model in a bare loop."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

#: The checkout.
ROOT = Path(__file__).resolve().parents[1]


class BenchmarkError(Exception):
    """A measurement could not be made; the text says why and what to do."""


class Child:
    """A child process; leaving its ``with`` statement ends it.

    Parameters
    ----------
    name
        How errors call it.
    command
        Program and arguments.
    environment
        Added to that of this process.
    answers
        Whether it answers on its standard output; otherwise that is thrown away.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
        *,
        answers: bool = True,
    ) -> None:
        self._name = name
        # A file: an unread pipe would fill up and stop the process.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(  # noqa: S603 - commands of this package
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if answers else subprocess.DEVNULL,
            stderr=self._errors,
            env={**os.environ, **(environment or {})},
            cwd=ROOT,
        )

    def ask(self, *, within: float = 120.0, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Parameters
        ----------
        within
            Seconds after which the process is killed.
        request
            Anything that JSON can carry; what is larger goes by file.

        Raises
        ------
        BenchmarkError
            If it died, reported an error, or took too long; the text ends with the last lines of its error output.
        """
        process, begin = self._process, time.monotonic()
        assert process.stdin
        assert process.stdout
        timer = threading.Timer(within, process.kill)
        timer.start()
        try:
            process.stdin.write(msgspec.json.encode(request) + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = b""
        finally:
            timer.cancel()
        if not line:
            code, late = process.wait(), time.monotonic() - begin >= within
            raise self.error(
                f"did not answer within {within:g} s" if late else f"ended with exit code {code}"
            )
        answer: dict[str, Any] = msgspec.json.decode(line)
        if "error" in answer:
            raise self.error(answer["error"])
        return answer

    def check(self) -> None:
        """Raise :class:`BenchmarkError` if the process has ended."""
        if (code := self._process.poll()) is not None:
            raise self.error(f"ended with exit code {code}")

    def error(self, problem: str) -> BenchmarkError:
        """Make an error of the problem, with the last lines of the process' error output."""
        file = self._errors.fileno()
        # The offset is the child's as well, so it is left where it is.
        last = os.pread(file, 1000, max(0, os.fstat(file).st_size - 1000)).decode(errors="replace").strip()
        return BenchmarkError(f"{self._name} {problem}" + (f": {last}" if last else ""))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._errors:
            self._process.terminate()
            try:
                self._process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
