"""The helper for programs that call a deployed URL: an ordinary client, another signing name, two operations more."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.session import Session

from abeyance.rekognition.client import client
from abeyance.rekognition.wire import SDK_FOLDER

URL = "https://abc.execute-api.eu-central-1.amazonaws.com/v1"


def sent(made: Any, operation: str, **params: Any) -> Any:
    """The request that a client would send; nothing leaves this machine."""
    seen: list[Any] = []

    def answer(request: Any, **_: Any) -> AWSResponse:
        seen.append(request)
        response = AWSResponse(request.url, 200, {"Content-Type": "application/x-amz-json-1.1"}, None)
        response._content = b"{}"
        return response

    made.meta.events.register("before-send.rekognition", answer)
    getattr(made, operation)(**params)
    (request,) = seen
    for name, value in list(request.headers.items()):
        request.headers[name] = value.decode() if isinstance(value, bytes) else value
    return request


def build(**more: Any) -> Any:
    return client(URL, "eu-central-1", aws_access_key_id="AKIA", aws_secret_access_key="s", **more)


def test_signs_for_api_gateway() -> None:
    request = sent(build(), "list_collections")
    assert request.url.rstrip("/") == URL
    assert "/eu-central-1/execute-api/aws4_request" in request.headers["Authorization"]
    assert request.headers["X-Amz-Target"] == "RekognitionService.ListCollections"
    assert "x-abeyance-purpose" not in request.headers


def test_the_folder_of_data_makes_any_botocore_client_sign_for_api_gateway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The AWS CLI is one of them."""
    monkeypatch.setenv("AWS_DATA_PATH", str(SDK_FOLDER))
    made = Session().create_client(
        "rekognition", "eu-central-1", endpoint_url=URL, aws_access_key_id="AKIA", aws_secret_access_key="s"
    )
    request = sent(made, "get_face_template", CollectionId="c", FaceId="0" * 8)
    assert "/eu-central-1/execute-api/aws4_request" in request.headers["Authorization"]


def test_purpose_is_sent_and_signed() -> None:
    request = sent(build(purpose="missing_children"), "list_collections")
    assert request.headers["x-abeyance-purpose"] == "missing_children"
    assert "x-abeyance-purpose" in request.headers["Authorization"]


def test_knows_the_operations_on_templates() -> None:
    made = build()
    request = sent(
        made, "search_faces_by_template", CollectionId="c", Template=[0.5, 1.0], FaceModelVersion="m@0"
    )
    assert b'"Template": [0.5, 1.0]' in request.body
    sent(made, "get_face_template", CollectionId="c", FaceId="0" * 8)
    assert made.exceptions.ResourceNotFoundException
