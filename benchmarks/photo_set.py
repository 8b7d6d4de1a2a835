"""Photos for measurements, composed from the sample photos: so many pixels, so many faces."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from abeyance.local.samples import as_png, fetch_samples
from abeyance.vision.image import decode
from abeyance.vision.models.store import load_detector

#: Each shows one whole face.
_PORTRAITS = ("obama.jpg", "obama2.jpg", "obama3.jpg", "biden.jpg", "astronaut.png")
#: Side of the square around a face, in widths of its box.
_SQUARE_WIDTHS = 2.0


@dataclass(frozen=True, slots=True)
class Kind:
    """The size and number of faces of the photos of one measurement."""

    key: str
    #: For people.
    what: str
    width: int
    height: int
    faces: int


#: From small to large.
KINDS = (
    Kind("640px.1face", "640 px, 1 face", 640, 480, 1),
    Kind("640px.20faces", "640 px, 20 faces", 640, 480, 20),
    Kind("12mp.1face", "12 megapixels, 1 face", 4000, 3000, 1),
    Kind("12mp.20faces", "12 megapixels, 20 faces", 4000, 3000, 20),
)


def write_photos(kind: Kind, folder: Path, count: int) -> list[Path]:
    """Write ``count`` different photos of one kind as JPEG files, and return their paths."""
    paths = [folder / f"{kind.key}-{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(compose(kind, number))
    return paths


def compose(kind: Kind, number: int) -> bytes:
    """Compose a JPEG of quality 90 with portraits in the cells of a grid, on soft spots of colour.

    A camera's noise is added: without it, a photo of twelve megapixels would have a quarter of the bytes of a real one
    and take less time to decode.
    """
    columns, rows = (5, 4) if kind.faces > 1 else (1, 1)
    cell = kind.width // columns, kind.height // rows
    # One face takes a third of the height, as in a portrait; of twenty each fills its cell.
    side = int(min(cell) * (0.95 if kind.faces > 1 else 0.7))
    rng = np.random.default_rng(number)
    photo = Image.fromarray(_background(kind.width, kind.height, rng))
    heads = islice(cycle(_heads()), number, number + kind.faces)
    for place, head in enumerate(heads):
        turned = ImageOps.mirror(head) if place // len(_PORTRAITS) % 2 else head
        row, column = divmod(place, columns)
        left, top = column * cell[0] + (cell[0] - side) // 2, row * cell[1] + (cell[1] - side) // 2
        photo.paste(turned.resize((side, side), Image.Resampling.BICUBIC), (left, top))
    noisy = np.asarray(photo) + rng.normal(0, 3, (kind.height, kind.width, 1)).astype(np.float32)
    body = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(body, "JPEG", quality=90)
    return body.getvalue()


def write_portraits(folder: Path, people: int, each: int = 4) -> dict[str, list[Path]]:
    """Write up to ``each`` old photographs of ``people`` persons as JPEG files; return them by person."""
    chosen: dict[str, list[Path]] = {}
    for name, source in sorted(fetch_samples("csu-scrapshots").items()):
        if not name.endswith(".pgm") or (len(chosen) == people and name[:5] not in chosen):
            continue
        files = chosen.setdefault(name[:5], [])
        if len(files) < each:
            files.append(folder / f"{source.stem}.jpg")
            with Image.open(io.BytesIO(as_png(source))) as image:
                image.convert("RGB").save(files[-1], "JPEG", quality=95)
    return chosen


def costly_photo() -> bytes:
    """Return the photo that takes longest within the limits: progressive, of 47 megapixels, with 100 tilted faces.

    It has less than 5 MiB, the most that a request of Rekognition may hold.
    """
    width, height, columns = 7900, 6000, 10
    side = height // columns
    photo = Image.fromarray(_background(width, height, np.random.default_rng(0)))
    tiles = [
        head.resize((side, side), Image.Resampling.BICUBIC).rotate(tilt, Image.Resampling.BICUBIC)
        for head in _heads()
        for tilt in (27, -27)
    ]
    for place, tile in enumerate(islice(cycle(tiles), columns**2)):
        photo.paste(tile, (place % columns * width // columns, place // columns * side))
    body = io.BytesIO()
    photo.save(body, "JPEG", quality=80, progressive=True)
    return body.getvalue()


@cache
def _heads() -> list[Image.Image]:
    """Return squares of the sample portraits, with the face in the middle."""
    heads = []
    files = {**fetch_samples("white-house-portraits"), **fetch_samples("astronaut")}
    detector = load_detector()
    for name in _PORTRAITS:
        pixels = decode(files[name].read_bytes())
        x, y, width, height = detector.detect(pixels)[0].box
        half = max(width, height) * _SQUARE_WIDTHS / 2
        middle = x + width / 2, y + height / 2
        left, top = round(middle[0] - half) + 400, round(middle[1] - half) + 400
        # Grey, not black, outside the portrait: cameras make no black edges.
        frame = ImageOps.expand(Image.fromarray(pixels), 400, (120, 120, 120))
        heads.append(frame.crop((left, top, left + round(2 * half), top + round(2 * half))))
    return heads


def _background(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """Return (height, width, 3) uint8: soft spots of colour."""
    small = rng.integers(60, 200, (9, 12, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
