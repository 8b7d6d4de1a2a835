"""Abeyance's own search, the float32 oracle of all searches, and the speed of the memory. Run by our own Python."""

from __future__ import annotations

from _serve import SETTINGS  # isort: skip
import time
import timeit
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from _search import COUNT, TOP, Probes, probes, serve_search, templates

from abeyance.gallery import exact
from abeyance.gallery.kernels import Float32, best_kernel
from abeyance.gallery.matrix import Matrix
from abeyance.gallery.model import Candidate, TemplateKind
from abeyance.gallery.port import Block

#: Candidates by float32 among which float64 chooses the best ten.
_AMONG = 40


def _block() -> Block:
    ids = np.zeros((COUNT, 2), dtype=">u8")
    ids[:, 1] = np.arange(COUNT)
    return Block(
        TemplateKind.FACE, np.arange(1, COUNT + 1), ids.view(np.uint8), np.concatenate([*templates()])
    )


_held = _block()
_matrix = Matrix(kernel=Float32() if SETTINGS.get("numpy") else best_kernel()).updated([_held])


def _search(given: Probes, threads: int) -> Any:
    return exact.search(_matrix, TemplateKind.FACE, given, TOP, -1.0), _numbers


def _numbers(found: list[list[Candidate]]) -> list[list[int]]:
    return [[uuid.UUID(candidate.face_id).int for candidate in row] for row in found]


def _others(request: dict[str, Any]) -> dict[str, Any]:
    if "oracle" in request:
        return {"found": _oracle(probes(request["oracle"])).tolist()}
    return {"seconds": _read(request["read"]), "bytes": sum(rows.rounded.nbytes for rows in _matrix.blocks)}


def _oracle(given: Probes) -> Any:
    """Return (n, TOP) numbers: by float32 first, then, among the best of those, by float64."""
    best = np.empty((len(given), 0), dtype=np.int64)
    scores = np.empty((len(given), 0), dtype=np.float32)
    for start in range(0, COUNT, 16_384):
        chunk = _held.templates[start : start + 16_384].astype(np.float32)
        chunk /= np.linalg.norm(chunk, axis=1, keepdims=True)
        both = np.concatenate([scores, given @ chunk.T], axis=1)
        names = np.concatenate([best, np.tile(np.arange(start, start + len(chunk)), (len(given), 1))], axis=1)
        keep = np.argpartition(-both, min(_AMONG, both.shape[1] - 1), axis=1)[:, :_AMONG]
        best, scores = np.take_along_axis(names, keep, axis=1), np.take_along_axis(both, keep, axis=1)
    rows = _held.templates[best].astype(np.float64)
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    cosines = np.einsum("pkd,pd->pk", rows, given.astype(np.float64))
    return np.take_along_axis(best, np.argsort(-cosines, axis=1, kind="stable"), axis=1)[:, :TOP]


def _read(threads: int) -> float:
    """Return the seconds to read and add up as many bytes as a search reads, with so many threads."""
    size = sum(rows.rounded.nbytes for rows in _matrix.blocks)
    parts = np.array_split(np.ones(size // 8, dtype=np.int64), threads)
    clock = time.perf_counter if threads > 1 else time.process_time
    with ThreadPoolExecutor(threads) as pool:
        return min(
            timeit.repeat(lambda: list(pool.map(np.add.reduce, parts)), timer=clock, repeat=7, number=1)
        )


serve_search(_search, _others)
