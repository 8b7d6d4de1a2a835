"""The console as it is deployed: its users, its API, and no secret in an environment variable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.infra.conftest import Synthesise
from tests.infra.policies import Templates, roles, statements, text

pytest.importorskip("aws_cdk", reason="pip install 'abeyance[infra]'")

from infra.config import Config

from abeyance.console.roles import Role

ELSEWHERE = {
    "console_issuer": "https://id.example",
    "console_client_id": "abeyance",
    "console_client_secret": "arn:aws:secretsmanager:eu-central-1:111122223333:secret:console-AbCdEf",
}


def _all(templates: Templates, kind: str) -> list[dict[str, Any]]:
    return [
        resource["Properties"]
        for template in templates.values()
        for resource in template["Resources"].values()
        if resource["Type"] == kind
    ]


def _variables(templates: Templates) -> dict[str, str]:
    (found,) = [
        one for one in _all(templates, "AWS::Lambda::Function") if one["FunctionName"] == "abeyance-console"
    ]
    return {name: text(value, templates) for name, value in found["Environment"]["Variables"].items()}


def test_people_are_invited_and_have_a_second_factor(templates: Templates) -> None:
    (pool,) = _all(templates, "AWS::Cognito::UserPool")
    assert pool["AdminCreateUserConfig"]["AllowAdminCreateUserOnly"] is True
    assert (pool["MfaConfiguration"], pool["EnabledMfas"]) == ("ON", ["SOFTWARE_TOKEN_MFA"])
    assert pool["Policies"]["PasswordPolicy"]["MinimumLength"] >= 12
    assert pool["UserPoolAddOns"] == {"AdvancedSecurityMode": "ENFORCED"}
    assert pool["DeletionProtection"] == "ACTIVE"
    groups = {group["GroupName"] for group in _all(templates, "AWS::Cognito::UserPoolGroup")}
    assert groups == {str(role) for role in Role}


def test_the_console_is_a_confidential_client_with_one_callback(templates: Templates) -> None:
    (client,) = _all(templates, "AWS::Cognito::UserPoolClient")
    assert client["GenerateSecret"] is True
    assert client["AllowedOAuthFlows"] == ["code"]
    (callback,) = [text(one, templates) for one in client["CallbackURLs"]]
    identity = _variables(templates)["ABEYANCE_CONSOLE_IDENTITY"]
    kind, _, rest = identity.partition(":")
    issuer, client_id, address = rest.split()
    assert (kind, issuer) == ("oidc", "https://<PeoplePoolC64A4D1E.ProviderName>")
    assert client_id.startswith("<ConsoleClient")
    assert callback == f"{address}/signin/callback"
    assert address == "<ConsoleHttp89319165.ApiEndpoint>/console"


def test_no_secret_stands_in_an_environment_variable(templates: Templates, synthesise: Synthesise) -> None:
    variables = _variables(templates)
    assert variables["ABEYANCE_CONSOLE_KEY"].startswith("secret:<ConsoleSessionKey")
    assert variables["ABEYANCE_CONSOLE_CLIENT_SECRET"].startswith("cognito:<PeoplePool")
    for choices in ({}, ELSEWHERE):
        for function in _all(synthesise(**choices), "AWS::Lambda::Function"):
            for name, value in function["Environment"]["Variables"].items():
                assert not text(value, synthesise(**choices)).startswith("text:"), name


def test_one_api_with_a_rate_limit_and_an_anonymous_log(templates: Templates) -> None:
    (api,) = _all(templates, "AWS::ApiGatewayV2::Api")
    assert api["ProtocolType"] == "HTTP"
    assert "CorsConfiguration" not in api
    routes = {route["RouteKey"] for route in _all(templates, "AWS::ApiGatewayV2::Route")}
    assert routes == {"ANY /console", "ANY /console/{page+}"}
    (integration,) = _all(templates, "AWS::ApiGatewayV2::Integration")
    assert integration["PayloadFormatVersion"] == "2.0"
    (stage,) = _all(templates, "AWS::ApiGatewayV2::Stage")
    assert stage["StageName"] == "$default"
    assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"] <= 100
    fields = json.loads(stage["AccessLogSettings"]["Format"]).values()
    assert not [
        field for field in fields if any(word in field for word in ("identity", "path", "authorizer"))
    ]


def test_another_identity_provider_replaces_cognito(synthesise: Synthesise) -> None:
    templates = synthesise(**ELSEWHERE)
    assert not _all(templates, "AWS::Cognito::UserPool") + _all(templates, "AWS::Cognito::UserPoolClient")
    variables = _variables(templates)
    assert variables["ABEYANCE_CONSOLE_IDENTITY"].startswith("oidc:https://id.example abeyance <ConsoleHttp")
    secret = ELSEWHERE["console_client_secret"]
    assert variables["ABEYANCE_CONSOLE_CLIENT_SECRET"] == f"secret:{secret}"
    own = [found for found in statements(templates) if found.owner == roles(templates)["console"]]
    assert [found.actions for found in own if secret in found.resources] == [
        ("secretsmanager:GetSecretValue",)
    ]
    assert not any(action.startswith("cognito") for found in own for action in found.actions)


def test_deployment_without_a_console(synthesise: Synthesise) -> None:
    templates = synthesise(console="false")
    assert "console" not in roles(templates)
    kinds = {
        resource["Type"] for template in templates.values() for resource in template["Resources"].values()
    }
    assert not {kind for kind in kinds if "Cognito" in kind or "ApiGatewayV2" in kind}
    assert "ConsoleUrl" not in templates["AbeyanceFlow"]["Outputs"]


def test_the_report_is_packed_beside_the_handler(tmp_path: Path) -> None:
    from infra.constructs.console import code

    (tmp_path / "audit.html").write_text("<h1>Report</h1>")
    folder = code(Config(accuracy_report=str(tmp_path / "audit.html")))
    assert {file.name for file in folder.iterdir()} == {"handler.py", "accuracy.html"}
    assert (folder / "accuracy.html").read_text() == "<h1>Report</h1>"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"console_issuer": "https://id.example"}, "console_client_id"),
        ({"console_client_secret": "arn"}, "console_issuer"),
        ({"accuracy_report": "/nowhere/audit.html"}, "accuracy_report"),
        ({"console": "perhaps"}, "console"),
    ],
)
def test_inconsistent_choices_are_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config.from_context(given.get)
