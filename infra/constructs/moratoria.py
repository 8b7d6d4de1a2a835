"""Moratoria: an AppConfig application with flags and brake, their validator, and the policy of officers."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import Stack
from aws_cdk import aws_appconfig as appconfig
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_

from constructs import Construct
from infra.config import Config

ENVIRONMENT = "live"
PROFILE = "moratoria"
BRAKE = "brake"


class Moratoria(Construct):
    """The moratorium flags and the brake, which operators see as switches in AppConfig's console.

    Only the change service deploys them, the first ones included: a template would deploy its own over those in force.
    The validator is a function, without a JSON Schema beside it: AppConfig takes schemas for free-form profiles only,
    and checks feature flags against the constraints in the document itself.
    """

    def __init__(self, scope: Construct, construct_id: str, config: Config) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        self.application = appconfig.CfnApplication(
            self, "Application", name=config.name, description="Moratoria on face recognition"
        )
        #: The settings by which functions find the documents: names, which are known before the resources exist.
        self.setting = f"appconfig:{config.name}/{ENVIRONMENT}/{PROFILE}"
        self.brake_setting = f"appconfig:{config.name}/{BRAKE}/{BRAKE}"

    def complete(self, validator: lambda_.IFunction, alarms: list[cloudwatch.Alarm]) -> None:
        """Add environments, profiles and strategies.

        The brake has an environment of its own, without alarms: nothing that goes on in the other one delays it.
        """
        application = self.application.ref
        invoke = lambda_.CfnPermission(
            self,
            "MayValidate",
            action="lambda:InvokeFunction",
            function_name=validator.function_arn,
            principal="appconfig.amazonaws.com",
            source_account=Stack.of(self).account,
        )
        self.environment = self._environment(application, alarms)
        self.brake_environment = appconfig.CfnEnvironment(
            self, "BrakeEnvironment", application_id=application, name=BRAKE
        )
        self.profile = self._profile("Profile", PROFILE, "One flag for each moratorium", validator)
        self.brake_profile = self._profile(
            "BrakeProfile", BRAKE, "Halts that hold at once, beside the moratoria", validator
        )
        for profile in (self.profile, self.brake_profile):
            profile.node.add_dependency(invoke)
        self.tighten = self._strategy("Tighten", "At once", growth=100, minutes=0, bake=0)
        self.loosen = self._strategy(
            "Loosen",
            "A fifth every six minutes, rolled back if an alarm rings",
            growth=20,
            minutes=30,
            bake=30,
        )

    def control_plane(self) -> list[str]:
        """Return the ARNs of all that a deployment uses, except for the strategies."""
        application = self._arn("application", self.application.ref)
        found = [application]
        for environment, profile in self._pairs():
            found += [
                f"{application}/environment/{environment.ref}",
                f"{application}/environment/{environment.ref}/deployment/*",
                f"{application}/configurationprofile/{profile.ref}",
                f"{application}/configurationprofile/{profile.ref}/hostedconfigurationversion/*",
            ]
        return found

    def strategies(self) -> list[str]:
        """Return the ARNs of the two deployment strategies."""
        return [self._arn("deploymentstrategy", strategy.ref) for strategy in (self.tighten, self.loosen)]

    def flags_arns(self) -> list[str]:
        """Return the ARNs of flags and brake in AppConfig's data plane."""
        return [
            self._arn(
                "application",
                f"{self.application.ref}/environment/{environment.ref}/configuration/{profile.ref}",
            )
            for environment, profile in self._pairs()
        ]

    def _pairs(self) -> list[tuple[appconfig.CfnEnvironment, appconfig.CfnConfigurationProfile]]:
        return [(self.environment, self.profile), (self.brake_environment, self.brake_profile)]

    def _profile(
        self, construct_id: str, name: str, about: str, validator: lambda_.IFunction
    ) -> appconfig.CfnConfigurationProfile:
        return appconfig.CfnConfigurationProfile(
            self,
            construct_id,
            application_id=self.application.ref,
            name=name,
            description=about,
            location_uri="hosted",
            type="AWS.AppConfig.FeatureFlags",
            validators=[{"type": "LAMBDA", "content": validator.function_arn}],
        )

    def _arn(self, resource: str, name: str) -> str:
        return Stack.of(self).format_arn(service="appconfig", resource=resource, resource_name=name)

    def _environment(self, application: str, alarms: list[cloudwatch.Alarm]) -> appconfig.CfnEnvironment:
        reader = iam.Role(
            self,
            "AlarmReader",
            description="Lets AppConfig see the alarms that roll back a deployment",
            assumed_by=iam.ServicePrincipal("appconfig.amazonaws.com"),
        )
        see = iam.PolicyStatement(
            sid="SeeAlarms",
            actions=["cloudwatch:DescribeAlarms"],
            resources=[alarm.alarm_arn for alarm in alarms],
        )
        policy = iam.Policy(self, "AlarmReaderPolicy", statements=[see], roles=[reader])
        environment = appconfig.CfnEnvironment(
            self,
            "Environment",
            application_id=application,
            name=ENVIRONMENT,
            monitors=[{"alarmArn": alarm.alarm_arn, "alarmRoleArn": reader.role_arn} for alarm in alarms],
        )
        environment.node.add_dependency(policy)
        return environment

    def _strategy(
        self, name: str, about: str, *, growth: int, minutes: int, bake: int
    ) -> appconfig.CfnDeploymentStrategy:
        return appconfig.CfnDeploymentStrategy(
            self,
            name,
            name=f"{self._config.name}-{name.lower()}",
            description=about,
            deployment_duration_in_minutes=minutes,
            final_bake_time_in_minutes=bake,
            growth_factor=growth,
            growth_type="LINEAR",
            replicate_to="NONE",
        )


class PeoplePolicy(Construct):
    """A policy to attach to people, and to nobody else.

    That of officers asks the change service, and nothing past it: that loosening takes two of them is that service's
    rule, and an event made by hand could name anybody as its caller. That of auditors reads the ledger.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        config: Config,
        about: str,
        statements: Sequence[iam.PolicyStatement],
    ) -> None:
        super().__init__(scope, construct_id)
        iam.ManagedPolicy(
            self,
            "Policy",
            managed_policy_name=f"{config.name}-{construct_id.lower()}-{Stack.of(self).region}",
            description=about,
            statements=statements,
        )
