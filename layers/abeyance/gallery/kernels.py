"""The fast pass of a search: rounded templates times rounded probes.

A kernel rounds templates and multiplies them. The largest error of its result is known for each block (see
:mod:`abeyance.gallery.exact`), so the choice of the kernel changes the time of a search and never its result.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from abeyance.gallery.products import Product, candidates


class Kernel(Protocol):
    """A number format of rounded templates, with its product.

    Attributes
    ----------
    dtype
        Type of a rounded template's numbers.
    levels
        Largest magnitude of the numbers; 0 if templates are not scaled.
    """

    dtype: Any
    levels: int

    def packed(self, probes: npt.NDArray[np.float64]) -> PackedProbes:
        """Round (p, d) probes of unit length."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PackedProbes:
    """Probes in a kernel's number format, ready to be multiplied.

    Attributes
    ----------
    steps
        (p,) the cosine's unit of each probe's numbers.
    errors
        (p,) length of the difference between a probe and its rounded one.
    numbers
        (p, d) rounded probes.
    scores
        Type of the products.
    dots
        Takes (n, d) rounded templates; returns (n, p) products with the probes, in multiples of their steps.
    """

    steps: npt.NDArray[np.float64]
    errors: npt.NDArray[np.float64]
    numbers: npt.NDArray[Any]
    scores: Any
    dots: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


class Int8:
    """Bytes: a quarter of the memory traffic of float32, and integer instructions.

    The fastest product is found by trial, once for each dimension and number of probes.

    Parameters
    ----------
    products
        Yields the products to choose from, given a dimension and a number of probes.

    Raises
    ------
    ImportError
        No library that multiplies bytes exactly is here.
    """

    dtype: Any = np.int8
    levels = 127

    def __init__(self, products: Callable[[int, int], Iterator[Product]] = candidates) -> None:
        if next(products(128, 1), None) is None:
            raise ImportError("no library here multiplies bytes exactly")
        self._products = products
        self._fastest: dict[tuple[int, int], Product] = {}

    def packed(self, probes: npt.NDArray[np.float64]) -> PackedProbes:
        product = self._product(probes.shape[1], len(probes))
        steps = np.abs(probes).max(axis=1) / product.levels
        multiples = np.rint(probes / steps[:, None])
        errors = np.sqrt(((probes - multiples * steps[:, None]) ** 2).sum(axis=1))
        numbers = multiples.astype(np.int8)
        packed = product.pack(numbers)
        return PackedProbes(steps, errors, numbers, product.scores, lambda rows: product.dots(rows, packed))

    def _product(self, d: int, p: int) -> Product:
        """Return the product that takes the least time for rows of ``d`` numbers and ``p`` probes."""
        p = min(p, MOST_PROBES)
        if (d, p) not in self._fastest:
            rows = np.ones((max(1, min(TRIAL_ROWS, TRIAL_BYTES // d)), d), dtype=np.int8)
            probes = np.ones((p, d), dtype=np.int8)
            trials = [(product, product.pack(probes)) for product in self._products(d, p)]
            # In turns, so that what else runs on this machine disturbs all of them alike.
            rounds = [[_seconds(product.dots, rows, packed) for product, packed in trials] for _ in range(5)]
            self._fastest[d, p] = trials[int(np.min(rounds, axis=0).argmin())][0]
        return self._fastest[d, p]


#: Size of a trial: more bytes than a core's own cache holds.
TRIAL_BYTES = 2**22
TRIAL_ROWS = 2**15
#: Probes from which on more of them change nothing about which product is the fastest.
MOST_PROBES = 32


def _seconds(product: Callable[[Any, Any], object], *factors: Any) -> float:
    start = time.perf_counter()
    product(*factors)
    return time.perf_counter() - start


class Float32:
    """float32, multiplied by NumPy, where no library multiplies bytes."""

    dtype: Any = np.float32
    levels = 0

    def packed(self, probes: npt.NDArray[np.float64]) -> PackedProbes:
        numbers = probes.astype(np.float32)
        columns = np.ascontiguousarray(numbers.T)
        exact = np.ones(len(probes)), np.zeros(len(probes))
        return PackedProbes(*exact, numbers, np.float32, lambda rows: np.dot(rows, columns))


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
    np.copyto(into, steps, casting="unsafe")
    return float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors).max()))
