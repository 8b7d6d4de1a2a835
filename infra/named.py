"""The units that permissions.toml names for a table, bucket or queue: the resource itself denies everybody else.

Roles' own policies say what they may; a resource's policy also binds roles and people that this app does not know.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aws_cdk import Stack
from aws_cdk import aws_iam as iam

from infra.config import Config

_TABLE: dict[str, Any] = tomllib.loads(Path(__file__).with_name("permissions.toml").read_text())
_WRITES = frozenset(_TABLE["groups"]["write"]) - {"ConditionCheckItem"}
#: Lists of people's policies, which write nothing.
_PEOPLE = frozenset({"officers", "auditors"})


def writers_of(setting: str) -> tuple[str, ...]:
    """Return the units that write a table or a bucket, by the setting that holds its name, sorted."""
    return _units(lambda entry: _writes(entry, setting))


def senders_to(stage: str) -> tuple[str, ...]:
    """Return the units that send to a stage's queue themselves, sorted; the bus does so besides."""
    return _units(lambda entry: entry.get("send") == stage)


def role_arns(stack: Stack, config: Config, units: tuple[str, ...], *, operators: bool) -> list[str]:
    """Return the ARNs of the units' roles, and of those whom ``operators`` in the context names."""
    from infra.constructs.function import role_name

    own = [
        stack.format_arn(
            service="iam", region="", resource="role", resource_name=role_name(config, unit, stack.region)
        )
        for unit in units
    ]
    if config.emulator:
        # It states the session of a role as aws:PrincipalArn, where AWS states the role.
        own += [
            stack.format_arn(
                service="sts",
                region="",
                resource="assumed-role",
                resource_name=f"{role_name(config, unit, stack.region)}/*",
            )
            for unit in units
        ]
    return [*own, *(config.operators.split() if operators else [])]


def deny_others(
    sid: str, actions: list[str], resource: str, named: list[str], *, services: bool = False
) -> iam.PolicyStatement:
    """Return the statement that denies actions to everybody but those named, and AWS's services if ``services``."""
    conditions: dict[str, Any] = {"ArnNotEquals": {"aws:PrincipalArn": named}}
    if services:
        conditions["Bool"] = {"aws:PrincipalIsAWSService": "false"}
    return iam.PolicyStatement(
        sid=sid,
        effect=iam.Effect.DENY,
        principals=[iam.AnyPrincipal()],
        actions=actions,
        resources=[resource],
        conditions=conditions,
    )


def _units(wanted: Any) -> tuple[str, ...]:
    policies = _TABLE["policies"]
    shared = {entry["use"] for entries in policies.values() for entry in entries if "use" in entry}
    return tuple(
        sorted(
            unit
            for unit in policies
            if unit not in shared | _PEOPLE and any(map(wanted, _entries(policies[unit])))
        )
    )


def _entries(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        if "use" in entry:
            yield from _entries(_TABLE["policies"][entry["use"]])
        else:
            yield entry


def _writes(entry: dict[str, Any], setting: str) -> bool:
    if setting in (entry.get("put"), entry.get("replace")):
        return True
    verbs = {
        verb.removeprefix("dynamodb:")
        for action in entry.get("actions", [])
        for verb in (_TABLE["groups"][action[1:]] if action[0] == "@" else [action])
    }
    if entry.get("items") == setting:
        return not _WRITES.isdisjoint(verbs)
    return setting in entry.get("on", []) and "allow" in entry and not _WRITES.isdisjoint(verbs)
