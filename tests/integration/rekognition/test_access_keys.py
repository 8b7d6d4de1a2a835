"""Access keys from making one to revoking it: the command, a second person, SDKs that sign with it, and forgers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from tests.integration.rekognition.conftest import TENANTS
from typer.testing import CliRunner

from abeyance.aws import clients
from abeyance.cli.main import app
from abeyance.deployment.parts import build_tenants
from abeyance.deployment.settings import DeploymentSettings
from abeyance.local.aws import LocalAws, environment
from abeyance.local.gateway import mount_api, mount_changes
from abeyance.moratorium.presets import new_deployment


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    folder: Path = tmp_path_factory.mktemp("keys")
    (folder / "flags.json").write_text(json.dumps(new_deployment()))
    settings = DeploymentSettings.of(flags=f"file:{folder}/flags.json")
    aws = LocalAws(settings=settings)
    aws.start()
    services = [mount_api(aws), mount_changes(aws, "0" * 64)]
    registry = build_tenants(settings, aws.client)
    for tenant in TENANTS[:2]:
        registry.add(tenant)
    try:
        yield aws
    finally:
        for service in services:
            service.stop()
        aws.stop()


def run(aws: LocalAws, person: str, *arguments: str) -> Any:
    """Run a command in a process of the person's own, as far as AWS clients can tell."""
    clients.client.cache_clear()
    clients._session.cache_clear()
    variables = {**environment(aws.endpoint, person), **aws.settings.to_environment()}
    return CliRunner().invoke(app, arguments, env=variables)


