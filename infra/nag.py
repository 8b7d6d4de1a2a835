"""Acknowledge the exceptions from cdk-nag's rules that ``nag.toml`` lists with their reasons."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from aws_cdk import Acknowledgment, Validations

from constructs import Construct


def acknowledge(scope: Construct) -> None:
    """Note every exception on its constructs; call it when the tree is complete."""
    exceptions = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["exception"]
    for construct in scope.node.find_all():
        for exception in exceptions:
            if re.search(exception["path"], f"/{construct.node.path}"):
                Validations.of(construct).acknowledge(
                    *(
                        Acknowledgment(id=f"AwsSolutions::{rule}", reason=exception["reason"])
                        for rule in exception["rules"]
                    )
                )
