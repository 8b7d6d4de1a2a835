"""The templates agree with :mod:`abeyance.pipeline.topology` and with the settings of each function."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.infra.policies import Templates, text

from abeyance.deployment.settings import DeploymentSettings
from abeyance.gallery.items import vector_attribute
from abeyance.pipeline import topology
from infra import functions

FLAGS = "appconfig:abeyance/live/moratoria"
#: Set only where a report is given.
OPTIONAL = "ABEYANCE_ACCURACY_REPORT"


@pytest.fixture(scope="module")
def flow(templates: Templates) -> dict[str, dict[str, Any]]:
    resources: dict[str, dict[str, Any]] = templates["AbeyanceFlow"]["Resources"]
    return resources


def _of(resources: dict[str, dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {name: found["Properties"] for name, found in resources.items() if found["Type"] == kind}


def _function(flow: dict[str, dict[str, Any]], name: str) -> tuple[str, dict[str, Any]]:
    (found,) = [
        (logical, properties)
        for logical, properties in _of(flow, "AWS::Lambda::Function").items()
        if properties["FunctionName"] == f"abeyance-{name}"
    ]
    return found


@pytest.mark.parametrize("stage", topology.STAGES, ids=lambda stage: stage.name)
def test_stage(stage: topology.Stage, flow: dict[str, dict[str, Any]], templates: Templates) -> None:
    queues = {found["QueueName"]: (name, found) for name, found in _of(flow, "AWS::SQS::Queue").items()}
    logical, queue = queues[stage.queue]
    dead, _ = queues[stage.dead_letter_queue]
    assert queue["VisibilityTimeout"] == stage.visibility_timeout
    assert queue["RedrivePolicy"]["maxReceiveCount"] == stage.max_receives
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": [dead, "Arn"]}
    assert queue["MessageRetentionPeriod"] == stage.waiting_days * 86_400
    assert "FifoQueue" not in queue

    name, function = _function(flow, stage.name)
    assert (function["Timeout"], function["MemorySize"]) == (stage.timeout, stage.memory)
    (mapping,) = [
        found
        for found in _of(flow, "AWS::Lambda::EventSourceMapping").values()
        if text(found["EventSourceArn"], templates) == f"<{logical}>"
    ]
    assert mapping["FunctionName"] == {"Ref": name}
    assert mapping["BatchSize"] == stage.batch_size
    assert mapping.get("MaximumBatchingWindowInSeconds", 0) == stage.batch_window
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": stage.max_concurrency}
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]

    rules = [
        rule
        for rule in _of(flow, "AWS::Events::Rule").values()
        if text(rule["Targets"][0]["Arn"], templates) == f"<{logical}>"
    ]
    assert len(rules) == len(stage.consumes)
    settings = DeploymentSettings.of(uploads_bucket=_bucket(templates), tenant_buckets="")
    for subscription in stage.consumes:
        (rule,) = [found for found in rules if ("EventBusName" not in found) == subscription.default_bus]
        pattern = json.loads(json.dumps(rule["EventPattern"]).replace("\\u003c", "<"))
        if "bucket" in pattern.get("detail", {}):
            pattern["detail"]["bucket"]["name"] = [
                text(value, templates) for value in pattern["detail"]["bucket"]["name"]
            ]
        assert pattern == subscription.pattern(settings)
        (target,) = rule["Targets"]
        group = stage.message_group(subscription)
        assert target.get("SqsParameters") == ({"MessageGroupId": group} if group else None)
        assert text(target["DeadLetterConfig"]["Arn"], templates).startswith("<EventsUndelivered")


def _bucket(templates: Templates) -> str:
    (name,) = [
        found
        for found in templates["AbeyanceState"]["Resources"]
        if found.startswith("BucketsUploads")
        and templates["AbeyanceState"]["Resources"][found]["Type"] == "AWS::S3::Bucket"
    ]
    return f"<{name}>"


@pytest.mark.parametrize("table", topology.TABLES, ids=lambda table: table.setting)
def test_table(table: topology.TableShape, templates: Templates) -> None:
    (found,) = [
        properties
        for name, properties in _of(templates["AbeyanceState"]["Resources"], "AWS::DynamoDB::Table").items()
        if name.startswith("Tables" + table.setting.removesuffix("_table").capitalize())
    ]
    keys = {key["KeyType"]: key["AttributeName"] for key in found["KeySchema"]}
    assert (keys["HASH"], keys.get("RANGE", "")) == (table.partition_key, table.sort_key)
    assert found.get("TimeToLiveSpecification", {}).get("AttributeName", "") == table.ttl
    assert found["BillingMode"] == "PAY_PER_REQUEST"
    backups = {"PointInTimeRecoveryEnabled": True, "RecoveryPeriodInDays": DeploymentSettings().recovery_days}
    assert found["PointInTimeRecoverySpecification"] == backups
    assert found["SSESpecification"]["SSEType"] == "KMS"


@pytest.mark.parametrize("bucket", topology.BUCKETS, ids=lambda bucket: bucket.setting)
def test_bucket(bucket: topology.BucketShape, templates: Templates) -> None:
    (found,) = [
        properties
        for name, properties in _of(templates["AbeyanceState"]["Resources"], "AWS::S3::Bucket").items()
        if name.startswith("Buckets" + bucket.setting.removesuffix("_bucket").capitalize())
    ]
    events = found.get("NotificationConfiguration", {}).get("EventBridgeConfiguration", {})
    assert events.get("EventBridgeEnabled", False) == bucket.events
    assert found.get("ObjectLockEnabled", False) == bucket.object_lock
    assert ("VersioningConfiguration" in found) == (bucket.versioned or bucket.object_lock)
    (rule,) = found["LifecycleConfiguration"]["Rules"]
    assert rule.get("ExpirationInDays") == (DeploymentSettings().retention_days if bucket.expires else None)


def test_a_function_has_the_settings_that_it_reads_and_no_others(flow: dict[str, dict[str, Any]]) -> None:
    for spec in functions.FUNCTIONS:
        _, function = _function(flow, spec.name)
        variables = function["Environment"]["Variables"]
        given = {name for name in variables if name.startswith("ABEYANCE_")}
        read = spec.settings.variables().keys()
        assert given <= read, spec.name
        assert read - {OPTIONAL} <= given, spec.name
        assert variables.get("ABEYANCE_FLAGS", FLAGS) == FLAGS
        assert function["LoggingConfig"]["LogFormat"] == "JSON"
        assert function["Architectures"] == ["arm64"]


def test_decision_functions_carry_no_pixel_layer(flow: dict[str, dict[str, Any]]) -> None:
    pixel_layers = {
        name
        for name in _of(flow, "AWS::Lambda::LayerVersion")
        if any(
            part in name
            for part in ("Vision", "Video", "Detector", "Analysis", "Embedder", "Tracking", "Abeyance")
        )
    }
    assert len(pixel_layers) == 7
    for spec in functions.FUNCTIONS:
        _, function = _function(flow, spec.name)
        carried = {layer["Ref"] for layer in function["Layers"] if "Ref" in layer}
        assert bool(carried & pixel_layers) == (
            spec.name in ("detect", "frames", "recognize", "api", "console")
        ), spec.name


def test_no_template_deploys_flags(flow: dict[str, dict[str, Any]]) -> None:
    """An update of the stack would deploy a changed preset over an operator's flags; the change service does not."""
    for kind in ("HostedConfigurationVersion", "Deployment"):
        assert not _of(flow, f"AWS::AppConfig::{kind}")
    profiles = _of(flow, "AWS::AppConfig::ConfigurationProfile").values()
    assert {found["Name"] for found in profiles} == {"moratoria", "brake"}
    for profile in profiles:
        assert profile["Type"] == "AWS.AppConfig.FeatureFlags"
        assert [validator["Type"] for validator in profile["Validators"]] == ["LAMBDA"]


