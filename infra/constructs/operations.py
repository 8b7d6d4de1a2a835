"""Alarms, and the dashboard for whoever they wake."""

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

from abeyance.assurance.reconciler import GAP
from abeyance.ledger.checkpointer import WITNESS_REFUSES
from abeyance.ledger.entry import CONFLICT, REFUSED
from abeyance.moratorium.errors import CALLER_FAULTS
from abeyance.pipeline.record import CORRUPT
from constructs import Construct
from infra.config import Config
from infra.constructs.function import Function
from infra.constructs.stage import StageQueue

NAMESPACE = "Abeyance"
#: Seconds that the oldest message of a stage may wait. For the ledger: how long a decision may be unprovable.
MAX_WAIT_S = {
    "gate": 300,
    "detect": 900,
    "frames": 1800,
    "recognize": 1800,
    "review": 300,
    "notify": 300,
    "ledger": 300,
}
_PERIOD = Duration.minutes(5)
#: Descriptions of the alarms.
_ABOUT = {
    "dead-letters": "Messages are in the dead-letter queue. docs/operations.md, Redrive",
    "waiting": "The oldest message has waited too long. docs/operations.md, Redrive",
    "undelivered": "EventBridge could not deliver an event to its queue",
    "errors": "The function fails. See its log, which has no personal data",
    "denials-by-fault": "Decisions are denied because something is broken, not because of a moratorium. "
    "docs/operations.md, Everything is denied",
    "ledger-conflicts": "An id came to the ledger with two contents: somebody wrote what was not theirs, or a stage is "
    "wrong. docs/operations.md, The ledger",
    "ledger-refusals": "The ledger noted a message that it could not write as it was. docs/operations.md, The ledger",
    "ledger-corrupt": "The ledger contradicts itself, or its lookup index is damaged. docs/operations.md, The ledger",
    "witness-refuses": "A witness signed another history of the ledger, or is wrong. docs/operations.md, The ledger",
    "ledger-gaps": "Something happened that is not on the ledger, or an entry tells what no store knows. "
    "abeyance ledger reconcile names it",
    "api-5xx": "The API fails",
    "drift": "AppConfig hands out a document that the change service did not deploy, and both hold; or guardrails are "
    "not those that three people agreed to, and nothing can be loosened. "
    "docs/operations.md, Halt now",
}

#: Faults that callers cause ring no alarm: it would roll back a change of the flags that is being deployed.
_NOT_BY_CALLERS = "".join(f' && $.fault != "{fault}"' for fault in sorted(CALLER_FAULTS))


class Alarms(Construct):
    """Every alarm, on one topic."""

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
        key = kms.Key(self, "Key", description=f"{config.name}: alarm messages", enable_key_rotation=True)
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
            self._alarm("dead-letters", _visible(stage.dead), of=name)
            self._alarm("waiting", _oldest(stage.queue), MAX_WAIT_S[name], of=name)
        self._alarm("undelivered", _visible(undelivered))
        errors = {
            name: self._alarm(
                "errors", made.function.metric_errors(statistic="sum", period=_PERIOD), 5, of=name
            )
            for name, made in functions.items()
        }
        faults = self._alarm("denials-by-fault", _metric("Faults", "sum"))
        _count_decisions(self, functions["ledger"].logs)
        self._alarm("ledger-conflicts", _metric("Conflicts", "sum"))
        self._alarm("ledger-refusals", _metric("Refusals", "sum"))
        for kind, metric, message, by in (
            ("drift", "Drift", "drift", ("flags",)),
            ("ledger-corrupt", "Corrupt", CORRUPT, ("ledger", "checkpoint", "index")),
            ("witness-refuses", "WitnessRefusals", WITNESS_REFUSES, ("checkpoint",)),
            ("ledger-gaps", "Gaps", GAP, ("reconcile",)),
        ):
            _count_lines(self, metric, message, {name: functions[name] for name in by})
            self._alarm(kind, _metric(metric, "sum"))
        #: The alarms that roll back a loosened moratorium while it is being deployed.
        self.for_rollback = [faults, errors["gate"], errors["recognize"], errors["api"]]

    def watch_api(self, rest: apigateway.IRestApi) -> None:
        """Ring when the API answers with server errors."""
        self._alarm("api-5xx", _api_metric(self._config, "5XXError"), 5)

    def _alarm(
        self, kind: str, metric: cloudwatch.IMetric, threshold: float = 1, of: str = ""
    ) -> cloudwatch.Alarm:
        """Add an alarm for each period in which the metric reaches the threshold, named after the part it is of."""
        name = f"{of}-{kind}" if of else kind
        alarm = cloudwatch.Alarm(
            self,
            "".join(part.capitalize() for part in name.split("-")),
            alarm_name=f"{self._config.name}-{name}",
            alarm_description=_ABOUT[kind],
            metric=metric,
            threshold=threshold,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        alarm.add_alarm_action(actions.SnsAction(self.topic))
        return alarm


def _count_decisions(scope: Construct, ledger_log: logs.ILogGroup) -> None:
    """Count metrics from the lines that the ledger logs, one for each kind of entry in a batch.

    Every decision passes there. They cost the functions nothing, unlike a metrics library, and hold nothing personal.
    """
    recorded, count = '$.message = "recorded"', "$.count"
    for name, pattern, dimensions, value in (
        ("Decisions", recorded + ' && $.outcome = "*"', {"Outcome": "$.outcome"}, count),
        ("Halts", recorded + ' && $.outcome = "deny" && $.fault = "none"', {"Clause": "$.clause"}, count),
        (
            "FaultsByKind",
            recorded + ' && $.outcome = "deny" && $.fault != "none"',
            {"Fault": "$.fault"},
            count,
        ),
        ("Faults", recorded + ' && $.outcome = "deny" && $.fault != "none"' + _NOT_BY_CALLERS, {}, "1"),
        ("Conflicts", recorded + f' && $.type = "{CONFLICT}"', {}, count),
        ("Refusals", recorded + f' && $.type = "{REFUSED}"', {}, count),
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
                    unit="Count" if value == count else "Milliseconds",
                    dimensions=[{"key": key, "value": path} for key, path in dimensions.items()] or None,
                )
            ],
        )


