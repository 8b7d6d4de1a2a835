"""Every function answers a first event from the layers that it is deployed with, and from nothing else."""

from __future__ import annotations

import ast
import json
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from botocore import xform_name
from botocore.session import get_session
from infra.config import ROOT, Config

from abeyance.rekognition.operations import OPERATIONS
from infra import coldstart, first_event, functions, layers, sandbox, trim

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
#: Names that are operations of a service which no function calls under them.
_ELSEWHERE = {
    # For the local runtime and for tests; in AWS, tables are CloudFormation's.
    "dynamodb": {"CreateTable", "UpdateTimeToLive"},
}


@pytest.fixture(scope="module")
def base() -> Path:
    return sandbox.layer("base") / "python"


@pytest.mark.parametrize("spec", functions.FUNCTIONS, ids=lambda spec: spec.name)
def test_function_answers_its_first_event_from_its_own_layers(spec: functions.FunctionSpec) -> None:
    event, aws = first_event.event_for(spec.name), first_event.FakeAws(spec.name)
    with sandbox.deployed(spec) as box:
        start = box.start(aws, event)
    assert start.ready_ms > 0
    if event is not None:
        assert first_event.succeeded(spec.name, start.answer, aws), start.log[-3000:]
        assert start.answered_ms > start.ready_ms


def test_failed_start_reports_the_log() -> None:
    with (
        sandbox.plain("import nothing_of_that_name", functions.FLAGS) as box,
        pytest.raises(RuntimeError, match="nothing_of_that_name"),
    ):
        box.start(first_event.FakeAws())


def test_measures_in_turn_with_a_plain_function(capsys: pytest.CaptureFixture[str]) -> None:
    times = coldstart.measure(next(s for s in functions.STAGES if s.name == "review"), 1, beside=True)
    assert len(times.ready) == len(times.answered) == len(times.plain) == 1
    assert "botocore" in times.imports
    assert "boto3" not in times.imports


def test_layer_describes_every_operation_that_functions_call() -> None:
    """An operation counts as called if deployed code contains its name, in a service that the layer carries."""
    words: set[str] = set()
    services: set[str] = set()
    for path in [*layers.sources("abeyance"), *(ROOT / "functions").glob("*/handler.py")]:
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_bytes())):
                match node:
                    case ast.Attribute(attr=word) | ast.Constant(value=str(word)):
                        words.add(word)
                    case ast.Call(func=ast.Name(id="client"), args=[ast.Constant(value=str(service))]):
                        services.add(service)
    # Service names also reach ``client()`` through variables.
    services |= {word for word in words if word in trim.CALLS}
    assert services == trim.CALLS.keys()
    loader = get_session().get_component("data_loader")
    for service, calls in trim.CALLS.items():
        known = loader.load_service_model(service, "service-2")["operations"]
        named = {name for name in known.keys() - OPERATIONS.keys() if xform_name(name) in words}
        named -= _ELSEWHERE.get(service, set())
        assert named <= set(calls), service
        assert set(calls) <= known.keys(), service


def test_trimmed_client_knows_its_calls_and_their_errors(base: Path) -> None:
    code = """
import botocore, botocore.session, json
session = botocore.session.get_session()
made = {name: session.create_client(name) for name in json.loads(CALLS)}
dynamodb = made["dynamodb"]
assert dynamodb.exceptions.ConditionalCheckFailedException
assert dynamodb.exceptions.TransactionCanceledException
assert made["appconfigdata"].exceptions.ResourceNotFoundException
assert dynamodb.can_paginate("scan") and made["s3"].can_paginate("list_objects_v2")
assert not hasattr(made["s3"], "create_bucket")
url = made["s3"].generate_presigned_url("get_object", {"Bucket": "photos", "Key": "k"})
assert url.startswith("https://photos.s3.amazonaws.com/k?") or "eu-central-1" in url, url
print(botocore.__file__)
"""
    calls = json.dumps(json.dumps({name: list(ops) for name, ops in trim.CALLS.items()}))
    answer = subprocess.run(
        [sys.executable, "-S", "-c", f"CALLS = {calls}\n{code}"],
        env={
            "PYTHONPATH": str(base),
            "PYTHONDONTWRITEBYTECODE": "1",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert answer.stdout.startswith(str(base))


def test_authorities_are_the_five_of_amazon(base: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(base / trim.AUTHORITIES)
    names = {dict(part[0] for part in one["subject"])["commonName"] for one in context.get_ca_certs()}
    assert names == {
        *(f"Amazon Root CA {number}" for number in (1, 2, 3, 4)),
        "Starfield Services Root Certificate Authority - G2",
    }


@pytest.mark.parametrize("name", ["base", "decide"])
def test_modules_are_compiled_and_not_checked_against_their_source(name: functions.LayerName) -> None:
    """Modification times change in a layer, and Lambda cannot write what it compiles."""
    layer = sandbox.layer(name) / "python"
    modules = [path for path in layer.rglob("*.py") if "__pycache__" not in path.parts]
    assert modules
    for path in modules:
        compiled = path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc"
        assert compiled.read_bytes()[4:8] == (1).to_bytes(4, "little"), path


def test_digest_depends_on_whether_the_layer_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = layers.digest_of("decide", Config(), PYTHON)
    monkeypatch.setattr(trim, "interpreter", lambda _: "")
    assert layers.digest_of("decide", Config(), PYTHON) != compiled
