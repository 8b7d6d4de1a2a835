"""A Lambda function with its own role, policy and log group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aws_cdk import Duration, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_

from constructs import Construct
from infra.config import Config
from infra.constructs.layers import Layers
from infra.constructs.logs import log_group
from infra.functions import FunctionSpec, reserved_of

if TYPE_CHECKING:
    from infra.constructs.ecs import EcsEmbedder


class Function(Construct):
    """A Lambda function of :data:`infra.functions.FUNCTIONS`."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        config: Config,
        spec: FunctionSpec,
        *,
        layers: Layers,
        environment: Mapping[str, str],
        code: Path,
        network: EcsEmbedder | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        name = function_name(config, spec.name)
        self.logs = log_group(self, "Logs", config, f"/aws/lambda/{name}")
        self.role = iam.Role(
            self,
            "Role",
            role_name=role_name(config, spec.name, Stack.of(self).region),
            description=f"Permissions of {name}",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
        )
        in_network = self._join_network() if network else None
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=name,
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.custom(config.lambda_architecture),
            code=lambda_.Code.from_asset(str(code), exclude=["__pycache__", "*.pyc", "*.md"]),
            handler="handler.handler",
            memory_size=spec.memory_mib,
            timeout=Duration.seconds(spec.timeout_s),
            reserved_concurrent_executions=reserved_of(spec.name, config) or None,
            environment=dict(environment),
            layers=layers.of(spec.layers),
            # Given without a dependency on its policy below, so that AppConfig's profile can name the validator,
            # and the validator's policy the profile.
            role=iam.Role.from_role_arn(self, "RoleAsIs", self.role.role_arn, mutable=False),
            log_group=self.logs,
            logging_format=lambda_.LoggingFormat.JSON,
            application_log_level_v2=lambda_.ApplicationLogLevel.INFO,
            system_log_level_v2=lambda_.SystemLogLevel.INFO,
            vpc=network.vpc if network else None,
            vpc_subnets=(
                ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED) if network else None
            ),
            security_groups=[network.callers] if network else None,
        )
        if in_network:
            # Lambda checks the role's permission when the function is made.
            self.function.node.add_dependency(in_network)

    def _join_network(self) -> iam.Policy:
        """Allow Lambda to join a network. These actions take no resource when they are granted beforehand."""
        join = iam.PolicyStatement(
            sid="JoinNetwork",
            actions=[
                "ec2:CreateNetworkInterface",
                "ec2:DescribeNetworkInterfaces",
                "ec2:DeleteNetworkInterface",
                "ec2:DescribeSubnets",
                "ec2:AssignPrivateIpAddresses",
                "ec2:UnassignPrivateIpAddresses",
            ],
            resources=["*"],
        )
        return iam.Policy(self, "NetworkPolicy", statements=[join], roles=[self.role])

    def allow(self, statements: Sequence[iam.PolicyStatement]) -> iam.Policy:
        """Attach the function's one policy and return it; make whatever starts the function depend on it."""
        own_logs = iam.PolicyStatement(
            sid="Logs",
            actions=["logs:CreateLogStream", "logs:PutLogEvents"],
            resources=[self.logs.log_group_arn],
        )
        return iam.Policy(self, "Policy", statements=[own_logs, *statements], roles=[self.role])


def function_name(config: Config, name: str) -> str:
    """Return the physical name of a function."""
    return f"{config.name}-{name}"


def role_name(config: Config, name: str, region: str) -> str:
    """Return the physical name of a function's role, which a resource policy can name before the role exists."""
    return f"{config.name}-{name}-{region}"
