"""The system's event bus, its archive, and the schedules by which moratoria are announced on it."""

from __future__ import annotations

from aws_cdk import Duration, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sqs as sqs

from abeyance.moratorium.boundaries import BoundaryType
from constructs import Construct
from infra.config import Config
from infra.constructs.queue import dead_letter_queue


class DeployedBus(Construct):
    """The bus between the stages, and an archive from which its events can be replayed."""

    def __init__(self, scope: Construct, construct_id: str, config: Config) -> None:
        super().__init__(scope, construct_id)
        self.bus = events.EventBus(self, "Bus", event_bus_name=config.name)
        #: Events that no queue takes, because of a wrong policy or a missing queue.
        self.undelivered: sqs.Queue = dead_letter_queue(self, "Undelivered", f"{config.name}-undelivered")
        if not config.emulator:
            self.bus.archive(
                "Archive",
                archive_name=config.name,
                description="Every event of the system, for a replay after a fault; see docs/operations.md",
                event_pattern=events.EventPattern(source=["abeyance"]),
                retention=Duration.days(config.archive_days),
            )


class Announcements(Construct):
    """The group of one-time schedules for the start and end of moratoria, and the role that puts them on the bus."""

    def __init__(self, scope: Construct, construct_id: str, config: Config, bus: events.IEventBus) -> None:
        super().__init__(scope, construct_id)
        stack = Stack.of(self)
        self.group_name = f"{config.name}-moratoria"
        group = scheduler.CfnScheduleGroup(self, "Group", name=self.group_name)
        self.group_arn = group.attr_arn
        #: Schedules are named by the announcement's id; see abeyance.moratorium.boundaries.
        self.schedules_arn = stack.format_arn(
            service="scheduler", resource="schedule", resource_name=f"{self.group_name}/*"
        )
        self.role = iam.Role(
            self,
            "Role",
            description="Puts announcements of moratoria on the bus",
            assumed_by=iam.ServicePrincipal(
                "scheduler.amazonaws.com",
                conditions={
                    "StringEquals": {"aws:SourceAccount": stack.account},
                    "ArnEquals": {"aws:SourceArn": self.group_arn},
                },
            ),
        )
        announce = iam.PolicyStatement(
            sid="Announce",
            actions=["events:PutEvents"],
            resources=[bus.event_bus_arn],
            conditions={"StringEquals": {"events:detail-type": [str(kind) for kind in BoundaryType]}},
        )
        iam.Policy(self, "Policy", statements=[announce], roles=[self.role])
