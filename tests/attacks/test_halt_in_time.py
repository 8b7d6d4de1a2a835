"""From "halt" to the last decision under the old flags, by a virtual clock and AppConfig as AWS documents it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.integration.moratorium.conftest import hosted, value
from tests.office import Office, offices

from abeyance.deployment import build
from abeyance.deployment.settings import GateSettings
from abeyance.moratorium.guard import Guard
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.subjects import BrakeChange, Change, FlagsChange, TenantChange
from abeyance.moratorium.tenants import Tenant

ACME = Tenant(
    id="acme", sector="commercial", jurisdiction="US", actions=("search",), purposes=("access_control",)
)
BEFORE = hosted(**new_deployment()["values"], other=value(sectors=["military"]))
EVERYBODY = value()
#: Seconds that a halt may take beyond the poll interval.
ALLOWED_S = 20.0


def gradual(office: Office, seconds: float) -> None:
    """A loosening on its way for so long."""
    office.agree(FlagsChange(BEFORE))
    office.settle()
    office.agree(FlagsChange(new_deployment()))
    office.clock.advance(seconds)


def ledger_down(office: Office) -> None:
    def down(**_: Any) -> Any:
        raise ConnectionError

    office.aws.sqs.send_message = down  # type: ignore[method-assign]


def busy(office: Office) -> None:
    """AppConfig takes neither a deployment nor a stop, in the environment of the flags."""
    gradual(office, 1080)
    client = office.appconfig
    start = client.start_deployment

    def refuse(**arguments: Any) -> Any:
        if arguments["EnvironmentId"] == "liv0000":
            raise client._error("ConflictException", "StartDeployment")
        return start(**arguments)

    client.start_deployment = refuse  # type: ignore[method-assign]


def alarms(office: Office) -> None:
    gradual(office, 1080)
    office.appconfig.alarm = True


def all_at_once(office: Office) -> None:
    gradual(office, 1900)
    office.appconfig.alarm = True
    ledger_down(office)


SITUATIONS: dict[str, Callable[[Office], None]] = {
    "nothing else happens": lambda office: None,
    "a loosening has reached 60 %": lambda office: gradual(office, 1080),
    "a loosening bakes": lambda office: gradual(office, 1900),
    "every alarm rings": alarms,
    "the ledger's queue is down": ledger_down,
    "all of that": all_at_once,
    "AppConfig is busy": busy,
}
HALTS: dict[str, Callable[[], Change]] = {
    "brake": lambda: BrakeChange(hosted(everybody=EVERYBODY)),
    "flags": lambda: FlagsChange(hosted(**BEFORE["values"], everybody=EVERYBODY)),
}


@pytest.fixture
def office() -> Iterator[Office]:
    with offices() as make:
        made = make()
        made.agree(TenantChange(ACME))
        yield made


@pytest.mark.parametrize("halt", HALTS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_halt_holds_within_the_poll_interval_and_20_s(office: Office, situation: str, halt: str) -> None:
    SITUATIONS[situation](office)
    stages: list[Guard] = []
    for _ in range(20):
        guard = build.build_guard(
            GateSettings.of(flags=office.settings.flags, brake=office.settings.brake), office.aws.client
        )
        # Each stage polls at a moment of its own.
        office.clock.advance(0.7)
        assert guard.decide("acme", "search", "access_control").permitted
        stages.append(guard)
    asked_s = office.clock.now_s
    office.person("dora").submit(HALTS[halt]())
    last_s = asked_s
    while office.clock.now_s < asked_s + 120:
        office.clock.advance(0.5)
        if any(guard.decide("acme", "search", "access_control").permitted for guard in stages):
            last_s = office.clock.now_s
    took_s = last_s - asked_s
    print(f"{situation}, by the {halt}: {took_s:.1f} s")
    assert took_s <= office.settings.flags_poll_interval + ALLOWED_S
    decision = stages[0].decide("acme", "search", "access_control")
    assert decision.digest
    assert decision.brake
