"""Where the console's secrets come from, and how documents reach the function that deploys."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from abeyance.deployment.build import read_client_secret
from abeyance.moratorium.delegate import invoke_function

KEYS = {"region_name": "eu-central-1", "aws_access_key_id": "x", "aws_secret_access_key": "x"}


class Aws:
    """Clients whose every call is held to the service's model and answered as told."""

    def __init__(self) -> None:
        self.stubs: dict[str, Stubber] = {}

    def on(self, service: str) -> Stubber:
        if service not in self.stubs:
            self.stubs[service] = Stubber(boto3.client(service, **KEYS))
            self.stubs[service].activate()
        return self.stubs[service]

    def client(self, service: str) -> Any:
        return self.on(service).client


@pytest.fixture
def aws() -> Iterator[Aws]:
    made = Aws()
    yield made
    for stub in made.stubs.values():
        stub.assert_no_pending_responses()


def test_cognito_is_asked_for_its_own_secret(aws: Aws) -> None:
    aws.on("cognito-idp").add_response(
        "describe_user_pool_client",
        {"UserPoolClient": {"ClientSecret": "not-told-to-anybody-else"}},
        {"UserPoolId": "eu-central-1_Pool", "ClientId": "client"},
    )
    assert read_client_secret("cognito:eu-central-1_Pool/client", aws.client) == "not-told-to-anybody-else"


def test_others_secrets_are_in_secrets_manager(aws: Aws) -> None:
    aws.on("secretsmanager").add_response(
        "get_secret_value", {"SecretString": "shh"}, {"SecretId": "arn:aws:secretsmanager:x"}
    )
    assert read_client_secret("secret:arn:aws:secretsmanager:x", aws.client) == "shh"


def test_a_public_client_has_none(aws: Aws) -> None:
    assert read_client_secret("", aws.client) == ""


def test_a_document_is_handed_to_the_function(aws: Aws) -> None:
    event = {"task": "publish", "document": {"version": "1"}}
    expected = {"FunctionName": "abeyance-flags", "Payload": json.dumps(event).encode()}
    aws.on("lambda").add_response("invoke", {"Payload": io.BytesIO(b'{"version": "2"}')}, expected)
    assert invoke_function(aws.client("lambda"), "abeyance-flags", event) == {"version": "2"}
    aws.on("lambda").add_response(
        "invoke",
        {"FunctionError": "Unhandled", "Payload": io.BytesIO(b'{"errorMessage": "secret"}')},
        expected,
    )
    with pytest.raises(RuntimeError, match=r"^Unhandled$"):
        invoke_function(aws.client("lambda"), "abeyance-flags", event)
