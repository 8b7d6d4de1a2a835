"""Damage, odd metadata and files that are dear to decode: kinds of odd files, several of each."""

from __future__ import annotations

import contextlib
import functools
import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from tests.effort import counted

from abeyance.vision.errors import ImageRejected, RejectReason
from abeyance.vision.formats import jpeg as jpeg_format
from abeyance.vision.formats.header import MAX_SEGMENTS
from abeyance.vision.image import Limits, decode, open_photo

from .odd import ODD, SAME
from .pictures import chunk, jpeg_of_scans, picture, png, saved

Make = Callable[[], bytes]


@functools.cache
def scene() -> Image.Image:
    """A picture of 320 x 240 with detail everywhere."""
    random = np.random.default_rng(7)
    noise = Image.fromarray(random.integers(0, 256, (60, 80, 3), dtype=np.uint8)).resize((320, 240))
    return Image.blend(Image.fromarray(picture(320, 240)), noise, 0.4)


@functools.cache
def whole(kind: str = "JPEG", **options: int) -> bytes:
    return saved(scene(), kind, quality=90, **options)


def hole(data: bytes, start: float, size: int) -> bytes:
    """Zeros in place of ``size`` bytes."""
    at = int(start * len(data))
    return data[:at] + bytes(size) + data[at + size :]


def missing(data: bytes, start: float, size: int) -> bytes:
    at = int(start * len(data))
    return data[:at] + data[at + size :]


def doubled(data: bytes, start: float, size: int) -> bytes:
    at = int(start * len(data))
    return data[: at + size] + data[at:]


def resized(riff: bytes) -> bytes:
    """A WebP whose headers state the sizes that it has."""
    body = riff[20:] + b"\0" * (len(riff) % 2)
    return b"RIFF" + struct.pack("<I", len(body) + 12) + riff[8:16] + struct.pack("<I", len(riff) - 20) + body


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def with_segments(*segments: bytes) -> bytes:
    return whole()[:2] + b"".join(segments) + whole()[2:]


DAMAGE = (hole, missing, doubled)
JPEGS = {
    "baseline": {},
    "progressive": {"progressive": 1},
    "4:4:4": {"subsampling": 0},
    "restarts": {"restart_marker_rows": 1},
}


