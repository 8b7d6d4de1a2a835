"""Decoding: bytes from strangers to pixels, or a typed reason for rejecting them.

Only the content counts: the signature determines the format, only the decoder of that format runs, and the size is
compared with the limits after the header and before a pixel is decoded. An image is decoded whole or not at all.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from abeyance.vision.errors import ImageRejected, RejectReason

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of accepted images. The defaults of bytes and shortest side are those of Amazon Rekognition."""

    max_bytes: int = 15 * 1024 * 1024
    #: Width times height. Decoding needs up to 15 bytes a pixel at its peak: about 1 GB for the default.
    max_pixels: int = 64_000_000
    #: Shortest side in pixels.
    min_side: int = 80


DEFAULT_LIMITS = Limits()

#: Pixels, their reduction along each side, and width and height of the whole photo.
_Loaded: TypeAlias = tuple[NDArray[np.uint8], int, tuple[int, int]]

#: Most scans of a progressive JPEG. Cameras and editors write about ten; thousands cost minutes of decoding.
_MOST_SCANS = 100
#: EXIF orientation -> steps that make the stored pixels upright: (swap axes, flip rows, flip columns), in this order.
_UPRIGHT = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
_ORIENTATION = 0x0112
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")


class Photo:
    """An accepted photo, decoded in the sizes that are in use.

    JPEG files hold a photo in blocks, and decoders can give one pixel for 2 x 2, 4 x 4 or 8 x 8 of them in a third of
    the time and a fraction of the memory. Faces are detected in a smaller copy anyway, and a large face is cut out
    smaller than it is, so the whole photo is decoded only if it is needed, and then once.

    Attributes
    ----------
    width, height
        Of the whole photo, upright, in pixels.
    """

    __slots__ = ("_copies", "_load", "height", "width")

    def __init__(
        self,
        size: tuple[int, int],
        pixels: NDArray[np.uint8],
        reduction: int = 1,
        load: Callable[[int], _Loaded] | None = None,
    ) -> None:
        self.width, self.height = size
        #: Reduction -> pixels.
        self._copies = {reduction: pixels}
        self._load = load

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> Photo:
        """Return the photo of (h, w, 3) uint8 RGB pixels."""
        return cls((pixels.shape[1], pixels.shape[0]), pixels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of the whole photo."""
        return self.height, self.width, 3

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
        pixels, reduction, _ = self._load(int(most))
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
    opener, complete = _format(data)

    def load(most: int) -> _Loaded:
        with opener(data, limits) as image:
            size = image.size
            _check_size(size, limits)
            if getattr(image, "n_frames", 1) > 1:
                raise ImageRejected(
                    RejectReason.ANIMATED,
                    "the image has several frames; send the one that is meant as an image",
                )
            reduction = _draft(image, most or max(size) // max(longest_side, 1))
            image.load()
            orientation = _orientation(image)
            upright = size[::-1] if _UPRIGHT.get(orientation, (False,))[0] else size
            return _upright(_rgb(image), orientation), reduction, upright

    try:
        pixels, reduction, size = load(0 if longest_side else 1)
    except ImageRejected:
        raise
    except MemoryError as error:
        raise ImageRejected(
            RejectReason.TOO_MANY_PIXELS, "the image needs more memory than there is; make it smaller"
        ) from error
    except Exception as error:
        # Decoders raise any type for bad bytes: OSError, SyntaxError, struct.error, IndexError, ...
        if complete(data):
            raise ImageRejected(
                RejectReason.CORRUPT, "the image is damaged and cannot be decoded; export it again"
            ) from error
        raise ImageRejected(
            RejectReason.TRUNCATED, "the image ends before its pixels do; upload it again"
        ) from error
    return Photo(size, pixels, reduction, load)


def _draft(image: ImageFile, most: int) -> int:
    """Let a JPEG decoder give one pixel for several, at most ``most`` along a side; return how many."""
    if most < 2 or image.format != "JPEG":
        return 1
    reduction = 8 if most >= 8 else 4 if most >= 4 else 2
    width, height = image.size
    image.draft(None, (width // reduction, height // reduction))
    return reduction if image.size != (width, height) else 1


def _format(data: bytes) -> tuple[Callable[[bytes, Limits], ImageFile], Callable[[bytes], bool]]:
    """Return a function that opens the image, and one that checks that its end is there."""
    if data.startswith(b"\xff\xd8\xff"):
        return _open_jpeg, lambda content: _jpeg_structure(content)[1]
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _open_png, lambda content: b"IEND" in content[-64:]
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _open_webp, lambda content: int.from_bytes(content[4:8], "little") + 8 <= len(content)
    raise ImageRejected(
        RejectReason.UNSUPPORTED_FORMAT,
        "the file is not a JPEG, PNG or WebP image, whatever its name says; export it as one of these",
    )


# The classes are instantiated directly: PIL.Image.open would read the further pictures of Multi-Picture JPEG files,
# which are previews and depth maps, and warn about sizes for which we have our own limits.


def _open_jpeg(data: bytes, limits: Limits) -> ImageFile:
    from PIL.JpegImagePlugin import JpegImageFile

    image = JpegImageFile(io.BytesIO(data))
    _check_size(image.size, limits)
    # Counting bytes is quick but counts thumbnails and comments too, so a high count is checked.
    if data.count(b"\xff\xda") > _MOST_SCANS and _jpeg_structure(data)[0] > _MOST_SCANS:
        raise ImageRejected(
            RejectReason.CORRUPT,
            f"the JPEG has more than {_MOST_SCANS} scans, as no camera writes it; export it again",
        )
    return image


def _open_png(data: bytes, limits: Limits) -> ImageFile:
    from PIL.PngImagePlugin import PngImageFile

    return PngImageFile(io.BytesIO(data))


def _open_webp(data: bytes, limits: Limits) -> ImageFile:
    from PIL.WebPImagePlugin import WebPImageFile

    # The decoder allocates the whole canvas at once, so the size is read before.
    chunk, body = data[12:16], data[20:30].ljust(10, b"\0")
    if chunk == b"VP8X":
        size = 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    elif chunk == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        size = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        size = int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    if size[0] * size[1] > limits.max_pixels:
        _check_size(size, limits)
    return WebPImageFile(io.BytesIO(data))


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise ImageRejected(
            RejectReason.TOO_MANY_PIXELS,
            f"the image has {width} x {height} pixels, at most {limits.max_pixels} are accepted; make it "
            "smaller",
        )
    if min(width, height) < limits.min_side:
        raise ImageRejected(
            RejectReason.TOO_SMALL,
            f"the image has {width} x {height} pixels, both sides must have at least {limits.min_side}; "
            "send a larger one",
        )


def _jpeg_structure(data: bytes) -> tuple[int, bool]:
    """Return the number of scans, and whether the end of the image is there; walk over the markers only."""
    scans, position = 0, 2
    while found := _JPEG_MARKER.search(data, position):
        marker, position = found[1][0], found.end()
        if marker == 0xD9:
            return scans, True
        if marker not in (0x01, 0xD8):
            scans += marker == 0xDA
            position += int.from_bytes(data[position : position + 2], "big")
    return scans, False


def _orientation(image: ImageFile) -> int:
    # A photo with unreadable metadata is still a photo.
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001
        return 1


def _rgb(image: ImageFile) -> NDArray[np.uint8]:
    """Return (h, w, 3) uint8 RGB of a loaded image of any mode."""
    from PIL import Image

    if image.mode.startswith("I"):
        # 16-bit grey, which Pillow would clip to 8 bits instead of scaling it.
        wide = np.asarray(image).astype(np.uint32)
        grey = ((wide * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        page = Image.new("RGB", coloured.size, "white")
        page.paste(coloured, mask=coloured.getchannel("A"))
        return np.asarray(page)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    swap, rows, columns = _UPRIGHT.get(orientation, (False, False, False))
    if swap:
        pixels = pixels.transpose(1, 0, 2)
    if rows:
        pixels = pixels[::-1]
    if columns:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
