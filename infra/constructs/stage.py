"""A stage of the topology: rules, queue, dead-letter queue and the function behind them."""

from __future__ import annotations

from typing import Any

from aws_cdk import Duration, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs

from abeyance.deployment.settings import DeploymentSettings
from abeyance.pipeline import topology
from constructs import Construct, IDependable
from infra import named
from infra.config import Config
from infra.constructs.function import Function
from infra.constructs.queue import dead_letter_queue, queue


class StageQueue(Construct):
    """The queue of a stage, made before the functions, because some of them send to the ledger's."""

    def __init__(self, scope: Construct, construct_id: str, config: Config, stage: topology.Stage) -> None:
        super().__init__(scope, construct_id)
        self.stage = stage
        self.dead = dead_letter_queue(self, "Dead", stage.dead_letter_queue)
        self.queue = queue(
            self,
            "Queue",
            stage.queue,
            visibility_timeout=Duration.seconds(stage.visibility_timeout),
            retention_period=Duration.days(stage.waiting_days),
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead, max_receive_count=stage.max_receives),
        )
        stack = Stack.of(self)
        senders = named.role_arns(stack, config, named.senders_to(stage.name), operators=True)
        receivers = named.role_arns(stack, config, (stage.name,), operators=True)
        for statement in (
            named.deny_others(
                "OnlyTheNamedSend",
                ["sqs:SendMessage"],
                self.queue.queue_arn,
                senders or receivers,
                services=True,
            ),
            named.deny_others(
                "OnlyItsStageReceives",
                ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:PurgeQueue"],
                self.queue.queue_arn,
                receivers,
                services=True,
            ),
        ):
            self.queue.add_to_resource_policy(statement)

    def subscribe(self, bus: events.IEventBus, settings: DeploymentSettings, undelivered: sqs.IQueue) -> None:
        """Add a rule for each subscription, with this queue as its target."""
        for number, subscription in enumerate(self.stage.consumes):
            pattern: dict[str, Any] = subscription.pattern(settings)
            rule = events.Rule(
                self,
                f"Rule{number}",
                description=f"To {self.stage.name}: {', '.join(subscription.detail_types) or 'everything'}",
                # None: the account's default bus, where S3 publishes.
                event_bus=None if subscription.default_bus else bus,
                event_pattern=events.EventPattern(
                    source=pattern["source"],
                    detail_type=pattern.get("detail-type"),
                    detail=pattern.get("detail"),
                ),
            )
            rule.add_target(
                targets.SqsQueue(
                    self.queue,
                    message_group_id=self.stage.message_group(subscription) or None,
                    dead_letter_queue=undelivered,
                )
            )

    def feed(self, function: Function, policy: IDependable, reserved: int = 0) -> None:
        """Feed the function in batches, with as many invocations at a time as the topology and its reserve allow."""
        most = self.stage.max_concurrency
        mapping = lambda_.EventSourceMapping(
            self,
            "Mapping",
            target=function.function,
            event_source_arn=self.queue.queue_arn,
            batch_size=self.stage.batch_size,
            max_batching_window=Duration.seconds(self.stage.batch_window)
            if self.stage.batch_window
            else None,
            # A mapping takes no account of reserved concurrency; a message that is throttled loses a delivery.
            max_concurrency=min(most, reserved) if reserved else most,
            report_batch_item_failures=True,
        )
        # Lambda checks the role's permission when the mapping is made.
        mapping.node.add_dependency(policy)

    def receive_statement(self) -> iam.PolicyStatement:
        """Return the permission of the function behind the queue."""
        return iam.PolicyStatement(
            sid="Receive",
            actions=["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"],
            resources=[self.queue.queue_arn],
        )
