"""Whatever the bytes: pixels within the limits, or ImageRejected. Nothing else, and never half an image."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from abeyance.vision.errors import ImageRejected
from abeyance.vision.image import decode

from .pictures import colour_png, frames, jpeg, picture, saved, webp, with_orientation

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@functools.cache
def seeds() -> dict[str, bytes]:
    return {
        "JPEG": jpeg(),
        "progressive JPEG": saved(picture(), "JPEG", progressive=True),
        "CMYK JPEG": saved(Image.fromarray(picture()).convert("CMYK"), "JPEG"),
        "turned JPEG": with_orientation("JPEG", 6),
        "two JPEGs": frames("MPO", 2),
        "PNG": colour_png(),
        "palette PNG": saved(Image.fromarray(picture()).quantize(8), "PNG"),
        "turned PNG": with_orientation("PNG", 5),
        "APNG": frames("PNG"),
        "WebP": webp(),
        "lossless WebP": saved(picture(), "WEBP", lossless=True),
        "turned WebP": with_orientation("WEBP", 8),
        "animated WebP": frames("WEBP"),
    }


def check(data: bytes) -> None:
    try:
        pixels = decode(data)
    except ImageRejected:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.flags.c_contiguous


kinds = st.sampled_from(sorted(seeds()))
patient = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@patient
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    check(data)


@patient
@given(
    st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\xff\0\0\0WEBPVP8X"]),
    st.binary(max_size=300),
)
def test_random_bytes_behind_a_signature(signature: bytes, data: bytes) -> None:
    check(signature + data)


@patient
@given(kinds, st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_changed_bytes(kind: str, changes: list[tuple[float, int]]) -> None:
    data = bytearray(seeds()[kind])
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    check(bytes(data))


@patient
@given(kinds, st.integers(0, 200), st.integers(0, 255))
def test_changed_headers(kind: str, place: int, value: int) -> None:
    data = bytearray(seeds()[kind])
    data[min(place, len(data) - 1)] = value
    check(bytes(data))


@patient
@given(kinds, st.floats(0, 1), st.floats(0, 1), st.binary(max_size=20))
def test_removed_and_inserted_bytes(kind: str, start: float, end: float, inserted: bytes) -> None:
    data = seeds()[kind]
    first, last = sorted((int(start * len(data)), int(end * len(data))))
    check(data[:first] + inserted + data[last:])


@patient
@given(kinds, st.floats(0, 1, exclude_max=True))
def test_a_cut_image_is_whole_or_rejected(kind: str, part: float) -> None:
    data = seeds()[kind]
    try:
        whole = decode(data)
    except ImageRejected:
        whole = None
    try:
        pixels = decode(data[: int(part * len(data))])
    except ImageRejected:
        return
    # What was cut off were not pixels: a checksum, an end mark, a second picture.
    assert whole is not None
    assert np.array_equal(pixels, whole)
