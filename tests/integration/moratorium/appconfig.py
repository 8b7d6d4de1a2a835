"""AppConfig as far as we use it, in memory: moto has neither deployments nor the data plane.

Every call is checked against botocore's own model of the service, so that a request that AWS would refuse for its
shape is refused here.
"""

from __future__ import annotations

import io
from typing import Any

import boto3
import botocore.session
from botocore.validate import ParamValidator

_model = botocore.session.get_session().get_service_model
_control, _data = _model("appconfig"), _model("appconfigdata")
_validator = ParamValidator()


class AppConfig:
    """Control plane and data plane of one application ``app0001``, environment ``env0001``, profile ``prof001``."""

    def __init__(self) -> None:
        self.exceptions = boto3.client("appconfig").exceptions
        self.versions: list[tuple[bytes, str]] = []
        self.deployments: list[dict[str, Any]] = []
        self.finish_at_once = True
        self.strategies = ("at-once", "gradually")
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        operation = "".join(part.capitalize() for part in name.split("_"))
        model = _control if operation in _control.operation_names else _data
        shape = model.operation_model(operation).input_shape
        act = getattr(type(self), f"_{name}")

        def call(**arguments: Any) -> dict[str, Any]:
            report = _validator.validate(arguments, shape)
            assert not report.has_errors(), report.generate_report()
            self.calls.append(name)
            return act(self, **arguments)

        return call

    def _error(self, code: str, operation: str, **more: Any) -> Exception:
        return getattr(self.exceptions, code)({"Error": {"Code": code, "Message": ""}, **more}, operation)

    def _list_applications(self, **_: Any) -> dict[str, Any]:
        return {"Items": [{"Id": "app0001", "Name": "abeyance"}]}

    def _list_environments(self, **_: Any) -> dict[str, Any]:
        return {"Items": [{"Id": "env0001", "Name": "live"}]}

    def _list_configuration_profiles(self, **_: Any) -> dict[str, Any]:
        return {"Items": [{"Id": "prof001", "Name": "moratoria"}]}

    def _list_deployment_strategies(self, **_: Any) -> dict[str, Any]:
        ids = ("stra001", "stra002")
        return {"Items": [{"Id": one, "Name": name} for one, name in zip(ids, self.strategies, strict=True)]}

    def _list_hosted_configuration_versions(self, **arguments: Any) -> dict[str, Any]:
        # Two pages, so that whoever reads only the first goes wrong.
        everything = [{"VersionNumber": number + 1} for number in range(len(self.versions))]
        if "NextToken" in arguments:
            return {"Items": everything[1:]}
        return {"Items": everything[:1], **({"NextToken": "more"} if everything[1:] else {})}

    def _get_hosted_configuration_version(self, **arguments: Any) -> dict[str, Any]:
        return {"Content": io.BytesIO(self.versions[arguments["VersionNumber"] - 1][0])}

    def _create_hosted_configuration_version(self, **arguments: Any) -> dict[str, Any]:
        if arguments["LatestVersionNumber"] != len(self.versions):
            raise self._error("ConflictException", "CreateHostedConfigurationVersion")
        self.versions.append((arguments["Content"], arguments["VersionLabel"]))
        return {"VersionNumber": len(self.versions)}

    def _start_deployment(self, **arguments: Any) -> dict[str, Any]:
        if any(entry["State"] in ("DEPLOYING", "BAKING") for entry in self.deployments):
            raise self._error("ConflictException", "StartDeployment")
        self.deployments.append(
            {
                "DeploymentNumber": len(self.deployments) + 1,
                "ConfigurationVersion": arguments["ConfigurationVersion"],
                "ConfigurationName": "moratoria",
                "State": "COMPLETE" if self.finish_at_once else "DEPLOYING",
                "Strategy": arguments["DeploymentStrategyId"],
            }
        )
        return {"DeploymentNumber": len(self.deployments)}

    def _stop_deployment(self, **arguments: Any) -> dict[str, Any]:
        entry = self.deployments[arguments["DeploymentNumber"] - 1]
        entry["State"] = "ROLLED_BACK"
        return {}

    def _list_deployments(self, **_: Any) -> dict[str, Any]:
        return {"Items": list(self.deployments)}

    def _start_configuration_session(self, **_: Any) -> dict[str, Any]:
        if not self.deployments:
            raise self._error(
                "ResourceNotFoundException", "StartConfigurationSession", ResourceType="Deployment"
            )
        return {"InitialConfigurationToken": "token"}

    def _get_latest_configuration(self, **_: Any) -> dict[str, Any]:
        done = [entry for entry in self.deployments if entry["State"] in ("COMPLETE", "BAKING")]
        body = self.versions[int(done[-1]["ConfigurationVersion"]) - 1][0] if done else b""
        return {
            "Configuration": io.BytesIO(body),
            "NextPollConfigurationToken": "token",
            "NextPollIntervalInSeconds": 15,
        }
