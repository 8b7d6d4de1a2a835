"""Exact products of bytes, by the libraries that are installed: each is the fastest somewhere.

SimSIMD takes one probe after the other, at nearly the speed at which rows come from memory; ONNX Runtime takes many at
once. By how much, and from how many probes on, depends on the processor, so :mod:`abeyance.gallery.kernels` tries them.
"""

from __future__ import annotations

import base64
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.int8]

#: Probes from which on ONNX Runtime is tried even if nothing has imported it: a function that only searches starts
#: faster without it.
MANY_PROBES: Final = 4
#: Columns, and length of a row, up to which ONNX Runtime is tried on templates side by side.
MAX_COLUMNS: Final = 8
MAX_ROW_LENGTH: Final = 1024

#: Largest integer up to which float32 holds every one.
_EXACT_FLOAT32 = 2**24
#: Bytes that are converted for ONNX Runtime at a time, so that they stay in the cache.
_CONVERTED_BYTES = 2**19
#: An ONNX model of one node, ``y = MatMulInteger(a, b, 128)``, of any size; a test builds it anew.
_MODEL = base64.b64decode(
    "CAcSADpwChsKAWEKAWIKAXoSAXkiDU1hdE11bEludGVnZXISAWcqCRACKgKAAUIBeloVCgFhEhAKDggCEgoKAxIBbgoDEgFkWhUKAWIS"
    "EAoOCAMSCgoDEgFkCgMSAXBiFQoBeRIQCg4IBhIKCgMSAW4KAxIBcEIECgAQCg=="
)


class Product(Protocol):
    """A way to multiply bytes.

    Attributes
    ----------
    levels
        Largest magnitude of a probe's numbers with which it is exact; rows may have up to 127.
    scores
        Type of the results.
    """

    levels: int
    scores: Any

    def pack(self, probes: Bytes) -> Any:
        """Return (p, d) probes in the form that ``dots`` takes."""
        ...

    def dots(self, rows: Bytes, packed: Any) -> npt.NDArray[Any]:
        """Return (n, p) products of (n, d) rows and the packed probes."""
        ...


class SimSimd:
    """SimSIMD's dot products of rows of ``d`` numbers.

    Raises
    ------
    ImportError
        There is no SimSIMD.
    """

    levels = 127

    def __init__(self, d: int) -> None:
        import simsimd

        self._cdist = simsimd.cdist
        self.scores: Any = np.float32 if 127 * 127 * d <= _EXACT_FLOAT32 else np.float64

    def pack(self, probes: Bytes) -> Bytes:
        return np.ascontiguousarray(probes)

    def dots(self, rows: Bytes, packed: Bytes) -> npt.NDArray[Any]:
        if not len(rows):
            return np.empty((0, len(packed)), dtype=self.scores)
        # Its argument ``out`` drops a reference to None (6.5.16), which ends the process in time.
        return np.asarray(self._cdist(rows, packed, "dot", out_dtype=self.scores.__name__))


class OnnxRuntime:
    """ONNX Runtime's matrix product.

    A product of few columns can take as long as one of eight, and short rows longer than long ones. So with few
    probes, several rows that lie side by side in memory may be multiplied as one long row, by a matrix that has the
    probes along its diagonal.

    Parameters
    ----------
    side_by_side
        Rows that are multiplied as one.

    Raises
    ------
    ImportError
        There is no ONNX Runtime, or none that multiplies exactly on this processor.
    """

    scores: Any = np.int32

    def __init__(self, side_by_side: int = 1) -> None:
        self._times = side_by_side
        self._run, self.levels = _onnxruntime()

    def pack(self, probes: Bytes) -> tuple[Bytes, Bytes]:
        p, d = probes.shape
        diagonal = np.zeros((self._times, d, self._times, p), dtype=np.int8)
        for n in range(self._times):
            diagonal[n, :, n] = probes.T
        return np.ascontiguousarray(probes.T), diagonal.reshape(self._times * d, self._times * p)

    def dots(self, rows: Bytes, packed: tuple[Bytes, Bytes]) -> npt.NDArray[Any]:
        single, diagonal = packed
        d, p = single.shape
        result = np.empty((len(rows), p), dtype=np.int32)
        step = max(1, _CONVERTED_BYTES // (self._times * d)) * self._times
        for start in range(0, len(rows), step):
            # It takes rows of 0 to 255, with 128 for 0.
            part = rows[start : start + step].view(np.uint8) ^ np.uint8(128)
            whole = len(part) - len(part) % self._times
            into = result[start : start + len(part)]
            if whole:
                into[:whole] = self._run(part[:whole].reshape(-1, self._times * d), diagonal).reshape(-1, p)
            if whole < len(part):
                into[whole:] = self._run(part[whole:], single)
        return result


def candidates(d: int, p: int) -> Iterator[Product]:
    """Yield the products that may be the fastest for rows of ``d`` numbers and ``p`` probes, and are here."""
    try:
        yield SimSimd(d)
        if p < MANY_PROBES and "onnxruntime" not in sys.modules:
            return
    except ImportError:
        pass
    try:
        times = 1
        while times == 1 or (times * p <= MAX_COLUMNS and times * d <= MAX_ROW_LENGTH):
            yield OnnxRuntime(times)
            times *= 2
    except ImportError:
        return


@functools.cache
def _onnxruntime() -> tuple[Callable[[Any, Any], npt.NDArray[np.int32]], int]:
    """Return the product of (n, d) uint8, with 128 for 0, and (d, p) int8; and the levels of the latter."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Searches bring their own threads.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(_MODEL, options, providers=["CPUExecutionProvider"])

    def run(rows: Any, numbers: Any) -> npt.NDArray[np.int32]:
        product: npt.NDArray[np.int32] = session.run(None, {"a": rows, "b": numbers})[0]
        return product

    # Without VNNI, x86 adds products in pairs in 16 bits, which hold 2 x 255 x 64 but not 2 x 255 x 127.
    for levels in (127, 64):
        if is_exact(run, levels):
            return run, levels
    raise ImportError("ONNX Runtime does not multiply integers exactly on this processor")


def is_exact(run: Callable[[Any, Any], npt.NDArray[Any]], levels: int) -> bool:
    """Return whether a product of uint8, with 128 for 0, and int8 is exact for the largest numbers of both."""
    signs = np.where(np.arange(36 * 1024).reshape(36, 1024) // 7 % 3, 1, -1)
    for width in (1, 4, 8, 32):
        b = levels * signs[:width].T.astype(np.int64)
        for a in (np.full((5, 1024), 255), np.full((5, 1024), 1), 128 + 127 * signs[1:6]):
            found = run(a.astype(np.uint8), b.astype(np.int8))
            if not np.array_equal(found, (a.astype(np.int64) - 128) @ b):
                return False
    return True
