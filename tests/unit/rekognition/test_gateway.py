"""API Gateway's events and responses; an odd event is the caller's error, not ours."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from abeyance.local.gateway import rest_api_event
from abeyance.rekognition.call import ApiResponse
from abeyance.rekognition.gateway import request_of, response_of

ARN = "arn:aws:sts::111122223333:assumed-role/badge-readers/i-0"
EVENT: dict[str, Any] = {
    "httpMethod": "POST",
    "path": "/",
    "headers": {
        "X-Amz-Target": "RekognitionService.ListCollections",
        "X-Abeyance-Purpose": "access_control",
        "Authorization": "AWS4-HMAC-SHA256 Credential=mallory/20260101/eu-central-1/execute-api/aws4_request",
    },
    "requestContext": {
        "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
        "accountId": "111122223333",
        "identity": {"userArn": ARN, "accessKey": "AKIA", "caller": "AROA:i-0"},
    },
    "body": '{"MaxResults": 3}',
    "isBase64Encoded": False,
}


def test_a_request() -> None:
    request = request_of(EVENT)
    assert request.target == "RekognitionService.ListCollections"
    assert request.body == b'{"MaxResults": 3}'
    assert request.id == "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"
    assert (request.account, request.purpose) == ("111122223333", "access_control")


def test_the_principal_is_what_was_verified() -> None:
    """Never a header: neither a signature that nobody checked, nor one that names a tenant."""
    assert request_of(EVENT).principal == ARN
    for identity in (None, {}, {"userArn": None}):
        context = {**EVENT["requestContext"], "identity": identity}
        assert request_of({**EVENT, "requestContext": context}).principal == ""
    assert request_of({}).principal == ""


def test_bodies() -> None:
    encoded = base64.b64encode(b"{}").decode()
    assert request_of({**EVENT, "body": encoded, "isBase64Encoded": True}).body == b"{}"
    assert request_of({**EVENT, "body": "nonsense!", "isBase64Encoded": True}).body == b"nonsense!"
    assert request_of({**EVENT, "body": None}).body == b""
    assert request_of({**EVENT, "body": "e31=", "isBase64Encoded": True}).body == b"e31="  # {} is e30=


def test_a_response() -> None:
    response = response_of(ApiResponse(400, {"Content-Type": "x"}, b'{"Message":"\xc3\xa9"}'))
    assert response == {
        "statusCode": 400,
        "headers": {"Content-Type": "x"},
        "body": '{"Message":"é"}',
        "isBase64Encoded": False,
    }


@pytest.mark.parametrize(
    ("authorization", "principal"),
    [
        (
            "AWS4-HMAC-SHA256 Credential=acme/20260101/us-east-1/rekognition/aws4_request, SignedHeaders=x",
            "acme",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=acme/../lab/20260101/us-east-1/rekognition/aws4_request",
            "acme/../lab",
        ),
        ("AWS4-HMAC-SHA256 Credential=acme/nonsense", None),
        ("Bearer acme", None),
        ("", None),
    ],
)
def test_the_local_caller_is_the_access_key_id(authorization: str, principal: str | None) -> None:
    event = rest_api_event({"HTTP_AUTHORIZATION": authorization, "REQUEST_METHOD": "POST"}, b"{}")
    assert event["requestContext"]["identity"]["userArn"] == principal
    assert "authorization" not in event["headers"]
