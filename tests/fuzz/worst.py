"""Photos at the limits, with a hundred tilted faces: what costs most within them. Each takes seconds to make."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from PIL import Image
from tests.unit.vision.pictures import saved

from abeyance.local.samples import fetch_samples
from abeyance.vision.image import DEFAULT_LIMITS

#: Sizes just below the limits of pixels: JPEG, a JPEG of ten scans, PNG and WebP.
_JPEG, _PROGRESSIVE, _WHOLE = (8160, 6120), (7900, 6000), (6300, 4700)
#: As a photographer's file says that rows become columns.
_TURNED: Final = 6


@functools.cache
def crowd(size: tuple[int, int], columns: int = 10, rows: int = 10, noise: float = 6.0) -> Image.Image:
    """Faces in a grid, tilted left and right in turn, with a camera's noise, which fills the coded data."""
    with Image.open(fetch_samples("astronaut")["astronaut.png"]) as astronaut:
        face = astronaut.convert("RGB").crop((140, 20, 310, 190))
    width, height = size
    side = min(width // columns, height // rows)
    tiles = [face.resize((side, side)).rotate(tilt, Image.Resampling.BICUBIC) for tilt in (27, -27)]
    sheet = Image.new("RGB", size, (90, 120, 100))
    for place in range(columns * rows):
        row, column = divmod(place, columns)
        sheet.paste(tiles[(row + column) % 2], (column * side, row * side))
    if not noise:
        return sheet
    random, pixels = np.random.default_rng(5), np.array(sheet)
    for top in range(0, height, 500):
        band = pixels[top : top + 500]
        band[...] = np.clip(band + random.normal(0, noise, band.shape[:2])[..., None], 0, 255)
    return Image.fromarray(pixels)


def _turned(image: Image.Image) -> tuple[Image.Image, dict[str, Any]]:
    exif = Image.Exif()
    exif[0x0112] = _TURNED
    return image.transpose(Image.Transpose.ROTATE_90), {"exif": exif}


def _most_bytes(image: Image.Image, kind: str, quality: int, **options: Any) -> bytes:
    """Save with ``quality``, or the first below it that the limit of bytes allows."""
    turned, exif = _turned(image)
    while len(data := saved(turned, kind, quality=quality, **exif, **options)) > DEFAULT_LIMITS.max_bytes:
        quality -= 4
    return data


def _without_loss(image: Image.Image, kind: str, **options: Any) -> bytes:
    turned, exif = _turned(image)
    return saved(turned, kind, **exif, **options)


def _translucent(image: Image.Image) -> Image.Image:
    shown = image.convert("RGBA")
    shown.putalpha(Image.linear_gradient("L").resize(image.size))
    return shown


def _deep(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


#: What -> the file.
WORST: Final[Mapping[str, Callable[[], bytes]]] = {
    "baseline": lambda: _most_bytes(crowd(_JPEG), "JPEG", 89),
    "4:4:4": lambda: _most_bytes(crowd(_JPEG), "JPEG", 85, subsampling=0),
    "larger faces": lambda: _most_bytes(crowd(_JPEG, 9, 6), "JPEG", 89),
    "progressive": lambda: _most_bytes(crowd(_PROGRESSIVE), "JPEG", 93, progressive=True),
    "16 megapixels, progressive": lambda: _most_bytes(
        crowd((4600, 3400)), "JPEG", 95, progressive=True, subsampling=0
    ),
    "CMYK": lambda: _most_bytes(crowd((7700, 5840)).convert("CMYK"), "JPEG", 70),
    "PNG": lambda: _without_loss(crowd(_WHOLE, noise=0), "PNG"),
    "a few large faces in a PNG": lambda: _without_loss(crowd(_WHOLE, 4, 3, noise=0), "PNG"),
    "translucent PNG": lambda: _without_loss(_translucent(crowd((6000, 4900), noise=0)), "PNG"),
    "16-bit PNG": lambda: _without_loss(_deep(crowd(_WHOLE, noise=0)), "PNG"),
    "lossy WebP": lambda: _most_bytes(crowd(_WHOLE, noise=2), "WEBP", 98, method=0),
    "translucent WebP": lambda: _most_bytes(_translucent(crowd(_WHOLE, noise=0)), "WEBP", 98, method=0),
    "lossless WebP": lambda: _without_loss(
        crowd(_WHOLE, noise=0), "WEBP", lossless=True, method=0, quality=0
    ),
    "1.6 megapixels": lambda: saved(crowd((1280, 1280)), "JPEG", quality=90),
}
