"""Squares cut out of photos."""

from __future__ import annotations

import numpy as np
import pytest

from abeyance.vision.alignment import averaged
from abeyance.vision.attributes.crops import back_to_photo, cut, dlib_transform, square_transform


def photo() -> np.ndarray:
    """(80, 100, 3): red grows to the right, green downwards."""
    pixels = np.zeros((80, 100, 3), np.uint8)
    pixels[..., 0] = 2 * np.arange(100)[None, :]
    pixels[..., 1] = 2 * np.arange(80)[:, None]
    return pixels


def test_a_square_of_the_same_scale_is_the_photo_itself() -> None:
    seen = cut(photo(), square_transform((39.5, 29.5), 20, 0, 20), 20)
    assert np.array_equal(seen, photo()[20:40, 30:50])


@pytest.mark.parametrize("roll", [0, 30, -75, 180])
@pytest.mark.parametrize("size", [12, 30, 45])
def test_points_go_there_and_back(roll: float, size: float) -> None:
    matrix = square_transform((50, 40), size, roll, 64)
    there = np.array([[50, 40], [52, 37], [44, 45]], np.float32)
    inside = there @ matrix[:, :2].T + matrix[:, 2]
    assert np.allclose(inside[0], 31.5)
    assert np.allclose(back_to_photo(matrix, inside.astype(np.float32)), there, atol=1e-3)
    seen = cut(photo(), matrix, 64)
    for (x, y), (u, v) in zip(there, inside, strict=True):
        u, v = np.clip(np.round([u, v]).astype(int), 0, 63)
        x, y = back_to_photo(matrix, np.array([[u, v]], np.float32))[0]
        assert abs(int(seen[v, u, 0]) - 2 * x) < 3
        assert abs(int(seen[v, u, 1]) - 2 * y) < 3


def test_a_head_tilted_clockwise_is_turned_upright() -> None:
    """Its eyes, level in its own frame, slope down to the right in the photo."""
    matrix = square_transform((0, 0), 10, 20, 10)
    slope = np.array([np.cos(np.radians(20)), np.sin(np.radians(20))])
    assert np.allclose(matrix[:, :2] @ slope, [1, 0], atol=1e-6)


def test_outside_of_the_photo_is_black() -> None:
    assert not cut(photo() + 1, square_transform((500, 500), 20, 0, 16), 16).any()
    corner = cut(photo() + 1, square_transform((0, 0), 20, 0, 20), 20)
    assert not corner[:9, :9].any()
    assert corner[11:, 11:].all()


def test_a_large_face_is_averaged_and_not_skipped() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (600, 600, 3), np.uint8)
    seen = cut(noise, square_transform((299.5, 299.5), 512, 0, 32), 32)
    assert seen.std() < noise.std() / 4


def test_the_five_points_of_a_dlib_chip() -> None:
    """With 150 pixels and a padding of 0.25 they lie where they were measured to."""
    points = np.array([[46.92, 45.01], [103.84, 45.85], [75.82, 78.05], [50.92, 102.75], [99.96, 103.23]])
    matrix = dlib_transform(points.astype(np.float32), 150, 0.25)
    assert np.allclose(matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-4)
    tighter = dlib_transform(points.astype(np.float32), 150, 0.2)
    assert tighter[0, 0] == pytest.approx(1.5 / 1.4, abs=1e-5)


def test_averaging() -> None:
    chip = np.zeros((8, 8, 3), np.uint8)
    chip[::2] = 100
    assert averaged(chip, 4).tolist() == [[[50] * 3] * 2] * 2


def test_points_that_coincide_give_a_black_square() -> None:
    assert not cut(photo() + 1, dlib_transform(np.ones((5, 2), np.float32), 64, 0.2), 64).any()
