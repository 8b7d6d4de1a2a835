"""The front of the API on one machine: web pages of named origins, regions, requests that are too large, no models."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from tests.integration.rekognition.conftest import TENANTS

from abeyance.deployment.parts import build_tenants
from abeyance.deployment.settings import DeploymentSettings
from abeyance.local.aws import LocalAws
from abeyance.local.gateway import MAX_API_BYTES, mount_api
from abeyance.moratorium.presets import new_deployment

ORIGIN = "https://app.example.org"
SIGNED = {
    "X-Amz-Target": "RekognitionService.ListCollections",
    "Content-Type": "application/x-amz-json-1.1",
    "Authorization": "AWS4-HMAC-SHA256 Credential=acme/20260101/eu-west-1/rekognition/aws4_request, "
    "SignedHeaders=host, Signature=0",
}
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-amz-date,x-amz-target",
}


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """An API without models that pages of one origin may call."""
    folder: Path = tmp_path_factory.mktemp("front")
    (folder / "flags.json").write_text(json.dumps(new_deployment()))
    settings = DeploymentSettings.of(
        flags=f"file:{folder}/flags.json", cors_origins=ORIGIN, models=str(folder / "no-models")
    )
    aws = LocalAws(settings=settings)
    aws.start()
    served = mount_api(aws)
    build_tenants(settings, aws.client).add(TENANTS[0])
    try:
        yield aws
    finally:
        served.stop()
        aws.stop()


def send(aws: LocalAws, method: str, headers: dict[str, str], path: str = "/") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", aws.port, timeout=30)
    connection.request(method, path, body=b"{}" if method == "POST" else None, headers=headers)
    answer = connection.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def test_a_page_of_a_named_origin_asks_and_calls(aws: LocalAws) -> None:
    asked = send(aws, "OPTIONS", {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site", **PREFLIGHT})
    assert asked.status == 204
    assert asked.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert asked.headers["Access-Control-Allow-Methods"] == "POST"
    assert {"authorization", "x-amz-target"} <= set(asked.headers["Access-Control-Allow-Headers"].split(","))
    answer = send(aws, "POST", {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site", **SIGNED})
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "x-amzn-requestid" in answer.headers["Access-Control-Expose-Headers"]
    program = send(aws, "POST", SIGNED)
    assert (program.status, program.headers["Access-Control-Allow-Origin"]) == (200, None)


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("OPTIONS", "/", {"Origin": "https://evil.example", **PREFLIGHT}),
        ("OPTIONS", "/", {"Origin": f"{ORIGIN}.evil.example", **PREFLIGHT}),
        ("OPTIONS", "/", {"Origin": "null", **PREFLIGHT}),
        ("POST", "/", {"Origin": "https://evil.example", **SIGNED}),
        ("GET", "/uploads/acme/a.jpg", {"Origin": ORIGIN}),
        ("OPTIONS", "/uploads", {"Origin": ORIGIN, "Access-Control-Request-Method": "PUT"}),
        ("POST", "/moto-api/reset", {"Origin": ORIGIN}),
        ("POST", "/changes", {"Origin": ORIGIN, "Authorization": SIGNED["Authorization"]}),
        ("GET", "/console", {"Origin": ORIGIN}),
        ("POST", "/", {"Origin": ORIGIN, **SIGNED, "X-Amz-Target": "DynamoDB_20120810.ListTables"}),
        ("POST", "/", {"Origin": ORIGIN, **SIGNED, "Host": "evil.example"}),
    ],
)
def test_nobody_else_and_nothing_else(aws: LocalAws, method: str, path: str, headers: dict[str, str]) -> None:
    answer = send(aws, method, headers, path)
    assert answer.status == 403
    assert "Access-Control-Allow-Origin" not in answer.headers


def client(aws: LocalAws, region: str = "eu-west-1") -> Any:
    return boto3.client(
        "rekognition",
        endpoint_url=aws.endpoint,
        region_name=region,
        aws_access_key_id="acme",
        aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
    )


@pytest.mark.parametrize("region", ["eu-west-1", "us-gov-east-1"])
def test_an_arn_has_the_region_of_the_signature(aws: LocalAws, region: str) -> None:
    made = client(aws, region).create_collection(CollectionId=f"in-{region}")
    assert made["CollectionArn"] == f"aws:rekognition:{region}:123456789012:collection/in-{region}"


def test_a_request_that_is_too_large_has_a_name(aws: LocalAws) -> None:
    with pytest.raises(ClientError) as refused:
        client(aws).detect_faces(Image={"Bytes": b"x" * (MAX_API_BYTES * 3 // 4)})
    assert refused.value.response["Error"]["Code"] == "ImageTooLargeException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_a_missing_model_is_said_as_such(aws: LocalAws, photos: Any) -> None:
    with pytest.raises(ClientError) as refused:
        client(aws).detect_faces(Image={"Bytes": photos("obama.jpg")})
    assert refused.value.response["Error"]["Code"] == "ResourceNotReadyException"
    assert "abeyance models fetch" in refused.value.response["Error"]["Message"]
