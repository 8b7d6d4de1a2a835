"""The checks of :mod:`infra.awscheck`: a function for each assumption that can be checked, one module a service."""

from infra.awschecks import appconfig, dynamodb, events, limits, s3, sqs
from infra.awschecks.registry import CHECKS

__all__ = ["CHECKS", "appconfig", "dynamodb", "events", "limits", "s3", "sqs"]
