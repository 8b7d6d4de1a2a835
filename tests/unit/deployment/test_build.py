"""Where the console's secrets come from, and how the change service is asked."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from abeyance.deployment.build import read_client_secret
from abeyance.deployment.parts import build_change_client
from abeyance.deployment.settings import DeploymentSettings
from abeyance.moratorium.callers import TOKEN_HEADER
from abeyance.moratorium.errors import MoratoriumError
from abeyance.moratorium.subjects import ChangeRefused

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


class Server(http.server.BaseHTTPRequestHandler):
    """Keeps what it was sent."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, self.headers, body))  # type: ignore[attr-defined]
        self.send_response(409)
        self.end_headers()
        self.wfile.write(b'{"message": "not so"}')

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.HTTPServer]:
    made = http.server.HTTPServer(("127.0.0.1", 0), Server)
    made.requests = []  # type: ignore[attr-defined]
    threading.Thread(target=made.serve_forever, daemon=True).start()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{made.server_port}"),
        ("AWS_ACCESS_KEY_ID", "clara"),
        ("AWS_SECRET_ACCESS_KEY", "local"),
        ("AWS_DEFAULT_REGION", "eu-central-1"),
    ):
        monkeypatch.setenv(name, value)
    yield made
    made.shutdown()
    made.server_close()


def test_the_change_service_is_asked_with_the_callers_own_signature(server: http.server.HTTPServer) -> None:
    changes = build_change_client(DeploymentSettings())
    with pytest.raises(ChangeRefused, match="not so"):
        changes.on_behalf_of("token").withdraw("abc")
    ((path, headers, body),) = server.requests  # type: ignore[attr-defined]
    assert path == "/changes"
    assert "Credential=clara/" in headers["Authorization"]
    assert "/eu-central-1/execute-api/aws4_request" in headers["Authorization"]
    assert TOKEN_HEADER in headers["Authorization"].lower()
    assert headers[TOKEN_HEADER] == "token"
    assert json.loads(body) == {"do": "withdraw", "id": "abc"}


def test_without_an_url_the_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with pytest.raises(MoratoriumError, match="ABEYANCE_CHANGES_URL"):
        build_change_client(DeploymentSettings()).all()


def test_without_an_answer_it_says_so(server: http.server.HTTPServer) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(MoratoriumError, match="gave no answer"):
        build_change_client(DeploymentSettings()).all()
