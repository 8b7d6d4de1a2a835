"""The wire format: the stored model is botocore's, and no body at all brings the reader down."""

from __future__ import annotations

import json
import re
import sys
import unicodedata

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from abeyance.rekognition import wire
from abeyance.rekognition.errors import ApiError
from abeyance.rekognition.operations import OPERATIONS

from . import service_model

MODEL = wire.model()


def test_stored_model_is_botocores() -> None:
    """Run ``python tests/unit/rekognition/service_model.py`` after an upgrade of botocore, and read the difference."""
    assert wire.MODEL_FILE.read_text() == service_model.text(service_model.extract(service_model.published()))


def test_every_operation_is_answered() -> None:
    assert set(MODEL.operations) == set(OPERATIONS)
    published = set(service_model.published()["operations"])
    assert len(set(OPERATIONS) & published) == 25
    assert set(OPERATIONS) - published == {
        "SearchFacesByTemplate",
        "GetFaceTemplate",
        "ExportFaces",
        "ImportFaces",
        "ReembedFaces",
        "SwitchCollections",
    }


def test_our_operations_name_only_errors_and_shapes_that_exist() -> None:
    for operation in MODEL.operations.values():
        for name in (operation.input, operation.output, *operation.errors):
            assert name in MODEL.shapes
    seen = set()

    def walk(name: str) -> None:
        if name not in seen:
            seen.add(name)
            shape = MODEL.shapes[name]
            for part in (
                *shape.get("members", {}).values(),
                *(shape[k] for k in ("member", "key", "value") if k in shape),
            ):
                walk(part["shape"])

    for operation in MODEL.operations.values():
        walk(operation.input)
        walk(operation.output)
    assert {MODEL.shapes[name]["type"] for name in seen} <= set(wire._READERS)


def test_unicode_classes_of_java_are_understood() -> None:
    """Against Unicode's own categories, for every character there is."""
    pattern = MODEL.shapes["TagValue"]["pattern"]
    assert r"\p{L}\p{Z}\p{N}_" in pattern
    ours = wire._pattern(pattern)
    odd = set("_.:/=+-@")
    wrong = [
        code
        for code in range(sys.maxunicode + 1)
        if bool(ours.fullmatch(chr(code)))
        != (unicodedata.category(chr(code))[0] in "LZN" or chr(code) in odd)
    ]
    assert wrong == []


def test_every_unicode_class_stands_with_the_others() -> None:
    for shape in MODEL.shapes.values():
        pattern = shape.get("pattern", "")
        assert not re.search(r"\\p\{(?![LNZ]\})", pattern)
        if r"\p{" in pattern:
            assert r"\p{L}\p{Z}\p{N}_" in pattern


def outcome(operation: wire.OperationShapes, body: bytes) -> str:
    """Name of the error that reading ends with, or nothing."""
    try:
        MODEL.read(operation, body)
    except ApiError as error:
        return error.name
    return ""


@given(st.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    for operation in MODEL.operations.values():
        assert outcome(operation, body) in {"", "SerializationException", "InvalidParameterException"}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(MODEL.operations)), st.data())
def test_any_json_in_known_members(name: str, data: st.DataObject) -> None:
    operation = MODEL.operations[name]
    members = list(MODEL.shapes[operation.input]["members"])
    document = data.draw(st.dictionaries(st.sampled_from(members), JSON, max_size=4))
    assert outcome(operation, json.dumps(document).encode()) in {
        "",
        "SerializationException",
        "InvalidParameterException",
    }


def test_violations_do_not_repeat_what_was_sent() -> None:
    """External ids and users name people; a message of ours must not."""
    body = msgspec.json.encode({"CollectionId": "secret name!", "secret member": 1, "Image": {"Bytes": ""}})
    with pytest.raises(ApiError) as caught:
        MODEL.read(MODEL.operations["IndexFaces"], body)
    assert "3 validation errors" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_blobs_are_decoded_and_nulls_left_out() -> None:
    read = MODEL.read(
        MODEL.operations["DetectFaces"], b'{"Image": {"Bytes": "QUJD", "S3Object": null}, "Attributes": null}'
    )
    assert read == {"Image": {"Bytes": b"ABC"}}


@pytest.mark.parametrize("text", ["QUI=", "QUJD", "QQ=="])
def test_a_blob_has_one_spelling(text: str) -> None:
    def outcome_of(spelling: str) -> str:
        return outcome(MODEL.operations["DetectFaces"], json.dumps({"Image": {"Bytes": spelling}}).encode())

    assert outcome_of(text) == ""
    for other in (
        text.rstrip("="),
        text + "=",
        text + "\n",
        text.replace("I=", "J=").replace("Q==", "R==") + " ",
    ):
        assert other == text or outcome_of(other) == "SerializationException"
    assert outcome_of("QUJ=") == outcome_of("QR==") == "SerializationException"


def test_too_large_an_image_is_told_so() -> None:
    body = b'{"Image": {"Bytes": "' + b"A" * 4 * (5 * 1024 * 1024 // 3 + 2) + b'"}}'
    with pytest.raises(ApiError) as caught:
        MODEL.read(MODEL.operations["DetectFaces"], body)
    assert caught.value.name == "ImageTooLargeException"


def test_answers_leave_out_what_is_none() -> None:
    assert wire.write({"a": None, "b": [{"c": None, "d": 0}], "e": []}) == b'{"b":[{"d":0}],"e":[]}'


def test_numbers_are_single() -> None:
    assert wire.single(0.1) == 0.10000000149011612
