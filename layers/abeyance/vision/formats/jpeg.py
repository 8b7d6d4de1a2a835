"""JPEG (ITU-T T.81): one linear walk over the markers, then libjpeg-turbo, whose warnings are errors.

Only what the pixels need goes to the decoder: metadata, however much there is, never costs it anything.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from abeyance.vision.errors import ImageRejected, RejectReason
from abeyance.vision.formats.header import (
    MAX_SEGMENTS,
    ImageHeader,
    corrupt,
    exif_orientation,
    in_bands,
    too_costly,
    truncated,
)

#: Most scans. Cameras and editors write about ten.
MAX_SCANS: Final = 100
#: Most blocks of 8 x 8 samples, counted in each scan that has them. A progressive photo of 45 megapixels has as many;
#: each takes some 100 ns.
MAX_BLOCKS: Final = 7_000_000
#: From so many blocks in several scans on, a photo is decoded once only: each time takes 0.2 s or more.
_DECODE_ONCE_BLOCKS: Final = 2_500_000

#: Bytes of coded data up to which brightness is checked as well: decoding it takes 8 ms a megabyte.
_CHECKED_BYTES: Final = 400_000
#: Samples lie within this much of the middle; so does the first coefficient of a block, in eighths.
_MIDDLE: Final = 128

#: Zero bytes in a row that no encoder writes, unless a block with nothing but zeros is coded by zeros.
_HOLE: Final = bytes(64)
_FILL: Final = re.compile(rb"\xff*")
#: The marker behind coded data: neither a stuffed byte nor a restart.
_NEXT_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_DHT, _SOI, _EOI, _SOS, _DQT, _DRI = 0xC4, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD
_APP0, _APP1, _APP14 = 0xE0, 0xE1, 0xEE
#: Baseline, extended sequential and progressive frames with Huffman codes.
_FRAMES: Final = (0xC0, 0xC1, 0xC2)
_OTHER_FRAMES: Final = (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
#: Markers without a length: TEM and restarts.
_STANDALONE: Final = (0x01, *range(0xD0, 0xD8))
_PROGRESSIVE: Final = 0xC2
_COEFFICIENTS: Final = 64
#: The number by which a component says that it is red.
_RED: Final = ord("R")


@dataclass(slots=True)
class _Component:
    """One of the planes of an image."""

    #: Sampling factors, across and down.
    sampling: tuple[int, int]
    #: Blocks, where the component is alone in its scan.
    blocks: int
    #: For each coefficient, its lowest bits that no scan has brought yet.
    missing_bits: list[int] = field(default_factory=lambda: [_COEFFICIENTS] * _COEFFICIENTS)


class _Frame:
    """A frame header, and what the scans of it add up to."""

    def __init__(self, marker: int, body: bytes) -> None:
        count = body[5]
        if len(body) != 6 + 3 * count or not 1 <= count <= 4:
            raise corrupt()
        if body[0] != 8:
            raise _unsupported()
        self.progressive = marker == _PROGRESSIVE
        self.size = width, height = int.from_bytes(body[3:5], "big"), int.from_bytes(body[1:3], "big")
        sampling = [(body[at + 1] >> 4, body[at + 1] & 15) for at in range(6, len(body), 3)]
        if not all(1 <= factor <= 4 for pair in sampling for factor in pair):
            raise corrupt()
        across, down = (max(factors) for factors in zip(*sampling, strict=True))
        self.units = -(-width // (8 * across)) * -(-height // (8 * down))
        self.components = {
            body[6 + 3 * i]: _Component((h, v), -(-width * h // (8 * across)) * -(-height * v // (8 * down)))
            for i, (h, v) in enumerate(sampling)
        }
        if len(self.components) < count:
            raise corrupt()
        self.scans = 0
        self.blocks = 0

    def add(self, body: bytes, coded: bytes, details: Container[int]) -> None:
        """Count a scan, and reject one with a hole of zeros.

        libjpeg would decode it as blocks full of detail where ``details``, the AC tables whose code of zeros stands
        for a coefficient, has the table of a component.
        """
        count = body[0]
        if len(body) != 4 + 2 * count or not count:
            raise corrupt()
        found = [self.components.get(body[at]) for at in range(1, 1 + 2 * count, 2)]
        first, last, low = body[-3], body[-2], body[-1] & 15
        if not self.progressive:
            first, last, low = 0, _COEFFICIENTS - 1, 0
        if last >= _COEFFICIENTS:
            raise corrupt()
        for component in found:
            if component is None:
                raise corrupt()
            across, down = component.sampling
            self.blocks += self.units * across * down if count > 1 else component.blocks
            component.missing_bits[first : last + 1] = [low] * (last + 1 - first)
        if last and _HOLE in coded and any(tables & 15 in details for tables in body[2 : 1 + 2 * count : 2]):
            raise corrupt()
        self.scans += 1
        if self.scans > MAX_SCANS:
            raise too_costly(f"the JPEG has more than {MAX_SCANS} scans, as no camera writes it")
        if self.scans > 1 and self.blocks > MAX_BLOCKS:
            raise too_costly(f"the JPEG has {self.size[0]} x {self.size[1]} pixels in too many scans")

    @property
    def whole(self) -> bool:
        """Every bit of every coefficient is in a scan."""
        return not any(any(component.missing_bits) for component in self.components.values())

    @property
    def memory(self) -> int:
        """Bytes that decoding holds at its peak: coefficients, where they come in several scans, and pixels."""
        samples = 64 * sum(self.units * c.sampling[0] * c.sampling[1] for c in self.components.values())
        pixels = self.size[0] * self.size[1]
        colours = 7 * pixels if len(self.components) == 4 else 3 * pixels
        return colours + (2 * samples if self.progressive or self.scans > 1 else 0)


def read_jpeg(data: bytes) -> ImageHeader:
    """Read the header of a JPEG file.

    Raises
    ------
    ImageRejected
        If the markers show that the file is damaged, cut off, of another coding, or too costly to decode.
    """
    frame: _Frame | None = None
    orientation = 0
    details: frozenset[int] = frozenset()
    kept: list[bytes] = [b"\xff\xd8"]
    complete = False
    for marker, segment, coded in _segments(data):
        body = segment[4:]
        if marker == _EOI:
            complete = True
        elif marker in _FRAMES and frame is None:
            frame = _Frame(marker, body)
        elif marker in _OTHER_FRAMES:
            raise _unsupported()
        elif marker in _FRAMES or (marker == _SOS and frame is None):
            raise corrupt()
        elif marker == _SOS and frame is not None:
            frame.add(body, coded, details)
        elif marker == _DHT:
            details = _changed(details, body)
        elif marker == _DQT:
            _check_quantization(body)
        elif marker == _APP1 and body.startswith(b"Exif\0") and not orientation:
            orientation = exif_orientation(body[6:])
        # Two kinds of metadata say how colours are stored.
        colours = (marker == _APP0 and body.startswith(b"JFIF\0")) or (
            marker == _APP14 and body.startswith(b"Adobe")
        )
        if colours or marker in (*_FRAMES, _DQT, _DHT, _DRI, _SOS):
            kept += segment, coded
    if frame is None or not frame.whole:
        raise corrupt() if complete else truncated()
    kept.append(b"\xff\xd9")
    stripped, components = b"".join(kept), len(frame.components)
    brightness = _brightness(kept) if components != 4 and len(stripped) <= _CHECKED_BYTES else None
    return ImageHeader(
        size=frame.size,
        memory=frame.memory,
        decode=lambda reduction: _decode(stripped, frame.size, components, reduction, brightness),
        orientation=orientation or 1,
        complete=complete,
        reducible=True,
        decode_once=frame.scans > 1 and frame.blocks > _DECODE_ONCE_BLOCKS,
    )


def _segments(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield marker, segment (with marker and length) and the coded data behind it, up to the end of image."""
    position = 2
    for _ in range(MAX_SEGMENTS):
        # Any number of fill bytes may be in front of a marker.
        filled = _FILL.match(data, position)
        end = filled.end() if filled else position
        if end >= len(data):
            return
        marker = data[end]
        if end == position or marker in (0, _SOI):
            raise corrupt()
        start, position = end - 1, end + 1
        if marker == _EOI:
            yield marker, data[start:position], b""
            return
        if marker in _STANDALONE:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        behind = position + length
        if behind > len(data) or position + 2 > len(data):
            raise truncated()
        if length < 2:
            raise corrupt()
        coded, position = b"", behind
        if marker == _SOS:
            found = _NEXT_MARKER.search(data, behind)
            position = found.start() if found else len(data)
            coded = data[behind:position]
        yield marker, data[start:behind], coded if position < len(data) else coded.rstrip(b"\xff")
    raise too_costly(f"the JPEG has more than {MAX_SEGMENTS} segments")


