"""The API at a local URL with real models and real photos, and clients that check whatever they send and receive."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.session import Session
from botocore.validate import ParamValidator

from abeyance.aws.dynamodb import DynamoTable
from abeyance.deployment.settings import DeploymentSettings
from abeyance.local.aws import LocalAws
from abeyance.local.gateway import mount_api
from abeyance.local.moto import REGION
from abeyance.local.samples import fetch_samples
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.tenants import Tenant, TenantTable
from abeyance.rekognition import wire
from abeyance.vision.models.manifest import Manifest
from abeyance.vision.models.store import fetch

#: The model shares one list of face ids, at least one, between requests and DeleteFaces' answer; programs loop over
#: the answer, so where nothing was deleted it is an empty list and not absent.
EMPTY_LIST = ("deletedFaces", "FaceIdList")
ACTIONS = ("detect", "analyze", "compare", "index", "search")


def tenant(name: str, sector: str = "commercial", **more: Any) -> Tenant:
    fields: dict[str, Any] = {"actions": ACTIONS, "purposes": ("unspecified", "missing_children"), **more}
    return Tenant(id=name, sector=sector, jurisdiction="US-WA", principals=(name,), **fields)


TENANTS = (
    tenant("acme"),
    tenant("globex"),
    tenant("springfield-police", "law_enforcement"),
    tenant("lab", actions=(*ACTIONS, "template_search", "template_export", "template_import")),
    tenant("detector-only", actions=("detect",)),
    tenant("gone", status="suspended"),
)


class Api:
    """The running API: clients for it, and the flags that it obeys."""

    def __init__(self, aws: LocalAws, flags: Path) -> None:
        self.aws = aws
        self.endpoint = aws.endpoint
        self._flags = flags
        self._clients: dict[tuple[str, bool], Any] = {}

    def client(self, principal: str = "acme", *, checked: bool = True) -> Any:
        """A boto3 client; ``checked`` validates each request as botocore does, and each response likewise."""
        if (principal, checked) not in self._clients:
            self._clients[principal, checked] = self._client(principal, checked)
        return self._clients[principal, checked]

    def _client(self, principal: str, checked: bool) -> Any:
        session = Session()
        session.get_component("data_loader").search_paths.append(str(wire.SDK_FOLDER))
        client = boto3.Session(botocore_session=session).client(
            "rekognition",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=principal,
            aws_secret_access_key="any",
            config=Config(
                parameter_validation=checked, retries={"total_max_attempts": 1}, max_pool_connections=16
            ),
        )
        client.meta.events.register("before-parse.rekognition", self._check_raw)
        client.meta.events.register("after-call.rekognition", self._check_parsed)
        return client

    def flags(self, **values: Any) -> None:
        """Replace the flags document's values."""
        document = new_deployment()
        for key, value in values.items():
            document["flags"][key] = {"name": key}
            document["values"][key] = value
        self._flags.write_text(json.dumps(document))

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

    @staticmethod
    def _check_raw(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
        """The raw body has no member that the model has not, and violates nothing in it; an error is modelled."""
        body = json.loads(response_dict["body"])
        if response_dict["status_code"] < 300:
            _, violations = wire.model().check(body, operation_model.output_shape.name)
            assert not [v for v in violations if (v.path, v.shape) != EMPTY_LIST], violations
            return
        assert set(body) == {"__type", "Code", "Logref", "Message"}
        modelled = {shape.name for shape in operation_model.error_shapes} | {"SerializationException"}
        assert body["__type"] in modelled, body
        assert response_dict["status_code"] == (
            500 if body["__type"] in ("InternalServerError", "ThrottlingException") else 400
        )
        assert body["__type"] != "InternalServerError", body

    @staticmethod
    def _check_parsed(model: Any, parsed: dict[str, Any], **_: Any) -> None:
        """Botocore's own validator on what botocore made of the response."""
        if "Error" not in parsed:
            answer = {name: value for name, value in parsed.items() if name != "ResponseMetadata"}
            if answer.get("DeletedFaces") == []:
                del answer["DeletedFaces"]
            report = ParamValidator().validate(answer, model.output_shape)
            assert not report.has_errors(), report.generate_report()


@pytest.fixture(scope="session")
def photos() -> Callable[[str], bytes]:
    """Real photos by name: an astronaut, and two politicians."""
    manifest = Manifest.load()
    fetch([manifest["yunet-2023mar"], manifest["sface-2021dec"]])
    files = {**fetch_samples("astronaut"), **fetch_samples("white-house-portraits")}
    return lambda name: files[name].read_bytes()


@pytest.fixture(scope="module")
def api(photos: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A running API with tenants, and the flags of a new deployment."""
    flags = tmp_path_factory.mktemp("flags") / "flags.json"
    aws = LocalAws(settings=DeploymentSettings.of(flags=f"file:{flags}"))
    running = Api(aws, flags)
    running.flags()
    aws.start()
    served = mount_api(aws)
    try:
        registry = TenantTable(DynamoTable(aws.client("dynamodb"), aws.settings.tenants_table))
        for one in TENANTS:
            registry.add(one)
        yield running
    finally:
        served.stop()
        aws.stop()
