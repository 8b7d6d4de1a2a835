"""A first event for every function, and a fake AWS to handle it with: for measuring; nothing is stored."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
from tests.fakes import MemoryTable

from abeyance.aws.dynamodb import encode
from abeyance.deployment.settings import DeploymentSettings
from abeyance.moratorium import decide
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.tenants import Tenant, TenantTable
from abeyance.pipeline import events, topology
from abeyance.pipeline.events import Box, DetectedFace, Quality, Upload
from infra.loopback import HttpReply, HttpRequest

_TIME = "2026-01-01T00:00:00.000Z"
_UPLOAD = Upload(
    bucket="uploads",
    key="acme/search/staff/photo.jpg",
    version="e1",
    etag="e1",
    sequencer="0A",
    size=50_000,
    tenant="acme",
    action="search",
    collection="staff",
)
_PRINCIPAL = "arn:aws:iam::111122223333:user/caller"
_TENANT = Tenant(
    id="acme",
    sector="commercial",
    jurisdiction="US-WA",
    actions=("detect", "search"),
    purposes=("unspecified",),
    principals=(_PRINCIPAL,),
)

#: The operation that each function must have called when it has handled its first event.
_LAST_CALL = {
    "gate": "PutEvents",
    "detect": "PutEvents",
    "recognize": "PutEvents",
    "review": "TransactWriteItems",
    "ledger": "TransactWriteItems",
    "api": "SendMessage",
    "flags": "Scan",
}


class FakeAws:
    """AWS after one upload, as far as the functions ask, for :meth:`infra.sandbox.Sandbox.start`."""

    def __init__(self) -> None:
        #: Operations that were called, of services that name them.
        self.called: set[str] = set()
        self._settings = DeploymentSettings()
        self._tenants = _tenant_items()
        self._photo = _photo()
        self._chips = _chips()

    def __call__(self, request: HttpRequest) -> HttpReply:
        if request.operation:
            return _json(self._operation(request.operation, json.loads(request.body)))
        path = request.path.split("?")[0]
        if path == "/configurationsessions":
            return _json({"InitialConfigurationToken": "one"})
        if path == "/configuration":
            headers = {"Next-Poll-Configuration-Token": "two", "Next-Poll-Interval-In-Seconds": "60"}
            return HttpReply(json.dumps(new_deployment()).encode(), headers)
        if request.method == "GET":
            chips = path.startswith(f"/{self._settings.chips_bucket}/")
            return HttpReply(self._chips if chips else self._photo)
        return HttpReply(b"", {"ETag": '"e1"'})

    def _operation(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        self.called.add(name)
        match name:
            case "PutEvents":
                entries = [{"EventId": str(number)} for number in range(len(given["Entries"]))]
                return {"FailedEntryCount": 0, "Entries": entries}
            case "SendMessage":
                digest = hashlib.md5(given["MessageBody"].encode(), usedforsecurity=False).hexdigest()
                return {"MessageId": "1", "MD5OfMessageBody": digest}
            case "GetSecretValue":
                return {"SecretString": "a secret for this measurement alone"}
            case "BatchGetItem":
                found = {
                    table: [item for key in wanted["Keys"] if (item := self._item(table, key))]
                    for table, wanted in given["RequestItems"].items()
                }
                return {"Responses": found, "UnprocessedKeys": {}}
            case "TransactGetItems":
                gets = [action["Get"] for action in given["TransactItems"]]
                return {"Responses": [self._get(get) for get in gets]}
            case "GetItem":
                return self._get(given)
            case "Scan":
                items = [item for item in self._tenants.values() if item["sk"]["S"] == "registration"]
                return {"Items": items, "Count": len(items)}
            case "Query":
                return {"Items": [], "Count": 0}
        return {}

    def _get(self, given: dict[str, Any]) -> dict[str, Any]:
        item = self._item(given["TableName"], given["Key"])
        return {"Item": item} if item else {}

    def _item(self, table: str, key: dict[str, Any]) -> dict[str, Any] | None:
        if table == self._settings.tenants_table:
            return self._tenants.get(key["pk"]["S"])
        if key == {"object": {"S": f"{_UPLOAD.bucket}/{_UPLOAD.key}"}}:
            return {**key, "upload": {"S": _UPLOAD.identity}}
        if key.get("pk") == {"S": "head"}:
            return {"chain": {"S": "c"}, "created": {"S": _TIME}, "seq": {"N": "1"}, "hash": {"S": "0" * 64}}
        return None


def event_for(function: str) -> Any:
    """Return the function's first event, or None if there is none for it here (the console)."""
    request = decide.Request(tenant=_TENANT, tenant_id="acme", action="search", purpose="unspecified")
    decision = decide.decide(request, new_deployment(), datetime(2026, 1, 1, tzinfo=UTC))
    common: dict[str, Any] = {"time": _TIME, "upload": _UPLOAD}
    permitted = events.UploadPermitted(
        id=events.UploadPermitted.identify(_UPLOAD), decision=decision, purpose="unspecified", **common
    )
    match function:
        case "gate":
            uploaded = {
                "key": _UPLOAD.key,
                "sequencer": _UPLOAD.sequencer,
                "size": _UPLOAD.size,
                "etag": "e1",
            }
            return _queued("Object Created", {"bucket": {"name": "uploads"}, "object": uploaded})
        case "detect" | "ledger":
            return _announced(permitted)
        case "recognize":
            face = DetectedFace(
                box=Box(0.2, 0.2, 0.5, 0.5),
                confidence=99.0,
                quality=Quality(80.0, 80.0, 0.0, 0.0, 0.0),
                landmarks=((0.3, 0.3),) * 5,
                chip=0,
            )
            detected = events.FacesDetected(
                id=events.FacesDetected.identify(_UPLOAD),
                permitted=permitted,
                width=640,
                height=640,
                chips=f"{_UPLOAD.folder}{_UPLOAD.identity}.npy",
                faces=(face,),
                **common,
            )
            return _announced(detected)
        case "review":
            matched = events.FacesMatched(
                id=events.FacesMatched.identify(_UPLOAD),
                decision=decision,
                model="m",
                threshold=80.0,
                faces=(),
                reviewers=2,
                **common,
            )
            return _announced(matched)
        case "flags":
            return {"content": base64.b64encode(json.dumps(new_deployment()).encode()).decode(), "uri": ""}
        case "api":
            caller = {"identity": {"userArn": _PRINCIPAL}, "requestId": "r", "accountId": "111122223333"}
            return {
                "httpMethod": "POST",
                "path": "/",
                "headers": {
                    "X-Amz-Target": "RekognitionService.DetectFaces",
                    "Content-Type": "application/x-amz-json-1.1",
                },
                "requestContext": caller,
                "body": json.dumps({"Image": {"Bytes": base64.b64encode(_photo()).decode()}}),
            }
    return None


