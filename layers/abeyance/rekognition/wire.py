"""The wire format: JSON 1.1, checked against the service's own model.

The model is botocore's, cut down to our operations (by ``tests/unit/rekognition/service_model.py``), with our own
operations in the form in which an SDK loads them.
"""

from __future__ import annotations

import functools
import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from abeyance.encoding import decode_base64
from abeyance.rekognition.errors import ApiError

MODEL_FILE: Final = Path(__file__).with_name("model.json")
#: Folder for AWS_DATA_PATH: adds our operations, and the signing name of API Gateway, to an SDK's Rekognition.
SDK_FOLDER: Final = Path(__file__).with_name("sdk")
EXTRAS_FILE: Final = SDK_FOLDER / "rekognition" / "2016-06-27" / "service-2.sdk-extras.json"
CONTENT_TYPE: Final = "application/x-amz-json-1.1"
UNKNOWN_OPERATION: Final = (
    "{operation} is not an operation of Abeyance. Its documentation, docs/rekognition.md, lists the operations and "
    'says why others are missing, under "Operations that are missing".'
)
_OPERATION_NAME: Final = re.compile(r"[A-Za-z]{1,64}")

#: Violations that a message lists.
_MAX_LISTED = 10


class OperationShapes(msgspec.Struct, frozen=True):
    """An operation: the names of its input and output shapes and of its errors."""

    name: str
    input: str
    output: str
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Violation:
    """A value that the model does not allow, at a path as the service writes it: ``image.s3Object.bucket``."""

    path: str
    constraint: str
    shape: str


