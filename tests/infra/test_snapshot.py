"""The templates as they were last reviewed, reduced to what a reviewer reads.

``local.txt`` is the default deployment; the other files have only the lines that their deployment adds. A file lists
the resources by type (physical name, or logical id without its hash), the statements of every identity policy, and the
alarms with their thresholds. Left out are asset hashes, environment variables, and the boilerplate of buckets, queues,
keys and dashboards: other tests of this folder assert of them what matters.
``UPDATE_SNAPSHOTS=1 pytest tests/infra/test_snapshot.py`` accepts a change; review its diff.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.infra.conftest import Synthesise
from tests.infra.policies import Templates, statements, text

SNAPSHOTS = Path(__file__).parent / "snapshots"

IMAGE = "111122223333.dkr.ecr.eu-central-1.amazonaws.com/abeyance-embedder:1"
CHOICES: dict[str, dict[str, str]] = {
    "local": {},
    "sagemaker": {"embedder": "sagemaker", "embedder_image": IMAGE},
    "ecs": {"embedder": "ecs", "embedder_image": IMAGE},
}


@pytest.mark.parametrize("name", CHOICES)
def test_templates_are_as_reviewed(name: str, synthesise: Synthesise) -> None:
    lines, path = list(_summary(synthesise(**CHOICES[name]))), SNAPSHOTS / f"{name}.txt"
    if name != "local":
        known = {line for line in _summary(synthesise()) if not line.startswith("#")}
        lines = [line for line in lines if line not in known]
    now = "\n".join(lines) + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.write_text(now)
    assert now == path.read_text(), "the templates have changed: review, then accept with UPDATE_SNAPSHOTS=1"


def _summary(templates: Templates) -> Iterator[str]:
    resources = [
        (logical, resource["Type"], resource.get("Properties", {}))
        for template in templates.values()
        for logical, resource in template["Resources"].items()
    ]
    yield "# Resources"
    yield from sorted(f"{kind} {_name(logical, properties)}" for logical, kind, properties in resources)
    yield "# Permissions"
    yield from sorted(
        f"{_readable(found.owner)} {found.effect} {', '.join(sorted(found.actions))} on "
        f"{', '.join(sorted(map(_readable, found.resources)))}" + _conditions(found.conditions, templates)
        for found in statements(templates)
    )
    yield "# Alarms"
    yield from sorted(
        f"{_name(logical, properties)}: {_metric(properties)} {properties['ComparisonOperator']} "
        f"{properties['Threshold']} for {properties['EvaluationPeriods']} periods"
        for logical, kind, properties in resources
        if kind == "AWS::CloudWatch::Alarm"
    )


def _name(logical: str, properties: dict[str, Any]) -> str:
    """Return the resource's physical name where the template gives one, else its logical id."""
    names = (value for key, value in properties.items() if key in ("Name", "ManagedPolicyName"))
    own = (
        value for key, value in properties.items() if re.fullmatch(r"(Function|Queue|Role|Alarm)Name", key)
    )
    return next((name for name in (*own, *names) if isinstance(name, str)), _readable(logical))


def _readable(value: str) -> str:
    """Return text without the hashes that the CDK puts at the end of logical ids."""
    return re.sub(r"(?<!\d{4})([0-9A-F]{8})+([0-9a-f]{32})?(?![0-9A-Za-z])", "", value)


def _metric(alarm: dict[str, Any]) -> str:
    if "MetricName" in alarm:
        return (
            f"{alarm['Namespace']} {alarm['MetricName']} {alarm.get('Statistic', '')} of {alarm['Period']} s"
        )
    return " ".join(part["Expression"] for part in alarm["Metrics"] if "Expression" in part)


def _conditions(conditions: dict[str, Any], templates: Templates) -> str:
    tests = sorted(
        f"{operator} {key} {', '.join(value) if isinstance(value, list) else _readable(text(value, templates))}"
        for operator, wanted in conditions.items()
        for key, value in wanted.items()
    )
    return f" if {', '.join(tests)}" if tests else ""