def command(aws: LocalAws, person: str, *arguments: str) -> Any:
    """Run a command as a person; returns its JSON."""
    done = run(aws, person, *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def client(aws: LocalAws, key: str, secret: str, region: str = "eu-west-1") -> Any:
    return boto3.client(
        "rekognition",
        endpoint_url=aws.endpoint,
        region_name=region,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
    )


def code(client: Any) -> str:
    with pytest.raises(ClientError) as refused:
        client.list_collections()
    return str(refused.value.response["Error"]["Code"])


def make(aws: LocalAws) -> tuple[str, str]:
    """Make an active key of acme's, by two people."""
    made = command(aws, "clara", "tenants", "keys", "create", "acme")
    inactive = client(aws, made["key"], made["secret"])
    assert code(inactive) == "AccessDeniedException"
    command(
        aws, "david", "moratoria", "approve", made["proposal"]["id"], "--digest", made["proposal"]["digest"]
    )
    return made["key"], made["secret"]


def test_the_life_of_a_key(aws: LocalAws) -> None:
    key, secret = make(aws)
    sdk = client(aws, key, secret)
    sdk.create_collection(CollectionId="by-key")
    assert "by-key" in client(aws, "acme", "any").list_collections()["CollectionIds"]
    assert client(aws, "globex", "any").list_collections()["CollectionIds"] == []
    assert command(aws, "clara", "tenants", "keys", "list", "acme") == [key]
    assert code(client(aws, key, "another")) == "InvalidSignatureException"
    assert code(client(aws, "ABEY" + "A" * 16, secret)) == "UnrecognizedClientException"

    second, new_secret = make(aws)
    for one, its_secret in ((key, secret), (second, new_secret)):
        assert client(aws, one, its_secret).list_collections()["CollectionIds"] == ["by-key"]
    third = run(aws, "clara", "tenants", "keys", "create", "acme")
    assert (third.exit_code, "at most 2 keys" in third.output) == (1, True)

    command(aws, "clara", "tenants", "keys", "revoke", "acme", key)
    assert code(client(aws, key, secret)) == "AccessDeniedException"
    assert client(aws, second, new_secret).list_collections()["CollectionIds"] == ["by-key"]
    command(aws, "clara", "tenants", "keys", "revoke", "acme", second)


def test_the_secret_is_stored_sealed(aws: LocalAws) -> None:
    key, secret = make(aws)
    stored = aws.client("dynamodb").scan(TableName=aws.settings.tenants_table)["Items"]
    assert any(item["pk"]["S"] == f"key#{key}" for item in stored)
    assert secret not in str(stored)
    assert secret not in str(aws.client("dynamodb").scan(TableName=aws.settings.proposals_table)["Items"])
    command(aws, "clara", "tenants", "keys", "revoke", "acme", key)


def test_who_is_nobodys_principal_makes_no_key(aws: LocalAws) -> None:
    done = run(aws, "mallory", "tenants", "keys", "create", "acme")
    assert done.exit_code != 0
    assert "ABEY" not in done.output


@pytest.mark.skipif(not shutil.which("aws"), reason="needs the AWS CLI")
def test_the_aws_cli_signs_with_a_key(aws: LocalAws) -> None:
    key, secret = make(aws)
    variables = {
        **os.environ,
        "AWS_ENDPOINT_URL_REKOGNITION": aws.endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_PAGER": "",
    }
    done = subprocess.run(
        ["aws", "rekognition", "list-collections", "--max-results", "10"],
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "CollectionIds" in json.loads(done.stdout)
    command(aws, "clara", "tenants", "keys", "revoke", "acme", key)


JS_SDK = "@aws-sdk/client-rekognition@3.1142.0"
JS_FOLDER = Path(__file__).parents[3] / ".cache" / "js-sdk"
JS_PROGRAM = """
import { ListCollectionsCommand, RekognitionClient } from "@aws-sdk/client-rekognition";
const client = new RekognitionClient({ endpoint: process.env.AWS_ENDPOINT_URL_REKOGNITION });
console.log(JSON.stringify(await client.send(new ListCollectionsCommand({}))));
"""


@pytest.fixture(scope="module")
def js_sdk() -> Path:
    """A folder with the SDK for JavaScript, fetched once."""
    if not shutil.which("npm"):
        pytest.skip("needs node and npm")
    if not (JS_FOLDER / "node_modules" / "@aws-sdk" / "client-rekognition").is_dir():
        JS_FOLDER.mkdir(parents=True, exist_ok=True)
        install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", JS_SDK]
        if subprocess.run(install, cwd=JS_FOLDER, capture_output=True, timeout=300).returncode:
            pytest.skip("the SDK for JavaScript cannot be fetched")
    (JS_FOLDER / "recipe.mjs").write_text(JS_PROGRAM)
    return JS_FOLDER


def test_the_sdk_for_javascript_signs_with_a_key(aws: LocalAws, js_sdk: Path) -> None:
    key, secret = make(aws)
    for its_secret, status in ((secret, 0), ("another", 1)):
        variables = {
            **os.environ,
            "AWS_ENDPOINT_URL_REKOGNITION": aws.endpoint,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": its_secret,
            "AWS_REGION": "eu-west-1",
        }
        done = subprocess.run(
            ["node", "recipe.mjs"], cwd=js_sdk, env=variables, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == status, done.stderr
        assert ("CollectionIds" in done.stdout) is (status == 0)
    command(aws, "clara", "tenants", "keys", "revoke", "acme", key)


GOPATH = Path("/usr/share/gocode")
GO_PROGRAM = Path(__file__).parent / "sdk_for_go" / "main.go"


@pytest.fixture(scope="module")
def go_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled recipe, with the SDK for Go as Debian has it."""
    sdk = GOPATH / "src/github.com/aws/aws-sdk-go-v2/service/rekognition"
    if shutil.which("go") is None or not sdk.is_dir():
        pytest.skip("needs Go and its AWS SDK: apt-get install golang-go golang-github-aws-aws-sdk-go-v2-dev")
    folder = tmp_path_factory.mktemp("go")
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "GOPATH": str(GOPATH),
        "GOCACHE": str(Path.home() / ".cache" / "go-build"),
    }
    command = ["go", "build", "-o", str(folder / "recipe"), str(GO_PROGRAM)]
    subprocess.run(command, check=True, env=environment, timeout=280)
    return folder / "recipe"


@pytest.mark.slow
def test_the_sdk_for_go_signs_with_a_key(aws: LocalAws, go_program: Path) -> None:
    key, secret = make(aws)
    for its_secret, status in ((secret, 0), ("another", 1)):
        variables = {
            **os.environ,
            "AWS_ENDPOINT_URL_REKOGNITION": aws.endpoint,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": its_secret,
            "AWS_REGION": "eu-west-1",
        }
        done = subprocess.run([go_program], env=variables, capture_output=True, text=True, timeout=120)
        assert done.returncode == status, done.stderr
        if status:
            assert "InvalidSignatureException" in done.stderr
        else:
            assert int(done.stdout) >= 0
    command(aws, "clara", "tenants", "keys", "revoke", "acme", key)
