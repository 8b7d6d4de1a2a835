"""Alarms and the dashboard: what wakes somebody, and what they look at then."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Duration, Stack
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs

from constructs import Construct
from infra.config import Config
from infra.constructs.function import Function
from infra.constructs.stage import StageQueue

NAMESPACE = "Abeyance"
#: Seconds that a message may wait. The ledger's lag is how long a decision may be unprovable.
OLDEST = {"gate": 300, "detect": 900, "recognize": 1800, "review": 300, "ledger": 300}
_FIVE = Duration.minutes(5)


class Alarms(Construct):
    """Everything that wants a person, on one topic."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        config: Config,
        *,
        queues: Mapping[str, StageQueue],
        functions: Mapping[str, Function],
        undelivered: sqs.IQueue,
    ) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        key = kms.Key(
            self,
            "Key",
            description=f"{config.name}: alarms on their way to people",
            enable_key_rotation=True,
        )
        key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsPublish",
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["kms:Decrypt", "kms:GenerateDataKey"],
                resources=["*"],
                conditions={"StringEquals": {"aws:SourceAccount": Stack.of(self).account}},
            )
        )
        self.topic = sns.Topic(self, "Topic", master_key=key, enforce_ssl=True)
        if config.alarm_email:
            self.topic.add_subscription(subscriptions.EmailSubscription(config.alarm_email))
        for name, stage in queues.items():
            self._alarm(
                f"{name}-dead-letters",
                "Messages were given up on. docs/operations.md, Redrive",
                stage.dead.metric_approximate_number_of_messages_visible(statistic="max", period=_FIVE),
                threshold=1,
            )
            self._alarm(
                f"{name}-waiting",
                "The oldest message waits too long. docs/operations.md, Redrive",
                stage.queue.metric_approximate_age_of_oldest_message(statistic="max", period=_FIVE),
                threshold=OLDEST[name],
            )
        self._alarm(
            "undelivered",
            "EventBridge could not hand an event to its queue",
            undelivered.metric_approximate_number_of_messages_visible(statistic="max", period=_FIVE),
            threshold=1,
        )
        errors = {
            name: self._alarm(
                f"{name}-errors",
                "The function fails. Its log says why, without personal data",
                function.function.metric_errors(statistic="sum", period=_FIVE),
                threshold=5,
            )
            for name, function in functions.items()
        }
        faults = self._alarm(
            "denials-by-fault",
            "Decisions are denied because something is broken, not because of a moratorium. "
            "docs/operations.md, Everything is denied",
            cloudwatch.Metric(namespace=NAMESPACE, metric_name="Faults", statistic="sum", period=_FIVE),
            threshold=1,
        )
        _count_decisions(self, functions["ledger"].logs)
        #: What takes a loosened moratorium back while it is being deployed.
        self.for_rollback = [faults, errors["gate"], errors["recognize"], errors["api"]]

    def watch_api(self, rest: apigateway.IRestApi) -> None:
        """Ring when the API answers with server errors."""
        metric = cloudwatch.Metric(
            namespace="AWS/ApiGateway",
            metric_name="5XXError",
            dimensions_map={"ApiName": self._config.name},
            statistic="sum",
            period=_FIVE,
        )
        self._alarm("api-5xx", "The API fails", metric, threshold=5)

    def _alarm(
        self, name: str, about: str, metric: cloudwatch.IMetric, *, threshold: float
    ) -> cloudwatch.Alarm:
        alarm = cloudwatch.Alarm(
            self,
            "".join(part.capitalize() for part in name.split("-")),
            alarm_name=f"{self._config.name}-{name}",
            alarm_description=about,
            metric=metric,
            threshold=threshold,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        alarm.add_alarm_action(actions.SnsAction(self.topic))
        return alarm


def _count_decisions(scope: Construct, ledger_log: logs.ILogGroup) -> None:
    """Metrics from the line that the ledger logs for each entry: every decision passes there, whoever took it.

    They cost no function anything, unlike a metrics library, and the line holds nothing personal.
    """
    recorded = '$.message = "recorded"'
    for name, pattern, dimensions, value in (
        ("Decisions", recorded + ' && $.outcome = "*"', {"Outcome": "$.outcome"}, "1"),
        ("Halts", recorded + ' && $.outcome = "deny" && $.fault = "none"', {"Clause": "$.clause"}, "1"),
        ("FaultsByKind", recorded + ' && $.outcome = "deny" && $.fault != "none"', {"Fault": "$.fault"}, "1"),
        ("Faults", recorded + ' && $.outcome = "deny" && $.fault != "none"', {}, "1"),
        ("LedgerLag", recorded + " && $.lag_ms >= 0", {}, "$.lag_ms"),
    ):
        logs.CfnMetricFilter(
            scope,
            name,
            log_group_name=ledger_log.log_group_name,
            filter_pattern="{ " + pattern + " }",
            metric_transformations=[
                logs.CfnMetricFilter.MetricTransformationProperty(
                    metric_namespace=NAMESPACE,
                    metric_name=name,
                    metric_value=value,
                    unit="Milliseconds" if value.startswith("$") else "Count",
                    dimensions=[
                        logs.CfnMetricFilter.DimensionProperty(key=key, value=path)
                        for key, path in dimensions.items()
                    ]
                    or None,
                )
            ],
        )


class Dashboard(Construct):
    """One page: decisions, queues, functions, API."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        config: Config,
        *,
        queues: Mapping[str, StageQueue],
        functions: Mapping[str, Function],
        api: apigateway.IRestApi,
    ) -> None:
        super().__init__(scope, construct_id)
        own = Stack.of(self)
        search = "SEARCH('{%s,%s} MetricName=\"%s\"', 'Sum', 300)"
        board = cloudwatch.Dashboard(
            self, "Board", dashboard_name=config.name, default_interval=Duration.hours(12)
        )
        board.add_widgets(
            _graph(
                "Decisions",
                [_expression(search % (NAMESPACE, "Outcome", "Decisions"))],
            ),
            _graph("Halts, by clause", [_expression(search % (NAMESPACE, "Clause", "Halts"))]),
            _graph("Denials by fault", [_expression(search % (NAMESPACE, "Fault", "FaultsByKind"))]),
        )
        board.add_widgets(
            _graph(
                "Oldest message, seconds",
                [
                    stage.queue.metric_approximate_age_of_oldest_message(statistic="max", label=name)
                    for name, stage in queues.items()
                ],
            ),
            _graph(
                "Dead letters",
                [
                    stage.dead.metric_approximate_number_of_messages_visible(statistic="max", label=name)
                    for name, stage in queues.items()
                ],
            ),
            _graph(
                "Ledger lag, ms",
                [
                    cloudwatch.Metric(
                        namespace=NAMESPACE, metric_name="LedgerLag", statistic=statistic, label=statistic
                    )
                    for statistic in ("p50", "p99")
                ],
            ),
        )
        board.add_widgets(
            _graph(
                "Duration, p99, ms",
                [
                    made.function.metric_duration(statistic="p99", label=name)
                    for name, made in functions.items()
                ],
            ),
            _graph(
                "Errors and throttles",
                [
                    metric
                    for name, made in functions.items()
                    for metric in (
                        made.function.metric_errors(statistic="sum", label=f"{name} errors"),
                        made.function.metric_throttles(statistic="sum", label=f"{name} throttles"),
                    )
                ],
            ),
            _graph(
                "API",
                [
                    cloudwatch.Metric(
                        namespace="AWS/ApiGateway",
                        metric_name=name,
                        dimensions_map={"ApiName": config.name},
                        statistic="sum",
                        region=own.region,
                    )
                    for name in ("Count", "4XXError", "5XXError")
                ],
            ),
        )


def _expression(text: str) -> cloudwatch.MathExpression:
    return cloudwatch.MathExpression(expression=text, label="", using_metrics={})


def _graph(title: str, metrics: list[cloudwatch.IMetric]) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=title, left=metrics, width=8)
