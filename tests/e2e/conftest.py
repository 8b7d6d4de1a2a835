"""One deployment for all tests of this folder: an emulator, ``cdk bootstrap``, ``cdk deploy``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config
from infra.cdk import command, context
from tests.e2e.emulator import ACCOUNT, REGION, ROOT, Emulator

from abeyance.aws.http import SignedHttp
from abeyance.deployment.settings import DeploymentSettings
from abeyance.moratorium.client import ChangeClient
from abeyance.moratorium.proposals import Proposal
from abeyance.moratorium.subjects import Change
from abeyance.vision.models.manifest import Manifest
from abeyance.vision.models.store import fetch

#: Seconds for one run of the CDK's command line, and for a photo to have a result.
CDK_LIMIT, PHOTO_LIMIT = 480, 90


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What needs the emulator only where it is asked for by name: it takes minutes."""
    asked = any("e2e" in argument for argument in config.args)
    deploys = collection_path.parent == Path(__file__).parent and collection_path.name.startswith("test_")
    return True if deploys and not asked else None


#: A bucket that is not the deployment's.
DOORS = "abeyance-e2e-doors"


@dataclass
class Deployment:
    """What was deployed, and what it took."""

    emulator: Emulator
    settings: DeploymentSettings
    outputs: dict[str, str]
    context: list[str]
    officers: dict[str, tuple[str, str]]
    figures: dict[str, float] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        return client(self.emulator, service)

    def officer(self, name: str) -> ChangeClient:
        """The change service for an IAM user: the request is signed with the user's own keys."""
        key, secret = self.officers[name]
        session = botocore.session.Session()
        session.set_credentials(key, secret)
        session.set_config_variable("region", REGION)
        session.set_config_variable("ca_bundle", str(self.emulator.certificate))
        http = SignedHttp(session)
        url = f"{self.emulator.url}{self.settings.changes_url}"
        return ChangeClient(lambda body, headers: http.post(url, body, headers))

    def agree(self, change: Change) -> Proposal:
        """Two officers make a change."""
        made = self.officer("alice").submit(change)
        return made if made.state == "applied" else self.officer("bob").approve(made.id, made.digest)

    def upload(self, key: str, body: bytes, **metadata: str) -> None:
        """Put a photo into the uploads bucket."""
        self.client("s3").put_object(
            Bucket=self.settings.uploads_bucket, Key=key, Body=body, Metadata=metadata
        )

    def result(self, key: str, limit: float = PHOTO_LIMIT) -> dict[str, Any]:
        """The result of an upload, awaited."""
        s3, until = self.client("s3"), time.monotonic() + limit
        while time.monotonic() < until:
            try:
                answer = s3.get_object(Bucket=self.settings.results_bucket, Key=f"{key}.json")
            except s3.exceptions.ClientError:
                time.sleep(0.1)
                continue
            found: dict[str, Any] = json.loads(answer["Body"].read())
            return found
        raise AssertionError(f"no result in {limit} s; see {self.emulator.log}")

    def ask(self, key: str, body: bytes, **metadata: str) -> dict[str, Any]:
        """Upload a photo and await its result."""
        self.upload(key, body, **metadata)
        return self.result(key)


def client(emulator: Emulator, service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=emulator.url,
        verify=str(emulator.certificate),
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(connect_timeout=5, read_timeout=60, retries={"total_max_attempts": 3}),
    )


def cdk(emulator: Emulator, *arguments: str) -> float:
    """Run the CDK's command line against the emulator; returns the seconds that it took."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ABEYANCE_"))}
    started = time.monotonic()
    answer = subprocess.run(
        [sys.executable, "-m", "infra.cdk", *arguments, "--ci", "--no-color"],
        cwd=ROOT,
        env={**kept, **emulator.environment},
        capture_output=True,
        text=True,
        timeout=CDK_LIMIT,
        check=False,
    )
    assert answer.returncode == 0, (answer.stdout + answer.stderr)[-4000:]
    return time.monotonic() - started


@pytest.fixture(scope="session")
def deployment() -> Iterator[Deployment]:
    """The system, deployed. ``test_destroy`` takes it down again; the emulator goes in any case.

    What the emulator logged, and the templates, stay in ``.cache/e2e`` until the next run.
    """
    folder = ROOT / ".cache" / "e2e"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    models = fetch(Manifest.load().entries.values())[0].parent
    # Now, while Node still trusts what this machine trusts: later it trusts the emulator instead.
    command()
    with Emulator(folder, enforce_iam=True) as emulator:
        choices = {
            "emulator": "true",
            "nag": "false",
            "removal": "destroy",
            "account": ACCOUNT,
            "region": REGION,
            "models_directory": str(models),
            "tenant_buckets": f"{DOORS}/in/",
        }
        officers, arns = _officers(emulator)
        # The tests' own credentials look into queues and empty buckets.
        choices["operators"] = f"arn:aws:iam::{ACCOUNT}:root"
        choices["people"] = ", ".join(f"{name}={arn}" for name, arn in arns.items())
        options = [*context(choices), "-o", str(folder / "cdk.out")]
        bootstrap = cdk(emulator, "bootstrap", f"aws://{ACCOUNT}/{REGION}", *options)
        deploy = cdk(emulator, "deploy", "--all", "--require-approval", "never", *options)
        outputs = _outputs(client(emulator, "cloudformation"))
        settings = DeploymentSettings.from_environment(json.loads(outputs["Environment"]))
        made = Deployment(emulator, settings, outputs, options, officers)
        made.figures |= {"bootstrap_s": bootstrap, "deploy_s": deploy}
        yield made
        _keep(made.figures)


def _officers(emulator: Emulator) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Make two IAM users who may ask the change service; return their keys and their ARNs."""
    iam, keys, arns = client(emulator, "iam"), {}, {}
    ask = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}
    for name in ("alice", "bob"):
        arns[name] = iam.create_user(UserName=name)["User"]["Arn"]
        document = json.dumps({"Version": "2012-10-17", "Statement": [ask]})
        iam.put_user_policy(UserName=name, PolicyName="ask", PolicyDocument=document)
        made = iam.create_access_key(UserName=name)["AccessKey"]
        keys[name] = made["AccessKeyId"], made["SecretAccessKey"]
    return keys, arns


def _outputs(cloudformation: Any) -> dict[str, str]:
    (stack,) = cloudformation.describe_stacks(StackName="AbeyanceFlow")["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def _keep(figures: dict[str, float]) -> None:
    """Leave the figures where a person finds them."""
    path = ROOT / ".cache" / "e2e" / "figures.json"
    path.write_text(json.dumps({name: round(value, 2) for name, value in figures.items()}, indent=1) + "\n")
