"""Analysis of a photo: the results are those of its steps, and models are opened only where they are needed."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from abeyance.vision import analysis, image
from abeyance.vision.alignment import align
from abeyance.vision.analysis import ATTRIBUTE_ROLES, FaceAnalyzer
from abeyance.vision.attributes.estimate import AttributeEstimate
from abeyance.vision.attributes.estimator import AttributeEstimator
from abeyance.vision.detector import Detector, FaceDetection
from abeyance.vision.errors import ImageRejected, ModelMissing
from abeyance.vision.image import Limits, Photo
from abeyance.vision.quality import QualityFilter, assess, unindexed_reasons


def missing() -> Detector:
    raise ModelMissing("not here; run: abeyance models fetch")


def unused() -> AttributeEstimator:
    raise AssertionError("no attributes are asked for")


@pytest.fixture
def analyzer(detector: Detector) -> FaceAnalyzer:
    return FaceAnalyzer(lambda: detector, unused)


@pytest.fixture
def two_faces(astronaut: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A large face on the left, a small one on the right."""
    small = np.asarray(Image.fromarray(astronaut).resize((256, 256)))
    page = np.zeros((512, 768, 3), np.uint8)
    page[:, :512], page[:256, 512:] = astronaut, small
    return page


def test_faces_are_those_of_the_steps(
    analyzer: FaceAnalyzer, detector: Detector, two_faces: NDArray[np.uint8]
) -> None:
    photo = Photo.of(two_faces)
    analyzed = analyzer.analyze(photo, quality_filter=QualityFilter.HIGH)
    found = detector.detect(photo)
    chips = align(photo, np.stack([face.landmarks for face in found]))
    assert (analyzed.width, analyzed.height, analyzed.detected) == (768, 512, 2)
    assert np.array_equal(analyzed.chips, chips)
    for face, detection, chip in zip(analyzed.faces, found, chips, strict=True):
        quality = assess(photo, detection, chip)
        certain = detector.certainty(detection.confidence)
        assert (face.box, face.confidence, face.quality) == (detection.box, certain, quality)
        assert face.reasons == unindexed_reasons(quality, detection, QualityFilter.HIGH)
        x, y, width, height = face.box
        assert face.relative_box == (x / 768, y / 512, width / 768, height / 512)
        assert np.allclose(np.array(face.relative_landmarks) * (768, 512), face.landmarks)
        assert face.attributes is None


def test_a_selection_leaves_the_others_out_and_counts_them(
    analyzer: FaceAnalyzer, two_faces: NDArray[np.uint8]
) -> None:
    def rightmost(faces: Sequence[FaceDetection], shape: tuple[int, int, int]) -> list[FaceDetection]:
        assert shape == (512, 768, 3)
        return [max(faces, key=lambda face: face.box[0])]

    every = analyzer.analyze(Photo.of(two_faces))
    chosen = analyzer.analyze(Photo.of(two_faces), select=rightmost)
    assert chosen.detected == every.detected == 2
    assert [face.box for face in chosen.faces] == [every.faces[1].box]


def test_each_step_is_measured(analyzer: FaceAnalyzer, two_faces: NDArray[np.uint8]) -> None:
    steps: list[str] = []

    @contextlib.contextmanager
    def measure(step: str) -> Iterator[None]:
        yield
        steps.append(step)

    analyzer.analyze(Photo.of(two_faces), measure=measure)
    assert steps == ["decode", "detect", "describe"]


def test_a_photo_without_faces_has_no_chips(analyzer: FaceAnalyzer) -> None:
    analyzed = analyzer.analyze(Photo.of(np.zeros((200, 200, 3), np.uint8)))
    assert (analyzed.faces, analyzed.detected) == ((), 0)
    assert analyzed.chips.shape == (0, 112, 112, 3)


def test_limits_are_the_analyzers_own(detector: Detector) -> None:
    body = io.BytesIO()
    Image.new("RGB", (90, 90)).save(body, "PNG")
    with pytest.raises(ImageRejected):
        FaceAnalyzer(lambda: detector, unused, Limits(min_side=100)).analyze(body.getvalue())


def test_a_missing_model_is_not_the_photos_fault() -> None:
    analyzer = FaceAnalyzer(missing, unused)
    with pytest.raises(ModelMissing, match="models fetch"):
        analyzer.open_models()
    with pytest.raises(ModelMissing, match="models fetch"):
        analyzer.analyze(Photo.of(np.zeros((200, 200, 3), np.uint8)))


class OneAnswer(AttributeEstimator):
    """The same attributes for every face."""

    def __init__(self) -> None:
        super().__init__(lambda _: pytest.fail("no model is opened"))

    def estimate(self, pixels: object, faces: Sequence[object], *_: object) -> list[AttributeEstimate]:
        return [AttributeEstimate(ages=(20, 30))] * len(faces)


def test_a_large_photo_has_attributes_of_its_largest_faces(
    detector: Detector, two_faces: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    analyzer = FaceAnalyzer(lambda: detector, OneAnswer)
    estimated = AttributeEstimate(ages=(20, 30))

    def attributes() -> list[AttributeEstimate | None]:
        faces = analyzer.analyze(Photo.of(two_faces), attributes=ATTRIBUTE_ROLES).faces
        return [face.attributes for face in faces]

    monkeypatch.setattr(analysis, "_MAX_ESTIMATED_OF_A_COSTLY_PHOTO", 1)
    assert [one and one.ages for one in attributes()] == [estimated.ages] * 2
    monkeypatch.setattr(image, "_LARGE_PX", 768 * 512 - 1)
    assert [one and one.ages for one in attributes()] == [estimated.ages, None]
    assert None not in attributes()
    monkeypatch.setattr(image, "_LARGE_PX", 768 * 512)
    monkeypatch.setattr(analysis, "_MAX_ESTIMATED", 0)
    assert [one and one.ages for one in attributes()] == [None, None]


class Nose(AttributeEstimator):
    """The tip of the nose, as detected, in the pixels that are given."""

    def __init__(self) -> None:
        super().__init__(lambda _: pytest.fail("no model is opened"))

    def estimate(self, pixels: NDArray[np.uint8], faces: Sequence[FaceDetection], *_: object) -> list[Any]:
        self.shape = pixels.shape
        return [AttributeEstimate(landmarks={"nose": tuple(face.landmarks[2].tolist())}) for face in faces]


def test_attributes_of_a_large_photo_are_estimated_in_half_its_size(
    detector: Detector, two_faces: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    body, estimator = io.BytesIO(), Nose()
    Image.fromarray(two_faces).resize((2700, 1800)).save(body, "JPEG", quality=95)
    analyzer = FaceAnalyzer(lambda: detector, lambda: estimator)
    for limit, shape in ((4_860_000, (1800, 2700, 3)), (4_859_999, (900, 1350, 3))):
        monkeypatch.setattr(image, "_LARGE_PX", limit)
        faces = analyzer.analyze(body.getvalue(), attributes=ATTRIBUTE_ROLES).faces
        assert estimator.shape == shape
        assert faces
        for face in faces:
            assert face.attributes
            assert face.attributes.landmarks
            assert np.allclose(face.attributes.landmarks["nose"], face.landmarks[2], atol=0.01)
