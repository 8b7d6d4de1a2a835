"""The embedding endpoint scales to zero instances, and only the functions that embed reach it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.infra.conftest import ROOT, Synthesise
from tests.infra.policies import Templates, roles, statements
from tests.infra.test_snapshot import CHOICES

pytest.importorskip("aws_cdk", reason="pip install 'abeyance[infra]'")


def _all(templates: Templates, stack: str, kind: str) -> list[dict[str, Any]]:
    resources = templates[stack]["Resources"].values()
    return [dict(resource["Properties"]) for resource in resources if resource["Type"] == kind]


def _only(templates: Templates, stack: str, kind: str) -> dict[str, Any]:
    (found,) = _all(templates, stack, kind)
    return found


def test_sagemaker_scales_to_zero_and_back(synthesise: Synthesise) -> None:
    templates = synthesise(**CHOICES["sagemaker"])
    target = _only(templates, "AbeyanceEmbedding", "AWS::ApplicationAutoScaling::ScalableTarget")
    assert (target["MinCapacity"], target["ScalableDimension"]) == (
        0,
        "sagemaker:inference-component:DesiredCopyCount",
    )
    (variant,) = _only(templates, "AbeyanceEmbedding", "AWS::SageMaker::EndpointConfig")["ProductionVariants"]
    assert variant["ManagedInstanceScaling"]["MinInstanceCount"] == 0
    alarms = json.dumps(templates["AbeyanceEmbedding"])
    assert "NoCapacityInvocationFailures" in alarms
    for function in ("recognize", "api"):
        policy = json.dumps(templates["AbeyanceFlow"]["Resources"])
        assert "sagemaker:abeyance-embedder/abeyance-embedder" in policy, function


def test_only_what_makes_templates_calls_sagemaker(synthesise: Synthesise) -> None:
    templates = synthesise(**CHOICES["sagemaker"])
    own = roles(templates)
    callers = {found.owner for found in statements(templates) if "sagemaker:InvokeEndpoint" in found.actions}
    assert callers == {own["frames"], own["recognize"], own["api"]}


def test_ecs_scales_by_the_queue_down_to_zero(synthesise: Synthesise) -> None:
    templates = synthesise(**CHOICES["ecs"])
    target = _only(templates, "AbeyanceEmbedding", "AWS::ApplicationAutoScaling::ScalableTarget")
    assert target["MinCapacity"] == 0
    group = _only(templates, "AbeyanceEmbedding", "AWS::AutoScaling::AutoScalingGroup")
    assert group["MinSize"] == "0"
    (rest,) = [
        alarm
        for alarm in _all(templates, "AbeyanceEmbedding", "AWS::CloudWatch::Alarm")
        if alarm["ComparisonOperator"] == "LessThanThreshold"
    ]
    # Not while photos come: a queue that keeps up has nothing visible, but something was received.
    assert (rest["Threshold"], rest["EvaluationPeriods"]) == (1, 15)
    asked = {part["MetricStat"]["Metric"]["MetricName"] for part in rest["Metrics"] if "MetricStat" in part}
    assert "NumberOfMessagesReceived" in asked
    assert "abeyance-recognize" in json.dumps(rest)
    (container,) = _only(templates, "AbeyanceEmbedding", "AWS::ECS::TaskDefinition")["ContainerDefinitions"]
    assert container["ResourceRequirements"] == [{"Type": "GPU", "Value": "1"}]


def test_ecs_network_has_no_way_out(synthesise: Synthesise) -> None:
    templates = synthesise(**CHOICES["ecs"])
    kinds = {resource["Type"] for resource in templates["AbeyanceEmbedding"]["Resources"].values()}
    assert not kinds & {"AWS::EC2::InternetGateway", "AWS::EC2::NatGateway"}
    balancer = _only(templates, "AbeyanceEmbedding", "AWS::ElasticLoadBalancingV2::LoadBalancer")
    assert balancer["Scheme"] == "internal"
    inside = {
        resource["Properties"]["FunctionName"]
        for resource in templates["AbeyanceFlow"]["Resources"].values()
        if resource["Type"] == "AWS::Lambda::Function" and "VpcConfig" in resource["Properties"]
    }
    assert inside == {"abeyance-frames", "abeyance-recognize", "abeyance-api"}


@pytest.mark.parametrize(
    ("choice", "kind", "container"),
    [
        ("sagemaker", "AWS::SageMaker::Model", lambda found: found["PrimaryContainer"]["Environment"].keys()),
        (
            "ecs",
            "AWS::ECS::TaskDefinition",
            lambda found: {pair["Name"] for pair in found["ContainerDefinitions"][0]["Environment"]},
        ),
    ],
)
def test_the_container_has_settings_that_the_endpoint_reads(
    synthesise: Synthesise,
    monkeypatch: pytest.MonkeyPatch,
    choice: str,
    kind: str,
    container: Callable[[dict[str, Any]], set[str]],
) -> None:
    monkeypatch.syspath_prepend(ROOT / "functions")
    from embedder.settings import EmbedderSettings

    given = container(_only(synthesise(**CHOICES[choice]), "AbeyanceEmbedding", kind))
    own = {name for name in given if name.startswith("ABEYANCE_")}
    assert own == {"ABEYANCE_EMBEDDER_MODEL"}
    assert own <= {f"ABEYANCE_EMBEDDER_{name.upper()}" for name in EmbedderSettings.__struct_fields__}
