"""IAM policies read from templates and evaluated as IAM does: an action is allowed unless a statement denies it."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import Any, NamedTuple

Templates = dict[str, dict[str, Any]]

#: The wildcards that a policy's resources may end with.
WILDCARDS = (
    r"<Buckets\w+>/\*$",
    r"<BucketsLedger\w+>/(sequenced|tile|opening|blob|checkpoints|cosignatures|refusals|index)/\*$",
    r"/environment/<\w+>/deployment/\*$",
    r"/configurationprofile/<\w+>/hostedconfigurationversion/\*$",
    r":schedule/[\w-]+/\*$",
    r":log-group:/aws/sagemaker/InferenceComponents/[\w-]+\*$",
)
#: Actions that take no resource but ``*``.
WITHOUT_RESOURCE = frozenset(
    {
        "appconfig:ListApplications",
        "appconfig:ListDeploymentStrategies",
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
        "ecr:GetAuthorizationToken",
        "scheduler:ListSchedules",
    }
)


class Statement(NamedTuple):
    """One statement, resources as text: ``<LogicalId>`` stands for a resource of whichever stack."""

    owner: str
    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: dict[str, Any]


def statements(templates: Templates) -> Iterator[Statement]:
    """Yield every statement of every identity policy; its owner is the role's logical id, or the policy's own."""
    for template in templates.values():
        for name, resource in template["Resources"].items():
            properties = resource.get("Properties", {})
            if resource["Type"] in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
                owners = [text(role, templates) for role in properties.get("Roles", [])] or [f"<{name}>"]
                yield from _read(properties["PolicyDocument"], owners, templates)
            elif resource["Type"] == "AWS::IAM::Role":
                for inline in properties.get("Policies", []):
                    yield from _read(inline["PolicyDocument"], [f"<{name}>"], templates)


def roles(templates: Templates) -> dict[str, str]:
    """Return the role of each function, by the function's folder."""
    found = {}
    for template in templates.values():
        for resource in template["Resources"].values():
            if resource["Type"] == "AWS::Lambda::Function":
                name = resource["Properties"]["FunctionName"].removeprefix("abeyance-")
                found[name] = text(resource["Properties"]["Role"], templates).replace(".Arn", "")
    return found


def may(owner: str, action: str, resource: str, templates: Templates) -> bool:
    """Return True if the owner's policies allow an action on a resource, under whatever conditions."""
    own = [found for found in statements(templates) if found.owner == owner]
    applies = [
        found for found in own if _matches(found.actions, action) and _matches(found.resources, resource)
    ]
    if any(found.effect == "Deny" for found in applies):
        return False
    return any(found.effect == "Allow" for found in applies)


def owners_of(action: str, resource: str, templates: Templates) -> set[str]:
    """Return every owner whose policies allow the action."""
    return {found.owner for found in statements(templates) if may(found.owner, action, resource, templates)}


def text(value: Any, templates: Templates) -> str:
    """Return a value of a template with its functions written out."""
    if isinstance(value, str):
        return value
    ((function, argument),) = value.items()
    if function == "Ref":
        return f"<{argument}>"
    if function == "Fn::GetAtt":
        logical, attribute = argument
        return f"<{logical}>" if attribute == "Arn" else f"<{logical}.{attribute}>"
    if function == "Fn::Join":
        separator, parts = argument
        return str(separator).join(text(part, templates) for part in parts)
    if function == "Fn::ImportValue":
        return text(_exported(argument, templates), templates)
    raise NotImplementedError(function)


def _exported(name: str, templates: Templates) -> Any:
    for template in templates.values():
        for output in template.get("Outputs", {}).values():
            if output.get("Export", {}).get("Name") == name:
                return output["Value"]
    raise KeyError(name)


def _read(document: dict[str, Any], owners: list[str], templates: Templates) -> Iterator[Statement]:
    for statement in document["Statement"]:
        assert "NotAction" not in statement
        assert "NotResource" not in statement
        for owner in owners:
            yield Statement(
                owner,
                statement["Effect"],
                tuple(_many(statement["Action"])),
                tuple(text(resource, templates) for resource in _many(statement["Resource"])),
                statement.get("Condition", {}),
            )


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _matches(patterns: tuple[str, ...], value: str) -> bool:
    return any(fnmatch.fnmatchcase(value.lower(), pattern.lower()) for pattern in patterns)
