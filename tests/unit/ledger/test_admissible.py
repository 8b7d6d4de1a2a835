"""The guard: nothing about a face, nothing that names a person, nothing that canonical JSON would change."""

from __future__ import annotations

import base64
import enum
from datetime import UTC, datetime
from typing import Any

import pytest

from abeyance.ledger.admissible import check_body
from abeyance.ledger.errors import Inadmissible

TEMPLATE = [0.01 * n for n in range(128)]


def nested(depth: int) -> Any:
    return {"x": nested(depth - 1)} if depth else 1


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ([], "body"),
        ({"template": 1}, "body.template"),
        ({"face": {"Embedding": []}}, "body.face.Embedding"),
        ({"ExternalImageId": "anna"}, "body.ExternalImageId"),
        ({"a": [{"external-image-id": "anna"}]}, "body.a[0].external-image-id"),
        ({"x": b"\x00"}, "body.x: bytes"),
        ({"x": bytearray(3)}, "body.x: bytearray"),
        ({"x": memoryview(b"abc")}, "body.x: memoryview"),
        ({"x": datetime(2020, 6, 10, tzinfo=UTC)}, "body.x: datetime"),
        ({"x": {1, 2}}, "body.x: set"),
        ({"x": TEMPLATE}, "body.x: 128 numbers"),
        ({"x": [[n] for n in TEMPLATE]}, "body.x: 128 numbers"),
        ({"x": tuple(range(17))}, "body.x: 17 numbers"),
        ({"x": base64.b64encode(bytes(128)).decode()}, "body.x: looks like encoded data"),
        ({"x": "chip " + bytes(128).hex()}, "body.x: looks like encoded data"),
        ({"x": "word " * 500}, "body.x: string of 2500"),
        ({"x": "acme/index/staff/Anna Example.JPG"}, "body.x: names an image file"),
        ({"anna.jpeg": 1}, "body: a key names an image file"),
        ({"x": "\ud800"}, "body.x: string with a lone surrogate"),
        ({"x": float("nan")}, "body.x: NaN"),
        ({"x": float("-inf")}, "body.x: NaN and infinity"),
        ({"x": 2**53}, "body.x: beyond"),
        ({"x": -1e20}, "body.x: beyond"),
        ({1: 2}, "body: keys are"),
        ({'a"b': 2}, "body: keys are"),
        ({"ä": 2}, "body: keys are"),
        (nested(30), "nested more than"),
        ({"x": [None] * 6000}, "more than 5000 values"),
    ],
)
def test_refused(body: Any, where: str) -> None:
    with pytest.raises(Inadmissible) as error:
        check_body(body)
    assert where in str(error.value)
    assert "Anna" not in str(error.value)
    assert "anna" not in str(error.value)


class Outcome(enum.StrEnum):
    DENY = "deny"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"outcome": Outcome.DENY, "flags": ({"key": "x", "reason": "Halted — “for now”."},)},
        {
            "action": "template_export",
            "box": [0.1, 0.2, 0.3, 0.4],
            "count": 2**53 - 1,
            "similarity": 99.87654321,
        },
        {
            "landmarks": [[0.1, 0.2]] * 5,
            "digest": "ab" * 32,
            "signature": base64.b64encode(bytes(96)).decode(),
        },
        {
            "source": "https://www.aboutamazon.com/news/policy-news-views/we-are-implementing-a-one-year-moratorium"
        },
        {"matches": [{"face_id": "1", "similarity": 99.1}] * 100},
    ],
)
def test_admitted(body: Any) -> None:
    check_body(body)
