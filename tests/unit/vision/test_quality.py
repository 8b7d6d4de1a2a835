from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from abeyance.vision.alignment import align
from abeyance.vision.detector import Detector, FaceDetection
from abeyance.vision.quality import _HEAD, QualityFilter, UnindexedReason, assess, pose, unindexed_reasons

angles = st.tuples(st.floats(-80, 80), st.floats(-60, 60), st.floats(-180, 180))


@pytest.fixture(scope="module")
def face(detector: Detector, astronaut: NDArray[np.uint8]) -> FaceDetection:
    return detector.detect(astronaut)[0]


def posed(yaw: float, pitch: float, roll: float, scale: float = 3) -> NDArray[np.float32]:
    """The five points of a head that has been nodded, then turned, then tilted."""
    y, p, r = np.radians([yaw, pitch, roll])
    nod = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    turn = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    tilt = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return ((_HEAD @ (tilt @ turn @ nod).T)[:, :2] * scale + 200).astype(np.float32)


@given(angles)
def test_a_posed_head_is_measured(angle: tuple[float, float, float]) -> None:
    yaw, pitch, roll = angle
    measured = pose(posed(yaw, pitch, roll))
    assert measured[0] == pytest.approx(yaw, abs=0.5)
    assert measured[1] == pytest.approx(pitch, abs=0.5)
    assert abs((measured[2] - roll + 180) % 360 - 180) < 0.5


def test_signs() -> None:
    """Looking right in the photo brings the nose nearer to the person's left eye, which lies on the right."""
    right = posed(40, 0, 0)
    assert right[1, 0] - right[2, 0] < right[2, 0] - right[0, 0]
    up = posed(0, 30, 0)
    level = posed(0, 0, 0)
    assert up[2, 1] - up[:2, 1].mean() < level[2, 1] - level[:2, 1].mean()
    clockwise = posed(0, 0, 20)
    assert clockwise[1, 1] > clockwise[0, 1]


def test_points_that_coincide_have_no_pose() -> None:
    assert pose(np.full((5, 2), 7, np.float32)) == (0, 0, 0)


def test_a_turned_photo_rolls_the_face(astronaut: NDArray[np.uint8], face: FaceDetection) -> None:
    level = assess(astronaut, face)
    assert abs(level.yaw) < 25
    assert abs(level.pitch) < 20
    for angle in (-25, 20):
        a = np.radians(angle)
        turn = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]], np.float32)
        quality = assess(astronaut, replace(face, landmarks=face.landmarks @ turn))
        assert quality.roll == pytest.approx(level.roll + angle, abs=0.1)
        assert quality.yaw == pytest.approx(level.yaw, abs=0.1)
        assert quality.pitch == pytest.approx(level.pitch, abs=0.1)


def test_a_mirrored_photo_turns_the_other_way(
    detector: Detector, astronaut: NDArray[np.uint8], face: FaceDetection
) -> None:
    mirrored = np.ascontiguousarray(astronaut[:, ::-1])
    there, here = assess(mirrored, detector.detect(mirrored)[0]), assess(astronaut, face)
    assert there.yaw == pytest.approx(-here.yaw, abs=6)
    assert there.roll == pytest.approx(-here.roll, abs=3)
    assert there.sharpness == pytest.approx(here.sharpness, abs=5)


def test_sharpness_falls_with_blur_and_not_with_contrast(
    astronaut: NDArray[np.uint8], face: FaceDetection
) -> None:
    values = [
        assess(np.asarray(Image.fromarray(astronaut).filter(ImageFilter.GaussianBlur(r))), face).sharpness
        for r in (0, 1, 2, 3, 5, 8)
    ]
    assert values == sorted(values, reverse=True)
    assert values[0] > 60
    assert values[-1] < 20
    faint = (astronaut * 0.4 + 80).astype(np.uint8)
    assert assess(faint, face).sharpness == pytest.approx(values[0], abs=8)
    small = np.asarray(
        Image.fromarray(astronaut).resize((90, 90), Image.Resampling.BICUBIC).resize((512, 512))
    )
    assert assess(small, face).sharpness < 50


