"""Moratoria: an AppConfig application whose one profile is the flags, a validator, and who may change them."""

from __future__ import annotations

import json

from aws_cdk import Stack
from aws_cdk import aws_appconfig as appconfig
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs

from abeyance.moratorium.presets import new_deployment
from constructs import Construct
from infra.config import Config

ENVIRONMENT = "live"
PROFILE = "moratoria"


class Moratoria(Construct):
    """Flags that operators see as switches in AppConfig's console.

    The validator is a function and not a JSON Schema as well: AppConfig takes schemas for free-form profiles only,
    and checks feature flags against the constraints that stand in the document itself.
    """

    def __init__(self, scope: Construct, construct_id: str, config: Config) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        self.application = appconfig.CfnApplication(
            self, "Application", name=config.name, description="Moratoria on face recognition"
        )
        #: The setting by which functions find the flags. Names, which are known before the resources are.
        self.setting = f"appconfig:{config.name}/{ENVIRONMENT}/{PROFILE}"

    def complete(self, validator: lambda_.IFunction, alarms: list[cloudwatch.Alarm]) -> None:
        """Add environment, profile, strategies and the first document, which the validator sees too.

        ``first_deployment`` should depend on the validator's policy, which is made after this.
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
            validators=[
                appconfig.CfnConfigurationProfile.ValidatorsProperty(
                    type="LAMBDA", content=validator.function_arn
                )
            ],
        )
        self.profile.node.add_dependency(invoke)
        self.tighten = self._strategy("Tighten", "At once, and done", growth=100, minutes=0, bake=0)
        self.loosen = self._strategy(
            "Loosen", "A fifth every six minutes, back if an alarm rings", growth=20, minutes=30, bake=30
        )
        first = appconfig.CfnHostedConfigurationVersion(
            self,
            "First",
            application_id=application,
            configuration_profile_id=self.profile.ref,
            content_type="application/json",
            content=json.dumps(new_deployment(), separators=(",", ":"), ensure_ascii=False),
            description="What a new deployment starts with: the police halt, until further notice",
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
        """ARNs of all that a deployment of flags touches, but for the strategies."""
        application = Stack.of(self).format_arn(
            service="appconfig", resource="application", resource_name=self.application.ref
        )
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
        """ARNs of the two ways to deploy."""
        return [
            Stack.of(self).format_arn(
                service="appconfig", resource="deploymentstrategy", resource_name=strategy.ref
            )
            for strategy in (self.tighten, self.loosen)
        ]

    def flags_arn(self) -> str:
        """ARN of the flags in the data plane."""
        return Stack.of(self).format_arn(
            service="appconfig",
            resource="application",
            resource_name=(
                f"{self.application.ref}/environment/{self.environment.ref}/configuration/{self.profile.ref}"
            ),
        )

    def _environment(self, application: str, alarms: list[cloudwatch.Alarm]) -> None:
        reader = iam.Role(
            self,
            "AlarmReader",
            description="Lets AppConfig see the alarms that roll a deployment back",
            assumed_by=iam.ServicePrincipal("appconfig.amazonaws.com"),
        )
        policy = iam.Policy(
            self,
            "AlarmReaderPolicy",
            statements=[
                iam.PolicyStatement(
                    sid="SeeAlarms",
                    actions=["cloudwatch:DescribeAlarms"],
                    resources=[alarm.alarm_arn for alarm in alarms],
                )
            ],
        )
        policy.attach_to_role(reader)
        self.environment = appconfig.CfnEnvironment(
            self,
            "Environment",
            application_id=application,
            name=ENVIRONMENT,
            monitors=[
                appconfig.CfnEnvironment.MonitorsProperty(
                    alarm_arn=alarm.alarm_arn, alarm_role_arn=reader.role_arn
                )
                for alarm in alarms
            ],
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

    Beside them only the function *flags* deploys: what the console hands over, and what this policy's people could.
    It carries what ``abeyance moratoria`` does: proposals, hosted versions, deployments, and a record of each on the
    ledger. That loosening takes two of these people is checked by the validator, not by IAM.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        config: Config,
        *,
        moratoria: Moratoria,
        proposals: dynamodb.ITable,
        tenants: dynamodb.ITable,
        key: kms.IKey,
        ledger_queue: sqs.IQueue,
    ) -> None:
        super().__init__(scope, construct_id)
        stack = Stack.of(self)
        self.policy = iam.ManagedPolicy(
            self,
            "Policy",
            managed_policy_name=f"{config.name}-flag-pipeline-{stack.region}",
            description="May propose, approve and deploy moratorium flags; give it to people only",
            statements=[
                iam.PolicyStatement(
                    sid="DeployFlags",
                    actions=[
                        "appconfig:StartDeployment",
                        "appconfig:StopDeployment",
                        "appconfig:GetDeployment",
                        "appconfig:ListDeployments",
                        "appconfig:GetEnvironment",
                        "appconfig:GetConfigurationProfile",
                        "appconfig:CreateHostedConfigurationVersion",
                        "appconfig:GetHostedConfigurationVersion",
                        "appconfig:ListHostedConfigurationVersions",
                        "appconfig:ValidateConfiguration",
                        "appconfig:GetApplication",
                        "appconfig:ListEnvironments",
                        "appconfig:ListConfigurationProfiles",
                    ],
                    resources=[*moratoria.control_plane(), *moratoria.strategies()],
                ),
                iam.PolicyStatement(
                    sid="FindByName",
                    actions=["appconfig:ListApplications", "appconfig:ListDeploymentStrategies"],
                    resources=["*"],
                ),
                iam.PolicyStatement(
                    sid="ReadFlags",
                    actions=["appconfig:StartConfigurationSession", "appconfig:GetLatestConfiguration"],
                    resources=[moratoria.flags_arn()],
                ),
                iam.PolicyStatement(
                    sid="Proposals",
                    actions=["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Scan"],
                    resources=[proposals.table_arn],
                ),
                iam.PolicyStatement(
                    sid="Tenants",
                    actions=["dynamodb:GetItem", "dynamodb:Scan"],
                    resources=[tenants.table_arn],
                ),
                iam.PolicyStatement(
                    sid="RecordsKey",
                    actions=["kms:Decrypt", "kms:DescribeKey"],
                    resources=[key.key_arn],
                    conditions={"StringEquals": {"kms:ViaService": f"dynamodb.{stack.region}.amazonaws.com"}},
                ),
                iam.PolicyStatement(
                    sid="RecordOnLedger", actions=["sqs:SendMessage"], resources=[ledger_queue.queue_arn]
                ),
            ],
        )
