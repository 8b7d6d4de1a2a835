"""The common part of the scripts that search: the same templates and probes for all, and the clock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from _serve import SETTINGS, serve, timed

#: Results of a search.
TOP = 10
COUNT, DIMENSION = SETTINGS["count"], SETTINGS["dimension"]
#: Templates of one person, and how far they lie from their mean: two of them have a cosine of about 0.6.
_EACH, _SPREAD = 4, 0.8
_CHUNK = 16_384

Templates = npt.NDArray[np.float16]
Probes = npt.NDArray[np.float32]


def templates() -> Iterator[Templates]:
    """Yield all templates in chunks: (m, d), unit length, those of one person side by side."""
    for number, first in enumerate(range(0, COUNT, _CHUNK)):
        count = min(_CHUNK, COUNT - first)
        random = np.random.Generator(np.random.SFC64([number, DIMENSION]))
        people = _directions(random, -(-count // _EACH))
        vectors = np.repeat(people, _EACH, axis=0)[:count] + _SPREAD * _directions(random, count)
        yield _unit(vectors).astype(np.float16)


def probes(count: int) -> Probes:
    """Return (count, d) float32, unit length: the first and every other one is of a person with templates."""
    random = np.random.Generator(np.random.SFC64([COUNT, DIMENSION, count]))
    found = _directions(random, count)
    known = next(templates())[:: 4 * _EACH][: len(found[::2])].astype(np.float32)
    found[::2] = _unit(known + _SPREAD * found[::2])
    return found


def serve_search(
    search: Callable[[Probes, int], Any], others: Callable[[dict[str, Any]], dict[str, Any]] | None = None
) -> None:
    """Answer ``{"probes": n, "threads": t, "times": k}`` with the seconds of one search and what it finds.

    ``search`` is given the probes and the threads that it may use, on as many cores; it returns its result in
    any form, and a function that makes (n, TOP) numbers of templates of that, best first.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    made: dict[int, Probes] = {}

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if "probes" not in request and others:
            return others(request)
        count, threads, times = request["probes"], request["threads"], request["times"]
        if count not in made:
            made[count] = probes(count)
        if cores:
            os.sched_setaffinity(0, set(cores[:threads]))
        (result, numbers), seconds = timed(lambda: search(made[count], threads), times)
        each = {name: value / times for name, value in seconds.items()}
        return {**each, "found": np.asarray(numbers(result)).tolist()}

    serve(answer)


def _directions(random: np.random.Generator, count: int) -> Probes:
    # Much quicker than normal numbers, and in so many dimensions as good.
    numbers = random.integers(0, 256, (count, DIMENSION), dtype=np.uint8).astype(np.float32)
    numbers -= np.float32(127.5)
    return _unit(numbers)


def _unit(vectors: Probes) -> Probes:
    vectors *= (1 / np.sqrt(np.einsum("ij,ij->i", vectors, vectors)))[:, None]
    return vectors
