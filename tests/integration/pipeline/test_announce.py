"""In AWS, announcements of moratoria wait in EventBridge Scheduler; a task keeps them in step with the flags."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import boto3
import pytest
from moto import mock_aws

from abeyance.aws.clients import client as shared_client
from abeyance.deployment.flags import build_announcements
from abeyance.local.timekeeper import Timekeeper
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


#: Flags at both ends of the calendar, and one that ends soon.
EDGES = {
    "since_year_one": {"starts": "0001-01-01T00:00:00Z"},
    "before_1970": {"starts": "1969-12-31T23:59:59Z", "ends": "1970-01-01T00:00:01Z"},
    "last_second": {"starts": "9999-12-31T23:59:58Z", "ends": "9999-12-31T23:59:59Z"},
    "whole_calendar": {"starts": "0001-01-01T00:00:00Z", "ends": "9999-12-31T23:59:59Z"},
}


def with_edges() -> dict[str, Any]:
    document = new_deployment()
    halt = document["values"]["police_halt"]
    for key, dates in EDGES.items():
        document["flags"][key] = document["flags"]["police_halt"]
        document["values"][key] = halt | dates
    return document


def test_dates_at_the_ends_of_the_calendar_hold_up_no_schedule(scheduler: Any, tmp_path: Path) -> None:
    document = with_edges()
    document["values"]["police_halt"]["ends"] = f"{datetime.now(UTC) + timedelta(days=3):%Y-%m-%dT%H:%M:%SZ}"
    (tmp_path / "flags.json").write_text(json.dumps(document))
    assert build_announcements()() == {"put": 2, "removed": 0}


@pytest.mark.parametrize(
    ("last", "now", "sent"),
    [
        ("0001-01-01T00:00:00", "0001-01-01T00:00:01", []),
        ("1969-12-31T23:59:58", "1970-01-01T00:00:02", ["Moratorium Starting", "Moratorium Ended"]),
        ("2026-01-01T00:00:00", "2026-01-01T00:00:02", []),
        ("9999-12-31T23:59:57", "9999-12-31T23:59:59", ["Moratorium Starting", *["Moratorium Ended"] * 2]),
    ],
)
def test_the_local_timekeeper_keeps_time_at_the_ends_of_the_calendar(
    tmp_path: Path, last: str, now: str, sent: list[str]
) -> None:
    flags, bus = tmp_path / "flags.json", Mock()
    flags.write_text(json.dumps(with_edges()))
    bus.put_events.return_value = {"FailedEntryCount": 0}
    moments = [datetime.fromisoformat(f"{text}+00:00") for text in (last, now)]
    Timekeeper(bus, "bus", flags, Mock(), Mock(), clock=iter(moments).__next__).announce()
    entries = [entry for call in bus.put_events.call_args_list for entry in call.kwargs["Entries"]]
    assert [entry["DetailType"] for entry in entries] == sent
