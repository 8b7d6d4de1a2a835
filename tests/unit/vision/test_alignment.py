from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from abeyance.vision.alignment import CHIP, TARGET, align, similarity_transform, warp
from abeyance.vision.image import open_photo

coordinate = st.floats(-500, 500, width=32)


def turned(angle: float, scale: float, shift: tuple[float, float]) -> NDArray[np.float32]:
    """TARGET turned clockwise by degrees, enlarged and moved."""
    a = np.radians(angle)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return (scale * TARGET @ turn.T + shift).astype(np.float32)


def umeyama(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The published algorithm (Umeyama 1991, eqs. 40-43), with its singular value decomposition."""
    mean_s, mean_t = source.mean(0), target.mean(0)
    s, t = source - mean_s, target - mean_t
    u, d, v = np.linalg.svd(t.T @ s / len(s))
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(v))])
    rotation = u @ np.diag(sign) @ v
    scale = (d * sign).sum() / s.var(0).sum()
    return np.column_stack([scale * rotation, mean_t - scale * rotation @ mean_s])


@given(st.floats(-180, 180), st.floats(0.2, 20), st.tuples(coordinate, coordinate))
def test_a_moved_face_is_found_again(angle: float, scale: float, shift: tuple[float, float]) -> None:
    points = turned(angle, scale, shift)
    matrix = similarity_transform(points[None])[0]
    back = points @ matrix[:, :2].T + matrix[:, 2]
    assert np.abs(back - TARGET).max() < 0.05


def test_any_points_give_the_least_squares_transform() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 300, (200, 5, 2)).astype(np.float32)
    matrices = similarity_transform(points)
    for source, matrix in zip(points, matrices, strict=True):
        expected = umeyama(source.astype(np.float64), TARGET.astype(np.float64))
        assert np.allclose(matrix, expected, atol=2e-3)


def test_points_that_coincide_give_a_black_chip() -> None:
    chips = align(np.full((50, 50, 3), 200, np.uint8), np.full((1, 5, 2), 20, np.float32))
    assert chips.shape == (1, CHIP, CHIP, 3)
    assert not chips.any()


def test_a_face_that_lies_as_in_the_chip_is_copied() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (CHIP, CHIP, 3), np.uint8)
    assert np.abs(align(pixels, TARGET)[0].astype(int) - pixels).max() <= 1


def test_sampling_is_bilinear() -> None:
    """A linear ramp stays linear wherever it is sampled."""
    y, x = np.mgrid[:300, :300]
    pixels = np.stack([x / 2, y / 2, (x + y) / 4], axis=-1).astype(np.float32)
    points = turned(25, 1.7, (90, 40))
    chip = align(pixels.round().astype(np.uint8), points)[0]
    matrix = similarity_transform(points[None])[0]
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    gy, gx = np.mgrid[:CHIP, :CHIP]
    sx, sy, _ = np.einsum("ij,jhw->ihw", inverse, np.stack([gx, gy, np.ones_like(gx)]))
    inside = (sx > 1) & (sx < 298) & (sy > 1) & (sy < 298)
    expected = np.stack([sx / 2, sy / 2, (sx + sy) / 4], axis=-1)
    assert inside.mean() > 0.9
    assert np.abs(chip - expected)[inside].max() < 1.5


def test_outside_the_photo_is_black_and_inside_is_not() -> None:
    pixels = np.full((200, 200, 3), 255, np.uint8)
    chip = align(pixels, TARGET + np.array([-60, 0], np.float32))[0]
    assert not chip[:, :59].any()
    assert (chip[:, 61:] == 255).all()
    for far in (-5000, 5000):
        assert not align(pixels, TARGET + np.float32(far)).any()


@pytest.mark.parametrize("scale", [0.5, 1, 3, 5.9, 6.1, 10])
def test_large_faces_lie_where_small_ones_do(scale: float) -> None:
    """Averaging of large faces shifts nothing: a soft spot comes out where it is expected."""
    centre = np.array([scale * 50 + 30, scale * 45 + 20])
    y, x = np.mgrid[: int(CHIP * scale) + 40, : int(CHIP * scale) + 60]
    spot = 255 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * (8 * scale) ** 2))
    matrix = np.array([[1 / scale, 0, -30 / scale], [0, 1 / scale, -20 / scale]], np.float32)
    chip = warp(spot.round().astype(np.uint8)[..., None].repeat(3, axis=2), matrix, CHIP)[..., 0].astype(
        float
    )
    found = [np.average(np.arange(CHIP), weights=chip.sum(axis)) for axis in (0, 1)]
    assert np.abs(np.array(found) - [50, 45]).max() < 0.05


def test_large_faces_do_not_alias() -> None:
    """A fine checkerboard is grey from far away."""
    y, x = np.mgrid[:2000, :2000]
    pixels = (((x + y) % 2) * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    chip = align(pixels, TARGET * np.float32(14) + 100)[0]
    assert abs(chip.mean() - 127.5) < 2
    assert chip.std() < 20


def test_many_faces_come_in_order() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (400, 400, 3), np.uint8)
    points = np.stack([turned(a, 1 + a / 90, (150, 120)) for a in (0, 30, 60)])
    chips = align(pixels, points)
    assert chips.shape == (3, CHIP, CHIP, 3)
    assert chips.dtype == np.uint8
    for chip, face in zip(chips, points, strict=True):
        assert np.array_equal(chip, align(pixels, face)[0])
    assert align(pixels, np.empty((0, 5, 2), np.float32)).shape == (0, CHIP, CHIP, 3)


@pytest.mark.parametrize("scale", [1.5, 2.5, 4.5, 7, 17])
def test_large_faces_are_cut_from_a_reduced_copy_and_lie_in_the_same_place(scale: float) -> None:
    side = 8 * round(CHIP * scale / 8 + 8)
    y, x = np.mgrid[:side, :side] / side
    soft = np.stack([200 * x, 200 * y, 120 + 100 * np.sin(9 * x) * np.cos(7 * y)], axis=-1)
    pixels = soft.round().astype(np.uint8)
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, "JPEG", quality=98)
    points = TARGET * np.float32(scale) + 20
    photo = open_photo(body.getvalue(), longest_side=side // 8)
    chip = align(photo, points)[0].astype(int)
    # No copy is coarser than the chip.
    assert min(photo._copies) <= max(1, scale)
    assert photo.reduced(8)[1] == 8
    assert np.abs(chip - align(pixels, points)[0]).max() <= 6
    assert np.abs(chip - align(pixels, points)[0]).mean() < 1.2


@pytest.mark.parametrize("shift", [-60, -1, 0, 85, 89, 140])
def test_the_border_makes_no_difference_inside(shift: int) -> None:
    """Faces that reach the border take another way through the code."""
    pixels = np.random.default_rng(2).integers(0, 256, (200, 200, 3), np.uint8)
    framed = np.zeros((400, 400, 3), np.uint8)
    framed[100:300, 100:300] = pixels
    points = turned(7, 0.97, (shift, shift // 2))
    assert np.abs(align(pixels, points).astype(int) - align(framed, points + 100)).max() <= 1
