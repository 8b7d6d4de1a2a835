"""What Abeyance is measured beside: each in a process of its own, of a virtual environment of its own.

A rival's script lies in ``rivals/``, never imports Abeyance, and answers one line of JSON with one line of JSON. It
takes the time itself, so that neither the pipe nor JSON counts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from abeyance.vision.models.registry import locked
from benchmarks.errors import BenchError

_ROOT = Path(__file__).resolve().parents[1]
_SCRIPTS = Path(__file__).with_suffix("")
#: What BLAS and OpenMP of any make read.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class RivalFailed(BenchError):
    """A rival cannot be installed, or died, or answered too late or with an error."""


def install() -> Path:
    """The rivals' Python: ``.cache/bench-venv`` of the checkout, made on first use from a list with hashes.

    Raises
    ------
    RivalFailed
        Outside a checkout, or if pip fails.
    """
    home, lock = _ROOT / ".cache" / "bench-venv", _ROOT / "requirements" / "bench.txt"
    if not lock.is_file():
        raise RivalFailed(
            "the rivals are listed in requirements/bench.txt; run this in a checkout of Abeyance"
        )
    done, python = home / ".installed", home / "bin" / "python"
    home.parent.mkdir(exist_ok=True)
    with locked(home.with_name(".bench-venv.lock")):
        if done.is_file() and done.read_bytes() == lock.read_bytes():
            return python
        shutil.rmtree(home, ignore_errors=True)
        # Without dependencies: the list is complete, and bench-overrides.txt says what is left out of it.
        pip = ["-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        commands: list[list[str | Path]] = [[sys.executable, "-m", "venv", home], [python, *pip, "-r", lock]]
        for command in commands:
            made = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
            if made.returncode:
                raise RivalFailed(f"the rivals cannot be installed: {made.stderr.strip()[-1000:]}")
        done.write_bytes(lock.read_bytes())
    return python


def available_cores() -> list[int]:
    """Those that this process may use; none where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


class Rival:
    """One rival's process. Use it as a context manager; leaving it ends the process.

    Parameters
    ----------
    script
        Name of a file in ``rivals/``, without its ending.
    threads
        How many cores it is held to, and how many threads its libraries are told to take.
    first
        Which of this process' cores is the first of them.
    python
        What runs it, if not the rivals' own Python.
    settings
        What its set-up is given.
    """

    def __init__(
        self, script: str, *, threads: int = 1, first: int = 0, python: str = "", **settings: Any
    ) -> None:
        self._script = _SCRIPTS / f"{script}.py"
        self._threads = threads
        self._first = first
        self._python = python
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._said: deque[str] = deque(maxlen=20)

    def __enter__(self) -> Rival:
        cores = available_cores()[self._first : self._first + self._threads]
        environment = {
            **os.environ,
            **dict.fromkeys(_THREADS, str(self._threads)),
            "ABEYANCE_RIVAL_CORES": ",".join(str(core) for core in cores),
            "ABEYANCE_RIVAL_THREADS": str(self._threads),
        }
        self._process = subprocess.Popen(  # noqa: S603
            [self._python or install(), self._script, msgspec.json.encode(self._settings).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        self._listener = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._listener.join(5)
            for pipe in (self._process.stdin, self._process.stdout):
                # What it was not sent any more is not worth an error.
                with suppress(BrokenPipeError):
                    if pipe:
                        pipe.close()

    def ask(self, *, within: float = 120.0, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Parameters
        ----------
        within
            Seconds after which the process is ended.
        request
            Anything that JSON can carry; what is larger goes by file.

        Raises
        ------
        RivalFailed
            If it died, reported an error, or took too long; the text ends with what it said last.
        """
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise RivalFailed("a rival answers inside its with statement only")
        late = threading.Event()

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
            self._listener.join(5)
            why = f"did not answer within {within:g} s" if late.is_set() else f"ended with exit code {code}"
            raise self._failed(why)
        answer: dict[str, Any] = msgspec.json.decode(line)
        if "error" in answer:
            raise self._failed(answer["error"])
        return answer

    def _failed(self, why: str) -> RivalFailed:
        last = "".join(self._said).strip()
        return RivalFailed(f"the rival {self._script.stem} {why}" + (f": {last[-1000:]}" if last else ""))

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Read what it says about itself, or its pipe would fill up and it would wait for ever."""
        if process.stderr:
            with process.stderr as lines:
                self._said.extend(line.decode(errors="replace") for line in lines)
