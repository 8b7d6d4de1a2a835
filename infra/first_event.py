"""A first event for every function, and a fake AWS to handle it with: for measuring; nothing is stored."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from abeyance.aws.dynamodb import encode
from abeyance.aws.table import Put
from abeyance.deployment.settings import DeploymentSettings
from abeyance.ledger.heads import Head
from abeyance.moratorium import decide
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.tenants import Tenant, TenantTable
from abeyance.pipeline import events, topology
from abeyance.pipeline.events import Upload
from infra.loopback import HttpReply, HttpRequest

if TYPE_CHECKING:
    from abeyance.aws.table import Table

_DATA = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
_UPLOAD = msgspec.convert(_DATA["upload"], Upload)
_TENANT = msgspec.convert(_DATA["tenant"], Tenant)


class FakeAws:
    """AWS after one upload, as far as the functions ask, for :meth:`infra.sandbox.Sandbox.start`."""

    def __init__(self, function: str = "") -> None:
        #: Stage -> the event that it recorded before the function's first event.
        self._recorded = {
            stage: f"{event.detail_type}\n{msgspec.json.encode(event).decode()}"
            for stage, event in _recorded_before(function).items()
        }
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
        answer: dict[str, Any] = _DATA["answers"].get(name, {})
        return answer

    def _get(self, given: dict[str, Any]) -> dict[str, Any]:
        item = self._item(given["TableName"], given["Key"])
        return {"Item": item} if item else {}

    def _item(self, table: str, key: dict[str, Any]) -> dict[str, Any] | None:
        if table == self._settings.tenants_table:
            return self._tenants.get(key["pk"]["S"])
        if key == {"object": {"S": f"upload#{_UPLOAD.identity}"}} and self._recorded:
            return {**key, **{f"stage_{stage}": {"S": text} for stage, text in self._recorded.items()}}
        if key == {"object": {"S": f"{_UPLOAD.bucket}/{_UPLOAD.key}"}}:
            return {**key, "upload": {"S": _UPLOAD.identity}}
        if key.get("pk") == {"S": "head"}:
            return {**key, **encode(msgspec.structs.asdict(Head(origin="abeyance/c")))}
        return None


def event_for(function: str) -> Any:
    """Return the function's first event, or None if there is none for it here (the console)."""
    recorded = _recorded_before(function)
    match function:
        case "gate":
            return _queued("Object Created", _DATA["gate"])
        case "detect" | "ledger" | "recognize" | "review":
            return _announced(list(recorded.values())[-1])
        case "checkpoint":
            return {"task": topology.CHECKPOINT.task}
        case "flags":
            return {**_DATA["flags"], "body": json.dumps({"do": "tenants"})}
        case "api":
            photo = base64.b64encode(_photo()).decode()
            return {**_DATA["api"], "body": json.dumps({"Image": {"Bytes": photo}})}
    return None


def _recorded_before(function: str) -> dict[str, events.Event]:
    """Return stage -> the event that it recorded, up to the one that is the function's first."""
    request = decide.Request(tenant=_TENANT, tenant_id="acme", action="search", purpose="unspecified")
    decision = decide.decide(request, new_deployment(), datetime(2026, 1, 1, tzinfo=UTC))
    permitted = _event(events.UploadPermitted, decision=decision, purpose="unspecified")
    found: dict[str, events.Event] = {}
    if function in ("detect", "ledger", "recognize", "review"):
        found["gate"] = permitted
    if function in ("recognize", "review"):
        chips = f"{_UPLOAD.folder}{_UPLOAD.identity}.npy"
        found["detect"] = _event(events.FacesDetected, permitted=permitted, chips=chips, **_DATA["recognize"])
    if function == "review":
        found["recognize"] = _event(events.FacesMatched, decision=decision, **_DATA["review"])
    return found


def succeeded(function: str, answer: Any, aws: FakeAws) -> bool:
    """Return True if the function answers success and has called its last operation."""
    if _DATA["last_call"][function] not in aws.called:
        return False
    if function in ("api", "flags"):
        return bool(answer["statusCode"] == 200)
    if function == "checkpoint":
        return bool(answer == {})  # there is nothing to sign
    return bool(answer == {"batchItemFailures": []})


def _event(kind: type[events.Event], **fields: Any) -> events.Event:
    return kind(id=kind.identify(_UPLOAD), time=_DATA["time"], upload=_UPLOAD, **fields)


def _announced(event: events.Event) -> dict[str, Any]:
    return _queued(event.detail_type, msgspec.to_builtins(event), topology.SOURCE)


def _queued(detail_type: str, detail: dict[str, Any], source: str = "aws.s3") -> dict[str, Any]:
    envelope = {
        "id": "e",
        "detail-type": detail_type,
        "source": source,
        "time": _DATA["time"],
        "detail": detail,
    }
    record = {"messageId": "m", "body": json.dumps(envelope), "attributes": {"ApproximateReceiveCount": "1"}}
    return {"Records": [record]}


def _json(value: Any) -> HttpReply:
    return HttpReply(json.dumps(value).encode(), {"Content-Type": "application/x-amz-json-1.0"})


def _tenant_items() -> dict[str, dict[str, Any]]:
    """Return the tenant's items by their partition key, as its registry writes them."""
    items: dict[str, dict[str, Any]] = {}

    class Recorder:
        def get(self, key: object) -> None:
            """Hold nothing yet."""

        def transact(self, operations: Sequence[Put]) -> None:
            items.update({put.item["pk"]: encode(put.item) for put in operations})

    TenantTable(cast("Table", Recorder())).add(_TENANT)
    return items


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
