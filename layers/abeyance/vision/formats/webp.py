"""WebP (RFC 9649), decoded by the libwebp that Pillow carries.

Neither of its codecs has a checksum, and libwebp does not mind coded data that it has not used. Its incremental decoder
shows it: an image that is whole before its last bytes have arrived has another number of bytes than its encoder wrote.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from abeyance.vision.formats.header import (
    MAX_SEGMENTS,
    ImageHeader,
    animated,
    corrupt,
    exif_orientation,
    in_bands,
    on_white,
    too_costly,
    truncated,
)

#: Bytes that the decoder gets last. Encoders fill up the end of a partition by less.
_HELD_BACK_BYTES: Final = 8
#: From libwebp's decode.h.
_ABI_VERSION, _OK, _SUSPENDED, _RGB, _RGBA, _LOSSLESS = 0x0209, 0, 5, 0, 1, 2


def read_webp(data: bytes) -> ImageHeader:
    """Read the header of a WebP file.

    Raises
    ------
    ImageRejected
        If the chunks show that the file is damaged, cut off, animated or too costly to decode.
    """
    position, end, exif = 12, 0, b""
    for _ in range(MAX_SEGMENTS):
        kind, length = (
            data[position : position + 4],
            int.from_bytes(data[position + 4 : position + 8], "little"),
        )
        behind = position + 8 + length
        if kind in (b"VP8 ", b"VP8L") and not end:
            end = behind
        elif kind == b"EXIF":
            exif = data[position + 8 : behind].removeprefix(b"Exif\0\0")
        elif kind == b"ANIM":
            raise animated()
        position = behind + (length & 1)
        if position >= len(data):
            break
    else:
        raise too_costly(f"the WebP has more than {MAX_SEGMENTS} chunks")
    # One byte less may be missing padding.
    if end > len(data) or int.from_bytes(data[4:8], "little") + 7 > len(data):
        raise truncated()
    # Width, height, alpha, animation, format (1 lossy, 2 lossless) and reserved ones.
    features = (ctypes.c_int * 10)()
    status = _libwebp().WebPGetFeaturesInternal(data, end or len(data), features, _ABI_VERSION)
    width, height, alpha, moving, coding = features[:5]
    if moving:
        raise animated()
    if status != _OK:
        raise corrupt()
    stored = 4 if alpha else 3
    return ImageHeader(
        size=(width, height),
        memory=(stored + (4 if alpha or coding == _LOSSLESS else 0)) * width * height,
        decode=lambda _: _decode(data, end, width, height, stored),
        orientation=exif_orientation(exif),
    )


def _decode(data: bytes, end: int, width: int, height: int, channels: int) -> NDArray[np.uint8]:
    library = _libwebp()
    pixels = np.empty((height, width, channels), np.uint8)
    decoder = library.WebPINewRGB(
        _RGB if channels == 3 else _RGBA, pixels.ctypes.data, pixels.nbytes, width * channels
    )
    if not decoder:
        raise MemoryError
    try:
        early = library.WebPIUpdate(decoder, data, max(0, end - _HELD_BACK_BYTES))
        if early != _SUSPENDED or library.WebPIUpdate(decoder, data, end) != _OK:
            raise corrupt()
    finally:
        library.WebPIDelete(decoder)
    if channels == 3:
        return pixels
    from PIL import Image

    return in_bands(width, height, lambda top, bottom: on_white(Image.fromarray(pixels[top:bottom])))


@functools.cache
def _libwebp() -> ctypes.CDLL:
    """Return the library that Pillow's wheel carries, or that its package of a distribution depends on."""
    import PIL
    from PIL import _webp  # noqa: F401 (loads the libraries that libwebp needs)

    package = Path(PIL.__file__).parent
    carried = [*package.parent.glob("pillow.libs/libwebp-*"), *package.glob(".dylibs/libwebp.*")]
    library = ctypes.CDLL(str(carried[0]) if carried else ctypes.util.find_library("webp"))
    library.WebPGetFeaturesInternal.argtypes = (
        *(ctypes.c_char_p, ctypes.c_size_t),
        *(ctypes.c_void_p, ctypes.c_int),
    )
    library.WebPINewRGB.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    library.WebPINewRGB.restype = ctypes.c_void_p
    library.WebPIUpdate.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t)
    library.WebPIDelete.argtypes = (ctypes.c_void_p,)
    return library
