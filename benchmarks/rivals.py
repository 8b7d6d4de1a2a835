"""The alternatives beside which Abeyance is measured: each in its own process and virtual environment.

A rival's script lies in ``rivals/``, never imports Abeyance, and takes the time itself, so that neither the pipe nor
JSON counts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from infra.venvs import VenvFailed, python_of

from benchmarks.process import BenchmarkError, Child

_SCRIPTS = Path(__file__).with_suffix("")
#: Read by BLAS and OpenMP of any make.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def available_cores() -> list[int]:
    """Return the cores that this process may use; none where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def start(script: str, *, threads: int = 1, first: int = 0, ours: bool = False, **settings: Any) -> Child:
    """Start a rival's process. Use it in a ``with`` statement.

    Parameters
    ----------
    script
        Name of a file in ``rivals/``, without its ending.
    threads
        Cores that it is held to, and threads that its libraries are told to take.
    first
        Index of the first of them among the cores of this process.
    ours
        Run it by the Python of Abeyance, not by that of the rivals.
    settings
        Given to the script.

    Raises
    ------
    BenchmarkError
        If the rivals cannot be installed.
    """
    cores = available_cores()[first : first + threads]
    environment = {
        **dict.fromkeys(_THREADS, str(threads)),
        "ABEYANCE_RIVAL_CORES": ",".join(map(str, cores)),
        "ABEYANCE_RIVAL_THREADS": str(threads),
    }
    try:
        python = Path(sys.executable) if ours else python_of("bench")
    except VenvFailed as error:
        raise BenchmarkError(str(error)) from error
    command = (python, _SCRIPTS / f"{script}.py", msgspec.json.encode(settings).decode())
    return Child(f"the rival {script}", command, environment)


def in_turn(
    tools: Mapping[str, Callable[[int], float]], rounds: int, turn_s: float, *, slow_s: float = 1.0
) -> dict[str, list[float]]:
    """Let tools do the same work in turn, and return the seconds of one piece of work by tool and round.

    Before the rounds each tool works once or twice without being counted. Every round begins with another tool.

    Parameters
    ----------
    tools
        Does the work so many times over, and returns the seconds of one.
    turn_s
        Seconds of a turn: the work is repeated as often as fits in.
    slow_s
        Tools that take more seconds for the work do it once a turn, in the first half of the rounds only.
    """
    times = {}
    for name, work in tools.items():
        seconds = work(1)
        times[name] = 0 if seconds > slow_s else max(1, round(turn_s / work(1)))
    found: dict[str, list[float]] = {name: [] for name in tools}
    names = list(tools)
    for number in range(rounds):
        turn = number % len(names)
        for name in (*names[turn:], *names[:turn]):
            if times[name] or number < (rounds + 1) // 2:
                found[name].append(tools[name](times[name] or 1))
    return found
