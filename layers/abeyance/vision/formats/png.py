"""PNG (W3C PNG, third edition): one linear walk over the chunks; Pillow decodes, and sees no metadata."""

from __future__ import annotations

import io
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

#: Most bytes of unpacked rows; each takes up to 9 ns.
MAX_ROW_BYTES: Final = 120_000_000

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_END: Final = b"\0\0\0\0IEND\xae\x42\x60\x82"
_DECODED: Final = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
#: Colour type -> samples of a pixel.
_SAMPLES: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def read_png(data: bytes) -> ImageHeader:
    """Read the header of a PNG file.

    Raises
    ------
    ImageRejected
        If the chunks show that the file is damaged, cut off, animated or too costly to decode.
    """
    kept, position, complete, orientation = [_SIGNATURE], len(_SIGNATURE), False, 1
    for _ in range(MAX_SEGMENTS):
        if _END.startswith(data[position : position + len(_END)]):
            # Whole or cut off: a missing end mark alone is no damage.
            complete = position + len(_END) <= len(data)
            break
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        end = position + 12 + length
        if kind == b"IEND":
            complete = True
            break
        if kind in _DECODED:
            kept.append(data[position:end])
        if end > len(data):
            raise truncated()
        if kind == b"eXIf":
            orientation = exif_orientation(data[position + 8 : end - 4])
        elif kind == b"acTL" and int.from_bytes(data[position + 8 : position + 12], "big") > 1:
            raise animated()
        position = end
    else:
        raise too_costly(f"the PNG has more than {MAX_SEGMENTS} chunks")
    if len(kept) < 2:
        raise truncated()
    start = kept[1]
    if len(start) != 25 or start[4:8] != b"IHDR" or start[17] not in _SAMPLES or not start[16]:
        raise corrupt() if complete else truncated()
    size = width, height = int.from_bytes(start[8:12], "big"), int.from_bytes(start[12:16], "big")
    bits, colour = start[16], start[17]
    row_bytes = height * (-(-width * bits * _SAMPLES[colour] // 8) + 1)
    stored = 4 if colour in (2, 4, 6) else 2 if bits == 16 else 1
    stripped = b"".join(kept) + _END
    excess = f"the PNG unpacks to {row_bytes} bytes, at most {MAX_ROW_BYTES} are accepted"
    return ImageHeader(
        size=size,
        memory=(stored + 3) * width * height,
        decode=lambda _: _decode(stripped),
        orientation=orientation,
        complete=complete,
        excess=excess if row_bytes > MAX_ROW_BYTES else "",
    )


def _decode(data: bytes) -> NDArray[np.uint8]:
    from PIL import Image
    from PIL.PngImagePlugin import PngImageFile

    with PngImageFile(io.BytesIO(data)) as image:
        image.load()
        width, height = image.size

        def band(top: int, bottom: int) -> Image.Image:
            rows: Image.Image = image if bottom - top == height else image.crop((0, top, width, bottom))
            if rows.mode.startswith("I"):
                # 16-bit grey, which Pillow would clip to 8 bits instead of scaling it.
                wide = np.asarray(rows).astype(np.uint32)
                return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
            return on_white(rows) if rows.has_transparency_data else rows.convert("RGB")

        return in_bands(width, height, band)
