from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from abeyance.embedding.onnx import OnnxEmbedder
from abeyance.vision import detector as detector_module
from abeyance.vision import image
from abeyance.vision.alignment import align
from abeyance.vision.detector import Detector, FaceDetection
from abeyance.vision.models.manifest import Manifest
from abeyance.vision.models.store import locate


def overlap(a: FaceDetection, b: FaceDetection) -> float:
    (ax, ay, aw, ah), (bx, by, bw, bh) = a.box, b.box
    w = max(0.0, min(ax + aw, bx + bw) - max(ax, bx))
    h = max(0.0, min(ay + ah, by + bh) - max(ay, by))
    return w * h / (aw * ah + bw * bh - w * h)


def resized(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def head(astronaut: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(170, 150, 3) around the astronaut's face."""
    return astronaut[40:210, 150:300]


def test_one_face_with_its_points_in_the_right_places(
    detector: Detector, astronaut: NDArray[np.uint8]
) -> None:
    (face,) = detector.detect(astronaut)
    x, y, w, h = face.box
    assert 170 < x < 190
    assert 55 < y < 75
    assert 0.9 < face.confidence <= 1
    assert face.landmarks.shape == (5, 2)
    assert face.landmarks.dtype == np.float32
    right_eye, left_eye, nose, right_mouth, left_mouth = face.landmarks
    # The person's right eye is on the left of the photo.
    assert x < right_eye[0] < nose[0] < left_eye[0] < x + w
    assert right_mouth[0] < left_mouth[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_mouth[1], left_mouth[1]) < y + h


def test_every_portrait_has_one_face(detector: Detector, portraits: Mapping[str, NDArray[np.uint8]]) -> None:
    assert {name: len(detector.detect(pixels)) for name, pixels in portraits.items()} == dict.fromkeys(
        portraits, 1
    )


@pytest.mark.parametrize("shape", [(80, 80), (33, 481), (1, 1), (480, 640)])
def test_no_face_where_there_is_none(detector: Detector, shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert detector.detect(noise) == []
    assert detector.detect(np.zeros_like(noise)) == []


@pytest.mark.parametrize("side", [700, 1300, 2600])
def test_a_face_that_fills_a_large_photo_is_found(
    detector: Detector, astronaut: NDArray[np.uint8], side: int
) -> None:
    close = head(astronaut)
    large = resized(close, side * 150 // 170, side)
    (face,) = detector.detect(large)
    (expected,) = detector.detect(close)
    scale = side / 170
    assert np.abs(np.array(face.box) / scale - expected.box).max() < 6
    assert np.abs(face.landmarks / scale - expected.landmarks).max() < 3


def test_a_single_look_finds_no_huge_face_and_two_do(models: Path, astronaut: NDArray[np.uint8]) -> None:
    large = resized(head(astronaut), 1500, 1700)
    model = locate(Manifest.load()["yunet-2023mar"], models)
    assert not Detector(model, longest_side=0).detect(large)
    assert len(Detector(model).detect(large)) == 1


def test_small_faces_of_a_large_photo_are_found(detector: Detector, astronaut: NDArray[np.uint8]) -> None:
    """A face of a fiftieth of the longest side, in 12 megapixels."""
    photo = np.full((3000, 4000, 3), 128, np.uint8)
    photo[1200:1370, 2500:2650] = head(astronaut)
    (face,) = detector.detect(photo)
    (expected,) = detector.detect(head(astronaut))
    assert np.abs(np.array(face.box) - expected.box - [2500, 1200, 0, 0]).max() < 12


def crowd(astronaut: NDArray[np.uint8], rows: int, columns: int, size: int) -> NDArray[np.uint8]:
    tile = resized(head(astronaut), size * 150 // 170, size)
    return np.tile(tile, (rows, columns, 1))


def test_three_hundred_faces_and_the_hundred_largest(
    detector: Detector, astronaut: NDArray[np.uint8]
) -> None:
    photo = crowd(astronaut, 15, 20, 72)
    assert len(detector.detect(photo, max_faces=1000)) > 270
    faces = detector.detect(photo)
    assert len(faces) == 100
    areas = [face.area for face in faces]
    assert areas == sorted(areas, reverse=True)
    assert all(overlap(a, b) <= 0.3 for i, a in enumerate(faces) for b in faces[:i])
    assert len(detector.detect(photo, max_faces=3)) == 3


def test_faces_of_twenty_pixels(detector: Detector, astronaut: NDArray[np.uint8]) -> None:
    """The box is two thirds of the tile."""
    photo = np.full((480, 640, 3), 100, np.uint8)
    tile = resized(head(astronaut), 32, 36)
    photo[200:236, 300:332] = tile
    (face,) = detector.detect(photo, min_confidence=0.6)
    assert 16 < face.box[2] < 24


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_faces_cut_by_the_border(detector: Detector, astronaut: NDArray[np.uint8], side: str) -> None:
    # A fifth of the face is missing.
    cut = {
        "left": astronaut[:, 200:],
        "right": astronaut[:, :248],
        "top": astronaut[85:],
        "bottom": astronaut[:155],
    }[side]
    (face,) = detector.detect(cut)
    assert face.landmarks.shape == (5, 2)


@pytest.mark.parametrize("angle", [-45, -30, 30, 45])
def test_points_of_tilted_faces_are_where_they_belong(
    models: Path, embedder: OnnxEmbedder, portraits: Mapping[str, NDArray[np.uint8]], angle: int
) -> None:
    """The network alone draws them too level, and templates suffer."""
    model = locate(Manifest.load()["yunet-2023mar"], models)
    straight, plain = Detector(model), Detector(model, straighten=False)
    a = np.radians(angle)
    turn = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
    errors, likeness = [], []
    for name in ("obama", "biden", "obama3"):
        pixels = resized(portraits[name], portraits[name].shape[1] // 3, portraits[name].shape[0] // 3)
        upright = straight.detect(pixels)[0].landmarks
        # Pillow turns counter-clockwise, and makes room for the corners.
        turned = np.asarray(Image.fromarray(pixels).rotate(-angle, Image.Resampling.BICUBIC, expand=True))
        expected = (upright - np.array(pixels.shape[1::-1]) / 2) @ turn + np.array(turned.shape[1::-1]) / 2
        points = [d.detect(turned)[0].landmarks for d in (straight, plain)]
        errors.append([np.linalg.norm(p - expected, axis=1).mean() for p in points])
        chips = np.concatenate([align(turned, p) for p in points] + [align(pixels, upright)])
        templates = embedder.embed(chips)
        likeness.append(templates[:2] @ templates[2])
    better, plain_error = np.mean(errors, axis=0)
    assert better < 0.8 * plain_error
    better, plain_likeness = np.mean(likeness, axis=0)
    assert better > plain_likeness + 0.1
    assert better > 0.6


def test_corrections_of_a_photo_are_limited(
    models: Path, portraits: Mapping[str, NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest faces have them first; the others keep the points that the network draws."""
    model = locate(Manifest.load()["yunet-2023mar"], models)
    tilted = Image.fromarray(portraits["obama"]).rotate(30)
    page = Image.new("RGB", (1200, 600))
    for left, side in ((0, 600), (600, 400)):
        page.paste(tilted.crop((0, 0, tilted.width, tilted.width)).resize((side, side)), (left, 0))
    photo = np.asarray(page)
    plain, straight = (Detector(model, straighten=straighten).detect(photo) for straighten in (False, True))
    assert len(plain) == len(straight) == 2
    for budget in (0, 5):
        monkeypatch.setattr(detector_module, "_MAX_CORRECTIONS_OF_A_PHOTO", budget)
        found = Detector(model).detect(photo)
        first = straight if budget else plain
        assert np.array_equal(found[0].landmarks, first[0].landmarks)
    assert not np.array_equal(straight[0].landmarks, plain[0].landmarks)
    monkeypatch.setattr(detector_module, "_MAX_CORRECTIONS_OF_A_COSTLY_PHOTO", 0)
    monkeypatch.setattr(image, "_LARGE_PX", 1200 * 600 - 1)
    assert np.array_equal(Detector(model).detect(photo)[0].landmarks, plain[0].landmarks)


def test_more_confidence_means_fewer_faces(detector: Detector, astronaut: NDArray[np.uint8]) -> None:
    photo = crowd(astronaut, 6, 8, 40)
    counts = [len(detector.detect(photo, min_confidence=c)) for c in (0.3, 0.6, 0.8, 0.95, 1.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 0


def test_threads_share_a_detector(detector: Detector, portraits: Mapping[str, NDArray[np.uint8]]) -> None:
    small = [resized(p, 300, 400) for p in portraits.values()] * 4
    alone = [detector.detect(p) for p in small]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector.detect, small))
    assert [[f.box for f in faces] for faces in together] == [[f.box for f in faces] for faces in alone]


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 10, 3), np.uint8),
    ],
)
def test_other_pixels_are_refused(detector: Detector, pixels: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="uint8"):
        detector.detect(pixels)
