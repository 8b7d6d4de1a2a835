"""The wire format: what is refused is refused before any array exists, and nothing in it can run."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abeyance.embedding import npy


def chips(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *npy.CHIP), dtype=np.uint8)


def header(text: str, version: tuple[int, int] = (1, 0)) -> bytes:
    """An .npy header that says ``text``."""
    form = "<H" if version == (1, 0) else "<I"
    return b"\x93NUMPY" + bytes(version) + struct.pack(form, len(text)) + text.encode()


@pytest.mark.parametrize("count", [0, 1, 7, npy.MAX_CHIPS])
def test_a_round_trip_keeps_the_array(count: int) -> None:
    sent = chips(count)
    assert np.array_equal(npy.decode_chips(npy.encode(sent)), sent)


def test_files_written_by_numpy_are_read() -> None:
    for version in ((1, 0), (2, 0)):
        file = io.BytesIO()
        np.lib.format.write_array(file, chips(2), version=version, allow_pickle=False)
        assert np.array_equal(npy.decode_chips(bytearray(file.getvalue())), chips(2))


def test_nothing_is_copied() -> None:
    body = npy.encode(chips(4))
    assert np.shares_memory(npy.decode_chips(body), np.frombuffer(body, np.uint8))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "BAD_NPY"),
        (b"hello", "BAD_NPY"),
        (b"\x93NUMPY", "BAD_NPY"),
        (b"\x93NUMPY\x03\x00" + npy.encode(chips(1))[8:], "BAD_NPY"),
        (header("{"), "BAD_NPY"),
        (header("__import__('os').abort()"), "BAD_NPY"),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 112, 112, 3), 'x': 1}\n"), "BAD_NPY"),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': 5}\n"), "BAD_NPY"),
        (header("(" * 900), "BAD_NPY"),
        (header("{'descr': '|O', 'fortran_order': False, 'shape': (1, 112, 112, 3)}\n"), "BAD_DTYPE"),
        (npy.encode(chips(1).astype(np.float32)), "BAD_DTYPE"),
        (npy.encode(chips(1).astype(np.int8)), "BAD_DTYPE"),
        (npy.encode(chips(1)[0]), "BAD_SHAPE"),
        (npy.encode(chips(1)[:, :96]), "BAD_SHAPE"),
        (npy.encode(chips(1).transpose(0, 3, 1, 2)), "BAD_SHAPE"),
        (header("{'descr': '|u1', 'fortran_order': True, 'shape': (1, 112, 112, 3)}\n"), "BAD_SHAPE"),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 112, 112, 3)}\n"), "BAD_SHAPE"),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (129, 112, 112, 3)}\n"), "TOO_MANY_CHIPS"),
        (npy.encode(chips(2))[:-1], "BAD_LENGTH"),
        (npy.encode(chips(2)) + b"x", "BAD_LENGTH"),
    ],
)
def test_other_bodies_are_refused(body: bytes, reason: str) -> None:
    with pytest.raises(npy.BadBody) as refused:
        npy.decode_chips(body)
    assert refused.value.reason == reason


def test_a_pickle_is_never_loaded() -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.putenv, ("ABEYANCE_WAS_HERE", "1")  # type: ignore[return-value]

    text = "{'descr': '|O', 'fortran_order': False, 'shape': (1, 112, 112, 3)}"
    with pytest.raises(npy.BadBody):
        npy.decode_chips(header(text) + pickle.dumps(Evil()))


def test_a_header_that_promises_gigabytes_costs_nothing() -> None:
    text = "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999, 112, 112, 3)}\n"
    body = header(text)
    npy_peak = 0
    tracemalloc.start()
    try:
        with pytest.raises(npy.BadBody):
            npy.decode_chips(body)
        _, npy_peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert npy_peak < 1_000_000


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_an_array_or_refused(noise: bytes, prefixed: bool) -> None:
    body = npy.encode(chips(1))[:10] + noise if prefixed else noise
    with pytest.raises(npy.BadBody):
        npy.decode_chips(body)


def test_templates_of_another_count_or_length_are_refused() -> None:
    made = np.ones((2, 32), np.float32)
    assert np.array_equal(npy.decode_templates(npy.encode(made), 2, 32), made)
    for count, dimension in ((1, 32), (2, 64)):
        with pytest.raises(npy.BadBody):
            npy.decode_templates(npy.encode(made), count, dimension)
    with pytest.raises(npy.BadBody):
        npy.decode_templates(npy.encode(made.astype(np.float64)), 2, 32)
