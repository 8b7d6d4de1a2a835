"""The products of a search's fast pass: rounded templates times rounded probes.

A kernel rounds templates and multiplies them. The largest error of its result is known for each block (see
:mod:`abeyance.gallery.exact`), so the choice of the kernel changes the time of a search and never its result.
"""

from __future__ import annotations

import base64
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

#: An ONNX model of one node, ``y = MatMulInteger(a, b, 128)``, of any size; a test builds it anew.
_PRODUCT = base64.b64decode(
    "CAcSADpwChsKAWEKAWIKAXoSAXkiDU1hdE11bEludGVnZXISAWcqCRACKgKAAUIBeloVCgFhEhAKDggCEgoKAxIBbgoDEgFkWhUKAWIS"
    "EAoOCAMSCgoDEgFkCgMSAXBiFQoBeRIQCg4IBhIKCgMSAW4KAxIBcEIECgAQCg=="
)


class Kernel(Protocol):
    """A number format of rounded templates, with its product.

    Attributes
    ----------
    dtype
        Type of a rounded template's numbers.
    zero
        The number that stands for 0.
    levels
        Largest distance of the numbers from ``zero``; 0 if templates are not scaled.
    """

    dtype: Any
    zero: int
    levels: int

    def packed(self, probes: npt.NDArray[np.float64]) -> PackedProbes:
        """Round (p, d) probes of unit length."""
        ...

    def dots(self, rows: npt.NDArray[Any], probes: PackedProbes) -> npt.NDArray[Any]:
        """Return (n, p) dot products of (n, d) rounded templates and the probes, in multiples of their steps."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PackedProbes:
    """Probes in a kernel's number format.

    Attributes
    ----------
    steps
        (p,) the cosine's unit of each probe's numbers.
    errors
        (p,) length of the difference between a probe and its rounded one.
    numbers
        (d, p) rounded probes.
    side_by_side
        How many templates are multiplied as one row.
    diagonal
        (side_by_side * d, side_by_side * p): ``numbers``, that many times along the diagonal.
    """

    steps: npt.NDArray[np.float64]
    errors: npt.NDArray[np.float64]
    numbers: npt.NDArray[Any]
    side_by_side: int = 1
    diagonal: npt.NDArray[Any] | None = None


class Int8:
    """Bytes, multiplied by ONNX Runtime: a quarter of the memory traffic of float32, and integer instructions.

    A product of few columns can take as long as one of eight, and short rows longer than long ones. So with few
    probes, several templates that lie side by side in memory may be multiplied as one long row, by a matrix that has
    the probes along its diagonal. Which number of them is fastest depends on the processor, so it is measured.

    Raises
    ------
    ImportError
        There is no ONNX Runtime, or none that multiplies exactly on this processor.
    """

    dtype: Any = np.uint8
    zero = 128
    levels = 127
    #: Columns and length of a row up to which templates are tried side by side.
    columns, length = 8, 1024

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # Searches bring their own threads.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(_PRODUCT, options, providers=["CPUExecutionProvider"])
        self._fastest: dict[tuple[int, int], int] = {}
        # Without VNNI, x86 adds products in pairs in 16 bits, which hold 2 x 255 x 64 but not 2 x 255 x 127.
        for self._probe_levels in (127, 64):
            if self._is_exact(self._probe_levels):
                return
        raise ImportError("ONNX Runtime does not multiply integers exactly on this processor")

    def packed(self, probes: npt.NDArray[np.float64]) -> PackedProbes:
        steps = np.abs(probes).max(axis=1) / self._probe_levels
        multiples = np.rint(probes / steps[:, None])
        errors = np.sqrt(((probes - multiples * steps[:, None]) ** 2).sum(axis=1))
        numbers = np.ascontiguousarray(multiples.T.astype(np.int8))
        times = self._side_by_side(*numbers.shape)
        return PackedProbes(steps, errors, numbers, times, _diagonal(numbers, times))

    def dots(self, rows: npt.NDArray[Any], probes: PackedProbes) -> npt.NDArray[Any]:
        n, d = rows.shape
        times, p = probes.side_by_side, len(probes.steps)
        whole = n - n % times
        result = self._product(rows[:whole].reshape(-1, times * d), probes.diagonal).reshape(whole, p)
        if whole == n:
            return result
        return np.concatenate([result, self._product(rows[whole:], probes.numbers)])

    def _product(self, rows: npt.NDArray[Any], numbers: Any) -> npt.NDArray[Any]:
        if not len(rows):
            return np.empty((0, numbers.shape[1]), dtype=np.int32)
        product: npt.NDArray[Any] = self._session.run(None, {"a": rows, "b": numbers})[0]
        return product

    def _side_by_side(self, d: int, p: int) -> int:
        """Return the number of templates that are multiplied at a time in the least time."""
        if (d, p) not in self._fastest:
            numbers = np.ones((d, p), dtype=np.int8)
            rows = np.ones(2**21 // d * d, dtype=np.uint8)
            seconds = {}
            times = 1
            while times == 1 or (times * p <= self.columns and times * d <= self.length):
                long = rows[: len(rows) // (times * d) * times * d].reshape(-1, times * d)
                diagonal = _diagonal(numbers, times)
                seconds[times] = min(_seconds(self._product, long, diagonal) for _ in range(5))
                times *= 2
            # Rows that come from memory and not, as here, from the cache, gain a little less by it.
            self._fastest[d, p] = min(seconds, key=lambda times: seconds[times] * (1 + 0.1 * (times > 1)))
        return self._fastest[d, p]

    def _is_exact(self, levels: int) -> bool:
        """Return whether the largest numbers are multiplied exactly, in every width that is used."""
        signs = np.where(np.arange(36 * 1024).reshape(36, 1024) // 7 % 3, 1, -1)
        for width in (1, 4, 8, 32):
            b = levels * signs[:width].T.astype(np.int64)
            for a in (np.full((5, 1024), 255), np.full((5, 1024), 1), 128 + 127 * signs[1:6]):
                found = self._product(a.astype(np.uint8), b.astype(np.int8))
                if not np.array_equal(found, (a.astype(np.int64) - self.zero) @ b):
                    return False
        return True


def _diagonal(numbers: npt.NDArray[np.int8], times: int) -> npt.NDArray[np.int8]:
    d, p = numbers.shape
    diagonal = np.zeros((times, d, times, p), dtype=np.int8)
    for n in range(times):
        diagonal[n, :, n] = numbers
    return diagonal.reshape(times * d, times * p)


def _seconds(product: Callable[[Any, Any], object], *factors: Any) -> float:
    start = time.perf_counter()
    product(*factors)
    return time.perf_counter() - start


class Float32:
    """float32, multiplied by NumPy, where there is no ONNX Runtime."""

    dtype: Any = np.float32
    zero = 0
    levels = 0

    def packed(self, probes: npt.NDArray[np.float64]) -> PackedProbes:
        numbers = np.ascontiguousarray(probes.T, dtype=np.float32)
        return PackedProbes(np.ones(len(probes)), np.zeros(len(probes)), numbers)

    def dots(self, rows: npt.NDArray[Any], probes: PackedProbes) -> npt.NDArray[Any]:
        product: npt.NDArray[Any] = np.dot(rows, probes.numbers)
        return product


@functools.cache
def best_kernel() -> Kernel:
    """Return the fastest kernel that this machine can load."""
    try:
        return Int8()
    except ImportError:
        return Float32()


def round_into(into: npt.NDArray[Any], vectors: npt.NDArray[np.float32], kernel: Kernel) -> float:
    """Write vectors in the kernel's numbers; ``vectors`` is overwritten.

    Parameters
    ----------
    into
        (n, d) of the kernel's dtype.
    vectors
        (n, d) float32, in steps, none of it beyond the kernel's levels.

    Returns
    -------
    float
        Length of the longest difference between a vector and its rounded one, in steps.
    """
    if not kernel.levels:
        into[...] = vectors
        return 0.0
    steps = np.rint(vectors)
    vectors -= steps
    np.add(steps, np.float32(kernel.zero), out=into, casting="unsafe")
    return float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors).max()))
