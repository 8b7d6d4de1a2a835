"""AppConfig in memory: hosted versions, deployments at once or by and by, and the data plane that hands them out."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import msgspec
from botocore.exceptions import ClientError
from tests.simulation.clock import VirtualClock

#: Duration of a gradual deployment, in seconds.
GRADUAL_S = 1800.0
STRATEGIES = ("abeyance-tighten", "abeyance-loosen")
_UNDER_WAY = ("DEPLOYING", "BAKING", "VALIDATING")


def _encoded(document: dict[str, Any]) -> bytes:
    return msgspec.json.encode(document)


@dataclass
class _Deployment:
    number: int
    version: int
    state: str
    ends_s: float


class SimulatedAppConfig:
    """The low-level clients of both planes. ``validate`` is asked before a deployment starts, as AppConfig does."""

    exceptions = SimpleNamespace(
        ResourceNotFoundException=type("ResourceNotFoundException", (ClientError,), {}),
        ConflictException=type("ConflictException", (ClientError,), {}),
        BadRequestException=type("BadRequestException", (ClientError,), {}),
    )

    def __init__(
        self, call: Callable[[str, Callable[[], Any]], Any], clock: VirtualClock, document: dict[str, Any]
    ) -> None:
        self.validate: Callable[[bytes], None] = lambda content: None
        #: (moment in epoch seconds, document), oldest first.
        self.history: list[tuple[float, dict[str, Any]]] = []
        #: Indices in ``history`` of what came by a deployment, and not by :meth:`deploy`.
        self.deployed: list[int] = []
        self._versions: list[bytes] = []
        self._deployments: list[_Deployment] = []
        self._call = call
        self._clock = clock
        self.deploy(document)

    def deploy(self, document: dict[str, Any]) -> None:
        """Put a document into force at once, past everybody."""
        self._finish()
        self._stop()
        self._versions.append(_encoded(document))
        self._deployments.append(
            _Deployment(len(self._deployments) + 1, len(self._versions), "COMPLETE", self._clock.now_s)
        )
        self.history.append((self._clock.now_s, document))

    # -- data plane

    def start_configuration_session(self, **_: Any) -> dict[str, Any]:
        return self._call("StartConfigurationSession", lambda: {"InitialConfigurationToken": "0"})

    def get_latest_configuration(self, *, ConfigurationToken: str) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            self._finish()
            version = len(self.history)
            body = b"" if int(ConfigurationToken) == version else _encoded(self.history[-1][1])
            return {
                "Configuration": io.BytesIO(body),
                "NextPollConfigurationToken": str(version),
                "NextPollIntervalInSeconds": 15,
                "VersionLabel": str(version),
                "ResponseMetadata": {"HTTPHeaders": {}},
            }

        return self._call("GetLatestConfiguration", run)

    # -- control plane

    def list_applications(self, **_: Any) -> dict[str, Any]:
        return self._named("ListApplications", "abeyance")

    def list_environments(self, **_: Any) -> dict[str, Any]:
        return self._named("ListEnvironments", "live")

    def list_configuration_profiles(self, **_: Any) -> dict[str, Any]:
        return self._named("ListConfigurationProfiles", "moratoria")

    def list_deployment_strategies(self, **_: Any) -> dict[str, Any]:
        return self._named("ListDeploymentStrategies", *STRATEGIES)

    def list_hosted_configuration_versions(self, **_: Any) -> dict[str, Any]:
        return self._call(
            "ListHostedConfigurationVersions",
            lambda: {"Items": [{"VersionNumber": n + 1} for n in range(len(self._versions))]},
        )

    def get_hosted_configuration_version(self, *, VersionNumber: int, **_: Any) -> dict[str, Any]:
        return self._call(
            "GetHostedConfigurationVersion",
            lambda: {"Content": io.BytesIO(self._versions[VersionNumber - 1])},
        )

    def list_deployments(self, **_: Any) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            self._finish()
            return {
                "Items": [
                    {
                        "DeploymentNumber": one.number,
                        "ConfigurationVersion": str(one.version),
                        "State": one.state,
                    }
                    for one in self._deployments
                ]
            }

        return self._call("ListDeployments", run)

    def create_hosted_configuration_version(
        self, *, Content: bytes, LatestVersionNumber: int, **_: Any
    ) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            if LatestVersionNumber != len(self._versions):
                raise self._error("ConflictException")
            self._versions.append(bytes(Content))
            return {"VersionNumber": len(self._versions)}

        return self._call("CreateHostedConfigurationVersion", run)

    def start_deployment(
        self, *, ConfigurationVersion: str, DeploymentStrategyId: str, **_: Any
    ) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            self._finish()
            if self._deployments[-1].state in _UNDER_WAY:
                raise self._error("ConflictException")
            version = int(ConfigurationVersion)
            try:
                self.validate(self._versions[version - 1])
            except Exception:
                raise self._error("BadRequestException") from None
            gradual = DeploymentStrategyId == "abeyance-loosen"
            ends_s = self._clock.now_s + (GRADUAL_S if gradual else 0.0)
            number = len(self._deployments) + 1
            self._deployments.append(_Deployment(number, version, "DEPLOYING", ends_s))
            self._finish()
            return {"DeploymentNumber": number}

        return self._call("StartDeployment", run)

    def stop_deployment(self, *, DeploymentNumber: int, **_: Any) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            self._finish()
            if self._deployments[DeploymentNumber - 1].state not in _UNDER_WAY:
                raise self._error("BadRequestException")
            self._stop()
            return {}

        return self._call("StopDeployment", run)

    def _finish(self) -> None:
        """Complete the deployment whose time is over."""
        last = self._deployments[-1] if self._deployments else None
        if last and last.state in _UNDER_WAY and last.ends_s <= self._clock.now_s:
            last.state = "COMPLETE"
            self.deployed.append(len(self.history))
            self.history.append((last.ends_s, json.loads(self._versions[last.version - 1])))

    def _stop(self) -> None:
        if self._deployments and self._deployments[-1].state in _UNDER_WAY:
            self._deployments[-1].state = "ROLLED_BACK"

    def _named(self, operation: str, *names: str) -> dict[str, Any]:
        return self._call(operation, lambda: {"Items": [{"Id": name, "Name": name} for name in names]})

    def _error(self, code: str) -> ClientError:
        made: ClientError = getattr(self.exceptions, code)({"Error": {"Code": code, "Message": code}}, "")
        return made
