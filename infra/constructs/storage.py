"""Keys, buckets and tables: what outlives every deployment."""

from __future__ import annotations

from aws_cdk import Acknowledgment, Duration, RemovalPolicy, Validations
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3

from abeyance.aws.table import PARTITION, SORT
from abeyance.gallery.items import LOG_KIND, vector_attribute
from abeyance.pipeline import topology
from constructs import Construct
from infra.config import Config

#: Which key protects what. Photos and chips have one of their own, because the gate must not be able to use it;
#: templates have one, because only recognize and api may.
KEY_OF = {
    "uploads_bucket": "photos",
    "chips_bucket": "photos",
    "gallery_bucket": "templates",
    "gallery_table": "templates",
}


def key_of(setting: str) -> str:
    """Name of the key that protects a bucket or table, by the setting that holds its name."""
    return KEY_OF.get(setting, "records")


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
    """The topology's buckets, and one for their access logs."""

    def __init__(
        self, scope: Construct, construct_id: str, config: Config, keys: Keys, removal: RemovalPolicy
    ) -> None:
        super().__init__(scope, construct_id)
        logs = s3.Bucket(
            self,
            "AccessLogs",
            # Log delivery cannot use a customer key of ours.
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            lifecycle_rules=[s3.LifecycleRule(expiration=Duration.days(config.log_days))],
            removal_policy=removal,
        )
        self.access_logs = logs
        self.by_setting: dict[str, s3.Bucket] = {}
        for bucket in topology.BUCKETS:
            key = keys.by_name[key_of(bucket.setting)]
            made = s3.Bucket(
                self,
                _title(bucket.setting),
                encryption=s3.BucketEncryption.KMS,
                encryption_key=key,
                bucket_key_enabled=True,
                block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
                enforce_ssl=True,
                minimum_tls_version=1.2,
                object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
                versioned=bucket.versioned or bucket.object_lock,
                object_lock_enabled=bucket.object_lock or None,
                object_lock_default_retention=(
                    s3.ObjectLockRetention.governance(Duration.days(config.ledger_lock_days))
                    if bucket.object_lock
                    else None
                ),
                lifecycle_rules=[_lifecycle(bucket, config)],
                server_access_logs_bucket=logs,
                server_access_logs_prefix=f"{bucket.setting.removesuffix('_bucket')}/",
                removal_policy=removal,
            )
            if bucket.events:
                _send_events(made)
            _refuse_other_encryption(made, key)
            self.by_setting[bucket.setting] = made


class Tables(Construct):
    """The topology's tables."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        config: Config,
        keys: Keys,
        removal: RemovalPolicy,
        ledger_writer: str,
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
                    point_in_time_recovery_enabled=True
                ),
                deletion_protection=removal is RemovalPolicy.RETAIN,
                removal_policy=removal,
            )
            if table.setting == "ledger_table":
                _append_only(made, ledger_writer)
            self.by_setting[table.setting] = made


def add_vector_index(table: dynamodb.Table, config: Config) -> str:
    """DynamoDB's own index over the templates of one model; returns its ARN.

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
    # DynamoDB wants what a SearchSchema names to be defined; the rule knows of no schema but those of keys.
    resource.add_metadata("cfn-lint", {"config": {"ignore_checks": ["E3039"]}})
    Validations.of(resource).acknowledge(
        Acknowledgment(
            id="CloudFormation-Validate::E3039", reason="The SearchSchema of the vector index uses it."
        )
    )
    return f"{table.table_arn}/index/{config.index_name}"


def _append_only(table: dynamodb.Table, writer: str) -> None:
    """Nobody changes or deletes, whatever their own policies say; and only the writer puts.

    It stands on the table itself, so that it also binds roles that are no part of this app.
    """
    table.add_to_resource_policy(
        iam.PolicyStatement(
            sid="NobodyChangesHistory",
            effect=iam.Effect.DENY,
            principals=[iam.AnyPrincipal()],
            actions=[
                "dynamodb:UpdateItem",
                "dynamodb:DeleteItem",
                "dynamodb:BatchWriteItem",
                "dynamodb:PartiQLUpdate",
                "dynamodb:PartiQLDelete",
                "dynamodb:PartiQLInsert",
            ],
            resources=["*"],
        )
    )
    table.add_to_resource_policy(
        iam.PolicyStatement(
            sid="OneWriter",
            effect=iam.Effect.DENY,
            principals=[iam.AnyPrincipal()],
            actions=["dynamodb:PutItem"],
            resources=["*"],
            conditions={"ArnNotEquals": {"aws:PrincipalArn": writer}},
        )
    )


def _send_events(bucket: s3.Bucket) -> None:
    """Events to EventBridge, as a property of the bucket: the library's own way is a function with a wide role."""
    resource = bucket.node.default_child
    assert isinstance(resource, s3.CfnBucket)
    resource.add_property_override(
        "NotificationConfiguration.EventBridgeConfiguration.EventBridgeEnabled", True
    )


def _refuse_other_encryption(bucket: s3.Bucket, key: kms.Key) -> None:
    """An uploader may not choose another encryption: what the gate cannot read rests on the key (docs/adr/0005)."""
    for sid, header, wanted in (
        ("OnlyKms", "s3:x-amz-server-side-encryption", "aws:kms"),
        ("OnlyOurKey", "s3:x-amz-server-side-encryption-aws-kms-key-id", key.key_arn),
    ):
        bucket.add_to_resource_policy(
            iam.PolicyStatement(
                sid=sid,
                effect=iam.Effect.DENY,
                principals=[iam.AnyPrincipal()],
                actions=["s3:PutObject"],
                resources=[bucket.arn_for_objects("*")],
                # An upload that names no encryption gets the bucket's own; Null is what lets it through.
                conditions={"StringNotEquals": {header: wanted}, "Null": {header: "false"}},
            )
        )
    bucket.add_to_resource_policy(
        iam.PolicyStatement(
            sid="NoKeyOfTheirOwn",
            effect=iam.Effect.DENY,
            principals=[iam.AnyPrincipal()],
            actions=["s3:PutObject"],
            resources=[bucket.arn_for_objects("*")],
            conditions={"Null": {"s3:x-amz-server-side-encryption-customer-algorithm": "false"}},
        )
    )


def _lifecycle(bucket: topology.Bucket, config: Config) -> s3.LifecycleRule:
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
