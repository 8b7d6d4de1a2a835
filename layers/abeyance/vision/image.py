"""Decoding: bytes from strangers to pixels, or a typed reason for rejecting them.

Only the content counts: the signature determines the format, and only the decoder of that format runs. Size, memory and
time follow from the header, and are compared with the limits before anything is allocated. An image is decoded whole or
not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from abeyance.vision.alignment import averaged
from abeyance.vision.errors import ImageRejected, RejectReason
from abeyance.vision.formats.header import ImageHeader, bands, corrupt, too_costly, truncated
from abeyance.vision.formats.jpeg import read_jpeg
from abeyance.vision.formats.png import read_png
from abeyance.vision.formats.webp import read_webp


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of accepted images. The defaults of bytes and shortest side are those of Amazon Rekognition."""

    max_bytes: int = 15 * 1024 * 1024
    #: Width times height.
    max_pixels: int = 50_000_000
    #: Width times height in PNG and WebP, of which no smaller copy can be decoded.
    max_pixels_whole: int = 30_000_000
    #: Bytes that decoding and turning may hold at their peak.
    max_memory: int = 320_000_000
    #: Shortest side in pixels.
    min_side: int = 80


DEFAULT_LIMITS = Limits()

#: A photo of more pixels takes so much time and memory to decode that less is done with its faces.
_LARGE_PX = 16_000_000

#: Pixels, and their reduction along each side.
_Loaded: TypeAlias = tuple[NDArray[np.uint8], int]

#: EXIF orientation -> what makes the stored pixels upright: a name of Pillow's, and whether stored rows, from the first
#: one on, then begin at the last row or column.
_UPRIGHT = {
    2: ("FLIP_LEFT_RIGHT", False),
    3: ("ROTATE_180", True),
    4: ("FLIP_TOP_BOTTOM", True),
    5: ("TRANSPOSE", False),
    6: ("ROTATE_270", True),
    7: ("TRANSVERSE", True),
    8: ("ROTATE_90", False),
}
#: From here on, rows become columns.
_SWAPPED = 5


