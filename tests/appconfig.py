"""AppConfig in memory, with a clock: both planes of one application, as AWS documents them. moto has neither.

Sources, of the AppConfig API Reference and User Guide:

- *StartDeployment*, *CreateDeploymentStrategy*: one deployment at a time is under way in an environment, and one that
  bakes is under way; a linear strategy reaches ``growth`` per cent after each equal step of its duration, then bakes.
- *StopDeployment*: ends only a deployment that is DEPLOYING. With ``AllowRevert`` one in progress becomes ROLLED_BACK,
  and one that is COMPLETE becomes REVERTED for 72 hours after its end.
- *Automatic rollback*: an alarm of the environment's monitors rolls back what is deploying or baking.
- *Validators*: called when a deployment starts.
- *StartConfigurationSession*, *GetLatestConfiguration*: an empty answer means: nothing new for this session;
  ``ResourceType: Deployment`` is missing until something was deployed.

Every call is checked against botocore's own model of the service, so that a request that AWS would refuse for its shape
is refused here.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import botocore.session
from botocore.validate import ParamValidator

_model = botocore.session.get_session().get_service_model
_control, _data = _model("appconfig"), _model("appconfigdata")
_validator = ParamValidator()
_UNDER_WAY = ("DEPLOYING", "BAKING", "VALIDATING", "ROLLING_BACK")
REVERTIBLE_S = 72 * 3600.0


@dataclass(frozen=True)
class Strategy:
    """Seconds of growth and of baking, and per cent of a step."""

    duration_s: float
    growth: float
    bake_s: float


STRATEGIES = {
    "abeyance-tighten": Strategy(0, 100, 0),
    "abeyance-loosen": Strategy(1800, 20, 1800),
}


@dataclass
class Deployment:
    """One deployment of a version in an environment."""

    number: int
    profile: str
    version: int
    strategy: Strategy
    started_s: float
    state: str = "DEPLOYING"
    ended_s: float = 0.0

    def reached(self, now_s: float) -> float:
        """Per cent of the targets that have it."""
        if self.state != "DEPLOYING" or not self.strategy.duration_s:
            return 100.0
        share = (now_s - self.started_s) / self.strategy.duration_s
        return min(100.0, self.strategy.growth * (1 + int(share * 100 / self.strategy.growth)))


@dataclass
class Environment:
    """One environment: its deployments, oldest first, and whether alarms are its monitors."""

    monitored: bool
    deployments: list[Deployment] = field(default_factory=list)


class FakeAppConfig:
    """The low-level clients of both planes.

    Parameters
    ----------
    now_s
        The clock, epoch seconds.
    call
        Wraps every call, by the operation's name: for faults.
    """

    def __init__(
        self,
        now_s: Callable[[], float] = time.time,
        call: Callable[[str, Callable[[], Any]], Any] = lambda _, run: run(),
    ) -> None:
        self.exceptions = _exceptions()
        #: Asked with the validator's event before a deployment starts; raises for what is not valid.
        self.validate: Callable[[dict[str, Any]], Any] = lambda event: None
        self.alarm = False
        #: Deployments end when they begin, whatever their strategy.
        self.instant = False
        self.environments = {"live": Environment(monitored=True), "brake": Environment(monitored=False)}
        self.versions: dict[str, list[tuple[bytes, str]]] = {"moratoria": [], "brake": []}
        self.calls: list[str] = []
        #: (moment, documents handed out in ``live`` from then on).
        self.history: list[tuple[float, tuple[dict[str, Any], ...]]] = []
        self._now_s = now_s
        self._call = call
        self._sessions = 0
        #: The last of :attr:`history`, as stored.
        self._noted: list[bytes] = []

    # -- for tests

    def served(self, environment: str = "live") -> tuple[dict[str, Any], ...]:
        """Return the documents that are handed out now, newest first."""
        self.advance()
        return tuple(
            json.loads(self.versions[one.profile][one.version - 1][0]) for one in self._serving(environment)
        )

    def state(self, environment: str = "live") -> str:
        """Return the state of the newest deployment."""
        self.advance()
        return self.environments[environment].deployments[-1].state

    def deploy_past_everybody(self, document: dict[str, Any], environment: str = "live") -> None:
        """Deploy at once as an account administrator can: no validator, no service."""
        profile = "moratoria" if environment == "live" else environment
        self.advance()
        self.versions[profile].append((json.dumps(document).encode(), "by hand"))
        deployments = self.environments[environment].deployments
        for one in deployments:
            if one.state in _UNDER_WAY:
                one.state = "ROLLED_BACK"
        deployments.append(
            Deployment(
                len(deployments) + 1,
                profile,
                len(self.versions[profile]),
                Strategy(0, 100, 0),
                self._now_s(),
                "COMPLETE",
                self._now_s(),
            )
        )
        self._note()

    def make_anew(self) -> None:
        """Forget every version and deployment, as when the stack is destroyed and deployed again."""
        for environment in self.environments.values():
            environment.deployments.clear()
        for versions in self.versions.values():
            versions.clear()

    def advance(self) -> None:
        """Let what is under way come to where it is by now."""
        now_s = self._now_s()
        for environment in self.environments.values():
            for one in environment.deployments:
                if one.state == "DEPLOYING" and now_s >= one.started_s + one.strategy.duration_s:
                    one.state = "BAKING"
                baked_s = one.started_s + one.strategy.duration_s + one.strategy.bake_s
                if one.state == "BAKING" and now_s >= baked_s:
                    one.state, one.ended_s = "COMPLETE", baked_s
                if self.alarm and environment.monitored and one.state in _UNDER_WAY:
                    one.state = "ROLLED_BACK"
        self._note()

    def _note(self) -> None:
        stored = [self.versions[one.profile][one.version - 1][0] for one in self._serving("live")]
        if stored == self._noted:
            return
        self._noted, served = stored, tuple(json.loads(one) for one in stored)
        if served and (not self.history or self.history[-1][1] != served):
            self.history.append((self._now_s(), served))

    def _serving(self, environment: str) -> list[Deployment]:
        found = []
        for one in reversed(self.environments[environment].deployments):
            if one.state in ("ROLLED_BACK", "REVERTED"):
                continue
            found.append(one)
            if one.state != "DEPLOYING":
                break
        return found

    # -- the clients

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        operation = "".join(part.capitalize() for part in name.split("_"))
        model = _control if operation in _control.operation_names else _data
        shape = model.operation_model(operation).input_shape
        act = getattr(type(self), f"_{name}")

        def call(**arguments: Any) -> dict[str, Any]:
            report = _validator.validate(arguments, shape)
            assert not report.has_errors(), report.generate_report()
            self.calls.append(name)

            def run() -> dict[str, Any]:
                self.advance()
                answer: dict[str, Any] = act(self, **arguments)
                self._note()
                return answer

            answered: dict[str, Any] = self._call(operation, run)
            return answered

        return call

    def get_paginator(self, operation: str) -> Any:
        """Return a paginator over pages of one item, so that whoever reads only the first goes wrong."""
        fake = self

        class Pages:
            def paginate(self, **arguments: Any) -> Iterator[dict[str, Any]]:
                found = getattr(fake, operation)(**arguments)["Items"]
                yield {"Items": found[:1]}
                yield {"Items": found[1:]}

        return Pages()

    def _error(self, code: str, operation: str, **more: Any) -> Exception:
        made: Exception = getattr(self.exceptions, code)(
            {"Error": {"Code": code, "Message": code}, **more}, operation
        )
        return made

    def _list_applications(self, **_: Any) -> dict[str, Any]:
        return {"Items": [{"Id": "app0001", "Name": "abeyance"}]}

    def _list_environments(self, **_: Any) -> dict[str, Any]:
        return _named(self.environments)

    def _list_configuration_profiles(self, **_: Any) -> dict[str, Any]:
        return _named(self.versions)

    def _list_deployment_strategies(self, **_: Any) -> dict[str, Any]:
        return _named(STRATEGIES)

    def _list_hosted_configuration_versions(self, *, ConfigurationProfileId: str, **_: Any) -> dict[str, Any]:
        return {
            "Items": [
                {"VersionNumber": number + 1}
                for number in range(len(self.versions[_name(self.versions, ConfigurationProfileId)]))
            ]
        }

    def _get_hosted_configuration_version(
        self, *, ConfigurationProfileId: str, VersionNumber: int, **_: Any
    ) -> dict[str, Any]:
        versions = self.versions[_name(self.versions, ConfigurationProfileId)]
        return {"Content": io.BytesIO(versions[VersionNumber - 1][0])}

    def _create_hosted_configuration_version(
        self, *, ConfigurationProfileId: str, Content: bytes, VersionLabel: str = "", **more: Any
    ) -> dict[str, Any]:
        versions = self.versions[_name(self.versions, ConfigurationProfileId)]
        if more.get("LatestVersionNumber", len(versions)) != len(versions):
            raise self._error("ConflictException", "CreateHostedConfigurationVersion")
        versions.append((bytes(Content), VersionLabel))
        return {"VersionNumber": len(versions)}

    def _start_deployment(
        self,
        *,
        EnvironmentId: str,
        ConfigurationProfileId: str,
        ConfigurationVersion: str,
        DeploymentStrategyId: str,
        **_: Any,
    ) -> dict[str, Any]:
        environment = self.environments[_name(self.environments, EnvironmentId)]
        if any(one.state in _UNDER_WAY for one in environment.deployments):
            raise self._error("ConflictException", "StartDeployment")
        profile = _name(self.versions, ConfigurationProfileId)
        content = self.versions[profile][int(ConfigurationVersion) - 1][0]
        try:
            self.validate(
                {
                    "applicationId": "app0001",
                    "configurationProfileId": ConfigurationProfileId,
                    "configurationVersion": ConfigurationVersion,
                    "content": base64.b64encode(content).decode(),
                    "uri": "hosted",
                }
            )
        except Exception:
            raise self._error("BadRequestException", "StartDeployment") from None
        strategy = STRATEGIES[_name(STRATEGIES, DeploymentStrategyId)]
        if self.instant:
            strategy = STRATEGIES["abeyance-tighten"]
        number = len(environment.deployments) + 1
        environment.deployments.append(
            Deployment(number, profile, int(ConfigurationVersion), strategy, self._now_s())
        )
        self.advance()
        return {"DeploymentNumber": number}

    def _stop_deployment(
        self, *, EnvironmentId: str, DeploymentNumber: int, AllowRevert: bool = False, **_: Any
    ) -> dict[str, Any]:
        one = self.environments[_name(self.environments, EnvironmentId)].deployments[DeploymentNumber - 1]
        if one.state == "DEPLOYING" or (AllowRevert and one.state == "BAKING"):
            one.state = "ROLLED_BACK"
        elif AllowRevert and one.state == "COMPLETE" and self._now_s() - one.ended_s <= REVERTIBLE_S:
            one.state = "REVERTED"
        else:
            raise self._error("BadRequestException", "StopDeployment")
        return {}

    def _list_deployments(self, *, EnvironmentId: str, **_: Any) -> dict[str, Any]:
        environment = self.environments[_name(self.environments, EnvironmentId)]
        return {
            "Items": [
                {
                    "DeploymentNumber": one.number,
                    "ConfigurationVersion": str(one.version),
                    "ConfigurationName": one.profile,
                    "State": one.state,
                }
                for one in environment.deployments
            ]
        }

    def _start_configuration_session(
        self, *, EnvironmentIdentifier: str, ConfigurationProfileIdentifier: str, **_: Any
    ) -> dict[str, Any]:
        environment = _name(self.environments, EnvironmentIdentifier)
        if not self._serving(environment):
            raise self._error(
                "ResourceNotFoundException", "StartConfigurationSession", ResourceType="Deployment"
            )
        self._sessions += 1
        return {"InitialConfigurationToken": f"{environment}/{self._sessions}/0"}

    def _get_latest_configuration(self, *, ConfigurationToken: str) -> dict[str, Any]:
        environment, session, had = ConfigurationToken.split("/")
        served = self._serving(environment)
        # A session is one target: a rollout reaches targets one after another.
        target = int(session) * 37 % 100
        one = served[0]
        if len(served) > 1 and one.reached(self._now_s()) <= target:
            one = served[-1]
        content, label = self.versions[one.profile][one.version - 1]
        body = b"" if int(had) == one.version else content
        return {
            "Configuration": io.BytesIO(body),
            "NextPollConfigurationToken": f"{environment}/{session}/{one.version}",
            "NextPollIntervalInSeconds": 15,
            "VersionLabel": label,
            "ResponseMetadata": {"HTTPHeaders": {}},
        }


@functools.cache
def _exceptions() -> Any:
    """Return the exceptions of both planes, as botocore makes them."""
    made = boto3.client("appconfig", region_name="us-east-1").exceptions
    data = boto3.client("appconfigdata", region_name="us-east-1").exceptions
    made.ResourceNotFoundException = data.ResourceNotFoundException  # type: ignore[attr-defined]
    return made


def _named(things: Any) -> dict[str, Any]:
    return {"Items": [{"Id": f"{name[:3]}{n:04d}", "Name": name} for n, name in enumerate(things)]}


def _name(things: Any, name_or_id: str) -> str:
    return next(name for n, name in enumerate(things) if name_or_id in (name, f"{name[:3]}{n:04d}"))