def succeeded(function: str, answer: Any, aws: FakeAws) -> bool:
    """Return True if the function answers success and has called :data:`_LAST_CALL`."""
    if _LAST_CALL[function] not in aws.called:
        return False
    if function == "api":
        return bool(answer["statusCode"] == 200)
    return answer is None if function == "flags" else answer == {"batchItemFailures": []}


def _announced(event: events.Event) -> dict[str, Any]:
    return _queued(event.detail_type, msgspec.to_builtins(event), topology.SOURCE)


def _queued(detail_type: str, detail: dict[str, Any], source: str = "aws.s3") -> dict[str, Any]:
    envelope = {"id": "e", "detail-type": detail_type, "source": source, "time": _TIME, "detail": detail}
    record = {"messageId": "m", "body": json.dumps(envelope), "attributes": {"ApproximateReceiveCount": "1"}}
    return {"Records": [record]}


def _json(value: Any) -> HttpReply:
    return HttpReply(json.dumps(value).encode(), {"Content-Type": "application/x-amz-json-1.0"})


def _tenant_items() -> dict[str, dict[str, Any]]:
    """Return the tenant's items by their partition key, as its registry writes them."""
    table = MemoryTable()
    TenantTable(table).add(_TENANT)
    return {item["pk"]: encode(item) for item in table.scan({})}


def _photo() -> bytes:
    """Return a JPEG of 640 by 640 pixels of noise."""
    from PIL import Image

    file = io.BytesIO()
    Image.effect_noise((80, 80), 60).resize((640, 640)).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def _chips() -> bytes:
    import numpy as np

    from abeyance.embedding.npy import encode

    return encode(np.zeros((1, 112, 112, 3), np.uint8))
