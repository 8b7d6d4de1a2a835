"""Artificial people for the tests: templates drawn at random, photos of one colour each."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abeyance.vision.detector import FaceDetection
from abeyance.vision.image import Photo

DIMENSION = 32


class OneFace:
    """A detector that finds one face in every photo, except in black ones."""

    def certainty(self, confidence: float) -> float:
        return confidence

    def detect(
        self, photo: Photo, *, min_confidence: float = 0.7, max_faces: int = 100
    ) -> list[FaceDetection]:
        if not photo.pixels.any():
            return []
        width, height = photo.width, photo.height
        points = np.array([[38, 52], [74, 52], [56, 72], [42, 92], [71, 92]], np.float32) * height / 112
        return [
            FaceDetection(
                box=(width / 4, height / 4, width / 2, height / 2), landmarks=points, confidence=0.9
            )
        ]


class Colours:
    """An embedder whose template depends on the person in the colour of a photo, and a little on the photo."""

    identity = "colours@000000000000"
    dimension = DIMENSION

    def embed(self, chips: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows = []
        for chip in chips:
            person, photo, kind = (int(v) for v in chip[56, 56])
            base = np.random.default_rng([kind]).standard_normal(DIMENSION)
            own = np.random.default_rng([person, kind, 1]).standard_normal(DIMENSION)
            noise = np.random.default_rng([person, photo, 2]).standard_normal(DIMENSION)
            row = 0.7 * base + own + 0.5 * noise
            rows.append(row / np.linalg.norm(row))
        return np.array(rows, np.float32).reshape(-1, DIMENSION)


def photo(path: Path, person: int, number: int, kind: int) -> Path:
    """Write a photo with a colour that encodes person, number and group."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (112, 112), (person, number, kind)).save(path)
    return path


def population(folder: Path, count: int, *, first: int = 0) -> Path:
    """``people.csv``: ``count`` people of four groups with two photos each."""
    rows = []
    for person in range(first, first + count):
        kind = person % 4 + 1
        for number in (1, 2):
            photo(folder / f"{number}" / f"{person}.png", person, number, kind)
        rows.append(
            [person, ["red", "blue"][kind % 2], ["f", "m"][kind // 3], f"1/{person}.png", f"2/{person}.png"]
        )
    table = folder / "people.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["person_id", "race", "gender", "photo_a", "photo_b"], *rows])
    return table


def crowd(folder: Path, count: int, *, first: int = 0) -> Path:
    """``faces.csv``: ``count`` strangers with one photo each."""
    rows = []
    for person in range(first, first + count):
        kind = person % 4 + 1
        photo(folder / "images" / f"{person}.png", person, 1, kind)
        rows.append(
            [
                f"{person}.png",
                ["red", "blue"][kind % 2],
                ["f", "m"][kind // 3],
                ["10-19", "20-29"][person % 2],
            ]
        )
    table = folder / "faces.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["image", "race", "gender", "age"], *rows])
    return table
