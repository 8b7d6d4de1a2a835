"""A deployment over moto with real models: resources, tenants, photos, and units built by ``deployment.build``."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.awsrequest import AWSResponse
from PIL import Image

from abeyance.aws.dynamodb import DynamoTable
from abeyance.deployment.build import build_api
from abeyance.deployment.settings import ApiSettings, DeploymentSettings
from abeyance.local.aws import LocalAws
from abeyance.local.samples import fetch_samples
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.tenants import Tenant, TenantTable
from abeyance.rekognition.client import client as rekognition_client
from abeyance.vision.errors import PackageUnavailable
from abeyance.vision.models.manifest import Manifest
from abeyance.vision.models.store import fetch

ACTIONS = (
    "detect",
    "analyze",
    "compare",
    "index",
    "search",
    "template_search",
    "template_export",
    "template_import",
)


def tenant(name: str, sector: str = "commercial", actions: tuple[str, ...] = ACTIONS, **more: Any) -> Tenant:
    purposes = ("unspecified", "missing_children")
    return Tenant(
        id=name,
        sector=sector,
        jurisdiction="US-WA",
        principals=(name,),
        actions=actions,
        purposes=purposes,
        **more,
    )


TENANTS = (
    tenant("acme"),
    tenant("globex", actions=ACTIONS[:5]),
    tenant("springfield-police", "law_enforcement"),
    tenant("gone", status="suspended"),
)


class Deployment:
    """A deployment whose functions are built here, in this process, from its settings and AWS clients."""

    def __init__(self, aws: LocalAws, folder: Path) -> None:
        self.aws = aws
        self._folder = folder
        self._built = 0

    def api(
        self,
        moratoria: Mapping[str, Any] | None = None,
        clients: Callable[[str], Any] | None = None,
        **settings: Any,
    ) -> Callable[..., Any]:
        """Build the API for a new deployment's flags and ``moratoria``; return a maker of boto3 clients."""
        self._built += 1
        path = self._folder / f"flags-{self._built}.json"
        document = new_deployment()
        for key, value in (moratoria or {}).items():
            document["flags"][key] = {"name": key}
            document["values"][key] = value
        path.write_text(json.dumps(document))
        values = {**self.aws.settings.values(), "flags": f"file:{path}", **settings}
        names = set(ApiSettings.variables().values())
        own = ApiSettings.of(**{name: value for name, value in values.items() if name in names})
        handler = build_api(own, clients or self.aws.client)
        return lambda principal="acme", **options: _client(handler, principal, **options)

    def api_with_key(self, key_id: str, secret: str) -> Any:
        """Return an unchanged boto3 client that signs with an access key, for the API without IAM."""
        import boto3

        made = boto3.client(
            "rekognition",
            "us-east-1",
            endpoint_url="https://abc.execute-api.us-east-1.amazonaws.com/v1",
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
        )
        own = self.aws.settings.values()
        names = set(ApiSettings.variables().values())
        handler = build_api(ApiSettings.of(**{n: v for n, v in own.items() if n in names}), self.aws.client)
        return _answered_by(made, handler, None)

    def decisions(self) -> list[dict[str, Any]]:
        """Take the records that were queued for the ledger."""
        sqs = self.aws.client("sqs")
        url = sqs.get_queue_url(QueueName=self.aws.settings.ledger_queue)["QueueUrl"]
        found = []
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                found.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return found


def _client(handler: Callable[[Mapping[str, Any]], dict[str, Any]], principal: str, **options: Any) -> Any:
    """A client of ``abeyance.rekognition.client``, whose requests reach ``handler`` as API Gateway's events."""
    made = rekognition_client(
        "https://abc.execute-api.us-east-1.amazonaws.com/v1",
        "us-east-1",
        aws_access_key_id=principal,
        aws_secret_access_key="any",
        **options,
    )
    return _answered_by(made, handler, principal)


def _answered_by(
    made: Any, handler: Callable[[Mapping[str, Any]], dict[str, Any]], principal: str | None
) -> Any:
    """Let a client's requests reach ``handler`` as API Gateway's events; without a principal as those of no IAM."""

    def send(request: Any, **_: Any) -> AWSResponse:
        headers = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in request.headers.items()
        }
        answer = handler(
            {
                "httpMethod": request.method,
                "headers": {**headers, "Host": urlsplit(request.url).netloc},
                "body": request.body.decode(),
                "requestContext": {
                    "path": urlsplit(request.url).path,
                    "identity": {"userArn": principal},
                    "requestId": f"r-{id(request)}",
                    "accountId": "123456789012",
                },
            }
        )
        response = AWSResponse(request.url, answer["statusCode"], answer["headers"], None)
        response._content = answer["body"].encode()
        return response

    made.meta.events.register("before-send.rekognition", send)
    # A 500 is answered once; SDKs would repeat it.
    made.meta.events.unregister("needs-retry.rekognition", unique_id="retry-config-rekognition")
    return made


@pytest.fixture(scope="session")
def photos() -> Callable[[str], bytes]:
    """Real photos by name: an astronaut, and two politicians."""
    try:
        fetch(Manifest.load().entries.values())
        files = {**fetch_samples("astronaut"), **fetch_samples("white-house-portraits")}
    except PackageUnavailable as error:
        pytest.skip(str(error))
    return lambda name: files[name].read_bytes()


@pytest.fixture(scope="module")
def deployment(photos: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Resources and tenants of a new deployment."""
    aws = LocalAws(settings=DeploymentSettings())
    aws.start()
    try:
        registry = TenantTable(DynamoTable(aws.client("dynamodb"), aws.settings.tenants_table))
        for one in TENANTS:
            registry.add(one)
        yield Deployment(aws, tmp_path_factory.mktemp("flags"))
    finally:
        aws.stop()


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    body = io.BytesIO()
    image.save(body, kind, **options)
    return body.getvalue()