@pytest.mark.parametrize("start", [0.3, 0.6, 0.85])
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_with_an_intact_end_is_whole_or_rejected(
    name: str, damage: Callable[..., bytes], start: float
) -> None:
    data = whole(**JPEGS[name])
    with pytest.raises(ImageRejected) as caught:
        open_photo(damage(data, start, len(data) // 10))
    assert caught.value.reason in (RejectReason.CORRUPT, RejectReason.TRUNCATED)


@pytest.mark.parametrize("start", [0.3, 0.6, 0.85])
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("lossless", [0, 1])
def test_a_webp_with_sizes_that_fit_is_whole_or_rejected(
    lossless: int, damage: Callable[..., bytes], start: float
) -> None:
    data = whole("WEBP", lossless=lossless)
    assert np.array_equal(decode(resized(data)), decode(data))
    with pytest.raises(ImageRejected) as caught:
        open_photo(resized(damage(data, start, len(data) // 10)))
    assert caught.value.reason is RejectReason.CORRUPT


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("bytes_missing", [1, 2])
def test_a_missing_end_mark_alone_is_no_damage(name: str, bytes_missing: int) -> None:
    data = whole(**JPEGS[name])
    assert np.array_equal(decode(data[:-bytes_missing]), decode(data))
    with pytest.raises(ImageRejected) as caught:
        decode(data[:-12])
    assert caught.value.reason is RejectReason.TRUNCATED


def test_a_progressive_jpeg_needs_every_scan() -> None:
    data = whole(progressive=1)
    scans = [at for at in range(len(data)) if data.startswith(b"\xff\xda", at)]
    for end in scans[1:]:
        with pytest.raises(ImageRejected) as caught:
            decode(data[:end] + data[-2:])
        assert caught.value.reason is RejectReason.CORRUPT
        with pytest.raises(ImageRejected) as caught:
            decode(data[:end])
        assert caught.value.reason is RejectReason.TRUNCATED


@functools.cache
def contrasty() -> Image.Image:
    """Black and white soft spots."""
    spots = np.random.default_rng(11).choice(np.array([0, 255], np.uint8), (30, 40))
    return Image.fromarray(spots).resize((320, 240), Image.Resampling.BICUBIC).convert("RGB")


@pytest.mark.parametrize("quality", [50, 75, 90])
def test_most_damage_of_a_few_bytes_is_seen_by_the_brightness_of_what_follows(quality: int) -> None:
    """The number of blocks is often the same as before, and libjpeg warns of nothing then."""
    data, random = saved(contrasty(), "JPEG", quality=quality), np.random.default_rng(3)
    first, opened = data.index(b"\xff\xda") + 14, 0
    for _ in range(200):
        at = int(random.integers(first, len(data) * 3 // 4))
        with contextlib.suppress(ImageRejected):
            open_photo(data[:at] + random.integers(0, 256, 16, np.uint8).tobytes() + data[at + 16 :])
            opened += 1
    assert opened < 12


@pytest.mark.parametrize("kind", ["YCbCr", "grey", "CMYK", "other tables", "red, green, blue"])
@pytest.mark.parametrize("quality", [1, 10, 50, 75, 90, 96, 98, 100])
def test_extreme_brightness_alone_is_no_damage(kind: str, quality: int) -> None:
    image, options = contrasty(), {}
    if kind in ("grey", "CMYK"):
        image = image.convert({"grey": "L"}.get(kind, kind))
    elif kind == "red, green, blue":
        options = {"keep_rgb": True}
    data = saved(image, "JPEG", quality=quality, **options)
    if kind == "other tables":
        # Brightness by the second table, colour by the first.
        frame = data.index(b"\xff\xc0")
        data = data[: frame + 12] + b"\1" + data[frame + 13 : frame + 15] + b"\0" + data[frame + 16 :]
        data = data[: frame + 18] + b"\0" + data[frame + 19 :]
    assert open_photo(data).shape == (240, 320, 3)
    assert open_photo(saved(image, "JPEG", quality=quality, progressive=True, **options)).shape == (
        240,
        320,
        3,
    )


def test_a_quantization_table_with_zeros_is_damage() -> None:
    data = whole()
    at = data.index(b"\xff\xdb")
    with pytest.raises(ImageRejected) as caught:
        decode(data[: at + 20] + bytes(12) + data[at + 32 :])
    assert caught.value.reason is RejectReason.CORRUPT


def xmp(orientation: int) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{orientation}"/>'
        "</rdf:RDF></x:xmpmeta>"
    ).encode()


def png_with_xmp() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp(6).decode())
    return saved(scene(), "PNG", pnginfo=text)


XMP: dict[str, Make] = {
    "JPEG": lambda: with_segments(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(6))),
    "PNG": png_with_xmp,
    "WebP": lambda: whole("WEBP", xmp=xmp(6)),
}


@pytest.mark.parametrize("name", XMP)
def test_xmp_turns_no_photo(name: str) -> None:
    assert decode(XMP[name]()).shape == (240, 320, 3)


def test_the_first_exif_segment_turns_a_photo() -> None:
    turned, level = (
        segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0" + bytes([value]) + b"\0\0")
        for value in (6, 1)
    )
    assert decode(with_segments(turned, level)).shape == (320, 240, 3)
    assert decode(with_segments(level, turned)).shape == (240, 320, 3)


def profile(size: int) -> bytes:
    return np.random.default_rng(1).integers(0, 64, size, dtype=np.uint8).tobytes()


def icc_segments() -> list[bytes]:
    pieces = [profile(1_300_000)[at : at + 65_000] for at in range(0, 1_300_000, 65_000)]
    return [
        segment(0xE2, b"ICC_PROFILE\0" + bytes([n, len(pieces)]) + piece) for n, piece in enumerate(pieces, 1)
    ]


METADATA: dict[str, tuple[Make, Make]] = {
    "a profile in a JPEG": (lambda: with_segments(*icc_segments()), whole),
    "a profile in a PNG": (
        lambda: png(96, 96, 8, 2, ROWS, chunk(b"iCCP", b"display\0\0" + zlib.compress(profile(3_000_000)))),
        lambda: png(96, 96, 8, 2, ROWS),
    ),
    "a profile in a WebP": (lambda: whole("WEBP", icc_profile=profile(2_000_000)), lambda: whole("WEBP")),
    "a damaged profile in a PNG": (
        lambda: png(96, 96, 8, 2, ROWS, chunk(b"iCCP", b"display\0\0no deflate stream")),
        lambda: png(96, 96, 8, 2, ROWS),
    ),
    "a large comment": (lambda: with_segments(*[segment(0xFE, bytes(65_000))] * 100), whole),
    "fill bytes in front of markers": (lambda: whole()[:2] + b"\xff" * 100_000 + whole()[2:], whole),
    "bytes behind the end": (lambda: whole() + whole()[100:] + b"\xff" * 100_000, whole),
    "5000 EXIF segments": (
        lambda: with_segments(*[segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0")] * 5000),
        whole,
    ),
}
ROWS = b"".join(b"\0" + row.tobytes() for row in picture())


@pytest.mark.parametrize("name", METADATA)
def test_metadata_is_no_damage_and_changes_no_pixel(name: str) -> None:
    odd, plain = METADATA[name]
    assert np.array_equal(decode(odd()), decode(plain()))


def empty_idats(count: int) -> bytes:
    return png(96, 96, 8, 2, ROWS, *[chunk(b"IDAT", b"")] * count)


COSTLY: dict[str, tuple[Make, RejectReason]] = {
    "comments": (lambda: with_segments(*[segment(0xFE, b"")] * (MAX_SEGMENTS + 1)), RejectReason.TOO_COSTLY),
    "tables": (
        lambda: with_segments(*[segment(0xDB, b"\0" + b"\1" * 64)] * (MAX_SEGMENTS + 1)),
        RejectReason.TOO_COSTLY,
    ),
    "restarts in the header": (
        lambda: with_segments(b"\xff\xd0" * (MAX_SEGMENTS + 1)),
        RejectReason.TOO_COSTLY,
    ),
    "scans": (lambda: jpeg_of_scans(101), RejectReason.TOO_COSTLY),
    "fill bytes and no marker": (lambda: b"\xff\xd8" + b"\xff" * 5_000_000 + b"\0", RejectReason.CORRUPT),
    "nothing but fill bytes": (lambda: b"\xff\xd8" + b"\xff" * 5_000_000, RejectReason.TRUNCATED),
    "fill bytes in the coded data": (
        lambda: whole()[:-2000] + b"\xff" * 5_000_000 + b"\0" + whole()[-2000:],
        RejectReason.CORRUPT,
    ),
    "chunks": (lambda: empty_idats(MAX_SEGMENTS + 1), RejectReason.TOO_COSTLY),
    "chunks of a WebP": (
        lambda: resized_chunks(b"junk\0\0\0\0" * (MAX_SEGMENTS + 1)),
        RejectReason.TOO_COSTLY,
    ),
    "16 bits of 29 megapixels": (lambda: png(5800, 5000, 16, 2, b""), RejectReason.TOO_COSTLY),
    "progressive 4:4:4 of 49 megapixels": (
        lambda: with_size(whole(progressive=1, subsampling=0), 7000, 7000),
        RejectReason.TOO_COSTLY,
    ),
    "PNG of 49 megapixels": (lambda: png(7000, 7000, 8, 0, b""), RejectReason.TOO_MANY_PIXELS),
}


def resized_chunks(chunks: bytes) -> bytes:
    body = b"WEBP" + chunks + whole("WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def with_size(data: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header claims another size."""
    at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


@pytest.mark.parametrize("name", COSTLY)
def test_what_costs_too_much_is_rejected_before_anything_is_allocated(name: str) -> None:
    make, reason = COSTLY[name]
    data = make()
    with counted() as effort, pytest.raises(ImageRejected) as caught:
        decode(data)
    assert caught.value.reason is reason
    assert effort.peak_bytes < (8 << 20) + 2 * len(data)
    assert effort.calls < 25 * MAX_SEGMENTS
    assert ";" in str(caught.value)


def test_the_blocks_of_all_scans_are_limited() -> None:
    """A hundred scans fit a small photo. A large one has as many blocks in ten."""
    data = with_size(whole(progressive=1), 7900, 6000)
    blocks = 7900 * 6000 // 64
    assert blocks * 9 > jpeg_format.MAX_BLOCKS * 0.9
    last = data.rindex(b"\xff\xda")
    with pytest.raises(ImageRejected) as caught:
        decode(data[:last] + data[last:-2] * 10 + data[-2:])
    assert caught.value.reason is RejectReason.TOO_COSTLY


def test_the_memory_that_a_header_states_holds() -> None:
    """Beyond it decoding needs some bands and buffers, however large the image is."""
    picture_ = scene().resize((2400, 2000))
    for mode, kind in (("RGB", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("P", "PNG"), ("RGBA", "WEBP")):
        image = picture_.convert("RGB").quantize(8) if mode == "P" else picture_.convert(mode)
        data = saved(image, kind)
        with pytest.raises(ImageRejected, match="bytes of memory"):
            decode(data, Limits(max_memory=3 * 2400 * 2000 - 1))
        assert decode(data).shape == (2000, 2400, 3)


def test_a_lossless_webp_of_one_colour_opens() -> None:
    """Its coded data are hardly longer than what the decoder gets last."""
    for size in ((80, 80), (200, 100), (900, 900)):
        for options in ({"lossless": True}, {"quality": 1}, {"quality": 100}):
            body = io.BytesIO()
            Image.new("RGB", size, (10, 200, 30)).save(body, "WEBP", **options)
            assert decode(body.getvalue()).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_is_rejected_or_has_the_pixels_of_the_sound_one(name: str) -> None:
    make, sound, right = ODD[name]
    data = make(scene())
    if right == SAME:
        assert np.array_equal(decode(data), decode(sound(scene())))
        return
    with pytest.raises(ImageRejected):
        decode(data)
