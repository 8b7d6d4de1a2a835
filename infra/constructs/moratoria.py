"""Moratoria: an AppConfig application with the flags as its one profile, their validator, and the flag pipeline."""

from __future__ import annotations

import json
from collections.abc import Sequence

from aws_cdk import Stack
from aws_cdk import aws_appconfig as appconfig
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_

from abeyance.moratorium.presets import new_deployment
from constructs import Construct
from infra.config import Config

ENVIRONMENT = "live"
PROFILE = "moratoria"


class Moratoria(Construct):
    """The moratorium flags, which operators see as switches in AppConfig's console.

    The validator is a function, without a JSON Schema beside it: AppConfig takes schemas for free-form profiles only,
    and checks feature flags against the constraints in the document itself.
    """

    def __init__(self, scope: Construct, construct_id: str, config: Config) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        self.application = appconfig.CfnApplication(
            self, "Application", name=config.name, description="Moratoria on face recognition"
        )
        #: The setting by which functions find the flags: names, which are known before the resources exist.
        self.setting = f"appconfig:{config.name}/{ENVIRONMENT}/{PROFILE}"

    def complete(self, validator: lambda_.IFunction, alarms: list[cloudwatch.Alarm]) -> None:
        """Add environment, profile, strategies and the first document, which the validator checks too.

        Make ``first_deployment`` depend on the validator's policy, which is made after this.
        """
        application = self.application.ref
        self._environment(application, alarms)
        invoke = lambda_.CfnPermission(
            self,
            "MayValidate",
            action="lambda:InvokeFunction",
            function_name=validator.function_arn,
            principal="appconfig.amazonaws.com",
            source_account=Stack.of(self).account,
        )
        self.profile = appconfig.CfnConfigurationProfile(
            self,
            "Profile",
            application_id=application,
            name=PROFILE,
            description="One flag for each moratorium",
            location_uri="hosted",
            type="AWS.AppConfig.FeatureFlags",
            validators=[{"type": "LAMBDA", "content": validator.function_arn}],
        )
        self.profile.node.add_dependency(invoke)
        self.tighten = self._strategy("Tighten", "At once", growth=100, minutes=0, bake=0)
        self.loosen = self._strategy(
            "Loosen",
            "A fifth every six minutes, rolled back if an alarm rings",
            growth=20,
            minutes=30,
            bake=30,
        )
        first = appconfig.CfnHostedConfigurationVersion(
            self,
            "First",
            application_id=application,
            configuration_profile_id=self.profile.ref,
            content_type="application/json",
            content=json.dumps(new_deployment(), separators=(",", ":"), ensure_ascii=False),
            description="The first flags of a new deployment: the police halt, until further notice",
        )
        self.first_deployment = appconfig.CfnDeployment(
            self,
            "FirstDeployment",
            application_id=application,
            environment_id=self.environment.ref,
            configuration_profile_id=self.profile.ref,
            configuration_version=first.ref,
            deployment_strategy_id=self.tighten.ref,
        )

    def control_plane(self) -> list[str]:
        """Return the ARNs of all that a deployment of flags uses, except for the strategies."""
        application = self._arn("application", self.application.ref)
        environment = f"{application}/environment/{self.environment.ref}"
        profile = f"{application}/configurationprofile/{self.profile.ref}"
        return [
            application,
            environment,
            f"{environment}/deployment/*",
            profile,
            f"{profile}/hostedconfigurationversion/*",
        ]

    def strategies(self) -> list[str]:
        """Return the ARNs of the two deployment strategies."""
        return [self._arn("deploymentstrategy", strategy.ref) for strategy in (self.tighten, self.loosen)]

    def flags_arn(self) -> str:
        """Return the ARN of the flags in AppConfig's data plane."""
        environment = f"{self.application.ref}/environment/{self.environment.ref}"
        return self._arn("application", f"{environment}/configuration/{self.profile.ref}")

    def _arn(self, resource: str, name: str) -> str:
        return Stack.of(self).format_arn(service="appconfig", resource=resource, resource_name=name)

    def _environment(self, application: str, alarms: list[cloudwatch.Alarm]) -> None:
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
        self.environment = appconfig.CfnEnvironment(
            self,
            "Environment",
            application_id=application,
            name=ENVIRONMENT,
            monitors=[{"alarmArn": alarm.alarm_arn, "alarmRoleArn": reader.role_arn} for alarm in alarms],
        )
        self.environment.node.add_dependency(policy)

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


class FlagPipeline(Construct):
    """The one policy by which people change flags; attach it to those who may, and to nobody else.

    Beside them only the function *flags* deploys: what the console hands over, within the same limits. The policy
    allows what ``abeyance moratoria`` does: proposals, hosted versions, deployments, and a record of each on the
    ledger. That loosening takes two of these people is checked by the validator, not by IAM.
    """

    def __init__(
        self, scope: Construct, construct_id: str, config: Config, statements: Sequence[iam.PolicyStatement]
    ) -> None:
        super().__init__(scope, construct_id)
        iam.ManagedPolicy(
            self,
            "Policy",
            managed_policy_name=f"{config.name}-flag-pipeline-{Stack.of(self).region}",
            description="May propose, approve and deploy moratorium flags; give it to people only",
            statements=statements,
        )
