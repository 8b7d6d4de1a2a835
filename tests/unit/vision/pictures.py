"""Odd and bad images, made when they are needed. None shows anybody."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 96


def picture(width: int = SIDE, height: int = SIDE) -> NDArray[np.uint8]:
    """A gradient with a red block at the top left, so that turning it shows."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], axis=-1).astype(np.uint8)
    pixels[: height // 4, : width // 4] = (230, 20, 20)
    return pixels


def saved(image: Image.Image | NDArray[np.uint8], kind: str, **options: Any) -> bytes:
    body = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(body, kind, **options)
    return body.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG with the given header, chunks between header and pixels, and raw rows (each begins with a filter byte)."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *extra,
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        ]
    )


def png_16(values: NDArray[np.uint16], colour: int) -> bytes:
    """(h, w) or (h, w, channels) as a PNG of 16 bits a channel."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(width, height, 16, colour, rows)


def with_orientation(kind: str, orientation: int) -> bytes:
    """The picture of :func:`picture`, 96 x 120, stored so that ``orientation`` makes it upright again."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = Image.fromarray(picture(96, 120))
    if orientation in undo:
        image = image.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless: dict[str, Any] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(kind, {})
    return saved(image, kind, exif=exif, **lossless)


def frames(kind: str, count: int = 3, **options: Any) -> bytes:
    images = [Image.fromarray(np.roll(picture(), 10 * i, axis=1)) for i in range(count)]
    return saved(images[0], kind, save_all=True, append_images=images[1:], **options)


def webp_header(width: int, height: int) -> bytes:
    """A WebP that is nothing but a canvas."""
    body = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + (width - 1).to_bytes(3, "little")
    body += (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def jpeg_header(width: int, height: int) -> bytes:
    """A good JPEG whose header then claims another size."""
    body = bytearray(saved(picture(), "JPEG"))
    frame = body.index(b"\xff\xc0")
    body[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(body)


def jpeg_of_scans(count: int) -> bytes:
    """A progressive JPEG with its last scan repeated."""
    body = saved(picture(), "JPEG", progressive=True)
    last = body.rindex(b"\xff\xda")
    return body[:last] + body[last:-2] * count + body[-2:]


def bomb_chunk(kind: bytes, megabytes: int) -> bytes:
    """A compressed text or colour profile chunk that unpacks to a thousand times its size."""
    return chunk(kind, b"name\0\0" + zlib.compress(b"\0" * (megabytes << 20), 9))


def rgb_rows(pixels: NDArray[np.uint8]) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def colour_png(*extra: bytes) -> bytes:
    return png(SIDE, SIDE, 8, 2, rgb_rows(picture()), *extra)


def damaged_png() -> bytes:
    """One bit of the compressed pixels flipped, with the checksum left as it was."""
    body = bytearray(colour_png())
    body[body.index(b"IDAT") + 40] ^= 0x10
    return bytes(body)


def png_with_garbage_pixels() -> bytes:
    """Sound chunks around bytes that are no deflate stream."""
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    pieces = [chunk(b"IHDR", header), chunk(b"IDAT", b"not compressed" * 20), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(pieces)


def png_with_too_few_rows() -> bytes:
    return png(SIDE, SIDE, 8, 2, rgb_rows(picture())[: SIDE * 100])


def cut(make: Callable[[], bytes], part: float) -> bytes:
    body = make()
    return body[: int(len(body) * part)]


def jpeg() -> bytes:
    return saved(picture(), "JPEG", quality=90)


def webp() -> bytes:
    return saved(picture(), "WEBP", quality=90)
