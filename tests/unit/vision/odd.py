"""Odd files of every kind, made from one sound picture, and what is right for each."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image

from .pictures import chunk, saved

Make = Callable[[Image.Image], bytes]

#: The pixels of the sound file of that format.
SAME: Final = "same"
REJECTED: Final = "rejected"

_EXIF: Final = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"


def jpeg(image: Image.Image, **options: int) -> bytes:
    return saved(image, "JPEG", quality=90, **options)


def png(image: Image.Image) -> bytes:
    return saved(image, "PNG")


def webp(image: Image.Image) -> bytes:
    return saved(image, "WEBP", quality=90)


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def _in_jpeg(piece: bytes) -> Make:
    return lambda image: jpeg(image)[:2] + piece + jpeg(image)[2:]


def _in_png(piece: bytes) -> Make:
    return lambda image: png(image)[:33] + piece + png(image)[33:]


def _cut_out(data: bytes, size: int, instead: bytes = b"") -> bytes:
    middle = len(data) // 2
    return data[:middle] + instead + data[middle + size :]


def _with_webp_size(data: bytes, sides: int) -> bytes:
    """A lossy WebP whose frame claims to be square."""
    return data[:26] + struct.pack("<HH", sides, sides) + data[30:]


def _with_jpeg_size(data: bytes, sides: int) -> bytes:
    """A baseline JPEG whose frame claims to be square."""
    frame = data.index(b"\xff\xc0")
    return data[: frame + 5] + struct.pack(">HH", sides, sides) + data[frame + 9 :]


def _without_last_scan(data: bytes) -> bytes:
    return data[: data.rindex(b"\xff\xda")] + data[-2:]


def _without_intervals(data: bytes, count: int) -> bytes:
    """A JPEG with restart markers, without some intervals in its middle."""
    restarts = [found.start() for found in re.finditer(rb"\xff[\xd0-\xd7]", data)]
    middle = len(restarts) // 2
    return data[: restarts[middle]] + data[restarts[middle + count] :]


def _another_half(image: Image.Image) -> bytes:
    other = jpeg(image.transpose(Image.Transpose.ROTATE_180))
    return jpeg(image)[: len(jpeg(image)) // 2] + other[len(other) // 2 :]


def _split(data: bytes) -> bytes:
    """A PNG whose pixels come in chunks of 500 bytes."""
    at = data.index(b"IDAT") - 4
    end = at + 12 + int.from_bytes(data[at : at + 4], "big")
    body = b"".join(data[n + 8 : n + 8 + length] for n, length in _pixel_chunks(data))
    behind = data.rindex(b"IEND") - 4
    pieces = (chunk(b"IDAT", body[n : n + 500]) for n in range(0, len(body), 500))
    assert end <= behind
    return data[:at] + b"".join(pieces) + data[behind:]


def _pixel_chunks(data: bytes) -> list[tuple[int, int]]:
    found, at = [], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT":
            found.append((at, length))
        at += 12 + length
    return found


_NOISE: Final = np.random.default_rng(1).integers(0, 64, 1_300_000, dtype=np.uint8).tobytes()
_BOMB: Final = zlib.compress(bytes(100 << 20), 9)

#: Kind and file -> how it is made, the sound file that it is compared with, and what is right.
ODD: dict[str, tuple[Make, Make, str]] = {
    # Time or memory out of proportion to the bytes.
    "cost: fill bytes": (lambda _: b"\xff\xd8" + b"\xff" * 400_000 + b"\0", jpeg, REJECTED),
    "cost: 30 000 EXIF segments": (_in_jpeg(segment(0xE1, _EXIF) * 30_000), jpeg, REJECTED),
    "cost: 400 000 comments": (_in_jpeg(segment(0xFE, b"") * 400_000), jpeg, REJECTED),
    "cost: a million restarts": (
        lambda image: jpeg(image)[:-300] + b"\xff\xd0" * 1_000_000 + jpeg(image)[-300:],
        jpeg,
        REJECTED,
    ),
    "cost: a WebP that claims to be large": (
        lambda image: _with_webp_size(webp(image), 16383),
        webp,
        REJECTED,
    ),
    "cost: a JPEG nobody has room for": (
        lambda image: _with_jpeg_size(jpeg(image), 65_500),
        jpeg,
        REJECTED,
    ),
    "cost: packed text of 100 MB": (_in_png(chunk(b"zTXt", b"a\0\0" + _BOMB)), png, SAME),
    # Bytes missing, zero, of another file, or doubled in front of an intact end.
    "damage: a hole of zeros": (lambda image: _cut_out(jpeg(image), 2000, bytes(2000)), jpeg, REJECTED),
    "damage: bytes missing": (lambda image: _cut_out(jpeg(image), 2000), jpeg, REJECTED),
    "damage: the second half zero": (
        lambda image: (
            jpeg(image)[: len(jpeg(image)) // 2].ljust(len(jpeg(image)) - 20, b"\0") + jpeg(image)[-20:]
        ),
        jpeg,
        REJECTED,
    ),
    "damage: a third and the end": (
        lambda image: jpeg(image)[: len(jpeg(image)) // 3] + jpeg(image)[-2:],
        jpeg,
        REJECTED,
    ),
    "damage: a WebP with a hole": (
        lambda image: webp(image)[: len(webp(image)) // 2].ljust(len(webp(image)), b"\0"),
        webp,
        REJECTED,
    ),
    "damage: another photo's half": (_another_half, jpeg, REJECTED),
    "damage: a hole of ones": (lambda image: _cut_out(jpeg(image), 2000, b"\xff" * 2000), jpeg, REJECTED),
    "damage: intervals missing": (
        lambda image: _without_intervals(jpeg(image, restart_marker_blocks=5), 8),
        jpeg,
        REJECTED,
    ),
    "damage: a scan missing": (
        lambda image: _without_last_scan(jpeg(image, progressive=True)),
        jpeg,
        REJECTED,
    ),
    "damage: inks missing": (
        lambda image: _cut_out(jpeg(image.convert("CMYK")), 2000),
        lambda image: jpeg(image.convert("CMYK")),
        REJECTED,
    ),
    "damage: bytes of a PNG missing": (lambda image: _cut_out(png(image), 1000), png, REJECTED),
    # A whole picture without its end mark, or with something behind it.
    "end: none": (lambda image: jpeg(image)[:-2], jpeg, SAME),
    "end: none, progressive": (
        lambda image: jpeg(image, progressive=True)[:-2],
        lambda image: jpeg(image, progressive=True),
        SAME,
    ),
    "end: zeros": (lambda image: jpeg(image)[:-2] + bytes(2), jpeg, SAME),
    "end: none in a PNG": (lambda image: png(image)[:-12], png, SAME),
    "end: half of it in a PNG": (lambda image: png(image)[:-6], png, SAME),
    "end: its checksum wrong": (lambda image: png(image)[:-1] + b"\0", png, SAME),
    "end: 10 kB behind it": (lambda image: jpeg(image) + bytes(10_000), jpeg, SAME),
    "end: another photo behind it": (lambda image: jpeg(image) + jpeg(image.resize((160, 160))), jpeg, SAME),
    # Metadata, large, odd or damaged, is no damage.
    "metadata: 200 EXIF segments": (_in_jpeg(segment(0xE1, _EXIF) * 200), jpeg, SAME),
    "metadata: a profile of 1.3 MB": (
        _in_png(chunk(b"iCCP", b"display\0\0" + zlib.compress(_NOISE))),
        png,
        SAME,
    ),
    "metadata: a packed profile of 100 MB": (_in_png(chunk(b"iCCP", b"display\0\0" + _BOMB)), png, SAME),
    "metadata: a text's checksum wrong": (_in_png(chunk(b"tEXt", b"a\0b")[:-1] + b"\0"), png, SAME),
    "metadata: 3 MB of XMP": (
        _in_jpeg(segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000)) * 50),
        jpeg,
        SAME,
    ),
    "metadata: EXIF that begins in itself": (
        _in_jpeg(segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\x08")),
        jpeg,
        SAME,
    ),
    "metadata: an orientation of 9": (
        _in_jpeg(segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\x09\0\0\0\0\0\0")),
        jpeg,
        SAME,
    ),
    "metadata: pixels in many chunks": (lambda image: _split(png(image)), png, SAME),
}