def test_brightness_is_that_of_the_face(astronaut: NDArray[np.uint8], face: FaceDetection) -> None:
    bright = assess(astronaut, face).brightness
    assert 30 < bright < 80
    assert assess((astronaut * 0.5).astype(np.uint8), face).brightness == pytest.approx(bright / 2, abs=1)
    assert assess(np.zeros_like(astronaut), face).brightness == 0
    assert assess(np.full_like(astronaut, 255), face).brightness == pytest.approx(100)
    assert assess(np.zeros_like(astronaut), face).sharpness == 0


def test_a_chip_saves_the_alignment(astronaut: NDArray[np.uint8], face: FaceDetection) -> None:
    assert assess(astronaut, face, align(astronaut, face.landmarks)[0]) == assess(astronaut, face)


def test_a_good_face_meets_every_filter(astronaut: NDArray[np.uint8], face: FaceDetection) -> None:
    quality = assess(astronaut, face)
    assert [unindexed_reasons(quality, face, level) for level in QualityFilter] == [()] * len(QualityFilter)


@pytest.mark.parametrize(
    ("changes", "confidence", "reason"),
    [
        ({"yaw": 88.0}, 0.9, UnindexedReason.EXTREME_POSE),
        ({"pitch": -70.0}, 0.9, UnindexedReason.EXTREME_POSE),
        ({"brightness": 1.0}, 0.9, UnindexedReason.LOW_BRIGHTNESS),
        ({"brightness": 99.0}, 0.9, UnindexedReason.LOW_BRIGHTNESS),
        ({"sharpness": 2.0}, 0.9, UnindexedReason.LOW_SHARPNESS),
        ({}, 0.4, UnindexedReason.LOW_CONFIDENCE),
        ({"size": 9.0}, 0.9, UnindexedReason.SMALL_BOUNDING_BOX),
        ({"visible": 0.2}, 0.9, UnindexedReason.LOW_FACE_QUALITY),
    ],
)
def test_each_fault_has_its_reason(
    astronaut: NDArray[np.uint8],
    face: FaceDetection,
    changes: dict[str, float],
    confidence: float,
    reason: str,
) -> None:
    quality = replace(assess(astronaut, face), **changes)
    bad = replace(face, confidence=confidence)
    assert unindexed_reasons(quality, bad, QualityFilter.NONE) == ()
    for level in (QualityFilter.LOW, QualityFilter.AUTO, QualityFilter.MEDIUM, QualityFilter.HIGH):
        assert unindexed_reasons(quality, bad, level) == (reason,)


measure = st.floats(0, 100)


@given(
    st.fixed_dictionaries(
        {
            "sharpness": measure,
            "brightness": measure,
            "yaw": st.floats(-90, 90),
            "pitch": st.floats(-90, 90),
            "roll": st.floats(-180, 180),
            "size": measure,
            "visible": st.floats(0, 1),
        }
    ),
    st.floats(0, 1),
)
def test_a_higher_filter_lets_no_more_through(values: dict[str, float], confidence: float) -> None:
    from abeyance.vision.quality import FaceQuality

    face = FaceDetection(box=(0, 0, 10, 10), landmarks=posed(0, 0, 0), confidence=confidence)
    failed = [
        set(unindexed_reasons(FaceQuality(**values), face, level))
        for level in ("NONE", "LOW", "MEDIUM", "HIGH")
    ]
    assert failed == sorted(failed, key=len)
    assert all(a <= b for a, b in pairwise(failed))
    assert set(unindexed_reasons(FaceQuality(**values), face, "AUTO")) == failed[2]


def test_how_much_of_the_face_is_in_the_photo(astronaut: NDArray[np.uint8], face: FaceDetection) -> None:
    assert assess(astronaut, face).visible == 1
    _, y, w, h = face.box
    half = replace(face, box=(-w / 2, y, w, h))
    assert assess(astronaut, half).visible == pytest.approx(0.5)
    assert assess(astronaut, replace(face, box=(-2 * w, y, w, h))).visible == 0
    assert "LOW_FACE_QUALITY" in unindexed_reasons(assess(astronaut, half), half, "HIGH")


def test_an_unknown_filter_is_refused(astronaut: NDArray[np.uint8], face: FaceDetection) -> None:
    with pytest.raises(ValueError, match="BEST"):
        unindexed_reasons(assess(astronaut, face), face, "BEST")
