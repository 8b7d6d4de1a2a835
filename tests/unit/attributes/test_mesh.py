"""Pose, mouth and landmarks of the mesh, on made heads and on turned and mirrored photos.

Signs are Rekognition's: yaw is positive where the face looks to the right of the photo, pitch where it looks up,
roll where the head is tilted clockwise; left and right are the viewer's.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from abeyance.rekognition import wire
from abeyance.vision.analysis import ATTRIBUTE_ROLES
from abeyance.vision.attributes import mesh
from abeyance.vision.attributes.estimate import AttributeEstimate
from abeyance.vision.attributes.estimator import AttributeEstimator
from abeyance.vision.detector import Detector

Photos = Mapping[str, NDArray[np.uint8]]


def head() -> NDArray[np.float64]:
    """Level eyes, ears, mouth and brows, and a line down the face, as the mesh has them: z grows away from us."""
    points = np.zeros((mesh.POINTS, 3))
    for height, ((a, b), half) in zip(
        (-30, -30, 0, 40, -45), zip(mesh._ACROSS, (45, 70, 75, 25, 50), strict=True), strict=True
    ):
        points[a], points[b] = (-half, height, 10), (half, height, 10)
    tilt = np.tan(np.radians(mesh._LEVEL_DEG))
    for a, b in mesh._DOWN:
        # The line that frontal photos show is not quite level.
        points[a], points[b] = (0, -60, 60 * tilt), (0, 60, -60 * tilt)
    return points


def turned(yaw: float, pitch: float, roll: float) -> NDArray[np.float32]:
    """The head after nodding, then turning, then tilting, as a person does."""
    a, b, c = np.radians([yaw, pitch, roll])
    # Looking up: what is low comes nearer to us, z falls with y.
    nod = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    # Looking to the photo's right: what is on the right goes away from us.
    turn = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    tilt = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return (head() @ (tilt @ turn @ nod).T).astype(np.float32)


@pytest.mark.parametrize("yaw", [-50, 0, 25])
@pytest.mark.parametrize("pitch", [-30, 0, 20])
@pytest.mark.parametrize("roll", [-120, 0, 40])
def test_the_pose_of_a_made_head(yaw: float, pitch: float, roll: float) -> None:
    assert mesh.pose(turned(yaw, pitch, roll)) == pytest.approx((yaw, pitch, roll), abs=0.6)


def test_the_mouth_of_a_made_head() -> None:
    points = head().astype(np.float32)
    left, right = mesh._LIP_CORNERS
    points[left], points[right] = (-25, 40, 0), (25, 40, 0)
    for gap in (0, 5, 20):
        for (upper, lower), x in zip(mesh._LIPS, (-5, 0, 5), strict=True):
            points[upper], points[lower] = (x, 40 - gap / 2, 0), (x, 40 + gap / 2, 0)
        assert mesh.mouth_openness(points) == pytest.approx(gap / 50)


def estimated(
    attributes: AttributeEstimator, detector: Detector, pixels: NDArray[np.uint8]
) -> AttributeEstimate:
    pixels = np.ascontiguousarray(pixels)
    found = detector.detect(pixels)
    (own,) = attributes.estimate(pixels, found[:1], ATTRIBUTE_ROLES)
    return own


def test_landmarks_have_the_names_of_the_service_and_lie_where_it_says(
    attributes: AttributeEstimator, detector: Detector, photos: Photos
) -> None:
    assert set(mesh.LANDMARKS) == set(wire.model().shapes["LandmarkType"]["enum"])
    own = estimated(attributes, detector, photos["obama"])
    assert own.landmarks is not None
    at = {name: np.array(point) for name, point in own.landmarks.items()}
    for row in (
        ("upperJawlineLeft", "leftEyeLeft", "eyeLeft", "leftEyeRight", "nose"),
        ("nose", "rightEyeLeft", "eyeRight", "rightEyeRight", "upperJawlineRight"),
        ("leftEyeBrowLeft", "leftEyeBrowUp", "leftEyeBrowRight", "rightEyeBrowLeft", "rightEyeBrowUp"),
        ("midJawlineLeft", "mouthLeft", "noseLeft", "noseRight", "mouthRight", "midJawlineRight"),
    ):
        assert sorted(row, key=lambda name: at[name][0]) == list(row)
    for column in (
        ("leftEyeBrowUp", "leftEyeUp", "leftEyeDown", "noseLeft", "mouthUp", "mouthDown", "chinBottom"),
        ("rightEyeBrowUp", "rightEyeUp", "rightPupil", "rightEyeDown", "midJawlineRight"),
    ):
        assert sorted(column, key=lambda name: at[name][1]) == list(column)
    # The detector's five points, found by another network.
    (face, *_) = detector.detect(photos["obama"])
    between = np.linalg.norm(face.landmarks[0] - face.landmarks[1])
    for name, point in zip(
        ("eyeLeft", "eyeRight", "nose", "mouthLeft", "mouthRight"), face.landmarks, strict=True
    ):
        assert np.linalg.norm(at[name] - point) < 0.2 * between


def test_a_mirrored_photo_has_the_mirrored_pose(
    attributes: AttributeEstimator, detector: Detector, photos: Photos
) -> None:
    for name in ("astronaut", "obama", "biden"):
        pixels = photos[name]
        own, other = estimated(attributes, detector, pixels), estimated(attributes, detector, pixels[:, ::-1])
        assert own.pose is not None
        assert other.pose is not None
        yaw, pitch, roll = own.pose
        assert other.pose == pytest.approx((-yaw, pitch, -roll), abs=6)
        assert own.landmarks is not None
        assert other.landmarks is not None
        width = pixels.shape[1]
        assert other.landmarks["eyeLeft"][0] == pytest.approx(
            width - own.landmarks["eyeRight"][0], abs=width / 30
        )


@pytest.mark.parametrize("angle", [-40, -20, 15, 40])
def test_a_turned_photo_has_the_same_face_at_another_roll(
    attributes: AttributeEstimator, detector: Detector, photos: Photos, angle: float
) -> None:
    for name in ("astronaut", "obama"):
        # Pillow turns against the clock.
        picture = Image.fromarray(photos[name]).rotate(-angle, Image.Resampling.BILINEAR, expand=True)
        own, other = (
            estimated(attributes, detector, pixels) for pixels in (photos[name], np.asarray(picture))
        )
        assert own.pose is not None
        assert other.pose is not None
        yaw, pitch, roll = own.pose
        assert other.pose[:2] == pytest.approx((yaw, pitch), abs=5)
        assert other.pose[2] == pytest.approx(roll + angle, abs=4)
        assert own.gender is not None
        assert other.gender is not None
        assert own.gender.value == other.gender.value


def test_pose_has_the_sign_of_the_five_points(
    attributes: AttributeEstimator, detector: Detector, photos: Photos
) -> None:
    from abeyance.vision.quality import pose

    for pixels in photos.values():
        for face in detector.detect(pixels)[:1]:
            (own,) = attributes.estimate(pixels, [face], ATTRIBUTE_ROLES)
            yaw, _, roll = pose(face.landmarks)
            if own.pose is not None and abs(yaw) > 15:
                assert np.sign(own.pose[0]) == np.sign(yaw)
            if own.pose is not None:
                assert abs(own.pose[2] - roll) < 12
