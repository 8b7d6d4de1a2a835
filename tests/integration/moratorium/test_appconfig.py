"""The stores of documents, AppConfig's validator, and the schedules of boundaries."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.appconfig import FakeAppConfig
from tests.office import Office, offices

from abeyance.moratorium.boundaries import SchedulerSchedule, synchronize
from abeyance.moratorium.document import parse
from abeyance.moratorium.errors import FlagsError, NothingDeployed
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.publish import AppConfigPublisher, DeploymentBusy, FilePublisher, publisher_from
from abeyance.moratorium.source import FileSource
from abeyance.moratorium.subjects import ChangeRefused, FlagsChange

from .conftest import hosted, value

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HALT = hosted(halt=value())
LOOSER = hosted(halt=value(exempt_purposes=["missing_children"]))
TIGHTER = hosted(halt=value(), more=value(effect="restrict", human_review=2))


class Clock:
    """A clock that is set."""

    now_s = 1_000_000.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def appconfig(clock: Clock) -> FakeAppConfig:
    return FakeAppConfig(lambda: clock.now_s)


def publisher(appconfig: FakeAppConfig, environment: str = "live") -> AppConfigPublisher:
    return AppConfigPublisher(
        appconfig, "abeyance", environment, "moratoria" if environment == "live" else environment
    )


def documents(appconfig: FakeAppConfig) -> list[dict[str, Any]]:
    return [one.document for one in publisher(appconfig).serving().documents]


def test_nothing_deployed_is_not_no_flags(appconfig: FakeAppConfig) -> None:
    with pytest.raises(NothingDeployed):
        publisher(appconfig).serving()


def test_tightening_goes_at_once_and_loosening_gradually(appconfig: FakeAppConfig, clock: Clock) -> None:
    found = publisher(appconfig)
    assert found.deploy(HALT, gradual=False, note="why") == "1"
    assert appconfig.versions["moratoria"][0][1].startswith("v1-")
    assert (documents(appconfig), found.serving().settled) == ([HALT], True)
    assert found.deploy(LOOSER, gradual=True, note="children") == "2"
    assert (documents(appconfig), found.serving().settled) == ([LOOSER, HALT], False)
    clock.now_s += 1800
    assert (appconfig.state(), documents(appconfig)) == ("BAKING", [LOOSER])
    clock.now_s += 1800
    assert (appconfig.state(), found.serving().settled) == ("COMPLETE", True)


@pytest.mark.parametrize("after_s", [0, 1080, 1800, 3599])
def test_tightening_stops_what_is_under_way(appconfig: FakeAppConfig, clock: Clock, after_s: float) -> None:
    """Whatever its state: at the start, at 60 %, baking."""
    found = publisher(appconfig)
    found.deploy(HALT, gradual=False, note="")
    found.deploy(LOOSER, gradual=True, note="")
    clock.now_s += after_s
    found.deploy(TIGHTER, gradual=False, note="stop")
    assert documents(appconfig) == [TIGHTER]


def test_loosening_waits_for_what_is_under_way(appconfig: FakeAppConfig) -> None:
    found = publisher(appconfig)
    found.deploy(HALT, gradual=False, note="")
    found.deploy(LOOSER, gradual=True, note="")
    with pytest.raises(DeploymentBusy, match="under way"):
        found.deploy(LOOSER, gradual=True, note="")


def test_nothing_in_the_flags_environment_delays_the_brake(appconfig: FakeAppConfig, clock: Clock) -> None:
    publisher(appconfig).deploy(HALT, gradual=False, note="")
    publisher(appconfig).deploy(LOOSER, gradual=True, note="")
    appconfig.alarm = True
    brake = publisher(appconfig, "brake")
    brake.deploy(TIGHTER, gradual=False, note="")
    assert brake.serving().documents[0].document == TIGHTER
    assert appconfig.state("brake") == "COMPLETE"


def test_what_alarms_roll_back_is_named(appconfig: FakeAppConfig, clock: Clock) -> None:
    found = publisher(appconfig)
    found.deploy(HALT, gradual=False, note="")
    found.deploy(LOOSER, gradual=True, note="")
    appconfig.alarm = True
    assert (documents(appconfig), found.serving().undone) == ([HALT], "2")


# -- a file


def test_a_file_is_replaced_whole_and_its_versions_stay(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    found, source = FilePublisher(path), FileSource(path)
    with pytest.raises(NothingDeployed):
        found.serving()
    assert found.deploy(HALT, gradual=False, note="first") == "1"
    assert found.deploy(LOOSER, gradual=True, note="second") == "2"
    assert source.current().flags.digest == parse(LOOSER).digest
    kept = sorted((tmp_path / "flags.json.history").iterdir())
    assert [json.loads(one.read_text())["note"] for one in kept] == ["first", "second"]


def test_of_two_who_publish_at_once_one_is_told_to_try_again(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    found = FilePublisher(path)
    found.deploy(HALT, gradual=False, note="")
    (tmp_path / "flags.json.history" / "000002.json").mkdir()
    found._latest = lambda: 1  # type: ignore[method-assign]
    with pytest.raises(DeploymentBusy, match="try again"):
        found.deploy(LOOSER, gradual=False, note="")
    assert json.loads(path.read_text()) == HALT


def test_a_file_that_fails_keeps_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "flags.json"
    found = FilePublisher(path)
    found.deploy(HALT, gradual=False, note="")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        found.deploy(LOOSER, gradual=False, note="")
    assert json.loads(path.read_text()) == HALT
    assert len(list((tmp_path / "flags.json.history").iterdir())) == 1


@pytest.mark.parametrize("setting", ["", "file:", "appconfig:a/b", "s3:x"])
def test_a_setting_that_names_no_store(setting: str) -> None:
    with pytest.raises(ValueError, match="flags come from"):
        publisher_from(setting, boto3.client)


def test_values_alone_are_no_document_to_replace(tmp_path: Path) -> None:
    (tmp_path / "flags.json").write_text("{}")
    with pytest.raises(FlagsError, match="must have version"):
        FilePublisher(tmp_path / "flags.json").serving()


# -- the validator


@pytest.fixture
def office() -> Iterator[Office]:
    with offices() as make:
        yield make()


def validate(office: Office, document: bytes | dict[str, Any], profile: str = "mor0000") -> None:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    content = base64.b64encode(raw).decode()
    event = {"applicationId": "app0001", "configurationProfileId": profile, "content": content}
    assert office.function({**event, "configurationVersion": "2", "uri": "hosted"}) is None


def test_the_validator_lets_through_what_the_service_deploys(office: Office) -> None:
    validate(office, new_deployment())
    office.person("alice").submit(FlagsChange(TIGHTER | {"version": "1"}), wait=True)
    for document in (HALT, TIGHTER, hosted(), b"", b"{", b"\x00\xff"):
        with pytest.raises(ValueError, match=r"propose it|document"):
            validate(office, document)
    with pytest.raises(ValueError, match="propose it"):
        validate(office, new_deployment(), profile="bra0001")


def test_the_validators_content_has_one_spelling(office: Office) -> None:
    raw = json.dumps(new_deployment()).encode()
    raw += b" " * ((1 - len(raw)) % 3)
    text = base64.b64encode(raw).decode()
    assert text.endswith("==")
    assert office.function({"content": text}) is None
    for other in (text.rstrip("="), text + "\n", text[:-3] + chr(ord(text[-3]) + 1) + "=="):
        with pytest.raises(ValueError, match=r"base64|padding"):
            office.function({"content": other})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"version": "2", "flags": {}, "values": {}}, "version"),
        (hosted(halt=value(starts=5)), "starts"),
        (hosted(halt=value(ends="2019-01-01T00:00:00Z")), "later than starts"),
        (hosted(halt=value(sectors=["polise"])), "polise"),
        (hosted(halt=value(jurisdictions=["US-XX"])), "US-XX"),
        (hosted(halt=value(jurisdictions=["US-CA-SAN_FRANSISCO"])), "SAN_FRANSISCO"),
        (hosted(halt=value(exempt_tenants=["thorn"])), "exempt_purposes"),
        (hosted(halt=value(surprise=True)), "surprise"),
    ],
)
def test_a_document_that_is_not_sound_is_refused(office: Office, document: Any, message: str) -> None:
    with pytest.raises(ChangeRefused, match=message):
        office.person("alice").submit(FlagsChange(document))


# -- EventBridge Scheduler


def test_boundaries_wait_as_one_time_schedules(aws: None) -> None:
    client = boto3.client("scheduler")
    client.create_schedule_group(Name="abeyance-moratoria")
    schedule = SchedulerSchedule(
        client,
        group="abeyance-moratoria",
        bus="arn:aws:events:us-west-2:123456789012:event-bus/abeyance",
        role="arn:aws:iam::123456789012:role/scheduler",
    )
    flags = parse(hosted(halt=value(ends="2026-02-15T00:00:00Z")))
    assert synchronize(schedule, flags, NOW) == (4, 0)
    assert synchronize(schedule, flags, NOW) == (0, 0)
    found = [
        client.get_schedule(Name=name, GroupName="abeyance-moratoria") for name in sorted(schedule.ids())
    ]
    assert sorted(entry["ScheduleExpression"] for entry in found) == [
        "at(2026-01-16T00:00:00)",
        "at(2026-02-08T00:00:00)",
        "at(2026-02-14T00:00:00)",
        "at(2026-02-15T00:00:00)",
    ]
    last = next(entry for entry in found if entry["ScheduleExpression"].startswith("at(2026-02-15"))
    assert last["Target"]["EventBridgeParameters"] == {"DetailType": "Moratorium Ended", "Source": "abeyance"}
    assert json.loads(last["Target"]["Input"])["held"] is True
    assert last["ActionAfterCompletion"] == "DELETE"
    assert synchronize(schedule, parse({}), NOW) == (0, 4)
    schedule.remove("gone")
