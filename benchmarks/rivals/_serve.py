"""The common part of all rivals' scripts. Imported first, because threads are counted when libraries are loaded."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

THREADS = int(os.environ["ABEYANCE_RIVAL_THREADS"])
SETTINGS: dict[str, Any] = json.loads(sys.argv[1])

if os.environ["ABEYANCE_RIVAL_CORES"]:
    os.sched_setaffinity(0, {int(core) for core in os.environ["ABEYANCE_RIVAL_CORES"].split(",")})
# Output of libraries would mix with the answers, from Python and from C.
_answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer requests until there are no more."""
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as error:  # noqa: BLE001
            reply = {"error": f"failed with {type(error).__name__}: {error}"}
        _answers.write(json.dumps(reply) + "\n")
        _answers.flush()


def timed(work: Callable[[], Any], times: int) -> tuple[Any, dict[str, float]]:
    """Work so many times over; return the last result, and the seconds of all by the clock and of the processor."""
    found: Any = None
    start, worked = time.perf_counter(), time.process_time()
    for _ in range(times):
        found = work()
    return found, {"seconds": time.perf_counter() - start, "processor": time.process_time() - worked}
