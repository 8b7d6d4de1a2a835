"""Attributes where they are used: the API's answers, and the analyze action of the upload pipeline."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.fakes import MemoryTable

from abeyance.aws.table import ReadAlong
from abeyance.local.samples import fetch_samples
from abeyance.moratorium.decide import Decision, Request, decide
from abeyance.moratorium.document import parse
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.tenants import Tenant
from abeyance.pipeline import events
from abeyance.pipeline.batch import Batch, Message
from abeyance.pipeline.detect import Detect
from abeyance.pipeline.outbox import Outbox
from abeyance.pipeline.upload_records import KEY, UploadRecords
from abeyance.rekognition import wire
from abeyance.rekognition.facedetail import attribute_roles, face_detail
from abeyance.vision.analysis import FaceAnalyzer
from abeyance.vision.attributes.estimator import AttributeEstimator, load_attributes
from abeyance.vision.detector import Detector
from abeyance.vision.errors import PackageUnavailable
from abeyance.vision.models.manifest import Manifest, ModelRole
from abeyance.vision.models.store import fetch, load_detector


@pytest.fixture(scope="module")
def detector() -> Detector:
    try:
        fetch([e for e in Manifest.load().entries.values() if e.role is not ModelRole.EMBEDDER])
    except PackageUnavailable as error:
        pytest.skip(str(error))
    return load_detector()


@pytest.fixture(scope="module")
def attributes(detector: Detector) -> AttributeEstimator:
    return load_attributes()


@pytest.fixture(scope="module")
def photo() -> bytes:
    return fetch_samples("astronaut")["astronaut.png"].read_bytes()


def unused() -> Any:
    raise AssertionError("nobody asked for this")


def details(analyzer: FaceAnalyzer, photo: bytes, *wanted: str) -> list[dict[str, Any]]:
    """The FaceDetails of a photo for which a request asks for ``wanted``."""
    faces = analyzer.analyze(photo, attributes=attribute_roles(wanted)).faces
    return [face_detail(face, wanted) for face in faces]


class TestApi:
    def test_the_answer_is_one_that_the_service_could_give(
        self, detector: Detector, attributes: AttributeEstimator, photo: bytes
    ) -> None:
        (detail,) = details(FaceAnalyzer(lambda: detector, lambda: attributes), photo, "ALL")
        body = msgspec.json.decode(msgspec.json.encode({"FaceDetails": [detail]}))
        _, violations = wire.model().check(body, "DetectFacesResponse")
        assert violations == []
        assert {"BoundingBox", "Confidence", "Quality", "AgeRange", "Gender", "Emotions", "Smile"} < set(
            detail
        )
        assert len(detail["Landmarks"]) == 30
        assert not {"Beard", "Mustache", "Eyeglasses", "Sunglasses", "EyeDirection"} & set(detail)
        for number in _numbers(detail):
            assert number == wire.single(number)

    def test_default_attributes_open_nothing(self, detector: Detector, photo: bytes) -> None:
        (detail,) = details(FaceAnalyzer(lambda: detector, unused), photo, "DEFAULT")
        assert set(detail) == {"BoundingBox", "Landmarks", "Pose", "Quality", "Confidence"}

    def test_some_attributes_leave_the_default_ones_as_they_are(
        self, detector: Detector, attributes: AttributeEstimator, photo: bytes
    ) -> None:
        analyzer = FaceAnalyzer(lambda: detector, lambda: attributes)
        (plain,) = details(analyzer, photo)
        (detail,) = details(analyzer, photo, "GENDER")
        assert detail == {**plain, "Gender": detail["Gender"]}


def _numbers(value: Any) -> list[float]:
    if isinstance(value, Mapping):
        return [n for item in value.values() for n in _numbers(item)]
    if isinstance(value, list):
        return [n for item in value for n in _numbers(item)]
    return [value] if isinstance(value, float) else []


class InMemory:
    """Objects, bus and guard of a stage, in memory."""

    def __init__(self, photo: bytes) -> None:
        self.photo = photo
        self.emitted: list[events.Event] = []
        self.stored: dict[str, bytes] = {}

    def read(self, upload: events.Upload) -> bytes:
        return self.photo

    def put(self, bucket: str, key: str, body: bytes, content_type: str) -> None:
        self.stored[key] = body

    def emit(self, emitted: Sequence[events.Event]) -> None:
        self.emitted += emitted

    def decide(self, tenant: str, action: str, purpose: str, search: object) -> Decision:
        return permitted(action)

    def for_batch(self) -> InMemory:
        return self

    def read_along(self, tenant_ids: Collection[str]) -> list[ReadAlong]:
        return []


def permitted(action: str) -> Decision:
    tenant = Tenant(
        id="acme", sector="commercial", jurisdiction="US-WA", actions=(action,), purposes=("access_control",)
    )
    request = Request(tenant=tenant, tenant_id="acme", action=action, purpose="access_control")
    return decide(request, parse(new_deployment()), datetime(2026, 11, 22, tzinfo=UTC))


def arrived(action: str) -> events.UploadPermitted:
    """Return the event of a permitted upload."""
    upload = events.Upload(
        bucket="uploads",
        key=f"acme/{action}/staff/a.jpg",
        version="1",
        sequencer="1",
        tenant="acme",
        action=action,
        collection="staff",
    )
    return events.UploadPermitted.of(upload, decision=permitted(action), purpose="access_control")


def detected(
    photo: bytes, detector: Detector, action: str, load: Callable[[], AttributeEstimator]
) -> events.FacesDetected:
    world = InMemory(photo)
    records = UploadRecords(MemoryTable(partition=KEY, sort=""), 1, lambda: 1e9)
    outbox = Outbox("detect", records, world, world, "results")  # type: ignore[arg-type]
    stage = Detect(world, world, outbox, FaceAnalyzer(lambda: detector, load), "chips")  # type: ignore[arg-type]
    event = arrived(action)
    records.claim(event.upload)
    records.record("gate", event)
    envelope = {"detail-type": event.detail_type, "detail": msgspec.to_builtins(event)}
    batch = Batch.of([Message("1", 1, envelope)])
    stage(batch)
    assert batch.failures == []
    (emitted,) = world.emitted
    assert isinstance(emitted, events.FacesDetected)
    (chips,) = world.stored.values()
    assert len(np.load(io.BytesIO(chips))) == len(emitted.faces)
    return emitted


class TestPipeline:
    def test_analyze_adds_attributes(
        self, detector: Detector, attributes: AttributeEstimator, photo: bytes
    ) -> None:
        event = detected(photo, detector, "analyze", lambda: attributes)
        (face,) = event.faces
        said = face.attributes
        assert isinstance(said, events.FaceAttributes)
        assert said.gender is not None
        assert said.gender.value == "Female"
        assert said.gender.confidence > 80
        assert said.age_range is not None
        assert max(said.emotions, key=lambda name: said.emotions[name]) == "HAPPY"
        # What goes over the bus comes back the same, and a hundred faces fit into one event.
        wired = msgspec.json.encode(event)
        assert msgspec.json.decode(wired, type=events.FacesDetected) == event
        assert 100 * len(msgspec.json.encode(face)) < 200_000

    @pytest.mark.parametrize("action", ["index", "search"])
    def test_no_other_action_does(self, detector: Detector, photo: bytes, action: str) -> None:
        (face,) = detected(photo, detector, action, unused).faces
        assert face.attributes is msgspec.UNSET
        assert b"attributes" not in msgspec.json.encode(face)

    def test_the_ledger_does_not_see_them(self) -> None:
        assert "faces" in events.FacesAnalyzed.withheld_from_ledger
        assert "faces" in events.FacesDetected.withheld_from_ledger
