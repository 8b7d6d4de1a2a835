"""Acknowledge the exceptions from cdk-nag's rules that ``nag.toml`` lists with their reasons."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from aws_cdk import Acknowledgment, Stack, Token, Validations

from constructs import Construct


def acknowledge(scope: Construct, tenant_buckets: str = "") -> None:
    """Note every exception on its constructs, and those of ``tenant_buckets``; call it when the tree is complete.

    Where the deployment names region and account, findings have these in the place of placeholders.
    """
    places = [place if "/" in place else f"{place}/" for place in tenant_buckets.split()]
    own = {
        "path": "/(Gate|Detect|Frames|Api|Console)Function/Policy$",
        "rules": [f"AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:s3:::{place}*]" for place in places],
        "reason": "Photos in places that tenants have registered; their keys are the tenants' to choose.",
    }
    exceptions = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["exception"]
    exceptions += [own] if places else []
    for construct in scope.node.find_all():
        for exception in exceptions:
            if re.search(exception["path"], f"/{construct.node.path}"):
                known = _known(Stack.of(construct))
                Validations.of(construct).acknowledge(
                    *(
                        Acknowledgment(id=f"AwsSolutions::{_filled(rule, known)}", reason=exception["reason"])
                        for rule in exception["rules"]
                    )
                )


def _known(stack: Stack) -> dict[str, str]:
    """Return the placeholders in findings whose values the stack knows."""
    values = {
        "<AWS::Partition>": stack.partition,
        "<AWS::Region>": stack.region,
        "<AWS::AccountId>": stack.account,
    }
    return {name: value for name, value in values.items() if not Token.is_unresolved(value)}


def _filled(rule: str, known: dict[str, str]) -> str:
    for name, value in known.items():
        rule = rule.replace(name, value)
    return rule
