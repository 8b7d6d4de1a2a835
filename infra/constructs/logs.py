"""Log groups and their retention."""

from __future__ import annotations

from aws_cdk import RemovalPolicy
from aws_cdk import aws_logs as logs

from constructs import Construct
from infra.config import Config

_RETENTION_DAYS = {
    7: logs.RetentionDays.ONE_WEEK,
    14: logs.RetentionDays.TWO_WEEKS,
    30: logs.RetentionDays.ONE_MONTH,
    60: logs.RetentionDays.TWO_MONTHS,
    90: logs.RetentionDays.THREE_MONTHS,
    180: logs.RetentionDays.SIX_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
}


def retention(days: int) -> logs.RetentionDays:
    """Return CloudWatch's name for a number of days; raise ``ValueError`` for one that it does not have."""
    try:
        return _RETENTION_DAYS[days]
    except KeyError:
        raise ValueError(f"log_days must be one of {', '.join(map(str, _RETENTION_DAYS))}") from None


def log_group(scope: Construct, construct_id: str, config: Config, name: str | None = None) -> logs.LogGroup:
    """Add a log group that is deleted with its stack."""
    return logs.LogGroup(
        scope,
        construct_id,
        log_group_name=name,
        retention=retention(config.log_days),
        removal_policy=RemovalPolicy.DESTROY,
    )
