"""Statements of resource policies that deny, which bind everybody, whatever their own policies say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import aws_iam as iam


def deny(
    sid: str,
    actions: Sequence[str],
    resources: Sequence[str],
    conditions: Mapping[str, Mapping[str, Any]] | None = None,
) -> iam.PolicyStatement:
    """Return a statement that denies actions to everybody under the conditions."""
    return iam.PolicyStatement(
        sid=sid,
        effect=iam.Effect.DENY,
        principals=[iam.AnyPrincipal()],
        actions=list(actions),
        resources=list(resources),
        conditions=conditions,
    )


def deny_elsewhere(
    sid: str, actions: Sequence[str], but: Sequence[str], conditions: Mapping[str, Mapping[str, Any]]
) -> iam.PolicyStatement:
    """Return a statement that denies actions on everything but some resources."""
    return iam.PolicyStatement(
        sid=sid,
        effect=iam.Effect.DENY,
        principals=[iam.AnyPrincipal()],
        actions=list(actions),
        not_resources=list(but),
        conditions=conditions,
    )
