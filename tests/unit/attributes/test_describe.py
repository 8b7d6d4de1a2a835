"""Which models are opened, and what comes out for several faces at once."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from abeyance.vision.attributes.describe import ROLES, Attributes, _loader
from abeyance.vision.detector import Detector
from abeyance.vision.errors import ModelMissing
from abeyance.vision.models.manifest import Manifest, ModelEntry, Role

Photos = Mapping[str, NDArray[np.uint8]]


def counting(models: Path, opened: list[Role], missing: frozenset[Role] = frozenset()) -> Attributes:
    load = _loader(Manifest.load(), models, 1, False)

    def loader(role: Role) -> tuple[Any, ModelEntry]:
        opened.append(role)
        if role in missing:
            raise ModelMissing("not here; run: abeyance models fetch")
        return load(role)

    return Attributes(loader)


@pytest.mark.parametrize(
    ("wanted", "roles", "members"),
    [
        ({"GENDER"}, {Role.GENDER}, {"Gender"}),
        ({"AGE_RANGE"}, {Role.AGE}, {"AgeRange"}),
        ({"EMOTIONS"}, {Role.EXPRESSION}, {"Emotions"}),
        ({"SMILE"}, {Role.EXPRESSION}, {"Smile"}),
        ({"MOUTH_OPEN"}, {Role.MESH}, {"MouthOpen"}),
        ({"SMILE", "AGE_RANGE"}, {Role.EXPRESSION, Role.AGE}, {"Smile", "AgeRange"}),
        ({"BEARD", "EYEGLASSES", "SUNGLASSES", "MUSTACHE"}, set(), set()),
        ({"EYES_OPEN", "EYE_DIRECTION", "FACE_OCCLUDED"}, set(), set()),
        ({"DEFAULT"}, set(), set()),
        (set(), set(), set()),
    ],
)
def test_only_the_models_that_are_needed_are_opened(
    models: Path, detector: Detector, photos: Photos, wanted: set[str], roles: set[Role], members: set[str]
) -> None:
    opened: list[Role] = []
    pixels = photos["astronaut"]
    described = counting(models, opened).describe(pixels, detector.detect(pixels)[:1], frozenset(wanted))
    assert (set(opened), len(opened)) == (roles, len(roles))
    assert set(described[0]) == members


def test_all_of_it(attributes: Attributes, detector: Detector, photos: Photos) -> None:
    pixels = photos["astronaut"]
    (detail,) = attributes.describe(pixels, detector.detect(pixels), frozenset({"ALL"}))
    assert set(detail) == {"AgeRange", "Gender", "Emotions", "Smile", "MouthOpen", "Pose", "Landmarks"}
    assert detail["Gender"]["Value"] == "Female"
    assert detail["AgeRange"]["Low"] < 45 < detail["AgeRange"]["High"] + 10
    assert detail["Smile"]["Value"] is True
    assert detail["Emotions"][0]["Type"] == "HAPPY"
    assert detail["MouthOpen"]["Value"] is True
    assert abs(detail["Pose"]["Yaw"]) < 30
    for point in detail["Landmarks"]:
        assert 0 < point["X"] < 1
        assert 0 < point["Y"] < 1


def test_faces_together_are_the_faces_one_by_one(
    attributes: Attributes, detector: Detector, photos: Photos
) -> None:
    pixels = photos["astronaut"]
    face = detector.detect(pixels)[0]
    many = attributes.networks.look(pixels, [face] * 19, ROLES["ALL"])
    (one,) = attributes.networks.look(pixels, [face], ROLES["ALL"])
    assert len(many) == 19
    for other in many:
        assert other.years == pytest.approx(one.years, abs=1e-3)
        assert other.female == pytest.approx(one.female, abs=1e-3)
        assert np.allclose(other.expression, one.expression, atol=1e-3)
        assert np.allclose(other.mesh, one.mesh, atol=0.05)
    assert attributes.describe(pixels, [], frozenset({"ALL"})) == []


def test_a_mirrored_face_has_the_same_age_gender_and_expression(
    attributes: Attributes, detector: Detector, photos: Photos
) -> None:
    pixels = photos["obama"]
    mirrored = np.ascontiguousarray(pixels[:, ::-1])
    one, other = (
        attributes.networks.look(p, detector.detect(p)[:1], ROLES["ALL"])[0] for p in (pixels, mirrored)
    )
    assert other.years == pytest.approx(one.years, abs=6)
    assert np.sign(other.female or 0) == np.sign(one.female or 0) == -1
    assert one.expression is not None
    assert other.expression is not None
    assert one.expression.argmax() == other.expression.argmax()


def test_a_model_that_is_not_here_leaves_its_attribute_out_and_says_so_once(
    models: Path, detector: Detector, photos: Photos, caplog: pytest.LogCaptureFixture
) -> None:
    opened: list[Role] = []
    attributes = counting(models, opened, frozenset({Role.GENDER}))
    pixels = photos["astronaut"]
    with caplog.at_level(logging.WARNING, "abeyance"):
        for _ in range(3):
            (detail,) = attributes.describe(pixels, detector.detect(pixels), frozenset({"ALL"}))
    assert "Gender" not in detail
    assert "AgeRange" in detail
    assert opened.count(Role.GENDER) == 1
    assert [record.getMessage().count("models fetch") for record in caplog.records] == [1]


def test_a_face_at_the_border_and_a_tiny_one_are_described(
    attributes: Attributes, detector: Detector, photos: Photos
) -> None:
    pixels = photos["astronaut"]
    (face, *_) = detector.detect(pixels)
    x, y, w, h = (int(v) for v in face.box)
    cropped = np.ascontiguousarray(pixels[y + h // 4 :, x + w // 3 :])
    for part in (cropped, np.ascontiguousarray(pixels[::8, ::8])):
        found = detector.detect(part, min_confidence=0.3)
        for detail in attributes.describe(part, found, frozenset({"ALL"})):
            assert "AgeRange" in detail


def test_nothing_of_it_is_imported_for_the_default_attributes() -> None:
    code = (
        "import sys, abeyance.rekognition.eyes, abeyance.rekognition.assemble, abeyance.pipeline.detect;"
        "print([m for m in sys.modules if m.startswith('abeyance.vision.attributes')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
