"""Publishing to AppConfig, its validator, and the schedules of boundaries."""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest

from abeyance.aws.dynamodb import DynamoTable
from abeyance.deployment.build import build_flags
from abeyance.deployment.settings import FlagsSettings
from abeyance.moratorium.boundaries import SchedulerSchedule, synchronize
from abeyance.moratorium.document import parse
from abeyance.moratorium.errors import NothingDeployed
from abeyance.moratorium.presets import document as of_presets
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.proposals import Proposals
from abeyance.moratorium.publish import AppConfigPublisher, PublishConflict
from abeyance.moratorium.tenants import Tenant, TenantTable

from .appconfig import AppConfig
from .conftest import hosted, value

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HALT = hosted(halt=value())
LOOSER = hosted(halt=value(exempt_purposes=["missing_children"]))
TIGHTER = hosted(halt=value(), more=value(effect="restrict", human_review=2))


@pytest.fixture
def appconfig(aws: None) -> AppConfig:
    return AppConfig()


def publisher(appconfig: AppConfig, **others: Any) -> AppConfigPublisher:
    return AppConfigPublisher(
        appconfig, "abeyance", "live", "moratoria", tighten="at-once", loosen="gradually", **others
    )


def deploy(appconfig: AppConfig, document: dict[str, Any]) -> None:
    appconfig.versions.append((json.dumps(document).encode(), ""))
    appconfig.deployments.append(
        {
            "DeploymentNumber": len(appconfig.deployments) + 1,
            "ConfigurationVersion": str(len(appconfig.versions)),
            "ConfigurationName": "moratoria",
            "State": "COMPLETE",
        }
    )


def test_nothing_deployed_is_not_no_flags(appconfig: AppConfig) -> None:
    with pytest.raises(NothingDeployed):
        publisher(appconfig).current()


@pytest.mark.parametrize(("gradual", "strategy"), [(False, "stra001"), (True, "stra002")])
def test_tightening_goes_at_once_and_loosening_gradually(
    appconfig: AppConfig, gradual: bool, strategy: str
) -> None:
    deploy(appconfig, HALT)
    found = publisher(appconfig)
    assert found.current().version == "1"
    version = found.publish(TIGHTER, base=found.current().flags.digest, gradual=gradual, note="why")
    assert version == "2"
    assert appconfig.deployments[-1]["Strategy"] == strategy
    assert appconfig.versions[1][1].startswith("v2-")
    assert found.current().document == TIGHTER
    assert found.publish(HALT, base=parse(TIGHTER).digest, gradual=True, note="back") == "3"


def test_tightening_stops_a_deployment_under_way(appconfig: AppConfig) -> None:
    deploy(appconfig, HALT)
    appconfig.finish_at_once = False
    waits: list[float] = []
    found = publisher(appconfig, sleep=waits.append)
    found.publish(LOOSER, base=parse(HALT).digest, gradual=True, note="children")
    assert found.current().document == HALT
    found.publish(TIGHTER, base=parse(HALT).digest, gradual=False, note="stop")
    assert [entry["State"] for entry in appconfig.deployments] == ["COMPLETE", "ROLLED_BACK", "DEPLOYING"]
    assert len(waits) == 1


def test_loosening_waits_for_a_deployment_under_way(appconfig: AppConfig) -> None:
    deploy(appconfig, HALT)
    appconfig.finish_at_once = False
    found = publisher(appconfig)
    found.publish(LOOSER, base=parse(HALT).digest, gradual=True, note="")
    with pytest.raises(PublishConflict, match="under way"):
        found.publish(LOOSER, base=parse(HALT).digest, gradual=True, note="")


def test_what_bakes_is_in_force(appconfig: AppConfig) -> None:
    deploy(appconfig, HALT)
    deploy(appconfig, TIGHTER)
    appconfig.deployments[-1]["State"] = "BAKING"
    assert publisher(appconfig).current().document == TIGHTER


def test_nothing_is_published_over_other_flags(appconfig: AppConfig) -> None:
    deploy(appconfig, HALT)
    with pytest.raises(PublishConflict):
        publisher(appconfig).publish(HALT, base="0" * 64, gradual=False, note="")
    assert len(appconfig.versions) == 1


# -- the validator


@pytest.fixture
def handler(appconfig: AppConfig, dynamodb: Any) -> Callable[[bytes], None]:
    path = ROOT / "functions" / "flags" / "handler.py"
    spec = importlib.util.spec_from_file_location("flags_handler", path)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    settings = FlagsSettings.of(flags="appconfig:abeyance/live/moratoria")
    clients = {"dynamodb": dynamodb, "appconfig": appconfig, "appconfigdata": appconfig}
    module.flags = build_flags(settings, clients.__getitem__)

    def call(document: bytes | dict[str, Any]) -> None:
        raw = document if isinstance(document, bytes) else json.dumps(document).encode()
        event = {
            "applicationId": "app0001",
            "configurationProfileId": "prof001",
            "configurationVersion": "2",
            "content": base64.b64encode(raw).decode(),
            "uri": "hosted",
        }
        assert module.handler(event, None) is None

    call.module = module  # type: ignore[attr-defined]
    return call


