"""Acknowledge the exceptions from cdk-nag's rules that ``nag.toml`` lists with their reasons."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from aws_cdk import Acknowledgment, Validations

from constructs import Construct


def acknowledge(scope: Construct, tenant_buckets: str = "") -> None:
    """Note every exception on its constructs, and those of ``tenant_buckets``; call it when the tree is complete."""
    places = [place if "/" in place else f"{place}/" for place in tenant_buckets.split()]
    own = {
        "path": "/(Gate|Detect|Api|Console)Function/Policy$",
        "rules": [
            f"AwsSolutions-IAM5[Resource::arn:{partition}:s3:::{place}*]"
            for place in places
            for partition in ("aws", "<AWS::Partition>")
        ],
        "reason": "Photos in places that tenants have registered; their keys are the tenants' to choose.",
    }
    exceptions = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["exception"]
    exceptions += [own] if places else []
    for construct in scope.node.find_all():
        for exception in exceptions:
            if re.search(exception["path"], f"/{construct.node.path}"):
                Validations.of(construct).acknowledge(
                    *(
                        Acknowledgment(id=f"AwsSolutions::{rule}", reason=exception["reason"])
                        for rule in exception["rules"]
                    )
                )
