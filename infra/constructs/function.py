"""A Lambda function with a role, a policy and a log group of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs

from constructs import Construct
from infra import functions
from infra.config import ROOT, Config
from infra.constructs.layers import Layers
from infra.constructs.logs import retention


class Function(Construct):
    """One entry of :data:`infra.functions.FUNCTIONS`, deployed."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        config: Config,
        spec: functions.Function,
        *,
        layers: Layers,
        environment: Mapping[str, str],
        extension: lambda_.ILayerVersion | None,
        vpc: ec2.IVpc | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        self.spec = spec
        name = function_name(config, spec.name)
        self.logs = logs.LogGroup(
            self,
            "Logs",
            log_group_name=f"/aws/lambda/{name}",
            retention=retention(config.log_days),
            removal_policy=RemovalPolicy.DESTROY,
        )
        self.role = iam.Role(
            self,
            "Role",
            role_name=role_name(config, spec.name, Stack.of(self).region),
            description=f"What {name} may do",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
        )
        carried = list(layers.of(spec.layers))
        if spec.decides and extension is not None:
            carried.append(extension)
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=name,
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.custom(config.lambda_architecture),
            code=lambda_.Code.from_asset(
                str(ROOT / "functions" / spec.name), exclude=["__pycache__", "*.pyc", "*.md"]
            ),
            handler="handler.handler",
            memory_size=spec.memory,
            timeout=Duration.seconds(spec.timeout),
            environment=dict(environment),
            layers=carried,
            # The role is given without its policy below as a dependency, so that AppConfig's profile can name
            # the validator, and the validator's policy the profile.
            role=iam.Role.from_role_arn(self, "RoleAsIs", self.role.role_arn, mutable=False),
            log_group=self.logs,
            logging_format=lambda_.LoggingFormat.JSON,
            application_log_level_v2=lambda_.ApplicationLogLevel.INFO,
            system_log_level_v2=lambda_.SystemLogLevel.INFO,
            vpc=vpc,
        )

    def allow(self, statements: Sequence[iam.PolicyStatement]) -> iam.Policy:
        """Attach the function's one policy; whatever starts the function should depend on it."""
        own_logs = iam.PolicyStatement(
            sid="Logs",
            actions=["logs:CreateLogStream", "logs:PutLogEvents"],
            resources=[self.logs.log_group_arn],
        )
        policy = iam.Policy(self, "Policy", statements=_merged([own_logs, *statements]))
        policy.attach_to_role(self.role)
        return policy


def function_name(config: Config, name: str) -> str:
    """Physical name of a function."""
    return f"{config.name}-{name}"


def role_name(config: Config, name: str, region: str) -> str:
    """Physical name of a function's role: known before the role is, so that a resource policy can name it."""
    return f"{config.name}-{name}-{region}"


def _merged(statements: Sequence[iam.PolicyStatement]) -> list[iam.PolicyStatement]:
    """The statements without repetitions, which come from two stores that share a key."""
    seen: dict[str, iam.PolicyStatement] = {}
    for statement in statements:
        seen.setdefault(statement.sid or "", statement)
    return list(seen.values())
