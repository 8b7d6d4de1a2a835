"""The deployed gate in a backlog: events of S3 go back with their tenant as their group, and are decided from there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from abeyance.deployment.build import build_gate
from abeyance.deployment.settings import DeploymentSettings, GateSettings
from abeyance.local.aws import LocalAws
from abeyance.local.moto import Inbox
from abeyance.moratorium.presets import new_deployment
from abeyance.pipeline.batch import answer


def _record(number: int, body: str) -> dict[str, Any]:
    attributes = {"ApproximateReceiveCount": "1", "SentTimestamp": "1000"}
    return {"messageId": str(number), "body": body, "attributes": attributes}


def test_a_backlog_is_sorted_into_groups_and_then_decided(tmp_path: Path) -> None:
    flags = tmp_path / "flags.json"
    flags.write_text(json.dumps(new_deployment()))
    aws = LocalAws(settings=DeploymentSettings.of(flags=f"file:{flags}"))
    aws.start()
    try:
        gate = build_gate(GateSettings.of(flags=f"file:{flags}"), aws.client)
        keys = ["acme/index/staff/ä+b.jpg", "globex/index/staff/c.jpg"]
        for key in keys:
            aws.client("s3").put_object(Bucket="uploads", Key=key, Body=b"x")
        inbox = Inbox("abeyance-gate")
        came = inbox.receive(10, 5)
        for message in came:
            inbox.delete(message)
        bodies = [message.body for message in came]
        assert answer({"Records": list(map(_record, range(9), bodies))}, gate) == {"batchItemFailures": []}
        back = inbox.receive(10, 5)
        assert [message.group_id for message in back] == ["acme", "globex"]
        assert aws.client("dynamodb").scan(TableName="abeyance-uploads")["Count"] == 0
        again = [_record(number, message.body) for number, message in enumerate(back)]
        assert answer({"Records": again}, gate) == {"batchItemFailures": []}
        # Neither tenant is registered, so each upload is halted, once.
        results = aws.client("s3").list_objects_v2(Bucket="results")["Contents"]
        assert sorted(one["Key"] for one in results) == [f"{key}.json" for key in keys]
        assert inbox.depth() == 2
    finally:
        aws.stop()