def _count_lines(scope: Construct, metric: str, message: str, functions: Mapping[str, Function]) -> None:
    """Count the lines with a message that functions log, as a metric."""
    for name, made in functions.items():
        logs.CfnMetricFilter(
            scope,
            f"{metric}{name.capitalize()}",
            log_group_name=made.logs.log_group_name,
            filter_pattern=f'{{ $.message = "{message}" }}',
            metric_transformations=[
                logs.CfnMetricFilter.MetricTransformationProperty(
                    metric_namespace=NAMESPACE, metric_name=metric, metric_value="1", unit="Count"
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
    ) -> None:
        super().__init__(scope, construct_id)
        board = cloudwatch.Dashboard(
            self, "Board", dashboard_name=config.name, default_interval=Duration.hours(12)
        )
        rows: list[dict[str, list[cloudwatch.IMetric]]] = [
            {
                "Decisions": [_search("Outcome", "Decisions")],
                "Halts, by clause": [_search("Clause", "Halts")],
                "Denials by fault": [_search("Fault", "FaultsByKind")],
            },
            {
                "Oldest message, seconds": [_oldest(stage.queue, name) for name, stage in queues.items()],
                "Dead letters": [_visible(stage.dead, name) for name, stage in queues.items()],
                "Ledger lag, ms": [
                    _metric("LedgerLag", statistic, label=statistic) for statistic in ("p50", "p99")
                ],
            },
            {
                "Duration, p99, ms": [
                    made.function.metric_duration(statistic="p99", label=name)
                    for name, made in functions.items()
                ],
                "Errors and throttles": [
                    metric
                    for name, made in functions.items()
                    for metric in (
                        made.function.metric_errors(statistic="sum", label=f"{name} errors"),
                        made.function.metric_throttles(statistic="sum", label=f"{name} throttles"),
                    )
                ],
                "API": [_api_metric(config, name) for name in ("Count", "4XXError", "5XXError")],
            },
        ]
        for row in rows:
            graphs = [cloudwatch.GraphWidget(title=name, left=made, width=8) for name, made in row.items()]
            board.add_widgets(*graphs)


def _visible(queue: sqs.IQueue, label: str | None = None) -> cloudwatch.Metric:
    return queue.metric_approximate_number_of_messages_visible(statistic="max", period=_PERIOD, label=label)


def _oldest(queue: sqs.IQueue, label: str | None = None) -> cloudwatch.Metric:
    return queue.metric_approximate_age_of_oldest_message(statistic="max", period=_PERIOD, label=label)


def _metric(name: str, statistic: str, label: str | None = None) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace=NAMESPACE, metric_name=name, statistic=statistic, period=_PERIOD, label=label
    )


def _api_metric(config: Config, name: str) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace="AWS/ApiGateway",
        metric_name=name,
        dimensions_map={"ApiName": config.name},
        statistic="sum",
        period=_PERIOD,
    )


def _search(dimension: str, name: str) -> cloudwatch.MathExpression:
    """Return a metric's graphs, one for each value of its dimension."""
    search = f"SEARCH('{{{NAMESPACE},{dimension}}} MetricName=\"{name}\"', 'Sum', 300)"
    return cloudwatch.MathExpression(expression=search, label="", using_metrics={})
