"""docs/rekognition.md is true: its tables are held against the code, row by row."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from abeyance.gallery.model import UserStatus
from abeyance.gallery.tags import TAGS_PER_COLLECTION
from abeyance.rekognition import gateway, photos, wire
from abeyance.rekognition.call import Timings
from abeyance.rekognition.errors import FAULTS, IMAGES, NAMES, ApiError
from abeyance.rekognition.facedetail import LANDMARKS, beyond_default, face_detail
from abeyance.rekognition.operations import OPERATIONS, collections, faces, search, users
from abeyance.rekognition.operations.services import version_number
from abeyance.rekognition.sigv4 import SIGNATURE_ERRORS
from abeyance.vision.models.manifest import Manifest

from .service_model import published

PAGE = (Path(__file__).parents[3] / "docs" / "rekognition.md").read_text(encoding="utf-8")
MODEL = wire.model()


def table(heading: str) -> dict[str, tuple[str, ...]]:
    """Rows of the first table whose header begins with ``heading``, by their first cell."""
    lines = [*PAGE[PAGE.index(f"| {heading} |") :].splitlines(), ""]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[: lines.index("")]]
    return {first: tuple(rest) for first, *rest in rows[2:]}


def test_actions_of_every_operation() -> None:
    rows = table("operation")
    assert set(rows) == set(OPERATIONS)
    for name, (told,) in rows.items():
        entry = OPERATIONS[name]
        more = {"Attributes": ["ALL"], "DetectionAttributes": ["ALL"], "WithTemplates": True}
        plain, all_ = entry.actions({}), entry.actions(more)
        assert told.split(";")[0] == (", ".join(plain) or "none")
        assert ("; " in told) == (plain != all_)


def test_shapes_of_our_own_operations() -> None:
    lines = PAGE[PAGE.index("| operation | takes | returns |") :].splitlines()
    rows = {cells[1].strip(): cells for line in lines[2:4] if (cells := line.split("|"))}
    for name, cells in rows.items():
        operation = MODEL.operations[name]
        assert sorted(cells[2].strip().split(", ")) == sorted(MODEL.shapes[operation.input]["members"])
        assert sorted(cells[3].strip().split(", ")) == sorted(MODEL.shapes[operation.output]["members"])


def test_errors() -> None:
    rows = {error for (error,) in table("happens").values()}
    ours = {*NAMES.values(), *IMAGES.values(), "AccessDeniedException", "InvalidS3ObjectException"}
    refused = {
        "SerializationException",
        "UnknownOperationException",
        "ProvisionedThroughputExceededException",
        *SIGNATURE_ERRORS,
    }
    assert rows == ours | refused
    assert {"InternalServerError", "ThrottlingException"} == FAULTS
    assert photos.MAX_OBJECT_BYTES == 15 * 1024 * 1024
    assert MODEL.shapes["ImageBlob"]["max"] == 5 * 1024 * 1024


def test_missing_operations() -> None:
    """The page says why an operation is missing, and an answer names the operation and the page."""
    rows = table("group")
    named = {name for cells in rows.values() for name in re.findall(r"`(\w+)`", cells[0])}
    assert named <= set(published()["operations"]) - set(OPERATIONS)
    with pytest.raises(ApiError, match=r"^DetectLabels .*docs/rekognition\.md") as caught:
        MODEL.operation("RekognitionService.DetectLabels")
    assert (caught.value.status, caught.value.name) == (400, "UnknownOperationException")
    (heading,) = re.findall(r'under "(.*)"', str(caught.value))
    assert f"## {heading}\n" in PAGE
    with pytest.raises(ApiError) as caught:
        MODEL.operation("RekognitionService.<script>")
    assert "script" not in str(caught.value)


def operations(ours: str) -> None:
    everything = published()["operations"]
    assert len(everything) >= 75
    assert f"the {len(set(OPERATIONS) & set(everything))} on faces" in ours


def model_version(ours: str) -> None:
    identity = Manifest.load()["sface-2021dec"].identity
    assert re.fullmatch(r"[a-z0-9-]+@[0-9a-f]{12}", identity)
    assert version_number(identity) == str(int(identity.split("@")[1], 16))
    assert re.fullmatch(MODEL.shapes["IndexFacesModelVersion"]["pattern"], version_number(identity))


def similarity(ours: str) -> None:
    assert Manifest.load()["sface-2021dec"].calibration is not None


def attributes(ours: str) -> None:
    assert beyond_default(["DEFAULT", "SMILE"]) == {"SMILE"}
    given, never = (set(re.findall(r"`([A-Z]\w+)`", part)) for part in ours.split("and these always"))
    members = set(MODEL.shapes["FaceDetail"]["members"])
    assert given | never <= members
    detail = everything_of_a_face()
    assert given >= set(detail) - DEFAULT
    assert {"AgeRange", "Gender", "Emotions"} <= set(detail)
    assert not never & set(detail)
    assert given | never == members - DEFAULT
    assert "CONFUSED" not in {emotion["Type"] for emotion in detail["Emotions"]}


#: What DetectFaces answers without being asked for more.
DEFAULT = {"BoundingBox", "Confidence", "Landmarks", "Pose", "Quality"}


def everything_of_a_face() -> dict[str, Any]:
    """The FaceDetail of the astronaut, with all attributes."""
    from abeyance.local.samples import fetch_samples
    from abeyance.vision.analysis import ATTRIBUTE_ROLES, FaceAnalyzer
    from abeyance.vision.attributes.estimator import load_attributes
    from abeyance.vision.models.manifest import Manifest
    from abeyance.vision.models.store import fetch, load_detector

    fetch(Manifest.load().entries.values())
    photo = fetch_samples("astronaut")["astronaut.png"].read_bytes()
    analyzer = FaceAnalyzer(load_detector, load_attributes)
    (face,) = analyzer.analyze(photo, attributes=ATTRIBUTE_ROLES).faces
    return face_detail(face, ["ALL"])


def landmarks(ours: str) -> None:
    assert tuple(re.findall(r"`(\w+)`", ours)) == LANDMARKS
    assert len(everything_of_a_face()["Landmarks"]) == 30
    assert set(LANDMARKS) <= set(MODEL.shapes["LandmarkType"]["enum"])
    assert len(MODEL.shapes["LandmarkType"]["enum"]) == 30


def image_formats(ours: str) -> None:
    import io

    from PIL import Image

    from abeyance.vision.errors import ImageRejected
    from abeyance.vision.image import decode

    for name in ("JPEG", "PNG", "WEBP"):
        body = io.BytesIO()
        Image.new("RGB", (90, 90)).save(body, name)
        assert decode(body.getvalue()).shape == (90, 90, 3)
    body = io.BytesIO()
    Image.new("RGB", (90, 90)).save(body, "BMP")
    with pytest.raises(ImageRejected):
        decode(body.getvalue())


def image_bytes(ours: str) -> None:
    # Lambda's 6 MB hold the body as a JSON string in the event, and the body holds the image as base64.
    assert 4.4e6 < 6 * 1024 * 1024 * 3 / 4 - 100_000 < 4.7e6


def image_source(ours: str) -> None:
    source = photos.Photos(None, "uploads", {}.get)
    assert source.may_read("uploads", "acme/x", "acme")
    assert not source.may_read("uploads", "globex/x", "acme")
    assert not source.may_read("doors", "x", "acme")


def orientation(ours: str) -> None:
    source = Path(wire.__file__).parent
    assert not [path for path in source.rglob("*.py") if "OrientationCorrection" in path.read_text()]


def invalid_parameters(ours: str) -> None:
    assert "ValidationException" not in MODEL.shapes
    assert all("InvalidParameterException" in operation.errors for operation in MODEL.operations.values())


def unknown_members(ours: str) -> None:
    _, violations = MODEL.check({"NoSuchMember": 1}, "ListCollectionsRequest")
    assert len(violations) == 1


def tags(ours: str) -> None:
    _, violations = MODEL.check({"CollectionId": "a", "Tags": {"aws:x": "y"}}, "CreateCollectionRequest")
    assert violations
    assert MODEL.shapes["TagMap"]["max"] == TAGS_PER_COLLECTION
    assert ours == "of collections"


def candidates(ours: str) -> None:
    assert ours.startswith(f"{search.MAX_FACES} ")
    assert search.MAX_USERS == search.MAX_FACES


def page_size(ours: str) -> None:
    assert (faces.PAGE, collections.PAGE, users.PAGE) == (1000, 1000, 500)


def templates(ours: str) -> None:
    added = set(OPERATIONS) - set(published()["operations"])
    # The two that move a collection to another model hand out no template.
    assert added - {"ReembedFaces", "SwitchCollections"} == set(re.findall(r"[A-Z]\w+", ours))


def user_status(ours: str) -> None:
    assert set(UserStatus) <= set(MODEL.shapes["UserStatus"]["enum"])


def timing(ours: str) -> None:
    assert "total;dur=" in Timings().header()


def elsewhere(ours: str) -> None:
    """Consistency is held by test_freshness, re-indexing by test_operations: both over HTTP."""
    tests = Path(__file__).parents[2] / "integration" / "rekognition"
    assert "def test_nothing_is_stale" in (tests / "test_freshness.py").read_text()
    assert "def test_may_come_back_after_deletion" in (tests / "test_operations.py").read_text()


CHECKS: Mapping[str, Callable[[str], Any]] = {
    "operations": operations,
    "model version": model_version,
    "similarity": similarity,
    "attributes": attributes,
    "landmarks": landmarks,
    "image formats": image_formats,
    "image bytes": image_bytes,
    "image source": image_source,
    "orientation": orientation,
    "invalid parameters": invalid_parameters,
    "unknown members": unknown_members,
    "tags": tags,
    "candidates": candidates,
    "page size": page_size,
    "consistency": elsewhere,
    "re-indexing": elsewhere,
    "user status": user_status,
    "templates": templates,
    "timing": timing,
}


@pytest.mark.parametrize("row", sorted(table("what") | dict.fromkeys(CHECKS, ("", ""))))
def test_differences(row: str) -> None:
    """Every row has a check, and every check a row."""
    rows = table("what")
    assert row in rows
    assert row in CHECKS
    CHECKS[row](rows[row][1])


def test_the_rest_of_the_page() -> None:
    assert gateway.PURPOSE_HEADER in PAGE
    assert gateway.UNSPECIFIED in PAGE
    assert str(wire.EXTRAS_FILE).endswith(re.findall(r"`layers/abeyance/(rekognition/sdk/.*?json)`", PAGE)[0])
