"""Keys, buckets and tables, which outlive every deployment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aws_cdk import Acknowledgment, Duration, RemovalPolicy, Stack, Validations
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3

from abeyance.aws.table import PARTITION, SORT
from abeyance.gallery.items import LOG_KIND, vector_attribute
from abeyance.pipeline import topology
from constructs import Construct
from infra import named
from infra.config import Config
from infra.constructs import ledger
from infra.constructs.deny import deny

#: Keys by the setting of what they protect. Photos and chips have one of their own, because the gate must not be able
#: to use it; templates have one, because only recognize, api and the console may.
_KEYS = {
    "uploads_bucket": "photos",
    "chips_bucket": "photos",
    "gallery_bucket": "templates",
    "gallery_table": "templates",
}


def key_of(setting: str) -> str:
    """Return the name of the key that protects a bucket or table, by the setting that holds its name."""
    return _KEYS.get(setting, "records")


class Keys(Construct):
    """Three customer keys, rotated every year."""

    def __init__(self, scope: Construct, construct_id: str, config: Config, removal: RemovalPolicy) -> None:
        super().__init__(scope, construct_id)
        self.by_name = {
            name: kms.Key(
                self,
                name.capitalize(),
                description=f"{config.name}: {about}",
                enable_key_rotation=True,
                removal_policy=removal,
                pending_window=Duration.days(7 if config.removal == "destroy" else 30),
            )
            for name, about in {
                "photos": "uploaded photos and the faces cut from them",
                "templates": "galleries of face templates",
                "records": "tenants, decisions, results and the ledger",
            }.items()
        }


class Buckets(Construct):
    """The buckets of :mod:`abeyance.pipeline.topology`, and one for their access logs."""

    def __init__(
        self, scope: Construct, construct_id: str, config: Config, keys: Keys, removal: RemovalPolicy
    ) -> None:
        super().__init__(scope, construct_id)
        private: dict[str, Any] = {
            "block_public_access": s3.BlockPublicAccess.BLOCK_ALL,
            "enforce_ssl": True,
            "object_ownership": s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            "removal_policy": removal,
        }
        # Log delivery cannot use a customer key.
        old = s3.LifecycleRule(expiration=Duration.days(config.log_days))
        logs = s3.Bucket(
            self, "AccessLogs", encryption=s3.BucketEncryption.S3_MANAGED, lifecycle_rules=[old], **private
        )
        self.by_setting: dict[str, s3.Bucket] = {}
        for bucket in topology.BUCKETS:
            key = keys.by_name[key_of(bucket.setting)]
            made = s3.Bucket(
                self,
                _title(bucket.setting),
                encryption=s3.BucketEncryption.KMS,
                encryption_key=key,
                bucket_key_enabled=True,
                minimum_tls_version=1.2,
                versioned=bucket.versioned or bucket.object_lock,
                object_lock_enabled=bucket.object_lock or None,
                object_lock_default_retention=ledger.retention(config) if bucket.object_lock else None,
                lifecycle_rules=[_lifecycle(bucket, config)],
                server_access_logs_bucket=logs,
                server_access_logs_prefix=f"{bucket.setting.removesuffix('_bucket')}/",
                **private,
            )
            if bucket.events:
                _send_events(made)
            _refuse_other_encryption(made, key)
            if bucket.setting not in ("uploads_bucket", "ledger_bucket"):
                arns = named.role_arns(
                    Stack.of(self), config, named.writers_of(bucket.setting), operators=True
                )
                objects = ["s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"]
                made.add_to_resource_policy(
                    named.deny_others("OnlyTheNamed", objects, made.arn_for_objects("*"), arns)
                )
            self.by_setting[bucket.setting] = made


class Tables(Construct):
    """The tables of :mod:`abeyance.pipeline.topology`."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        config: Config,
        keys: Keys,
        removal: RemovalPolicy,
        sequencer: Sequence[str],
    ) -> None:
        super().__init__(scope, construct_id)
        self.by_setting: dict[str, dynamodb.Table] = {}
        for table in topology.TABLES:
            made = dynamodb.Table(
                self,
                _title(table.setting),
                partition_key=_text(table.partition_key),
                sort_key=_text(table.sort_key) if table.sort_key else None,
                billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
                time_to_live_attribute=table.ttl or None,
                encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED,
                encryption_key=keys.by_name[key_of(table.setting)],
                point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                    point_in_time_recovery_enabled=True, recovery_period_in_days=config.recovery_days
                ),
                deletion_protection=removal is RemovalPolicy.RETAIN,
                removal_policy=removal,
            )
            if table.setting == "ledger_table":
                ledger.one_head(made, sequencer)
            else:
                writers = named.writers_of(table.setting)
                # What decides whom a halt reaches is nobody's but the change service's.
                operators = table.setting not in ("tenants_table", "proposals_table", "authorizations_table")
                arns = named.role_arns(Stack.of(self), config, writers, operators=operators)
                made.add_to_resource_policy(
                    named.deny_others("OnlyTheNamed", [f"dynamodb:{verb}" for verb in _WRITES], "*", arns)
                )
            self.by_setting[table.setting] = made