class ServiceModel:
    """The shapes and operations of the service.

    Parameters
    ----------
    document
        ``metadata``, ``operations`` and ``shapes``, as in ``model.json``.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.shapes: Mapping[str, Any] = document["shapes"]
        self.prefix: str = document["metadata"]["targetPrefix"]
        self.operations = {
            name: OperationShapes(name, entry["input"], entry["output"], tuple(entry["errors"]))
            for name, entry in document["operations"].items()
        }

    def operation(self, target: str) -> OperationShapes:
        """Return the operation that ``X-Amz-Target`` names; raise UnknownOperationException."""
        prefix, _, name = target.partition(".")
        if prefix != self.prefix or name not in self.operations:
            # The name is the caller's text: it is repeated only if it could be an operation's.
            named = name if _OPERATION_NAME.fullmatch(name) else "This"
            raise ApiError("UnknownOperationException", UNKNOWN_OPERATION.format(operation=named))
        return self.operations[name]

    def read(self, operation: OperationShapes, body: bytes) -> dict[str, Any]:
        """Return the parameters in a request's body, checked; blobs are bytes.

        Raises
        ------
        ApiError
            SerializationException for what is no JSON or of another type; ImageTooLargeException for image bytes
            over the limit; InvalidParameterException for every other violation of the model.
        """
        try:
            document = msgspec.json.decode(body or b"{}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise ApiError("SerializationException", "The body is not JSON") from None
        value, violations = self.check(document, operation.input)
        if violations:
            raise _refusal(violations)
        assert isinstance(value, dict)
        return value

    def check(self, document: Any, shape: str) -> tuple[Any, list[Violation]]:
        """Return a value of ``shape`` with blobs decoded and nulls left out, and its violations of the model.

        Raise SerializationException where something is of another JSON type.
        """
        check = _ShapeChecker(self.shapes)
        return check.value(document, shape, ""), check.violations


def _refusal(violations: list[Violation]) -> ApiError:
    count = len(violations)
    listed = "; ".join(
        f"Value at '{v.path}' failed to satisfy constraint: {v.constraint}" for v in violations[:_MAX_LISTED]
    )
    message = f"{count} validation error{'s' if count > 1 else ''} detected: {listed}"
    too_large = all(
        v.shape == "ImageBlob" and v.constraint.startswith("Member must have length less") for v in violations
    )
    return ApiError("ImageTooLargeException" if too_large else "InvalidParameterException", message)


class _ShapeChecker:
    """A walk through one document."""

    def __init__(self, shapes: Mapping[str, Any]) -> None:
        self._shapes = shapes
        self.violations: list[Violation] = []

    def value(self, value: Any, name: str, path: str) -> Any:
        shape = self._shapes[name]
        return _READERS[shape["type"]](self, value, shape, name, path)

    def fail(self, path: str, constraint: str, name: str) -> None:
        self.violations.append(Violation(path, constraint, name))

    def structure(self, value: Any, shape: Mapping[str, Any], name: str, path: str) -> dict[str, Any]:
        _require(isinstance(value, dict), path, "an object")
        members = shape["members"]
        given = {key: item for key, item in value.items() if item is not None}
        for key in shape.get("required", ()):
            if key not in given:
                self.fail(_join(path, key), "Member must not be null", name)
        for key in given.keys() - members.keys():
            # The key itself is the caller's text, so it is not repeated.
            self.fail(path or "request", f"Member must be one of {', '.join(members) or 'none'}", name)
            del given[key]
        return {key: self.value(item, members[key]["shape"], _join(path, key)) for key, item in given.items()}

    def list(self, value: Any, shape: Mapping[str, Any], name: str, path: str) -> list[Any]:
        _require(isinstance(value, list), path, "an array")
        self._length(len(value), shape, name, path)
        member = shape["member"]["shape"]
        for item in value:
            _require(item is not None, path, "an array without null")
        return [self.value(item, member, f"{path}.{number}.member") for number, item in enumerate(value, 1)]

    def map(self, value: Any, shape: Mapping[str, Any], name: str, path: str) -> dict[str, Any]:
        _require(isinstance(value, dict), path, "an object")
        self._length(len(value), shape, name, path)
        found = {}
        for key, item in value.items():
            _require(item is not None, path, "an object without null")
            self.value(key, shape["key"]["shape"], f"{path}.key")
            found[key] = self.value(item, shape["value"]["shape"], f"{path}.value")
        return found

    def string(self, value: Any, shape: Mapping[str, Any], name: str, path: str) -> str:
        _require(isinstance(value, str), path, "a string")
        self._length(len(value), shape, name, path)
        if "pattern" in shape and not _pattern(shape["pattern"]).fullmatch(value):
            self.fail(path, f"Member must satisfy regular expression pattern: {shape['pattern']}", name)
        if "enum" in shape and value not in shape["enum"]:
            self.fail(path, f"Member must satisfy enum value set: [{', '.join(shape['enum'])}]", name)
        text: str = value
        return text

    def blob(self, value: Any, shape: Mapping[str, Any], name: str, path: str) -> bytes:
        _require(isinstance(value, str), path, "a string")
        try:
            data = decode_base64(value)
        except ValueError:
            raise ApiError("SerializationException", f"The value at '{path}' is not base64") from None
        self._length(len(data), shape, name, path)
        return data

    def number(self, value: Any, shape: Mapping[str, Any], name: str, path: str) -> float:
        whole = shape["type"] in ("integer", "long")
        kinds = (int,) if whole else (int, float)
        _require(isinstance(value, kinds) and not isinstance(value, bool), path, "a number")
        bound = _WIDEST[shape["type"]]
        _require(-bound <= value <= bound and math.isfinite(value), path, f"a {shape['type']}")
        if "min" in shape and value < shape["min"]:
            self.fail(path, f"Member must have value greater than or equal to {shape['min']}", name)
        if "max" in shape and value > shape["max"]:
            self.fail(path, f"Member must have value less than or equal to {shape['max']}", name)
        number: float = value
        return number

    def boolean(self, value: Any, shape: Mapping[str, Any], name: str, path: str) -> bool:
        _require(isinstance(value, bool), path, "true or false")
        return bool(value)

    def timestamp(self, value: Any, shape: Mapping[str, Any], name: str, path: str) -> float:
        _require(isinstance(value, int | float) and not isinstance(value, bool), path, "seconds since 1970")
        return float(value)

    def _length(self, length: int, shape: Mapping[str, Any], name: str, path: str) -> None:
        if "min" in shape and length < shape["min"]:
            self.fail(path, f"Member must have length greater than or equal to {shape['min']}", name)
        if "max" in shape and length > shape["max"]:
            self.fail(path, f"Member must have length less than or equal to {shape['max']}", name)


_READERS: Final[Mapping[str, Callable[[_ShapeChecker, Any, Mapping[str, Any], str, str], Any]]] = {
    "structure": _ShapeChecker.structure,
    "list": _ShapeChecker.list,
    "map": _ShapeChecker.map,
    "string": _ShapeChecker.string,
    "blob": _ShapeChecker.blob,
    "integer": _ShapeChecker.number,
    "long": _ShapeChecker.number,
    "float": _ShapeChecker.number,
    "double": _ShapeChecker.number,
    "boolean": _ShapeChecker.boolean,
    "timestamp": _ShapeChecker.timestamp,
}
_WIDEST: Final[Mapping[str, float]] = {
    "integer": 2**31 - 1,
    "long": 2**63 - 1,
    "float": 3.4028234663852886e38,
    "double": 1.7976931348623157e308,
}


def _require(holds: bool, path: str, what: str) -> None:
    if not holds:
        raise ApiError("SerializationException", f"The value at '{path or 'request'}' must be {what}")


def _join(path: str, member: str) -> str:
    name = member[0].lower() + member[1:]
    return f"{path}.{name}" if path else name


#: Unicode's separators, category Z.
_SEPARATORS = " \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


@functools.cache
def _pattern(pattern: str) -> re.Pattern[str]:
    """Return a pattern of the model, which is written for Java, as Python's.

    ``\\p{L}``, ``\\p{N}`` and ``_`` are together what Python calls ``\\w``; the model never has one without the
    others (a test holds that).
    """
    return re.compile(pattern.replace(r"\p{L}", r"\w").replace(r"\p{N}", "").replace(r"\p{Z}", _SEPARATORS))


@functools.cache
def model() -> ServiceModel:
    """Return the service's model together with our own operations."""
    document = msgspec.json.decode(MODEL_FILE.read_bytes())
    extras = msgspec.json.decode(EXTRAS_FILE.read_bytes())["merge"]
    for name, entry in extras["operations"].items():
        document["operations"][name] = {
            "input": entry["input"]["shape"],
            "output": entry["output"]["shape"],
            "errors": [error["shape"] for error in entry["errors"]],
        }
    document["shapes"].update(extras["shapes"])
    return ServiceModel(document)


def write(answer: Mapping[str, Any]) -> bytes:
    """Return the body of a response; members that are None are left out."""
    return msgspec.json.encode(_without_none(answer))


def _without_none(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_none(value) for key, value in node.items() if value is not None}
    if isinstance(node, list | tuple):
        return [_without_none(item) for item in node]
    return node


def write_error(error: ApiError, request_id: str) -> bytes:
    """Return the body of an error, with the members that the developer guide shows."""
    return msgspec.json.encode(
        {"__type": error.name, "Code": error.name, "Logref": request_id, "Message": str(error)}
    )


def single(value: float) -> float:
    """Return the value in single precision, as the service's floats are."""
    number: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return number