def _changed(details: frozenset[int], body: bytes) -> frozenset[int]:
    """Return the numbers of AC tables whose code of zeros stands for a coefficient, after some Huffman tables."""
    while body:
        number, symbols = body[0], sum(body[1:17])
        if number >> 4:
            # Codes are in order, so the code of zeros belongs to the first symbol, of run length and size.
            is_detail = symbols and body[17] & 15
            details = details | {number & 15} if is_detail else details - {number & 15}
        body = body[17 + symbols :]
    return details


def _check_quantization(body: bytes) -> None:
    """Reject tables with a zero, which the standard forbids and a hole in the file makes."""
    while body:
        size = 128 if body[0] >> 4 else 64
        if not np.frombuffer(body[1 : 1 + size], ">u2" if size == 128 else "u1").all():
            raise corrupt()
        body = body[1 + size :]


def _brightness(kept: Sequence[bytes]) -> tuple[bytes, float] | None:
    """Return a photo that has half the contrast, and how far from the middle its blocks may be in that.

    Each block's brightness is coded as its difference from the block before. Damage that leaves the number of blocks as
    it was shifts all that follow, in most photos out of what samples can be. libjpeg would cut that off; at half the
    contrast it shows.
    """
    halved, quantization, tables = [], 0, 0
    for segment in kept:
        marker = segment[1] if segment[:1] == b"\xff" else 0
        if marker == _DQT and segment[4] == 0:
            quantization, tables = segment[5], tables + 1
            segment = segment[:5] + bytes([max(1, quantization // 2)]) + segment[6:]
        elif marker == _APP14 or (marker in _FRAMES and (segment[10] == _RED or segment[12])):
            # Red, green and blue may each have a table; and the first table need not be that of brightness.
            return None
        halved.append(segment)
    if tables != 1:
        return None
    # Rounding, of the encoder to a step and of ours to a sample, and one step more.
    steps = (8 * _MIDDLE + quantization / 2) / quantization + 1
    return b"".join(halved), steps * max(1, quantization // 2) / 8 + 1


def _check_brightness(data: bytes, size: tuple[int, int], most: float) -> None:
    import simplejpeg

    width, height = (-(-side // 8) for side in size)
    means = simplejpeg.decode_jpeg(data, "GRAY", min_width=width, min_height=height)
    if np.abs(means.astype(np.int16) - _MIDDLE).max() > most:
        raise corrupt()


def _decode(
    data: bytes,
    size: tuple[int, int],
    components: int,
    reduction: int,
    brightness: tuple[bytes, float] | None,
) -> NDArray[np.uint8]:
    import simplejpeg
    from PIL import Image

    width, height = (-(-side // reduction) for side in size)
    colours = "CMYK" if components == 4 else "RGB"
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, colours, min_width=width, min_height=height, strict=True
        )
    except ValueError as error:
        raise (_unsupported() if "subsampling" in str(error) else corrupt()) from error
    if pixels.shape[:2] != (height, width):
        raise corrupt()
    if brightness:
        _check_brightness(brightness[0], size, brightness[1])
    if components < 4:
        return pixels

    def band(top: int, bottom: int) -> Image.Image:
        # Inks are stored inverted, as Adobe does it.
        inks = np.invert(pixels[top:bottom]).tobytes()
        return Image.frombuffer("CMYK", (width, bottom - top), inks, "raw", "CMYK", 0, 1).convert("RGB")

    return in_bands(width, height, band)


def _unsupported() -> ImageRejected:
    return ImageRejected(
        RejectReason.UNSUPPORTED_FORMAT,
        "the JPEG is lossless, hierarchical, arithmetic-coded, of 12 bits or of a rare subsampling; "
        "export it as baseline or progressive",
    )
