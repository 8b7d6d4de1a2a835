"""The header that every format's reader returns, and the pieces that the readers share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from abeyance.vision.errors import ImageRejected, RejectReason

if TYPE_CHECKING:
    from PIL.Image import Image

#: Most segments or chunks of a file. A 15 MiB file of full segments has some 250, a PNG with one for each row 10 000.
MAX_SEGMENTS: Final = 20_000

#: Pixels that are converted at once, so that a conversion needs little memory beside the image.
_BAND_PX: Final = 2_000_000
#: EXIF tag of the orientation, as it is stored in either byte order.
_ORIENTATION: Final = 0x0112


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """A file's header. It holds the cost of decoding, and no pixel has been decoded."""

    #: Width and height as stored, in pixels.
    size: tuple[int, int]
    #: Bytes that decoding the whole image holds at its peak.
    memory: int
    #: Decodes (h, w, 3) uint8 RGB pixels as stored, each side divided by a reduction of 1, 2, 4 or 8 and rounded up.
    decode: Callable[[int], NDArray[np.uint8]]
    #: The reason for which decoding would take too long; empty if it would not.
    excess: str = ""
    #: The orientation that EXIF gives, 1 to 8.
    orientation: int = 1
    #: The end of the image is in the file.
    complete: bool = True
    #: ``decode`` takes reductions other than 1.
    reducible: bool = False
    #: Decoding takes so long that it is done once, whole, and smaller copies are averaged from that.
    decode_once: bool = False


def corrupt() -> ImageRejected:
    """Return the rejection of an image that is damaged."""
    return ImageRejected(
        RejectReason.CORRUPT, "the image is damaged and cannot be decoded whole; export it again"
    )


def truncated() -> ImageRejected:
    """Return the rejection of an image whose end is missing."""
    return ImageRejected(RejectReason.TRUNCATED, "the image ends before its pixels do; upload it again")


def too_costly(what: str) -> ImageRejected:
    """Return the rejection of an image that would take too much time or memory, for the reason ``what``."""
    return ImageRejected(
        RejectReason.TOO_COSTLY, f"{what}; make the image smaller, or export it again as a baseline JPEG"
    )


def animated() -> ImageRejected:
    """Return the rejection of an image with several frames."""
    return ImageRejected(
        RejectReason.ANIMATED, "the image has several frames; send the one that is meant as an image"
    )


def exif_orientation(tiff: bytes) -> int:
    """Return the orientation, 1 to 8, of an EXIF block without its ``Exif`` prefix; 1 if it has none.

    Notes
    -----
    EXIF 2.32, section 4.6: a TIFF header, then the first directory, of twelve bytes an entry.
    """
    order = {b"II": "little", b"MM": "big"}.get(tiff[:2])
    if order is None:
        return 1

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)  # type: ignore[arg-type]

    first = number(4, 4)
    for entry in range(first + 2, first + 2 + 12 * number(first, 2), 12):
        if entry + 12 > len(tiff):
            break
        if number(entry, 2) == _ORIENTATION:
            value = number(entry + 8, 2)
            return value if 1 <= value <= 8 else 1
    return 1


def in_bands(width: int, height: int, band: Callable[[int, int], Image]) -> NDArray[np.uint8]:
    """Return (height, width, 3) uint8 pixels, converted in bands.

    Parameters
    ----------
    band
        Returns an RGB image of the rows from the first number to before the second.
    """
    pixels = np.empty((height, width, 3), np.uint8)
    for top, bottom in bands(width, height):
        pixels[top:bottom] = np.asarray(band(top, bottom))
    return pixels


def bands(width: int, height: int) -> Iterator[tuple[int, int]]:
    """Yield the first row of each band, and the one behind its last: Pillow's copies have four bytes a pixel."""
    rows = max(1, _BAND_PX // width)
    for top in range(0, height, rows):
        yield top, min(height, top + rows)


def on_white(image: Image) -> Image:
    """Return an RGB image of one with transparency, shown on white."""
    from PIL.Image import new

    coloured = image.convert("RGBA")
    shown = coloured.getchannel("A")
    if shown.getextrema() == (255, 255):
        return coloured.convert("RGB")
    page = new("RGB", coloured.size, "white")
    page.paste(coloured, mask=shown)
    return page