class Photo:
    """An accepted photo, decoded in the sizes that are in use.

    JPEG files hold a photo in blocks, and decoders can give one pixel for 2 x 2, 4 x 4 or 8 x 8 of them in a third of
    the time and a fraction of the memory. Faces are detected in a smaller copy anyway, and a large face is cut out
    smaller than it is, so the whole photo is decoded only if it is needed, and then once.

    Attributes
    ----------
    width, height
        Of the whole photo, upright, in pixels.
    decoded_once
        Decoding takes so long that it was decoded whole at once: a large JPEG of several scans.
    """

    __slots__ = ("_copies", "_load", "decoded_once", "height", "width")

    def __init__(
        self,
        size: tuple[int, int],
        copies: dict[int, NDArray[np.uint8]],
        load: Callable[[int], _Loaded] | None = None,
        *,
        decoded_once: bool = False,
    ) -> None:
        self.width, self.height = size
        self.decoded_once = decoded_once
        #: Reduction -> pixels.
        self._copies = copies
        self._load = load

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> Photo:
        """Return the photo of (h, w, 3) uint8 RGB pixels."""
        return cls((pixels.shape[1], pixels.shape[0]), {1: pixels})

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of the whole photo."""
        return self.height, self.width, 3

    @property
    def is_large(self) -> bool:
        """The photo has more than 16 megapixels."""
        return self.width * self.height > _LARGE_PX

    @property
    def is_costly(self) -> bool:
        """Decoding takes so long that less is done with the faces."""
        return self.is_large or self.decoded_once

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 RGB, C-contiguous: the whole photo."""
        return self.reduced(1)[0]

    def reduced(self, most: float) -> tuple[NDArray[np.uint8], int]:
        """Return a copy reduced by at most ``most`` along each side, and its reduction.

        A copy that exists already is preferred. Less than 1 counts as 1.
        """
        most = max(1, most)
        known = [reduction for reduction in self._copies if reduction <= most]
        if known or self._load is None:
            return self._copies[max(known)], max(known)
        pixels, reduction = self._load(int(most))
        self._copies[reduction] = pixels
        return pixels, reduction


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG or WebP image.

    Parameters
    ----------
    data
        The whole file.
    limits
        Limits of the image.

    Returns
    -------
    NDArray
        (h, w, 3) uint8 RGB, C-contiguous, upright: the EXIF orientation has been applied. Transparent pixels
        are shown on white, grey is repeated, 16 bits are scaled to 8, CMYK is converted without its colour
        profile, and other profiles are not applied either.

    Raises
    ------
    ImageRejected
        For any bytes that are not an image within the limits, and nothing else for any bytes.
    """
    return open_photo(data, limits, longest_side=0).pixels


def open_photo(data: bytes, limits: Limits = DEFAULT_LIMITS, *, longest_side: int = 1280) -> Photo:
    """Open an image as :func:`decode` does, but decode at first only a copy of at least ``longest_side`` pixels.

    Raises
    ------
    ImageRejected
        As :func:`decode` does: every byte is read, whatever the copy's size. The photo raises nothing later but
        ``MemoryError``.
    """
    if not data:
        raise ImageRejected(RejectReason.EMPTY, "the image has no bytes; upload it again")
    if len(data) > limits.max_bytes:
        raise ImageRejected(
            RejectReason.TOO_MANY_BYTES,
            f"the image has {len(data)} bytes, at most {limits.max_bytes} are accepted; make it smaller",
        )
    header: ImageHeader | None = None
    try:
        header = _reader(data)(data)
        _check_cost(header, limits)
        longest = max(header.size)
        reduction = _reduction(header, longest // longest_side if longest_side else 1)
        first = 1 if header.decode_once else reduction
        copies = {first: _upright(header.decode(first), header.orientation)}
        if first != reduction:
            copies[reduction] = averaged(copies[first], reduction)
    except ImageRejected as error:
        if error.reason is RejectReason.CORRUPT and header and not header.complete:
            raise truncated() from error
        raise
    except MemoryError as error:
        raise ImageRejected(
            RejectReason.TOO_MANY_PIXELS, "the image needs more memory than there is; make it smaller"
        ) from error
    except Exception as error:
        # Decoders raise any type for bad bytes: OSError, SyntaxError, struct.error, IndexError, ...
        raise (truncated() if header and not header.complete else corrupt()) from error
    whole = header.size[::-1] if header.orientation >= _SWAPPED else header.size

    def load(most: int) -> _Loaded:
        reduction = _reduction(header, most)
        return _upright(header.decode(reduction), header.orientation), reduction

    return Photo(whole, copies, load, decoded_once=header.decode_once)


def _reader(data: bytes) -> Callable[[bytes], ImageHeader]:
    """Return the function that reads the header of the file's format."""
    if data.startswith(b"\xff\xd8\xff"):
        return read_jpeg
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return read_png
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return read_webp
    raise ImageRejected(
        RejectReason.UNSUPPORTED_FORMAT,
        "the file is not a JPEG, PNG or WebP image, whatever its name says; export it as one of these",
    )


def _reduction(header: ImageHeader, most: int) -> int:
    """Return the largest reduction of the format that is at most ``most``."""
    return next((known for known in (8, 4, 2) if header.reducible and known <= most), 1)


def _check_cost(header: ImageHeader, limits: Limits) -> None:
    width, height = header.size
    most = limits.max_pixels if header.reducible else min(limits.max_pixels, limits.max_pixels_whole)
    if width * height > most:
        raise ImageRejected(
            RejectReason.TOO_MANY_PIXELS,
            f"the image has {width} x {height} pixels, at most {most} are accepted; make it smaller",
        )
    if not width or not height:
        raise corrupt()
    if min(width, height) < limits.min_side:
        raise ImageRejected(
            RejectReason.TOO_SMALL,
            f"the image has {width} x {height} pixels, both sides must have at least {limits.min_side}; "
            "send a larger one",
        )
    # Turning needs the pixels twice.
    memory = max(header.memory, 6 * width * height if header.orientation > 1 else 0)
    if memory > limits.max_memory:
        raise too_costly(
            f"the image takes {memory} bytes of memory to decode, at most {limits.max_memory} are spent"
        )
    if header.excess:
        raise too_costly(header.excess)


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    if orientation not in _UPRIGHT:
        return pixels
    from PIL import Image

    (name, backwards), swap = _UPRIGHT[orientation], orientation >= _SWAPPED
    height, width = pixels.shape[:2]
    upright = np.empty((width, height, 3) if swap else pixels.shape, np.uint8)
    for top, bottom in bands(width, height):
        place = slice(height - bottom, height - top) if backwards else slice(top, bottom)
        # Pillow takes a quarter of NumPy's time.
        turned = Image.fromarray(pixels[top:bottom]).transpose(Image.Transpose[name])
        upright[(slice(None), place) if swap else place] = np.asarray(turned)
    return upright