def test_the_first_document_may_not_be_looser_than_the_police_halt(handler) -> None:
    handler(new_deployment())
    stricter = of_presets(["police-halt", "ibm-2020"])
    handler(stricter)
    with pytest.raises(ValueError, match="loosens police_halt"):
        handler(hosted())


def test_the_validator_lets_tightening_through(handler, appconfig: AppConfig) -> None:
    deploy(appconfig, HALT)
    handler(HALT)
    handler(TIGHTER)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"", "empty"),
        (b"{", "not valid JSON"),
        (b"\x00\xff", "not valid JSON"),
        ({"version": "2", "flags": {}, "values": {}}, "version"),
        (hosted(halt=value(starts=5)), "starts"),
        (hosted(halt=value(ends="2019-01-01T00:00:00Z")), "later than starts"),
        (hosted(halt=value(sectors=["polise"])), "polise"),
        (hosted(halt=value(jurisdictions=["US-XX"])), "US-XX"),
        (hosted(halt=value(jurisdictions=["US-CA-SAN_FRANSISCO"])), "SAN_FRANSISCO"),
        (hosted(halt=value(exempt_tenants=["thorn"])), "exempt_purposes"),
        (hosted(halt=value(surprise=True)), "surprise"),
        (LOOSER, "no second principal approved"),
        (hosted(halt=value(enabled=False)), "no second principal approved"),
        (hosted(), "no second principal approved"),
    ],
)
def test_the_validator_refuses(handler, appconfig: AppConfig, document: Any, message: str) -> None:
    deploy(appconfig, HALT)
    with pytest.raises(ValueError, match=message):
        handler(document)


def test_the_validators_content_has_one_spelling(handler, appconfig: AppConfig) -> None:
    deploy(appconfig, HALT)
    raw = json.dumps(TIGHTER).encode()
    raw += b" " * ((1 - len(raw)) % 3)
    text = base64.b64encode(raw).decode()
    assert text.endswith("==")
    module = handler.module
    assert module.handler({"content": text}, None) is None
    for other in (text.rstrip("="), text + "\n", text[:-3] + chr(ord(text[-3]) + 1) + "=="):
        with pytest.raises(ValueError, match=r"base64|padding"):
            module.handler({"content": other}, None)


def test_the_validator_knows_places_where_tenants_are(handler, appconfig: AppConfig, dynamodb: Any) -> None:
    deploy(appconfig, HALT)
    local = hosted(halt=value(), local=value(jurisdictions=["US-CA-PALO_ALTO"]))
    with pytest.raises(ValueError, match="PALO_ALTO"):
        handler(local)
    TenantTable(DynamoTable(dynamodb, "abeyance-tenants")).add(
        Tenant(
            id="palo-alto-library",
            sector="city_department",
            jurisdiction="US-CA-PALO_ALTO",
            actions=("search",),
            purposes=("access_control",),
        )
    )
    handler(local)


def test_an_approved_loosening_passes_the_validator_and_no_other(
    handler, appconfig: AppConfig, dynamodb: Any
) -> None:
    deploy(appconfig, HALT)

    class Validating(AppConfigPublisher):
        """As in AWS: the validator sees the document before it is deployed."""

        def publish(self, document: dict[str, Any], /, **arguments: Any) -> str:
            handler(document)
            return super().publish(document, **arguments)

    rules = Proposals(
        dynamodb,
        "abeyance-proposals",
        Validating(appconfig, "abeyance", "live", "moratoria"),
        lambda *_: None,
        clock=lambda: NOW,
    )
    proposal = rules.propose(LOOSER, "officer-one")
    with pytest.raises(ValueError, match="no second principal"):
        handler(LOOSER)
    rules.approve(proposal.id, "officer-two", proposal.document_digest)
    assert json.loads(appconfig.versions[-1][0]) == LOOSER
    # The same approval does not open the way again once other flags are in force.
    rules.tighten(TIGHTER | {"flags": TIGHTER["flags"]}, "officer-one")
    with pytest.raises(ValueError, match="no second principal"):
        handler(LOOSER)


def test_the_validator_refuses_when_it_cannot_look(handler, appconfig: AppConfig, dynamodb: Any) -> None:
    deploy(appconfig, HALT)
    dynamodb.delete_table(TableName="abeyance-proposals")
    with pytest.raises(Exception, match="ResourceNotFound"):
        handler(LOOSER)


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
