"""In AWS, announcements of moratoria wait in EventBridge Scheduler; a task keeps them in step with the flags."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from abeyance.aws.clients import client as shared_client
from abeyance.deployment.build import build_announcements
from abeyance.moratorium.presets import new_deployment

ROLE = "arn:aws:iam::123456789012:role/announcements"


@pytest.fixture
def scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "ABEYANCE_FLAGS": f"file:{tmp_path / 'flags.json'}",
        "ABEYANCE_ANNOUNCEMENT_GROUP": "moratoria",
        "ABEYANCE_ANNOUNCEMENT_ROLE": ROLE,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    shared_client.cache_clear()
    with mock_aws():
        client = boto3.client("scheduler")
        client.create_schedule_group(Name="moratoria")
        yield client
    shared_client.cache_clear()


def waiting(scheduler: Any) -> list[Any]:
    names = [entry["Name"] for entry in scheduler.list_schedules(GroupName="moratoria")["Schedules"]]
    return [scheduler.get_schedule(Name=name, GroupName="moratoria") for name in names]


def test_schedules_follow_the_flags(scheduler: Any, tmp_path: Path) -> None:
    flags = tmp_path / "flags.json"
    flags.write_text(json.dumps(new_deployment()))
    assert build_announcements()() == {"put": 0, "removed": 0}

    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=10)
    document = new_deployment()
    document["values"]["police_halt"]["ends"] = f"{ends:%Y-%m-%dT%H:%M:%SZ}"
    flags.write_text(json.dumps(document))
    assert build_announcements()() == {"put": 3, "removed": 0}
    assert build_announcements()() == {"put": 0, "removed": 0}
    found = sorted(waiting(scheduler), key=lambda one: one["ScheduleExpression"])
    kinds = [one["Target"]["EventBridgeParameters"]["DetailType"] for one in found]
    assert kinds == ["Moratorium Ending", "Moratorium Ending", "Moratorium Ended"]
    assert {one["Target"]["Arn"] for one in found} == {
        "arn:aws:events:eu-west-1:123456789012:event-bus/abeyance"
    }
    assert {one["Target"]["RoleArn"] for one in found} == {ROLE}
    assert found[-1]["ScheduleExpression"] == f"at({ends:%Y-%m-%dT%H:%M:%S})"
    assert json.loads(found[-1]["Target"]["Input"])["flag"] == "police_halt"

    flags.write_text(json.dumps(new_deployment()))
    assert build_announcements()() == {"put": 0, "removed": 3}
    assert waiting(scheduler) == []