def test_tighten_at_once_loosen_gradually(flow: dict[str, dict[str, Any]]) -> None:
    strategies = {found["Name"]: found for found in _of(flow, "AWS::AppConfig::DeploymentStrategy").values()}
    tighten, loosen = strategies["abeyance-tighten"], strategies["abeyance-loosen"]
    assert (
        tighten["DeploymentDurationInMinutes"],
        tighten["FinalBakeTimeInMinutes"],
        tighten["GrowthFactor"],
    ) == (0, 0, 100)
    assert loosen["DeploymentDurationInMinutes"] >= 30
    assert loosen["FinalBakeTimeInMinutes"] >= 30
    environments = {found["Name"]: found for found in _of(flow, "AWS::AppConfig::Environment").values()}
    assert len(environments["live"]["Monitors"]) == 4
    # Nothing holds up the brake.
    assert "Monitors" not in environments["brake"]


def test_api_takes_signed_requests_only(flow: dict[str, dict[str, Any]]) -> None:
    methods = _of(flow, "AWS::ApiGateway::Method").values()
    # At /keys, the last one, the function verifies signatures itself.
    found = sorted((one["HttpMethod"], one["AuthorizationType"]) for one in methods)
    assert found == [("POST", "AWS_IAM"), ("POST", "AWS_IAM"), ("POST", "NONE")]


def test_vector_index(synthesise: Any) -> None:
    templates = synthesise(vector_index="true")
    (table,) = [
        found
        for name, found in _of(templates["AbeyanceState"]["Resources"], "AWS::DynamoDB::Table").items()
        if "VectorIndexes" in found
    ]
    (index,) = table["VectorIndexes"]
    assert (index["Dimensions"], index["DistanceFunction"]) == (128, "COSINE")
    assert index["VectorAttribute"]["AttributeName"] == vector_attribute(128)
    searched = {element["AttributeName"] for element in index["SearchSchema"]}
    assert searched == {"pk", "k"} <= {made["AttributeName"] for made in table["AttributeDefinitions"]}
    flow = templates["AbeyanceFlow"]["Resources"]
    indexes = [
        found["Environment"]["Variables"]["ABEYANCE_VECTOR_INDEX"]
        for found in _of(flow, "AWS::Lambda::Function").values()
        if "ABEYANCE_VECTOR_INDEX" in found.get("Environment", {}).get("Variables", {})
    ]
    assert set(indexes) == {index["IndexName"]}
    policies = json.dumps(templates["AbeyanceFlow"])
    assert policies.count("dynamodb:SearchVectors") == 2
