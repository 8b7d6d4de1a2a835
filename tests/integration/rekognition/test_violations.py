"""Every violation that the service's model states, of every operation, sent over HTTP: a modelled error each time."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from abeyance.rekognition import wire

MODEL = wire.model()
FACE = str(uuid.uuid4())
#: A valid value of each shape that constraints alone do not tell.
SAMPLES: dict[str, Any] = {
    "CollectionId": "violated",
    "FaceId": FACE,
    "ImageId": FACE,
    "ImageBlob": base64.b64encode(b"bytes").decode(),
    "TagKey": "key",
    "ClientRequestToken": "token",
    "S3Bucket": "uploads",
    "SNSTopicArn": "arn:aws:sns:us-east-1:123456789012:jobs",
    "RoleArn": "arn:aws:iam::123456789012:role/jobs",
}
#: Text that no pattern of the model lets pass.
FOREIGN = "ß!\n"


def valid(shape_name: str, *, all_members: bool = True) -> Any:
    """A value of a shape that the model allows."""
    shape = MODEL.shapes[shape_name]
    if shape_name in SAMPLES:
        return SAMPLES[shape_name]
    match shape["type"]:
        case "structure":
            wanted = shape["members"] if all_members else shape.get("required", ())
            return {name: valid(shape["members"][name]["shape"]) for name in wanted}
        case "list":
            return [valid(shape["member"]["shape"])] * max(1, shape.get("min", 0))
        case "map":
            return {valid(shape["key"]["shape"]): valid(shape["value"]["shape"])}
        case "string":
            return shape["enum"][0] if "enum" in shape else "a" * max(1, shape.get("min", 0))
        case "integer" | "long" | "float":
            return max(1, shape.get("min", 0))
        case "boolean":
            return True
        case "blob":
            return base64.b64encode(bytes(max(1, shape.get("min", 0)))).decode()
    raise AssertionError(shape_name)


def wrong(shape_name: str) -> Iterator[tuple[str, Any]]:
    """Values that break one constraint of a shape, or one of a shape within it, and which."""
    shape = MODEL.shapes[shape_name]
    kind = shape["type"]
    good = valid(shape_name)
    if kind == "structure":
        for name in shape.get("required", ()):
            yield f"{name} missing", {key: value for key, value in good.items() if key != name}
            yield f"{name} null", {**good, name: None}
        yield "unknown member", {**good, "NoSuchMember": 1}
        for name, member in shape["members"].items():
            for what, value in wrong(member["shape"]):
                yield f"{name}: {what}", {**good, name: value}
    elif kind == "list":
        item = valid(shape["member"]["shape"])
        if shape.get("min"):
            yield "too few", []
        if "max" in shape:
            yield "too many", [item] * (shape["max"] + 1)
        for what, value in wrong(shape["member"]["shape"]):
            yield f"item: {what}", [value]
    elif kind == "map":
        if "max" in shape:
            value = valid(shape["value"]["shape"])
            yield "too many", {f"k{n}": value for n in range(shape["max"] + 1)}
        for what, value in wrong(shape["key"]["shape"]):
            yield f"key: {what}", {value: valid(shape["value"]["shape"])}
        for what, value in wrong(shape["value"]["shape"]):
            yield f"value: {what}", {valid(shape["key"]["shape"]): value}
    elif kind == "blob":
        if shape.get("min"):
            yield "too short", ""
        if "max" in shape:
            yield "too long", base64.b64encode(bytes(shape["max"] + 1)).decode()
    elif kind == "string":
        if shape.get("min"):
            yield "too short", "a" * (shape["min"] - 1)
        if "max" in shape:
            yield "too long", "a" * (shape["max"] + 1)
        if "pattern" in shape:
            yield "pattern", FOREIGN
            yield "pattern, newline at the end", f"{good}\n"
        if "enum" in shape:
            yield "enum", "NO_SUCH_VALUE"
    elif kind in ("integer", "long", "float"):
        if "min" in shape:
            yield "too low", shape["min"] - 1
        if "max" in shape:
            yield "too high", shape["max"] + 1


#: Of another JSON type than the shape's.
OTHER_TYPES: dict[str, list[Any]] = {
    "structure": [[], "x", 1],
    "list": [{}, "x", 1, [None]],
    "map": [[], "x", {"k": None}],
    "string": [1, True, {}, []],
    "blob": [1, {}, "not base64!"],
    "integer": ["1", 1.5, True, 2**40, []],
    "long": ["1", True],
    "float": ["1", True, {}, 1e300],
    "boolean": ["true", 1],
}


def mistyped(shape_name: str) -> Iterator[tuple[str, Any]]:
    """Values of other types, at each place of a shape."""
    shape = MODEL.shapes[shape_name]
    for value in OTHER_TYPES[shape["type"]]:
        yield f"{value!r}", value
    if shape["type"] == "structure":
        good = valid(shape_name)
        for name, member in shape["members"].items():
            for what, value in mistyped(member["shape"]):
                yield f"{name}: {what}", {**good, name: value}


def send(api: Any, operation: str, body: Any, principal: str = "lab") -> tuple[int, dict[str, Any]]:
    """POST a body as it is, or as JSON."""
    request = urllib.request.Request(
        api.endpoint,
        data=body if isinstance(body, bytes) else json.dumps(body).encode(),
        headers={
            "Content-Type": wire.CONTENT_TYPE,
            "X-Amz-Target": f"RekognitionService.{operation}",
            "Authorization": f"AWS4-HMAC-SHA256 Credential={principal}/20260101/us-east-1/rekognition/aws4_request",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize("operation", sorted(MODEL.operations))
def test_every_violation_is_a_modelled_error(api: Any, operation: str) -> None:
    shape = MODEL.operations[operation].input
    cases = list(wrong(shape))
    assert cases
    for what, value in cases:
        status, answer = send(api, operation, value)
        told = (what, status, answer)
        assert status == 400, told
        assert answer["__type"] in MODEL.operations[operation].errors, told
        expected = "ImageTooLargeException" if "Bytes: too long" in what else "InvalidParameterException"
        assert answer["__type"] == expected, told
        assert "validation error" in answer["Message"], told
    print(f"{operation}: {len(cases)} violations")


@pytest.mark.parametrize("operation", sorted(MODEL.operations))
def test_other_types_are_serialization_errors(api: Any, operation: str) -> None:
    for what, value in mistyped(MODEL.operations[operation].input):
        status, answer = send(api, operation, value)
        assert (status, answer["__type"]) == (400, "SerializationException"), (what, answer)


@pytest.mark.parametrize("operation", sorted(MODEL.operations))
def test_what_is_valid_is_not_refused_for_its_shape(api: Any, operation: str) -> None:
    """All members, and only the required ones, pass the model; what they name is not there, and that is said."""
    shape = MODEL.operations[operation].input
    for value in (valid(shape), valid(shape, all_members=False)):
        status, answer = send(api, operation, value)
        assert status in (200, 400), answer
        assert "validation error" not in answer.get("Message", ""), answer
        if status == 400:
            assert answer["__type"] in MODEL.operations[operation].errors, answer
    send(api, "DeleteCollection", {"CollectionId": "violated"})


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe",
        b"nonsense",
        b'{"CollectionId": NaN}',
        b"[" * 100_000,
        b'{"CollectionId": "a"} trailing',
        b"null",
    ],
)
def test_what_is_no_json(api: Any, body: bytes) -> None:
    status, answer = send(api, "DescribeCollection", body)
    assert (status, answer["__type"]) == (400, "SerializationException")


@pytest.mark.parametrize(
    "target", ["", "RekognitionService.", "RekognitionService.DetectLabels", "RekognitionService.x.y"]
)
def test_unknown_operations(api: Any, target: str) -> None:
    status, answer = send(api, target.removeprefix("RekognitionService."), {})
    assert (status, answer["__type"]) == (400, "UnknownOperationException")
