"""Whatever is uploaded ends: in a typed reason, or in faces. All inputs are made here."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from abeyance.local.samples import fetch_samples
from abeyance.local.system import LocalSystem

from ...unit.vision.test_image import BAD
from .conftest import result

FACE = 150  # pixels of one face's tile, cut from the astronaut


#: One running system serves all tests of this file, so they stay together.


def astronaut() -> Image.Image:
    return Image.open(fetch_samples("astronaut")["astronaut.png"]).convert("RGB")


def tile(side: int) -> Image.Image:
    """The astronaut's face with some surroundings."""
    return astronaut().crop((140, 20, 310, 190)).resize((side, side), Image.Resampling.LANCZOS)


def mosaic(columns: int, rows: int, side: int) -> Image.Image:
    sheet = Image.new("RGB", (columns * side, rows * side))
    for number in range(columns * rows):
        sheet.paste(tile(side), (number % columns * side, number // columns * side))
    return sheet


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    body = io.BytesIO()
    image.save(body, kind, **options)
    return body.getvalue()


def turned(orientation: int) -> bytes:
    """A JPEG whose pixels lie turned, with the EXIF tag that says how to put them upright."""
    undo = {3: 180, 6: 90, 8: 270}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(astronaut().rotate(undo, expand=True), "JPEG", quality=95, exif=exif)


def deep(image: Image.Image) -> bytes:
    """A 16-bit grey PNG."""
    return encoded(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257))


#: What is uploaded -> (how it is made, faces that must be found: at least, at most).
ODD: dict[str, tuple[Callable[[], bytes], int, int]] = {
    "as it is": (lambda: encoded(astronaut()), 1, 1),
    "upside down by EXIF": (lambda: turned(3), 1, 1),
    "on its side by EXIF": (lambda: turned(6), 1, 1),
    "on its other side by EXIF": (lambda: turned(8), 1, 1),
    "CMYK": (lambda: encoded(astronaut().convert("CMYK"), "JPEG", quality=95), 1, 1),
    "grey": (lambda: encoded(astronaut().convert("L"), "JPEG"), 1, 1),
    "palette": (lambda: encoded(astronaut().quantize(128)), 1, 1),
    "16-bit": (lambda: deep(astronaut()), 1, 1),
    "WebP": (lambda: encoded(astronaut(), "WEBP"), 1, 1),
    "300 faces": (lambda: encoded(mosaic(20, 15, 100), "JPEG", quality=90), 90, 100),
    "faces of 20 pixels": (lambda: encoded(mosaic(5, 4, 40)), 0, 20),
    "a face cut off by the border": (lambda: encoded(astronaut().crop((225, 0, 512, 512))), 0, 1),
    "a mirrored face": (lambda: encoded(ImageOps.mirror(astronaut())), 1, 1),
}


@pytest.fixture(scope="module")
def outcomes(system: LocalSystem, portraits: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Everything uploaded at once, and what came of each."""
    s3, keys = system.client("s3"), {}
    for number, (name, (make, *_)) in enumerate((BAD | ODD).items()):
        keys[name] = f"acme/index/odd/{number}.jpg"
        s3.put_object(Bucket="uploads", Key=keys[name], Body=make())
    system.drain(240)
    found = {name: result(system, key) for name, key in keys.items()}
    missing = [name for name, document in found.items() if document is None]
    assert missing == [], system.waiting()
    return {name: document for name, document in found.items() if document is not None}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_ends_in_its_reason(outcomes: dict[str, dict[str, Any]], name: str) -> None:
    document = outcomes[name]
    assert (document["event"], document["reason"]) == ("Upload Rejected", BAD[name][1])
    assert document["stage"] == "detect"
    assert len(document["message"]) > 10


@pytest.mark.parametrize("name", ODD)
def test_odd_input_ends_in_faces(outcomes: dict[str, dict[str, Any]], name: str) -> None:
    document, (_, least, most) = outcomes[name], ODD[name]
    if document["event"] == "Upload Rejected":
        assert (document["reason"], least) == ("NO_FACE", 0)
        return
    assert document["event"] == "Faces Indexed"
    found = len(document["faces"]) + len(document["unindexed"])
    assert least <= found <= most
    assert all(face["reasons"] for face in document["unindexed"])


def test_the_same_face_is_recognised_however_it_was_saved(
    system: LocalSystem, outcomes: dict[str, dict[str, Any]]
) -> None:
    indexed = {name: outcomes[name]["faces"][0]["face"]["box"] for name in ODD if outcomes[name].get("faces")}
    upright = indexed["as it is"]
    for name in ("upside down by EXIF", "on its side by EXIF", "CMYK", "16-bit", "WebP", "palette", "grey"):
        for side in ("left", "top", "width", "height"):
            assert indexed[name][side] == pytest.approx(upright[side], abs=0.03), name


def test_nothing_was_lost_or_given_up(system: LocalSystem, outcomes: dict[str, dict[str, Any]]) -> None:
    assert set(system.waiting().values()) == {0}
