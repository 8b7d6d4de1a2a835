"""A child process that answers a line of JSON with a line of JSON: the alternatives, and the model in a bare loop."""

from __future__ import annotations

import os
import subprocess
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
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
        self._process = subprocess.Popen(  # noqa: S603 - commands of this package
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if answers else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            cwd=ROOT,
        )
        self._last_lines: deque[str] = deque(maxlen=20)
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

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
        process, late = self._process, threading.Event()
        assert process.stdin
        assert process.stdout

        def give_up() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(within, give_up)
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
            code = process.wait()
            raise self.error(
                f"did not answer within {within:g} s" if late.is_set() else f"ended with exit code {code}"
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
        if self._process.poll() is not None:
            self._reader.join(5)
        last = "".join(self._last_lines).strip()[-1000:]
        return BenchmarkError(f"{self._name} {problem}" + (f": {last}" if last else ""))

    def _read_errors(self) -> None:
        # An unread pipe would fill up and stop the process.
        if self._process.stderr:
            with self._process.stderr as lines:
                self._last_lines.extend(line.decode(errors="replace") for line in lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)
        for pipe in (self._process.stdin, self._process.stdout):
            # Input that was never sent is not worth an error.
            with suppress(BrokenPipeError):
                if pipe:
                    pipe.close()
