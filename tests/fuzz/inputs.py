"""Inputs that grow: what strangers send, with one part of it repeated any number of times."""

from __future__ import annotations

import functools
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from PIL import Image
from tests.unit.vision.pictures import chunk, picture, png, rgb_rows, saved, with_orientation

Grow = Callable[[int], bytes]


@functools.cache
def photo(kind: str = "JPEG", **options: Any) -> bytes:
    """A picture with some detail."""
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    scene = Image.blend(Image.fromarray(picture(160, 160)), Image.fromarray(noise).resize((160, 160)), 0.3)
    return saved(scene, kind, **options)


def _inserted(piece: bytes) -> Grow:
    return lambda count: photo()[:2] + piece * count + photo()[2:]


def _coded(piece: bytes) -> Grow:
    return lambda count: photo()[:-400] + piece * count + photo()[-400:]


def _chunks(piece: bytes) -> Grow:
    return lambda count: png(96, 96, 8, 2, rgb_rows(picture()), *[piece] * count)


def _riff(piece: bytes) -> Grow:
    def grow(count: int) -> bytes:
        body = b"WEBP" + piece * count + photo("WEBP")[12:]
        return b"RIFF" + struct.pack("<I", len(body)) + body

    return grow


def _scans(count: int) -> bytes:
    data = photo(progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


#: Photos: a number of repeated parts -> the file.
PHOTOS: Final[Mapping[str, Grow]] = {
    "fill bytes": _inserted(b"\xff"),
    "fill bytes and no marker": lambda count: b"\xff\xd8" + b"\xff" * count + b"\0",
    "comments": _inserted(b"\xff\xfe\0\2"),
    "EXIF segments": _inserted(b"\xff\xe1\0\x0eExif\0\0MM\0*\0\0"),
    "EXIF entries": _inserted(b"\xff\xe1\xff\xffExif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(65_519)),
    "XMP segments": _inserted(b"\xff\xe1\0\x23http://ns.adobe.com/xap/1.0/\0abcd"),
    "profile segments": _inserted(b"\xff\xe2\0\x14ICC_PROFILE\0\1\1abcd"),
    "Photoshop segments": _inserted(b"\xff\xed\0\x18Photoshop 3.0\x008BIM\4\4\0\0"),
    "quantization tables": _inserted(b"\xff\xdb\0\x43\0" + b"\1" * 64),
    "Huffman tables": _inserted(b"\xff\xc4\0\x14\0" + b"\1" + bytes(15) + b"\0"),
    "restart intervals": _inserted(b"\xff\xdd\0\4\0\1"),
    "standalone markers": _inserted(b"\xff\1"),
    "restarts in the coded data": _coded(b"\xff\xd0"),
    "stuffed bytes in the coded data": _coded(b"\xff\0"),
    "fill bytes in the coded data": _coded(b"\xff"),
    "zeros in the coded data": _coded(b"\0"),
    "bytes behind the end": lambda count: photo() + b"\xff\xd8" * count,
    "scans": _scans,
    "text chunks": _chunks(chunk(b"tEXt", b"a\0b")),
    "packed text": _chunks(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20), 9))),
    "profiles": _chunks(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 16), 9))),
    "empty pixel chunks": _chunks(chunk(b"IDAT", b"")),
    "palettes": _chunks(chunk(b"PLTE", bytes(768))),
    "transparencies": _chunks(chunk(b"tRNS", bytes(6))),
    "frames": _chunks(chunk(b"fcTL", bytes(26))),
    "unknown chunks of a WebP": _riff(b"junk\0\0\0\0"),
    "EXIF chunks of a WebP": _riff(b"EXIF\4\0\0\0MM\0*"),
    "XMP chunks of a WebP": _riff(b"XMP \4\0\0\0<x/>"),
}

#: What mutations start from.
SEEDS: Final[Mapping[str, Callable[[], bytes]]] = {
    "JPEG": photo,
    "progressive": lambda: photo(progressive=True),
    "4:4:4": lambda: photo(subsampling=0, progressive=True),
    "restarts": lambda: photo(restart_marker_blocks=3),
    "CMYK": lambda: saved(Image.fromarray(picture(160, 160)).convert("CMYK"), "JPEG"),
    "turned": lambda: with_orientation("JPEG", 6),
    "PNG": lambda: photo("PNG"),
    "palette": lambda: saved(Image.fromarray(picture(160, 160)).quantize(16), "PNG"),
    "translucent": lambda: saved(Image.fromarray(picture(160, 160)).convert("RGBA"), "PNG"),
    "WebP": lambda: photo("WEBP"),
    "lossless": lambda: photo("WEBP", lossless=True),
    "translucent WebP": lambda: saved(_translucent(), "WEBP"),
}


def _translucent() -> Image.Image:
    image = Image.fromarray(picture(160, 160)).convert("RGBA")
    image.putalpha(Image.fromarray(picture(160, 160)).convert("L"))
    return image


def _many(text: str) -> Callable[[int], str]:
    return lambda count: ",".join([text] * count)


