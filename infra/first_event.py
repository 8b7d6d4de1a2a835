"""A first event for every function, and what AWS answers while it works on it: for measuring, nothing is kept."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from datetime import UTC, datetime
from typing import Any

import msgspec

from abeyance.moratorium import decide
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.tenants import DynamoTenants, Tenant
from abeyance.pipeline import events, topology
from abeyance.pipeline.events import Box, DetectedFace, Quality, Upload
from abeyance.pipeline.settings import Settings
from infra.sandbox import Reply, Request

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


#: What each function must have called when it has done its first event.
_MUST = {
    "gate": "PutEvents",
    "detect": "PutEvents",
    "recognize": "PutEvents",
    "review": "TransactWriteItems",
    "ledger": "TransactWriteItems",
    "api": "SendMessage",
    "flags": "Scan",
}


class World:
    """AWS after one upload, as far as the functions ask. Call it with a request."""

    def __init__(self) -> None:
        #: Operations that were called, of services that name them.
        self.called: set[str] = set()
        self._settings = Settings()
        self._tenants = _registered()
        self._photo = _photo()
        self._chips = _chips()

    def __call__(self, request: Request) -> Reply:
        if request.target:
            return _json(self._operation(request.target, json.loads(request.body)))
        path = request.path.split("?")[0]
        if path == "/configurationsessions":
            return _json({"InitialConfigurationToken": "one"})
        if path == "/configuration":
            return Reply(
                json.dumps(new_deployment()).encode(),
                {"Next-Poll-Configuration-Token": "two", "Next-Poll-Interval-In-Seconds": "60"},
            )
        if request.method == "GET" and path.startswith(f"/{self._settings.chips_bucket}/"):
            return Reply(self._chips)
        if request.method == "GET":
            return Reply(self._photo)
        return Reply(b"", {"ETag": '"e1"'})

    def _operation(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        self.called.add(name)
        if name == "PutEvents":
            entries = [{"EventId": str(number)} for number in range(len(asked["Entries"]))]
            return {"FailedEntryCount": 0, "Entries": entries}
        if name == "SendMessage":
            digest = hashlib.md5(asked["MessageBody"].encode(), usedforsecurity=False).hexdigest()
            return {"MessageId": "1", "MD5OfMessageBody": digest}
        if name == "GetSecretValue":
            return {"SecretString": "a secret for this measurement alone"}
        if name == "BatchGetItem":
            found = {
                table: [item for key in wanted["Keys"] if (item := self._item(table, key))]
                for table, wanted in asked["RequestItems"].items()
            }
            return {"Responses": found, "UnprocessedKeys": {}}
        if name == "TransactGetItems":
            items = [self._item(get["Get"]["TableName"], get["Get"]["Key"]) for get in asked["TransactItems"]]
            return {"Responses": [{"Item": item} if item else {} for item in items]}
        if name == "Scan":
            items = [item for item in self._tenants.values() if item["sk"]["S"] == "registration"]
            return {"Items": items, "Count": len(items)}
        if name != "GetItem":
            return {"Items": [], "Count": 0} if name == "Query" else {}
        item = self._item(asked["TableName"], asked["Key"])
        return {"Item": item} if item else {}

    def _item(self, table: str, key: dict[str, Any]) -> dict[str, Any] | None:
        if table == self._settings.tenants_table:
            return self._tenants.get(key["pk"]["S"])
        if key == {"object": {"S": f"{_UPLOAD.bucket}/{_UPLOAD.key}"}}:
            return {**key, "upload": {"S": _UPLOAD.identity}}
        if key.get("pk") == {"S": "head"}:
            return {"chain": {"S": "c"}, "created": {"S": _TIME}, "seq": {"N": "1"}, "hash": {"S": "0" * 64}}
        return None


def of(function: str) -> Any:
    """The function's first event, or None if there is none for it here."""
    request = decide.Request(tenant=_TENANT, tenant_id="acme", action="search", purpose="unspecified")
    decision = decide.decide(request, new_deployment(), datetime(2026, 1, 1, tzinfo=UTC))
    common: dict[str, Any] = {"time": _TIME, "upload": _UPLOAD}
    permitted = events.UploadPermitted(
        id=events.UploadPermitted.identify(_UPLOAD), decision=decision, purpose="unspecified", **common
    )
    if function == "gate":
        thing = {"key": _UPLOAD.key, "sequencer": _UPLOAD.sequencer, "size": _UPLOAD.size, "etag": "e1"}
        return _queued("Object Created", {"bucket": {"name": "uploads"}, "object": thing})
    if function in ("detect", "ledger"):
        return _announced(permitted)
    if function == "recognize":
        face = DetectedFace(
            box=Box(0.2, 0.2, 0.5, 0.5),
            confidence=99.0,
            quality=Quality(80.0, 80.0, 0.0, 0.0, 0.0),
            landmarks=((0.3, 0.3),) * 5,
            chip=0,
        )
        return _announced(
            events.FacesDetected(
                id=events.FacesDetected.identify(_UPLOAD),
                permitted=permitted,
                width=640,
                height=640,
                chips=f"{_UPLOAD.folder}{_UPLOAD.identity}.npy",
                faces=(face,),
                **common,
            )
        )
    if function == "review":
        return _announced(
            events.FacesMatched(
                id=events.FacesMatched.identify(_UPLOAD),
                decision=decision,
                model="m",
                threshold=80.0,
                faces=(),
                reviewers=2,
                **common,
            )
        )
    if function == "flags":
        return {"content": base64.b64encode(json.dumps(new_deployment()).encode()).decode(), "uri": ""}
    if function == "api":
        photo = base64.b64encode(_photo()).decode()
        return {
            "httpMethod": "POST",
            "path": "/",
            "headers": {
                "X-Amz-Target": "RekognitionService.DetectFaces",
                "Content-Type": "application/x-amz-json-1.1",
            },
            "requestContext": {
                "identity": {"userArn": _PRINCIPAL},
                "requestId": "r",
                "accountId": "111122223333",
            },
            "body": json.dumps({"Image": {"Bytes": photo}}),
        }
    return None


def is_done(function: str, answer: Any, world: World) -> bool:
    """Whether the function says that it did what the event asks, and called what that takes."""
    if _MUST[function] not in world.called:
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


def _json(value: Any) -> Reply:
    return Reply(json.dumps(value).encode(), {"Content-Type": "application/x-amz-json-1.0"})


def _registered() -> dict[str, dict[str, Any]]:
    """The tenant's items by their partition key, as its registry writes them."""
    items = {}

    class Table:
        def transact_write_items(self, TransactItems: list[dict[str, Any]]) -> None:  # noqa: N803 - boto's
            items.update(
                {action["Put"]["Item"]["pk"]["S"]: action["Put"]["Item"] for action in TransactItems}
            )

    DynamoTenants(Table(), "").add(_TENANT)
    return items


def _photo() -> bytes:
    """A JPEG of 640 by 640 pixels, of nothing in particular."""
    from PIL import Image

    file = io.BytesIO()
    Image.effect_noise((80, 80), 60).resize((640, 640)).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def _chips() -> bytes:
    import numpy as np

    from abeyance.embedding.npy import encode

    return encode(np.zeros((1, 112, 112, 3), np.uint8))
