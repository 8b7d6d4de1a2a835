"""Checks of AppConfig."""

from __future__ import annotations

import json
import time

from infra.awschecks.account import Account, CannotCheck
from infra.awschecks.registry import check, expect, refused


class _ConfigurationProfile:
    """A profile of AppConfig with two versions, the first deployed."""

    def __init__(self, account: Account) -> None:
        client, name = account.client("appconfig"), account.name
        self.client = client
        app = client.create_application(Name=name)["Id"]
        account.later(f"application {name}", lambda: client.delete_application(ApplicationId=app))
        self.place = {"ApplicationId": app}
        environment = client.create_environment(**self.place, Name=name)["Id"]
        account.later(
            f"environment {name}",
            lambda: client.delete_environment(
                **self.place, EnvironmentId=environment, DeletionProtectionCheck="BYPASS"
            ),
        )
        profile = client.create_configuration_profile(**self.place, Name=name, LocationUri="hosted")["Id"]
        account.later(
            f"profile {name}",
            lambda: client.delete_configuration_profile(
                **self.place, ConfigurationProfileId=profile, DeletionProtectionCheck="BYPASS"
            ),
        )
        self.ids = {"environment": environment, "profile": profile}
        for body in (b'{"v": 1}', b'{"v": 2}'):
            made = client.create_hosted_configuration_version(
                **self.place, ConfigurationProfileId=profile, Content=body, ContentType="application/json"
            )
            number = made["VersionNumber"]
            account.later(
                f"version {number}",
                lambda number=number: client.delete_hosted_configuration_version(
                    **self.place, ConfigurationProfileId=profile, VersionNumber=number
                ),
            )
        self.strategies = {minutes: self._strategy(account, minutes) for minutes in (0, 10)}
        self.deploy("1", 0)
        self.wait()

    def _strategy(self, account: Account, minutes: int) -> str:
        made = self.client.create_deployment_strategy(
            Name=f"{account.name}-{minutes}",
            DeploymentDurationInMinutes=minutes,
            FinalBakeTimeInMinutes=0,
            GrowthFactor=100.0 if not minutes else 10.0,
            ReplicateTo="NONE",
        )["Id"]
        account.later(
            f"strategy {made}", lambda: self.client.delete_deployment_strategy(DeploymentStrategyId=made)
        )
        return str(made)

    def deploy(self, version: str, minutes: int) -> int:
        """Start a deployment and return its number."""
        answer = self.client.start_deployment(
            **self.place,
            EnvironmentId=self.ids["environment"],
            ConfigurationProfileId=self.ids["profile"],
            ConfigurationVersion=version,
            DeploymentStrategyId=self.strategies[minutes],
        )
        return int(answer["DeploymentNumber"])

    def stop(self, number: int) -> None:
        self.client.stop_deployment(
            **self.place, EnvironmentId=self.ids["environment"], DeploymentNumber=number
        )

    def wait(self) -> None:
        """Wait until no deployment is under way."""
        until = time.monotonic() + 90
        while time.monotonic() < until:
            found = self.client.list_deployments(**self.place, EnvironmentId=self.ids["environment"])["Items"]
            if all(
                one["State"] not in ("DEPLOYING", "BAKING", "ROLLING_BACK", "VALIDATING") for one in found
            ):
                return
            time.sleep(1)
        raise CannotCheck("a deployment did not end in 90 s")

    def session(self, account: Account) -> str:
        answer = account.client("appconfigdata").start_configuration_session(
            ApplicationIdentifier=self.place["ApplicationId"],
            EnvironmentIdentifier=self.ids["environment"],
            ConfigurationProfileIdentifier=self.ids["profile"],
            RequiredMinimumPollIntervalInSeconds=15,
        )
        return str(answer["InitialConfigurationToken"])


def _profile(account: Account) -> _ConfigurationProfile:
    profile: _ConfigurationProfile = account.once("profile", lambda: _ConfigurationProfile(account))
    return profile


@check("appconfig.session")
def _session(account: Account) -> None:
    data, token = account.client("appconfigdata"), _profile(account).session(account)
    first = data.get_latest_configuration(ConfigurationToken=token)
    expect(json.loads(first["Configuration"].read()) == {"v": 1}, "the first answer is another one")
    time.sleep(15)
    second = data.get_latest_configuration(ConfigurationToken=first["NextPollConfigurationToken"])
    expect(second["Configuration"].read() == b"", "the second answer is not empty")


@check("appconfig.poll")
def _poll(account: Account) -> None:
    data, token = account.client("appconfigdata"), _profile(account).session(account)
    answer = data.get_latest_configuration(ConfigurationToken=token)
    expect(answer["NextPollIntervalInSeconds"] <= 15, f"it is {answer['NextPollIntervalInSeconds']} s")


@check("appconfig.one_deployment")
def _one_deployment(account: Account) -> None:
    profile = _profile(account)
    profile.wait()
    number = profile.deploy("2", 10)
    try:
        with refused("ConflictException"):
            profile.deploy("1", 0)
    finally:
        profile.stop(number)
        profile.wait()


@check("appconfig.stop")
def _stop(account: Account) -> None:
    profile = _profile(account)
    profile.wait()
    profile.stop(profile.deploy("2", 10))
    profile.wait()
    data = account.client("appconfigdata")
    answer = data.get_latest_configuration(ConfigurationToken=profile.session(account))
    expect(json.loads(answer["Configuration"].read()) == {"v": 1}, "the stopped configuration is in force")