def add_vector_index(table: dynamodb.Table, config: Config) -> str:
    """Add DynamoDB's own index over the templates of one model; return its ARN.

    The construct library has it on the L1 table only.
    """
    from abeyance.vision.models.manifest import Manifest

    dimension = Manifest.load()[config.embedder_model].dimension
    index = {
        "IndexName": config.index_name,
        "VectorAttribute": {"AttributeName": vector_attribute(dimension)},
        # A collection, and in it templates of faces or of users.
        "SearchSchema": [
            {"AttributeName": PARTITION, "SearchSchemaElementType": "HASH"},
            {"AttributeName": LOG_KIND, "SearchSchemaElementType": "INLINE_FILTER"},
        ],
        "Projection": {"ProjectionType": "KEYS_ONLY"},
        "Dimensions": dimension,
        "DistanceFunction": "COSINE",
    }
    resource = table.node.default_child
    assert isinstance(resource, dynamodb.CfnTable)
    resource.add_property_override("VectorIndexes", [index])
    resource.add_property_override(
        "AttributeDefinitions",
        [{"AttributeName": name, "AttributeType": "S"} for name in (PARTITION, SORT, LOG_KIND)],
    )
    # DynamoDB requires definitions of what a SearchSchema names; the rule knows the schemas of keys only.
    resource.add_metadata("cfn-lint", {"config": {"ignore_checks": ["E3039"]}})
    Validations.of(resource).acknowledge(
        Acknowledgment(
            id="CloudFormation-Validate::E3039", reason="The SearchSchema of the vector index uses it."
        )
    )
    return f"{table.table_arn}/index/{config.index_name}"


#: The actions that change an item.
_WRITES = (
    *("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem"),
    *("PartiQLInsert", "PartiQLUpdate", "PartiQLDelete"),
)


def _send_events(bucket: s3.Bucket) -> None:
    """Send events to EventBridge by a property of the bucket: the library's own way is a function with a wide role."""
    resource = bucket.node.default_child
    assert isinstance(resource, s3.CfnBucket)
    resource.add_property_override(
        "NotificationConfiguration.EventBridgeConfiguration.EventBridgeEnabled", True
    )


def _refuse_other_encryption(bucket: s3.Bucket, key: kms.Key) -> None:
    """Let no uploader choose another encryption: the key is why the gate cannot read photos (docs/adr/0005)."""
    header = "s3:x-amz-server-side-encryption"
    # An upload that names no encryption gets the bucket's own; the tests for Null let it through.
    for sid, conditions in {
        "OnlyKms": {"StringNotEquals": {header: "aws:kms"}, "Null": {header: "false"}},
        "OnlyOurKey": {
            "StringNotEquals": {f"{header}-aws-kms-key-id": key.key_arn},
            "Null": {f"{header}-aws-kms-key-id": "false"},
        },
        "NoKeyOfTheirOwn": {"Null": {f"{header}-customer-algorithm": "false"}},
    }.items():
        bucket.add_to_resource_policy(deny(sid, ["s3:PutObject"], [bucket.arn_for_objects("*")], conditions))


def _lifecycle(bucket: topology.BucketShape, config: Config) -> s3.LifecycleRule:
    days = config.retention_days if bucket.expires else 0
    if bucket.setting == "uploads_bucket":
        days = config.photo_days
    return s3.LifecycleRule(
        abort_incomplete_multipart_upload_after=Duration.days(1),
        expiration=Duration.days(days) if days else None,
    )


def _text(name: str) -> dynamodb.Attribute:
    return dynamodb.Attribute(name=name, type=dynamodb.AttributeType.STRING)


def _title(setting: str) -> str:
    return setting.rsplit("_", 1)[0].capitalize()
