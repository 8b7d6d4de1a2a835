from __future__ import annotations

import io
import struct
import threading
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile
from tests.effort import counted

from abeyance.vision.errors import ImageRejected, RejectReason
from abeyance.vision.formats import jpeg as jpeg_format
from abeyance.vision.image import Limits, decode, open_photo

from .pictures import (
    SIDE,
    bomb_chunk,
    chunk,
    colour_png,
    cut,
    damaged_png,
    frames,
    jpeg,
    jpeg_header,
    jpeg_of_scans,
    picture,
    png,
    png_16,
    png_with_garbage_pixels,
    png_with_too_few_rows,
    rgb_rows,
    saved,
    webp,
    webp_header,
    with_orientation,
)

Make = Callable[[], bytes]


def a_zip() -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("face.jpg", jpeg())
    return body.getvalue()


BAD: dict[str, tuple[Make, RejectReason]] = {
    "no bytes": (lambda: b"", RejectReason.EMPTY),
    "one byte": (lambda: b"\xff", RejectReason.UNSUPPORTED_FORMAT),
    "zero bytes": (lambda: bytes(5000), RejectReason.UNSUPPORTED_FORMAT),
    "too many bytes": (lambda: jpeg() + bytes(20 << 20), RejectReason.TOO_MANY_BYTES),
    "text": (lambda: b"a photo of nobody", RejectReason.UNSUPPORTED_FORMAT),
    "SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', RejectReason.UNSUPPORTED_FORMAT),
    "HTML": (lambda: b"<!doctype html><title>no</title>", RejectReason.UNSUPPORTED_FORMAT),
    "PDF": (lambda: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", RejectReason.UNSUPPORTED_FORMAT),
    "ZIP of photos": (a_zip, RejectReason.UNSUPPORTED_FORMAT),
    "HEIC": (lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", RejectReason.UNSUPPORTED_FORMAT),
    "GIF": (lambda: saved(picture(), "GIF"), RejectReason.UNSUPPORTED_FORMAT),
    "BMP": (lambda: saved(picture(), "BMP"), RejectReason.UNSUPPORTED_FORMAT),
    "TIFF": (lambda: saved(picture(), "TIFF"), RejectReason.UNSUPPORTED_FORMAT),
    "PPM": (lambda: saved(picture(), "PPM"), RejectReason.UNSUPPORTED_FORMAT),
    "RIFF sound": (lambda: b"RIFF\0\0\0\0WAVEfmt ", RejectReason.UNSUPPORTED_FORMAT),
    "JPEG signature alone": (lambda: b"\xff\xd8\xff", RejectReason.TRUNCATED),
    "PNG signature alone": (lambda: b"\x89PNG\r\n\x1a\n", RejectReason.TRUNCATED),
    "WebP signature alone": (lambda: b"RIFF\xff\0\0\0WEBP", RejectReason.TRUNCATED),
    "JPEG cut in its header": (lambda: cut(jpeg, 0.1), RejectReason.TRUNCATED),
    "JPEG cut in its pixels": (lambda: cut(jpeg, 0.7), RejectReason.TRUNCATED),
    "progressive JPEG cut": (
        lambda: cut(lambda: saved(picture(), "JPEG", progressive=True), 0.6),
        RejectReason.TRUNCATED,
    ),
    "PNG cut in its pixels": (lambda: cut(colour_png, 0.5), RejectReason.TRUNCATED),
    "WebP cut in its pixels": (lambda: cut(webp, 0.5), RejectReason.TRUNCATED),
    "PNG with a flipped bit": (damaged_png, RejectReason.CORRUPT),
    "PNG of garbage": (png_with_garbage_pixels, RejectReason.CORRUPT),
    "PNG with too few rows": (png_with_too_few_rows, RejectReason.CORRUPT),
    "PNG of no size": (lambda: png(0, 0, 8, 2, b""), RejectReason.CORRUPT),
    "PNG of impossible depth": (lambda: png(SIDE, SIDE, 3, 2, b"\0" * 9999), RejectReason.CORRUPT),
    "PNG of 400 megapixels": (lambda: png(20000, 20000, 8, 2, b"\0" * 100), RejectReason.TOO_MANY_PIXELS),
    "PNG of 4 gigapixels a side": (
        lambda: png(2**31 - 1, 2**31 - 1, 8, 2, b""),
        RejectReason.TOO_MANY_PIXELS,
    ),
    "JPEG of 4 gigapixels": (lambda: jpeg_header(65500, 65500), RejectReason.TOO_MANY_PIXELS),
    "WebP of 268 megapixels": (lambda: webp_header(16383, 16383), RejectReason.TOO_MANY_PIXELS),
    "WebP of 4 gigapixels": (lambda: webp_header(65535, 65535), RejectReason.TOO_MANY_PIXELS),
    "WebP of nothing but a canvas": (lambda: webp_header(200, 200), RejectReason.CORRUPT),
    "too narrow": (lambda: saved(picture(79, 300), "PNG"), RejectReason.TOO_SMALL),
    "one pixel": (lambda: saved(picture(1, 1), "PNG"), RejectReason.TOO_SMALL),
    "animated PNG": (lambda: frames("PNG"), RejectReason.ANIMATED),
    "animated WebP": (lambda: frames("WEBP"), RejectReason.ANIMATED),
    "animated GIF": (lambda: frames("GIF"), RejectReason.UNSUPPORTED_FORMAT),
    "JPEG of ten thousand scans": (lambda: jpeg_of_scans(10_000), RejectReason.TOO_COSTLY),
    "JPEG of text": (lambda: b"\xff\xd8\xff\xe0" + b"hello" * 100, RejectReason.TRUNCATED),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_bytes_end_in_a_typed_reason_with_little_effort(name: str) -> None:
    make, reason = BAD[name]
    data = make()
    with counted() as effort, pytest.raises(ImageRejected) as caught:
        decode(data)
    assert caught.value.reason is reason
    # The headers announce up to 16 GB; ten thousand scans are listed.
    assert effort.peak_bytes < 8 << 20
    assert effort.calls < 100_000
    # The message says what to do.
    assert ";" in str(caught.value)


def grey_png() -> bytes:
    return saved(Image.fromarray(picture()).convert("L"), "PNG")


def translucent(mode: str) -> Image.Image:
    """The left half shown, the right half not at all."""
    image = Image.fromarray(picture()).convert(mode)
    alpha = np.zeros((SIDE, SIDE), np.uint8)
    alpha[:, : SIDE // 2] = 255
    image.putalpha(Image.fromarray(alpha))
    return image


def jpeg_with_bad_exif() -> bytes:
    return saved(picture(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")


def cmyk() -> Image.Image:
    return Image.fromarray(picture()).convert("CMYK")


GREY = np.asarray(Image.fromarray(picture()).convert("L"))[:, :, None].repeat(3, axis=2)

#: name -> (file, pixels that it shows, largest mean difference)
GOOD: dict[str, tuple[Make, np.ndarray, float]] = {
    "JPEG": (jpeg, picture(), 3),
    "progressive JPEG": (lambda: saved(picture(), "JPEG", progressive=True, quality=95), picture(), 3),
    "grey JPEG": (lambda: saved(Image.fromarray(picture()).convert("L"), "JPEG", quality=95), GREY, 3),
    "CMYK JPEG": (lambda: saved(cmyk(), "JPEG", quality=95), np.asarray(cmyk().convert("RGB")), 3),
    "JPEG with something behind it": (lambda: jpeg() + b"video" * 1000, picture(), 3),
    "JPEG with unreadable EXIF": (
        lambda: saved(picture(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"),
        picture(),
        4,
    ),
    "JPEG of two pictures": (lambda: frames("MPO", 2), picture(), 4),
    "PNG": (colour_png, picture(), 0),
    "PNG of 1 bit": (
        lambda: saved(Image.fromarray(picture()).convert("1"), "PNG"),
        np.asarray(Image.fromarray(picture()).convert("1").convert("RGB")),
        0,
    ),
    "grey PNG": (grey_png, GREY, 0),
    "palette PNG": (
        lambda: saved(Image.fromarray(picture()).quantize(64), "PNG"),
        np.asarray(Image.fromarray(picture()).quantize(64).convert("RGB")),
        0,
    ),
    "16-bit grey PNG": (lambda: png_16(GREY[:, :, 0].astype(np.uint16) * 257, 0), GREY, 0),
    "dark 16-bit grey PNG": (lambda: png_16(np.full((SIDE, SIDE), 300, np.uint16), 0), GREY * 0 + 1, 0),
    "16-bit PNG": (lambda: png_16(picture().astype(np.uint16) * 257, 2), picture(), 0),
    "PNG without an end": (lambda: colour_png()[:-12], picture(), 0),
    "PNG with a text bomb of 200 MiB": (lambda: colour_png(bomb_chunk(b"zTXt", 200)), picture(), 0),
    "PNG with a thousand text bombs": (lambda: colour_png(*[bomb_chunk(b"zTXt", 1)] * 1000), picture(), 0),
    "PNG with a modest profile": (lambda: colour_png(bomb_chunk(b"iCCP", 0)), picture(), 0),
    "one frame of APNG": (lambda: saved(picture(), "PNG", save_all=True), picture(), 0),
    "WebP": (webp, picture(), 5),
    "lossless WebP": (lambda: saved(picture(), "WEBP", lossless=True), picture(), 0),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")
@pytest.mark.parametrize("name", GOOD)
def test_odd_images_are_decoded_as_they_look(name: str) -> None:
    make, expected, tolerance = GOOD[name]
    pixels = decode(make())
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() <= tolerance


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (translucent("RGB"), "PNG"),
        (translucent("L"), "PNG"),
        (translucent("RGB"), "WEBP"),
        (translucent("RGB").quantize(16), "PNG"),
    ],
    ids=["RGBA", "grey and alpha", "WebP", "palette"],
)
def test_what_is_transparent_is_shown_on_white(image: Image.Image, kind: str) -> None:
    pixels = decode(saved(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert (pixels[:, SIDE // 2 + 1 :] >= 250).all()
    assert not (pixels[:, : SIDE // 2 - 1] >= 250).all()


def test_a_transparent_colour_is_shown_on_white() -> None:
    hole = struct.pack(">HHH", 230, 20, 20)
    pixels = decode(png(SIDE, SIDE, 8, 2, rgb_rows(picture()), chunk(b"tRNS", hole)))
    assert (pixels[: SIDE // 4, : SIDE // 4] == 255).all()
    assert (pixels[SIDE // 2 :] == picture()[SIDE // 2 :]).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [0, *range(1, 9), 9])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    expected = picture(96, 120)
    pixels = decode(with_orientation(kind, orientation))
    assert pixels.shape == expected.shape
    assert pixels.flags.c_contiguous
    assert np.abs(pixels.astype(int) - expected).mean() < 3


def test_limits_are_those_given() -> None:
    body = saved(picture(200, 100), "PNG")
    assert decode(body, Limits(max_pixels=20_000, min_side=100)).shape == (100, 200, 3)
    with pytest.raises(ImageRejected) as caught:
        decode(body, Limits(max_pixels=19_999))
    assert caught.value.reason is RejectReason.TOO_MANY_PIXELS
    with pytest.raises(ImageRejected) as caught:
        decode(body, Limits(min_side=101))
    assert caught.value.reason is RejectReason.TOO_SMALL
    with pytest.raises(ImageRejected) as caught:
        decode(body, Limits(max_bytes=len(body) - 1))
    assert caught.value.reason is RejectReason.TOO_MANY_BYTES


def test_pixels_are_not_decoded_before_the_size_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: ImageFile.ImageFile) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    for body in (saved(picture(200, 200), kind) for kind in ("JPEG", "PNG")):
        with pytest.raises(ImageRejected) as caught:
            decode(body, Limits(max_pixels=100))
        assert caught.value.reason is RejectReason.TOO_MANY_PIXELS


def test_threads_do_not_disturb_each_other() -> None:
    bodies = {kind: saved(picture(300, 200), kind) for kind in ("JPEG", "PNG", "WEBP")}
    expected = {kind: decode(body) for kind, body in bodies.items()}
    wrong: list[str] = []

    def work(kind: str) -> None:
        for _ in range(20):
            if not np.array_equal(decode(bodies[kind]), expected[kind]):
                wrong.append(kind)
            try:
                decode(bodies[kind][: len(bodies[kind]) // 2])
            except ImageRejected:
                continue
            wrong.append(f"half of a {kind}")

    threads = [threading.Thread(target=work, args=(kind,)) for kind in bodies for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def shown(width: int, height: int, **options: Any) -> bytes:
    return saved(picture(width, height), "JPEG", quality=95, **options)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_large_jpeg_is_decoded_no_larger_than_needed(progressive: bool) -> None:
    body = shown(2600, 1301, progressive=progressive)
    photo = open_photo(body)
    assert (photo.width, photo.height, photo.shape) == (2600, 1301, (1301, 2600, 3))
    copy, reduction = photo.reduced(2.9)
    assert reduction == 2
    assert copy.shape == (651, 1300, 3)
    # What is there already is taken again, and the whole photo is decoded when it is asked for.
    assert photo.reduced(100)[0] is copy
    assert np.array_equal(photo.pixels, decode(body))
    assert photo.pixels is photo.reduced(1.9)[0]
    assert photo.reduced(2)[0] is copy
    small = np.asarray(Image.fromarray(photo.pixels[:1300]).reduce(2)).astype(int)
    assert np.abs(small - copy[:650]).mean() < 1


@pytest.mark.parametrize(("longest", "reduction"), [(1279, 1), (2559, 1), (2560, 2), (5119, 2), (5120, 4)])
def test_the_first_copy_is_as_large_as_asked_for(longest: int, reduction: int) -> None:
    copy, have = open_photo(shown(longest, 120)).reduced(8)
    assert have == reduction
    assert copy.shape[1] >= min(longest, 1280)
    assert np.abs(copy[:4, :4].astype(int) - picture()[0, 0]).max() < 12


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_reduced_copies_are_upright(orientation: int) -> None:
    body = with_orientation("JPEG", orientation)
    photo = open_photo(body, longest_side=48)
    assert photo.shape == (120, 96, 3)
    copy, reduction = photo.reduced(2)
    assert reduction == 2
    assert copy.shape == (60, 48, 3)
    assert copy.flags.c_contiguous
    assert np.abs(copy.astype(int) - picture(96, 120)[::2, ::2]).mean() < 4
    assert photo.pixels.shape == photo.shape


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_photo_of_several_bands_is_turned_as_a_small_one(orientation: int) -> None:
    swap, rows, columns = {
        2: (False, False, True),
        3: (False, True, True),
        4: (False, True, False),
        5: (True, False, False),
        6: (True, False, True),
        7: (True, True, True),
        8: (True, True, False),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = picture(2300, 2100)
    upright = stored.transpose(1, 0, 2) if swap else stored
    upright = upright[:: -1 if rows else 1, :: -1 if columns else 1]
    assert np.array_equal(decode(saved(stored, "PNG", exif=exif)), upright)


def test_a_photo_that_is_dear_to_decode_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    body, calls, decode_jpeg = shown(2600, 1301, progressive=True), [], jpeg_format._decode
    whole = decode(body)
    monkeypatch.setattr(jpeg_format, "_DECODE_ONCE_BLOCKS", 100_000)
    monkeypatch.setattr(jpeg_format, "_decode", lambda *given: calls.append(given[3]) or decode_jpeg(*given))
    photo = open_photo(body)
    copy, reduction = photo.reduced(2.9)
    assert (copy.shape, reduction) == ((651, 1300, 3), 2)
    assert np.array_equal(copy, Image.fromarray(whole).reduce(2))
    assert np.array_equal(photo.pixels, whole)
    assert calls == [1]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_other_formats_are_decoded_whole(kind: str) -> None:
    photo = open_photo(saved(picture(2600, 90), kind))
    assert photo.reduced(2)[1] == 1
    assert photo.reduced(2)[0].shape == photo.shape == (90, 2600, 3)


def test_a_large_jpeg_that_ends_too_soon_is_rejected_at_once() -> None:
    body = shown(2600, 1300)
    for part in (0.3, 0.7, 0.99):
        with pytest.raises(ImageRejected) as caught:
            open_photo(body[: int(len(body) * part)])
        assert caught.value.reason is RejectReason.TRUNCATED


def test_cmyk_and_grey_are_reduced_too() -> None:
    for mode in ("L", "CMYK"):
        body = saved(Image.fromarray(picture(2600, 100)).convert(mode), "JPEG", quality=95)
        copy, reduction = open_photo(body).reduced(2)
        assert (copy.shape, reduction) == ((50, 1300, 3), 2)
        assert np.abs(decode(body)[::2, ::2].astype(int) - copy).mean() < 3
