"""Which models are opened, and what comes out for several faces at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from abeyance.rekognition.facedetail import attribute_roles, face_detail
from abeyance.vision.analysis import ATTRIBUTE_ROLES, FaceAnalyzer
from abeyance.vision.attributes.estimator import AttributeEstimator, load_attributes
from abeyance.vision.detector import Detector
from abeyance.vision.errors import ModelMissing
from abeyance.vision.image import Photo
from abeyance.vision.models.manifest import ModelEntry, ModelRole

Photos = Mapping[str, NDArray[np.uint8]]


def counting(
    models: Path, opened: list[ModelRole], missing: frozenset[ModelRole] = frozenset()
) -> AttributeEstimator:
    """An estimator that records which models are opened."""
    attributes = load_attributes(models, verify=False)

    def loader(role: ModelRole) -> tuple[Any, ModelEntry]:
        opened.append(role)
        if role in missing:
            raise ModelMissing("not here; run: abeyance models fetch")
        return load(role)

    load, attributes._loader = attributes._loader, loader
    return attributes


def described(
    attributes: AttributeEstimator, detector: Detector, pixels: NDArray[np.uint8], *wanted: str
) -> list[dict[str, Any]]:
    """The FaceDetails of a photo for which a request asks for ``wanted``."""
    analyzer = FaceAnalyzer(lambda: detector, lambda: attributes)
    analyzed = analyzer.analyze(Photo.of(pixels), attributes=attribute_roles(wanted), min_confidence=0.3)
    return [face_detail(face, wanted) for face in analyzed.faces]


DEFAULT_MEMBERS = {"BoundingBox", "Confidence", "Landmarks", "Pose", "Quality"}


@pytest.mark.parametrize(
    ("wanted", "roles", "members"),
    [
        ({"GENDER"}, {ModelRole.GENDER, ModelRole.AGE}, {"Gender"}),
        ({"AGE_RANGE"}, {ModelRole.AGE}, {"AgeRange"}),
        ({"EMOTIONS"}, {ModelRole.EXPRESSION}, {"Emotions"}),
        ({"SMILE"}, {ModelRole.EXPRESSION}, {"Smile"}),
        ({"MOUTH_OPEN"}, {ModelRole.MESH}, {"MouthOpen"}),
        ({"SMILE", "AGE_RANGE"}, {ModelRole.EXPRESSION, ModelRole.AGE}, {"Smile", "AgeRange"}),
        ({"BEARD", "EYEGLASSES", "SUNGLASSES", "MUSTACHE"}, set(), set()),
        ({"EYES_OPEN"}, {ModelRole.MESH, ModelRole.IRIS}, {"EyesOpen"}),
        ({"EYE_DIRECTION", "FACE_OCCLUDED"}, set(), set()),
        ({"DEFAULT"}, set(), set()),
        (set(), set(), set()),
    ],
)
def test_only_the_models_that_are_needed_are_opened(
    models: Path,
    detector: Detector,
    photos: Photos,
    wanted: set[str],
    roles: set[ModelRole],
    members: set[str],
) -> None:
    opened: list[ModelRole] = []
    pixels = photos["astronaut"]
    (detail,) = described(counting(models, opened), detector, pixels, *wanted)
    assert (set(opened), len(opened)) == (roles, len(roles))
    assert set(detail) == members | DEFAULT_MEMBERS


def test_all_of_it(attributes: AttributeEstimator, detector: Detector, photos: Photos) -> None:
    (detail,) = described(attributes, detector, photos["astronaut"], "ALL")
    assert (
        set(detail) == {"AgeRange", "Gender", "Emotions", "Smile", "MouthOpen", "EyesOpen"} | DEFAULT_MEMBERS
    )
    assert len(detail["Landmarks"]) == 30
    assert detail["Gender"]["Value"] == "Female"
    assert detail["AgeRange"]["Low"] < 45 < detail["AgeRange"]["High"] + 10
    assert detail["Smile"]["Value"] is True
    assert detail["Emotions"][0]["Type"] == "HAPPY"
    assert detail["MouthOpen"]["Value"] is True
    assert detail["EyesOpen"]["Value"] is True
    assert abs(detail["Pose"]["Yaw"]) < 30
    for point in detail["Landmarks"]:
        assert 0 < point["X"] < 1
        assert 0 < point["Y"] < 1


def test_faces_together_are_the_faces_one_by_one(
    attributes: AttributeEstimator, detector: Detector, photos: Photos
) -> None:
    pixels = photos["astronaut"]
    face = detector.detect(pixels)[0]
    many = attributes.score(pixels, [face] * 19, ATTRIBUTE_ROLES)
    (one,) = attributes.score(pixels, [face], ATTRIBUTE_ROLES)
    assert len(many) == 19
    for other in many:
        assert other.years == pytest.approx(one.years, abs=1e-3)
        assert other.female == pytest.approx(one.female, abs=1e-3)
        assert np.allclose(other.expression, one.expression, atol=1e-3)
        assert np.allclose(other.mesh, one.mesh, atol=0.05)
        assert other.eyes == pytest.approx(one.eyes, abs=1e-3)
    assert attributes.estimate(pixels, [], ATTRIBUTE_ROLES) == []


def test_a_mirrored_face_has_the_same_age_gender_and_expression(
    attributes: AttributeEstimator, detector: Detector, photos: Photos
) -> None:
    pixels = photos["obama"]
    mirrored = np.ascontiguousarray(pixels[:, ::-1])
    one, other = (attributes.score(p, detector.detect(p)[:1], ATTRIBUTE_ROLES)[0] for p in (pixels, mirrored))
    assert other.years == pytest.approx(one.years, abs=6)
    assert np.sign(other.female or 0) == np.sign(one.female or 0) == -1
    assert one.expression is not None
    assert other.expression is not None
    assert one.expression.argmax() == other.expression.argmax()


def test_a_missing_model_is_an_error_that_says_what_to_do(
    models: Path, detector: Detector, photos: Photos
) -> None:
    opened: list[ModelRole] = []
    attributes = counting(models, opened, frozenset({ModelRole.GENDER}))
    pixels = photos["astronaut"]
    for _ in range(2):
        with pytest.raises(ModelMissing, match="models fetch"):
            described(attributes, detector, pixels, "ALL")
    (detail,) = described(attributes, detector, pixels, "AGE_RANGE")
    assert "AgeRange" in detail
    with pytest.raises(ModelMissing, match="models fetch"):
        FaceAnalyzer(lambda: detector, lambda: attributes).open_models(ATTRIBUTE_ROLES)


def test_a_face_at_the_border_and_a_tiny_one_are_described(
    attributes: AttributeEstimator, detector: Detector, photos: Photos
) -> None:
    pixels = photos["astronaut"]
    (face, *_) = detector.detect(pixels)
    x, y, w, h = (int(v) for v in face.box)
    cropped = np.ascontiguousarray(pixels[y + h // 4 :, x + w // 3 :])
    for part in (cropped, np.ascontiguousarray(pixels[::8, ::8])):
        for detail in described(attributes, detector, part, "ALL"):
            assert "AgeRange" in detail


def test_nothing_of_it_is_imported_for_the_default_attributes() -> None:
    code = (
        "import sys, abeyance.deployment.build, abeyance.pipeline.detect, abeyance.vision.analysis;"
        "print([m for m in sys.modules if m.startswith('abeyance.vision.attributes')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
