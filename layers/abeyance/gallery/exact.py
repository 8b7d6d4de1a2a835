"""The best by cosine, exactly: a fast pass over everything, and an exact one over what it leaves."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from abeyance.gallery.matrix import Rows
from abeyance.gallery.model import Candidate, Kind
from abeyance.gallery.port import Block


def search(
    blocks: Sequence[Rows], kind: Kind, probes: npt.NDArray[np.float32], limit: int, min_cosine: float
) -> list[list[Candidate]]:
    """The ``limit`` best templates for each probe.

    The first pass is float32 and rounds by at most a known bound; whatever could be among the best within
    that bound is scored again in float64. So results do not depend on how rows lie in blocks, nor on the
    linear algebra library: cosines are exact before they are rounded to float32, and ties go by id.

    Parameters
    ----------
    blocks
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
    exact = probes.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    unit = exact.astype(np.float32)
    # Rounding of a float32 dot product of unit vectors, of the norms and of the probe; generously.
    bound = (probes.shape[1] + 8) * float(np.finfo(np.float32).eps)
    best: list[_Best] = [_Best(limit, min_cosine, bound) for _ in probes]
    for number, rows in enumerate(blocks):
        scores = np.dot(unit, rows.templates.T)
        scores *= rows.scale
        if len(rows.dead):
            scores[:, rows.dead] = -np.inf
        # One comparison for all probes finds the few rows that matter, if any.
        floors = np.array([[b.floor] for b in best], dtype=np.float32)
        for probe in np.flatnonzero((scores >= floors).any(axis=1)):
            best[probe].take(number, scores[probe])
    return [b.exactly(blocks, kind, probe) for b, probe in zip(best, exact, strict=True)]


class _Best:
    """Rows that may be among the best for one probe."""

    def __init__(self, limit: int, min_cosine: float, bound: float) -> None:
        self._limit = limit
        self._min = min_cosine
        self._bound = bound
        self._found: list[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.float32]]] = []
        self._top = np.empty(0, dtype=np.float32)
        #: Rows whose fast score is below this are not among the best.
        self.floor = max(min_cosine - bound, -2.0)

    def take(self, block: int, scores: npt.NDArray[np.float32]) -> None:
        """Take in the fast scores of a block."""
        rows = np.flatnonzero(scores >= self.floor)
        self._found.append((block, rows, scores[rows]))
        top = np.concatenate([self._top, scores[rows]])
        if len(top) >= self._limit:
            top = np.partition(top, len(top) - self._limit)[-self._limit :]
            self.floor = max(self.floor, float(top[0]) - 2 * self._bound)
        self._top = top

    def exactly(self, blocks: Sequence[Rows], kind: Kind, probe: npt.NDArray[np.float64]) -> list[Candidate]:
        """The best, by their exact cosines."""
        found: list[tuple[float, bytes]] = []
        for number, rows, scores in self._found:
            rows = rows[scores >= self.floor]
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
