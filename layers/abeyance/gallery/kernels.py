"""The fast pass of a search: rounded templates times rounded probes.

A kernel decides how templates are rounded and multiplies them. How far its result can be from the true cosine
is known for each block (see :mod:`abeyance.gallery.exact`), so a kernel changes how long a search takes and
never what it finds.
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
    """How templates are held for the fast pass.

    Attributes
    ----------
    dtype
        Of a rounded template's elements.
    zero
        The number that stands for 0.
    levels
        How far from ``zero`` the numbers go; 0 if templates are not scaled.
    """

    dtype: Any
    zero: int
    levels: int

    def packed(self, probes: npt.NDArray[np.float64]) -> Probes:
        """Prepare (p, d) probes of unit length."""
        ...

    def dots(self, rows: npt.NDArray[Any], probes: Probes) -> npt.NDArray[Any]:
        """(n, p) dot products of (n, d) rounded templates and the probes, each an exact multiple of its step."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Probes:
    """Probes as a kernel wants them.

    Attributes
    ----------
    scales
        (p,) what one step of a probe's numbers is worth.
    errors
        (p,) length of the difference between a probe and its rounded one.
    numbers
        (d, p) rounded probes.
    side_by_side
        How many templates are multiplied as one row.
    many
        (side_by_side * d, side_by_side * p): ``numbers``, that many times along the diagonal.
    """

    scales: npt.NDArray[np.float64]
    errors: npt.NDArray[np.float64]
    numbers: npt.NDArray[Any]
    side_by_side: int = 1
    many: npt.NDArray[Any] | None = None


class Int8:
    """Bytes through ONNX Runtime: a quarter of the memory traffic of float32, and integer instructions.

    A product of few columns can take as long as one of eight, and short rows longer than long ones. So with few
    probes, several templates that lie side by side in memory may be taken for one long row, times a matrix that has
    the probes along its diagonal. Whether that pays depends on the processor, so it is tried.

    Raises
    ------
    ImportError
        There is no ONNX Runtime, or none that multiplies exactly on this processor.
    """

    dtype: Any = np.uint8
    zero = 128
    levels = 127
    #: Columns and length of a row up to which putting templates side by side can pay.
    columns, length = 8, 1024

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # Searches bring their own threads.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        self._product = onnxruntime.InferenceSession(_PRODUCT, options, providers=["CPUExecutionProvider"])
        self._tried: dict[tuple[int, int], int] = {}
        # Without VNNI, x86 adds products in pairs in 16 bits, which hold 2 x 255 x 64 but not 2 x 255 x 127.
        for self._probe_levels in (127, 64):
            if self._is_exact(self._probe_levels):
                return
        raise ImportError("ONNX Runtime does not multiply integers exactly on this processor")

    def packed(self, probes: npt.NDArray[np.float64]) -> Probes:
        scales = np.abs(probes).max(axis=1) / self._probe_levels
        steps = np.rint(probes / scales[:, None])
        errors = np.sqrt(((probes - steps * scales[:, None]) ** 2).sum(axis=1))
        numbers = np.ascontiguousarray(steps.T.astype(np.int8))
        times = self._side_by_side(*numbers.shape)
        return Probes(scales, errors, numbers, times, _diagonal(numbers, times))

    def dots(self, rows: npt.NDArray[Any], probes: Probes) -> npt.NDArray[Any]:
        n, d = rows.shape
        times, p = probes.side_by_side, len(probes.scales)
        whole = n - n % times
        found = self._times(rows[:whole].reshape(-1, times * d), probes.many).reshape(whole, p)
        if whole == n:
            return found
        return np.concatenate([found, self._times(rows[whole:], probes.numbers)])

    def _times(self, rows: npt.NDArray[Any], numbers: Any) -> npt.NDArray[Any]:
        if not len(rows):
            return np.empty((0, numbers.shape[1]), dtype=np.int32)
        product: npt.NDArray[Any] = self._product.run(None, {"a": rows, "b": numbers})[0]
        return product

    def _side_by_side(self, d: int, p: int) -> int:
        """How many templates at a time are multiplied in the least time."""
        if (d, p) not in self._tried:
            numbers = np.ones((d, p), dtype=np.int8)
            rows = np.ones(2**21 // d * d, dtype=np.uint8)
            seconds = {}
            times = 1
            while times == 1 or (times * p <= self.columns and times * d <= self.length):
                long, many = rows[: len(rows) // (times * d) * times * d], _diagonal(numbers, times)
                seconds[times] = min(
                    _seconds(self._times, long.reshape(-1, times * d), many) for _ in range(5)
                )
                times *= 2
            # What comes from memory and not, as here, from the cache, gains a little less by it.
            self._tried[d, p] = min(seconds, key=lambda times: seconds[times] * (1 + 0.1 * (times > 1)))
        return self._tried[d, p]

    def _is_exact(self, levels: int) -> bool:
        """Whether the largest numbers there can be come out right, in every width that is used."""
        signs = np.where(np.arange(36 * 1024).reshape(36, 1024) // 7 % 3, 1, -1)
        for width in (1, 4, 8, 32):
            b = levels * signs[:width].T.astype(np.int64)
            for a in (np.full((5, 1024), 255), np.full((5, 1024), 1), 128 + 127 * signs[1:6]):
                found = self._times(a.astype(np.uint8), b.astype(np.int8))
                if not np.array_equal(found, (a.astype(np.int64) - self.zero) @ b):
                    return False
        return True


def _diagonal(numbers: npt.NDArray[np.int8], times: int) -> npt.NDArray[np.int8]:
    d, p = numbers.shape
    many = np.zeros((times, d, times, p), dtype=np.int8)
    for n in range(times):
        many[n, :, n] = numbers
    return many.reshape(times * d, times * p)


def _seconds(product: Callable[[Any, Any], object], *factors: Any) -> float:
    start = time.perf_counter()
    product(*factors)
    return time.perf_counter() - start


class Float32:
    """float32 through numpy, where there is no ONNX Runtime."""

    dtype: Any = np.float32
    zero = 0
    levels = 0

    def packed(self, probes: npt.NDArray[np.float64]) -> Probes:
        numbers = np.ascontiguousarray(probes.T, dtype=np.float32)
        return Probes(np.ones(len(probes)), np.zeros(len(probes)), numbers)

    def dots(self, rows: npt.NDArray[Any], probes: Probes) -> npt.NDArray[Any]:
        product: npt.NDArray[Any] = np.dot(rows, probes.numbers)
        return product


@functools.cache
def best_kernel() -> Kernel:
    """The fastest kernel that this machine can load."""
    try:
        return Int8()
    except ImportError:
        return Float32()


def rounded(vectors: npt.NDArray[np.float32], kernel: Kernel, into: npt.NDArray[Any]) -> float:
    """Write vectors, in steps, in the kernel's numbers; they are spoilt by it.

    Parameters
    ----------
    vectors
        (n, d) float32, none of it beyond the kernel's levels.
    into
        (n, d) of the kernel's dtype.

    Returns
    -------
    float
        Length of the longest difference between a vector and what was written, in steps.
    """
    if not kernel.levels:
        into[...] = vectors
        return 0.0
    steps = np.rint(vectors)
    vectors -= steps
    np.add(steps, np.float32(kernel.zero), out=into, casting="unsafe")
    return float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors).max()))
