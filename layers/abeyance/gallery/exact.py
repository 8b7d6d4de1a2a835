"""The best by cosine, exactly: a fast pass over everything, and an exact one over what it leaves."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from abeyance.gallery.kernels import rounded
from abeyance.gallery.matrix import Matrix, Rows
from abeyance.gallery.model import Candidate, Kind
from abeyance.gallery.port import Block


def search(
    matrix: Matrix, kind: Kind, probes: npt.NDArray[np.float32], limit: int, min_cosine: float
) -> list[list[Candidate]]:
    """The ``limit`` best templates for each probe.

    The first pass multiplies rounded vectors. With x = X + e and p = P + f, rounded and rest,
    ``x.p - X.P = e.p + X.f``, so for unit vectors it is off by at most ``|e| + (1 + |e|) |f|``. Whatever could
    be among the best within that bound is scored again in float64. So results do not depend on the kernel,
    nor on how rows lie in blocks: cosines are exact before they are rounded to float32, and ties go by id.

    Parameters
    ----------
    matrix
        Where to look.
    kind
        Of what the ids are.
    probes
        (n, d) float32, not zero; scaled to unit length here.
    limit
        At least 1.
    min_cosine
        Candidates below it are left out.

    Returns
    -------
    list of list of Candidate
        For each probe, best first.
    """
    kernel = matrix.kernel
    exact = probes.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    scales, errors = np.ones(len(exact)), np.zeros(len(exact))
    steps = np.empty(exact.shape, dtype=kernel.dtype)
    for n, probe in enumerate(exact):
        scales[n] = np.abs(probe).max() / kernel.levels if kernel.levels else 1.0
        errors[n] = rounded(probe[None].astype(np.float32), kernel, scales[n], steps[n : n + 1])
    packed = kernel.pack(steps)
    # Rounding of float32 arithmetic, generously.
    slack = (exact.shape[1] + 16) * float(np.finfo(np.float32).eps)
    best = [_Best(limit, min_cosine) for _ in exact]
    for number, rows in enumerate(matrix.blocks):
        scores = kernel.dots(rows.fast, packed)
        step = rows.scale * scales
        bounds = rows.error + (1 + rows.error) * errors + slack
        # In the kernel's own numbers, so that most blocks are done after one comparison.
        floors = (np.array([b.floor for b in best]) - bounds) / step
        if kernel.levels:
            floors = np.floor(floors).clip(-(2**31), 2**31 - 1)
        hits = scores >= floors.astype(scores.dtype)
        hits[rows.dead] = False
        for probe in np.flatnonzero(hits.any(axis=0)):
            found = np.flatnonzero(hits[:, probe])
            best[probe].take(number, found, scores[found, probe] * step[probe], float(bounds[probe]))
    return [b.exactly(matrix.blocks, kind, probe) for b, probe in zip(best, exact, strict=True)]


class _Best:
    """Rows that may be among the best for one probe."""

    def __init__(self, limit: int, min_cosine: float) -> None:
        self._limit = limit
        self._min = min_cosine
        self._found: list[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.float64]]] = []
        self._lowest = np.empty(0, dtype=np.float64)
        #: A row whose cosine is below this for certain is not among the best.
        self.floor = max(min_cosine, -2.0)

    def take(
        self, block: int, rows: npt.NDArray[np.int64], scores: npt.NDArray[np.float64], bound: float
    ) -> None:
        """Take in rows of a block with their fast cosines, which are off by at most ``bound``."""
        self._found.append((block, rows, scores + bound))
        lowest = np.concatenate([self._lowest, scores - bound])
        if len(lowest) >= self._limit:
            lowest = np.partition(lowest, len(lowest) - self._limit)[-self._limit :]
            self.floor = max(self.floor, float(lowest[0]))
        self._lowest = lowest

    def exactly(self, blocks: Sequence[Rows], kind: Kind, probe: npt.NDArray[np.float64]) -> list[Candidate]:
        """The best, by their exact cosines."""
        found: list[tuple[float, bytes]] = []
        for number, rows, highest in self._found:
            rows = rows[highest >= self.floor]
            block = blocks[number]
            cosines = _cosines(block.templates[rows], probe)
            keep = cosines >= self._min
            found += zip(cosines[keep].tolist(), (i.tobytes() for i in block.ids[rows[keep]]), strict=True)
        found.sort(key=lambda pair: (-pair[0], pair[1]))
        return [Candidate(_name(kind, raw), cosine) for cosine, raw in found[: self._limit]]


def oracle(
    blocks: Sequence[Block], probes: npt.NDArray[np.float32], limit: int, min_cosine: float
) -> list[list[Candidate]]:
    """The same answer in the most obvious way: every template against every probe. For tests."""
    answers = []
    for probe in probes.astype(np.float64):
        every = [
            Candidate(_name(block.kind, raw.tobytes()), float(cosine))
            for block in blocks
            for raw, cosine in zip(
                block.ids, _cosines(block.templates, probe / np.linalg.norm(probe)), strict=True
            )
        ]
        every.sort(key=lambda candidate: (-candidate.cosine, candidate.face_id))
        answers.append([c for c in every if c.cosine >= min_cosine][:limit])
    return answers


def _cosines(templates: npt.NDArray[np.floating], probe: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """(n,) float32 from (n, d) templates and a (d,) unit probe."""
    rows = templates.astype(np.float64)
    lengths = np.sqrt((rows * rows).sum(axis=1))
    cosines: npt.NDArray[np.float64] = (rows * probe).sum(axis=1) / np.maximum(lengths, 1e-6)
    return cosines.astype(np.float32)


def _name(kind: Kind, raw: bytes) -> str:
    return str(uuid.UUID(bytes=raw)) if kind is Kind.FACE else raw.rstrip(b"\0").decode()
