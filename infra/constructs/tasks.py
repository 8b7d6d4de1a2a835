"""The scheduled tasks of functions, from :mod:`abeyance.pipeline.topology`."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets

from abeyance.pipeline import topology
from constructs import Construct, IDependable
from infra.constructs.function import Function


class Tasks(Construct):
    """A rule for each schedule, which invokes its function with ``{"task": <name>}``."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        functions: Mapping[str, Function],
        policies: Mapping[str, IDependable],
    ) -> None:
        super().__init__(scope, construct_id)
        for schedule in topology.SCHEDULES:
            if schedule.function not in functions:  # the console, which a deployment can leave out
                continue
            rule = events.Rule(
                self,
                schedule.task.capitalize(),
                description=f"{schedule.task}, by {schedule.function}",
                schedule=events.Schedule.rate(Duration.minutes(schedule.every_minutes)),
            )
            rule.add_target(
                targets.LambdaFunction(
                    functions[schedule.function].function,
                    event=events.RuleTargetInput.from_object({"task": schedule.task}),
                    # The next run comes soon enough.
                    retry_attempts=0,
                )
            )
            rule.node.add_dependency(policies[schedule.function])