#: Bodies of CreateUser, SearchFaces, DetectFaces and others: a number of repeated parts -> operation and body.
REQUESTS: Final[Mapping[str, tuple[str, Grow]]] = {
    "unknown members": (
        "DetectFaces",
        lambda count: json.dumps({f"Member{n}": n for n in range(count)}).encode(),
    ),
    "face ids": (
        "DeleteFaces",
        lambda count: json.dumps({"CollectionId": "a", "FaceIds": ["x"] * count}).encode(),
    ),
    "attributes": ("DetectFaces", lambda count: json.dumps({"Attributes": ["ALL"] * count}).encode()),
    "a long name": ("ListFaces", lambda count: json.dumps({"CollectionId": "a" * count}).encode()),
    "a long external id": (
        "IndexFaces",
        lambda count: json.dumps({"CollectionId": "a", "ExternalImageId": "a" * count + "!"}).encode(),
    ),
    "nested arrays": ("DetectFaces", lambda count: b'{"Image":' + b"[" * count + b"]" * count + b"}"),
    "nested objects": ("DetectFaces", lambda count: b'{"Image":' * count + b"1" + b"}" * count),
    "image bytes": ("DetectFaces", lambda count: b'{"Image":{"Bytes":"' + b"QUJD" * count + b'"}}'),
    "no base64": ("DetectFaces", lambda count: b'{"Image":{"Bytes":"' + b"=" * count + b'"}}'),
    "escapes": ("ListFaces", lambda count: b'{"CollectionId":"' + b"\\u0041" * count + b'"}'),
    "digits": ("ListFaces", lambda count: b'{"MaxResults":' + b"9" * count + b"}"),
    "repeated keys": ("ListFaces", lambda count: b"{" + b'"CollectionId":"a",' * count + b'"MaxResults":1}'),
}

_FLAG: Final = {"name": "a halt", "attributes": {}}

#: Flags documents, well and ill formed.
FLAGS: Final[Mapping[str, Grow]] = {
    "flags": lambda count: _document({f"flag-{n}": {"enabled": False} for n in range(count)}),
    "jurisdictions": lambda count: _document(
        {"one": {"enabled": True, "effect": "halt", "jurisdictions": ["us-ca"] * count}}
    ),
    "exempt tenants": lambda count: _document(
        {"one": {"enabled": True, "effect": "halt", "exempt_tenants": [f"t-{n}" for n in range(count)]}}
    ),
    "a long key": lambda count: _document({"a" * count: {"enabled": False}}),
    "a long reason": lambda count: _document(
        {"one": {"enabled": True, "effect": "halt", "reason": "a" * count}}
    ),
    "nested arrays": lambda count: b"[" * count + b"]" * count,
    "nested objects": lambda count: b'{"a":' * count + b"1" + b"}" * count,
    "digits": lambda count: b'{"version":' + b"9" * count + b"}",
    "fractions": lambda count: b'{"version":1.' + b"9" * count + b"}",
    "repeated keys": lambda count: b"{" + b'"version":"1",' * count + b'"values":{}}',
    "blanks": lambda count: b" " * count + b"{}",
    "a long date": lambda count: _document(
        {"one": {"enabled": True, "effect": "halt", "starts": "2026-01-01T00:00:00" + "0" * count + "Z"}}
    ),
}


def _document(values: Mapping[str, Any]) -> bytes:
    flags = dict.fromkeys(values, _FLAG)
    return json.dumps({"version": "1", "flags": flags, "values": values}).encode()


_HASH: Final = b"0" * 64


def _line(body: bytes) -> bytes:
    seed = b'"AAECAwQFBgcICQoLDA0ODw=="'
    record = b'"id":"a","time":"2026-01-01T00:00:00.000000Z","type":"Upload Halted"'
    return b'{"record":{"body":' + body + b"," + record + b'},"seed":' + seed + b"}"


#: Openings of entries of the ledger.
LINES: Final[Mapping[str, Grow]] = {
    "members": lambda count: _line(
        json.dumps({f"{n:09}": 1 for n in range(count)}, separators=(",", ":")).encode()
    ),
    "numbers": lambda count: _line(b'{"a":[' + b"1," * count + b"1]}"),
    "fractions": lambda count: _line(b'{"a":[' + b"0.1," * count + b"1]}"),
    "long integers": lambda count: _line(b'{"a":[' + b"1234567890123456," * count + b"1]}"),
    "digits": lambda count: _line(b'{"a":' + b"9" * count + b"}"),
    "a fraction of many digits": lambda count: _line(b'{"a":0.' + b"9" * count + b"}"),
    "nested arrays": lambda count: _line(b'{"a":' + b"[" * count + b"]" * count + b"}"),
    "nested objects": lambda count: _line(b'{"a":' * count + b"1" + b"}" * count),
    "hash members": lambda count: _line(b"{" + b',"hash":"' * count + b"}"),
    "a long string": lambda count: _line(b'{"a":"' + b"a" * count + b'"}'),
    "astral characters": lambda count: _line(b'{"a":"' + "\U0001f600".encode() * count + b'"}'),
    "bytes of no meaning": lambda count: b"\xff" * count,
    "braces": lambda count: b"{" * count,
    "blanks": lambda count: b'{"body":' + b" " * count,
    "colons": lambda count: _line(b'{"a":"' + b":-1234567890" * count + b'"}'),
}
