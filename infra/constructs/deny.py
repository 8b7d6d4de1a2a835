"""Statements of resource policies that deny, which bind everybody, whatever their own policies say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import aws_iam as iam


def deny(
    sid: str,
    actions: Sequence[str],
    resources: Sequence[str] | None = None,
    conditions: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    but: Sequence[str] | None = None,
) -> iam.PolicyStatement:
    """Return a statement that denies actions to everybody: on resources, or on all but some, under the conditions."""
    return iam.PolicyStatement(
        sid=sid,
        effect=iam.Effect.DENY,
        principals=[iam.AnyPrincipal()],
        actions=list(actions),
        resources=None if resources is None else list(resources),
        not_resources=None if but is None else list(but),
        conditions=conditions,
    )
