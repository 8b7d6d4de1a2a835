"""What each function may do, in full: one policy a function, each statement on named resources.

Read it beside docs/operations.md, "Who may do what". Four promises are kept here and held by tests/infra:

- The gate asks for the head of an object, which IAM cannot tell from reading it (both are ``s3:GetObject``). That it
  cannot read is a matter of the key: it may not decrypt with that of the photos, and a deny says so for good.
- Only recognize and api reach the gallery, and the key of the templates, and the console, which erases.
- Only ledger writes the ledger, by ``PutItem``.
- Only the flag pipeline deploys configuration: people with its policy, and flags, which looks at every document as
  AppConfig's validator does. The console hands documents to flags and can deploy nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
from aws_cdk import Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs

from infra.constructs.storage import key_of

#: To find the document in force, and to put another in its place.
_SEE_FLAGS = (
    "appconfig:ListEnvironments",
    "appconfig:ListConfigurationProfiles",
    "appconfig:ListDeployments",
    "appconfig:GetHostedConfigurationVersion",
)
_DEPLOY_FLAGS = (
    *_SEE_FLAGS,
    "appconfig:ListHostedConfigurationVersions",
    "appconfig:CreateHostedConfigurationVersion",
    "appconfig:StartDeployment",
    "appconfig:StopDeployment",
)

#: What a stage does with the records of uploads.
_RECORD = ("dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:UpdateItem")
#: Items read, and items written, by the actions that the stores use.
_READ = ("dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query")
_WRITE = (
    "dynamodb:PutItem",
    "dynamodb:UpdateItem",
    "dynamodb:DeleteItem",
    "dynamodb:BatchWriteItem",
    "dynamodb:ConditionCheckItem",
)


class World(msgspec.Struct, frozen=True):
    """The resources that policies speak of; buckets and tables by the setting that holds their name."""

    stack: Stack
    keys: Mapping[str, kms.IKey]
    buckets: Mapping[str, s3.IBucket]
    tables: Mapping[str, dynamodb.ITable]
    #: ARN of the secret.
    pseudonym_key: str
    bus: events.IEventBus
    ledger_queue: sqs.IQueue
    recognize_queue: sqs.IQueue
    #: ARN of the flags as AppConfig's data plane names them.
    flags: str
    #: ARNs of what flags are deployed to, and of the strategies.
    control_plane: Sequence[str]
    strategies: Sequence[str]
    #: ARN of the function flags.
    flags_function: str
    #: ARN of every schedule in the group of announcements, and of the role that they use.
    announcements: str
    announcer: str
    #: ARNs of the SageMaker endpoint and its component; empty for none.
    endpoint: Sequence[str] = ()
    vector_index: str = ""
    #: ARNs of the console's secrets and of its user pool; empty for none.
    console_secrets: Sequence[str] = ()
    user_pool: str = ""


def of(function: str, world: World) -> list[iam.PolicyStatement]:
    """The statements of a function's policy, besides those that its logs and its queue need."""
    return list(_POLICIES[function](world))


def _gate(world: World) -> Iterator[iam.PolicyStatement]:
    yield from _head(world, "uploads_bucket")
    yield iam.PolicyStatement(
        sid="NeverReadsPhotos",
        effect=iam.Effect.DENY,
        actions=["kms:Decrypt"],
        resources=[world.keys["photos"].key_arn],
    )
    yield from _items(world, "uploads_table", *_RECORD, "dynamodb:PutItem")
    yield from _items(world, "tenants_table", "dynamodb:GetItem")
    yield from _put_objects(world, "results_bucket")
    yield _delete_objects(world, "results_bucket")
    yield _emit(world)
    yield _read_flags(world)


def _detect(world: World) -> Iterator[iam.PolicyStatement]:
    yield from _read_objects(world, "uploads_bucket")
    yield from _put_objects(world, "chips_bucket")
    yield _delete_objects(world, "chips_bucket")
    yield from _items(world, "uploads_table", *_RECORD)
    yield from _items(world, "tenants_table", "dynamodb:GetItem")
    yield from _put_objects(world, "results_bucket")
    yield _delete_objects(world, "results_bucket")
    yield _emit(world)
    yield _read_flags(world)


def _recognize(world: World) -> Iterator[iam.PolicyStatement]:
    yield from _read_objects(world, "chips_bucket")
    yield from _put_objects(world, "chips_bucket")
    yield _delete_objects(world, "chips_bucket")
    yield from _items(world, "uploads_table", *_RECORD)
    yield from _items(world, "tenants_table", "dynamodb:GetItem", "dynamodb:Scan")
    yield iam.PolicyStatement(
        sid="WaitForTheEmbedder",
        actions=["sqs:SendMessage"],
        resources=[world.recognize_queue.queue_arn],
    )
    yield from _put_objects(world, "results_bucket")
    yield _delete_objects(world, "results_bucket")
    yield from _gallery(world)
    yield _emit(world)
    yield _read_flags(world)


def _review(world: World) -> Iterator[iam.PolicyStatement]:
    yield from _items(world, "reviews_table", "dynamodb:PutItem")


def _ledger(world: World) -> Iterator[iam.PolicyStatement]:
    # A transaction's conditional puts are PutItem; nothing here changes or deletes.
    yield from _items(world, "ledger_table", *_READ, "dynamodb:PutItem")
    # Checkpoints, which Object Lock keeps from everybody, the writer included.
    yield from _read_objects(world, "ledger_bucket")
    yield from _put_objects(world, "ledger_bucket")
    yield _secret(world)
    yield _decrypt_secret(world)


def _api(world: World) -> Iterator[iam.PolicyStatement]:
    yield from _read_objects(world, "uploads_bucket")
    yield from _items(world, "tenants_table", "dynamodb:GetItem")
    yield from _gallery(world)
    yield _record(world)
    yield _read_flags(world)
    yield _secret(world)
    yield _decrypt_secret(world)


def _flags(world: World) -> Iterator[iam.PolicyStatement]:
    yield from _items(world, "proposals_table", "dynamodb:GetItem")
    yield from _items(world, "tenants_table", "dynamodb:GetItem", "dynamodb:Scan")
    yield _read_flags(world)
    yield iam.PolicyStatement(
        sid="DeployFlags",
        actions=list(_DEPLOY_FLAGS),
        resources=[*world.control_plane, *world.strategies],
    )
    yield iam.PolicyStatement(
        sid="FindByName",
        actions=["appconfig:ListApplications", "appconfig:ListDeploymentStrategies"],
        resources=["*"],
    )
    yield iam.PolicyStatement(
        sid="Announce",
        actions=["scheduler:CreateSchedule", "scheduler:DeleteSchedule", "scheduler:GetSchedule"],
        resources=[world.announcements],
    )
    yield iam.PolicyStatement(sid="ListAnnouncements", actions=["scheduler:ListSchedules"], resources=["*"])
    yield iam.PolicyStatement(
        sid="AnnounceAs",
        actions=["iam:PassRole"],
        resources=[world.announcer],
        conditions={"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}},
    )


def _console(world: World) -> Iterator[iam.PolicyStatement]:
    yield from _items(
        world,
        "reviews_table",
        *("dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem"),
        "dynamodb:DeleteItem",
    )
    # Judging: the two pictures, of which one may have to be cut anew from its photo, and the result.
    yield from _read_objects(world, "uploads_bucket")
    yield from _read_objects(world, "chips_bucket")
    yield from _put_objects(world, "chips_bucket")
    yield from _items(world, "uploads_table", *_RECORD)
    yield from _put_objects(world, "results_bucket")
    yield _delete_objects(world, "results_bucket")
    yield _emit(world)
    # Erasing.
    yield from _gallery_store(world)
    # Moratoria: proposals are kept here, and deployed by flags.
    yield from _items(world, "proposals_table", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Scan")
    yield from _items(world, "tenants_table", "dynamodb:GetItem", "dynamodb:Scan")
    yield _read_flags(world)
    yield iam.PolicyStatement(sid="SeeFlags", actions=list(_SEE_FLAGS), resources=list(world.control_plane))
    yield iam.PolicyStatement(sid="FindByName", actions=["appconfig:ListApplications"], resources=["*"])
    yield iam.PolicyStatement(
        sid="HandOver", actions=["lambda:InvokeFunction"], resources=[world.flags_function]
    )
    # The ledger is read; what happens here is put on it by its writer.
    yield from _items(world, "ledger_table", *_READ)
    yield from _read_objects(world, "ledger_bucket")
    yield _record(world)
    yield iam.PolicyStatement(
        sid="Secrets",
        actions=["secretsmanager:GetSecretValue"],
        resources=[world.pseudonym_key, *world.console_secrets],
    )
    yield _decrypt_secret(world)
    if world.user_pool:
        yield iam.PolicyStatement(
            sid="ClientSecret", actions=["cognito-idp:DescribeUserPoolClient"], resources=[world.user_pool]
        )


def _gallery(world: World) -> Iterator[iam.PolicyStatement]:
    yield from _gallery_store(world)
    if world.vector_index:
        yield iam.PolicyStatement(
            sid="SearchVectors", actions=["dynamodb:SearchVectors"], resources=[world.vector_index]
        )
    if world.endpoint:
        yield iam.PolicyStatement(
            sid="Embed", actions=["sagemaker:InvokeEndpoint"], resources=list(world.endpoint)
        )


def _gallery_store(world: World) -> Iterator[iam.PolicyStatement]:
    yield from _items(world, "gallery_table", *_READ, *_WRITE)
    yield from _read_objects(world, "gallery_bucket")
    yield from _put_objects(world, "gallery_bucket")
    yield _delete_objects(world, "gallery_bucket")


def _head(world: World, setting: str) -> Iterator[iam.PolicyStatement]:
    """Heads of objects. Without ListBucket one that is gone would be a 403, and look like a fault of ours."""
    bucket = world.buckets[setting]
    yield iam.PolicyStatement(
        sid=f"Head{_name(setting)}",
        actions=["s3:GetObject", "s3:GetObjectVersion"],
        resources=[bucket.arn_for_objects("*")],
    )
    yield iam.PolicyStatement(
        sid=f"List{_name(setting)}", actions=["s3:ListBucket"], resources=[bucket.bucket_arn]
    )


def _read_objects(world: World, setting: str) -> Iterator[iam.PolicyStatement]:
    yield from _head(world, setting)
    yield _use_key(world, setting, "s3", "Read", "kms:Decrypt")


def _put_objects(world: World, setting: str) -> Iterator[iam.PolicyStatement]:
    yield iam.PolicyStatement(
        sid=f"Put{_name(setting)}",
        actions=["s3:PutObject"],
        resources=[world.buckets[setting].arn_for_objects("*")],
    )
    yield _use_key(world, setting, "s3", "Write", "kms:GenerateDataKey")


def _delete_objects(world: World, setting: str) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        sid=f"Delete{_name(setting)}",
        actions=["s3:DeleteObject"],
        resources=[world.buckets[setting].arn_for_objects("*")],
    )


def _items(world: World, setting: str, *actions: str) -> Iterator[iam.PolicyStatement]:
    yield iam.PolicyStatement(
        sid=f"Items{_name(setting)}", actions=list(actions), resources=[world.tables[setting].table_arn]
    )
    # DynamoDB decrypts the table's key in the caller's name, for writing too.
    yield _use_key(world, setting, "dynamodb", "Items", "kms:Decrypt", "kms:DescribeKey")


def _use_key(world: World, setting: str, service: str, what: str, *actions: str) -> iam.PolicyStatement:
    """Use of a key through one service only."""
    return iam.PolicyStatement(
        sid=f"{what}Key{_name(setting)}",
        actions=list(actions),
        resources=[world.keys[key_of(setting)].key_arn],
        conditions={"StringEquals": {"kms:ViaService": f"{service}.{world.stack.region}.amazonaws.com"}},
    )


def _emit(world: World) -> iam.PolicyStatement:
    return iam.PolicyStatement(sid="Emit", actions=["events:PutEvents"], resources=[world.bus.event_bus_arn])


def _read_flags(world: World) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        sid="ReadFlags",
        actions=["appconfig:StartConfigurationSession", "appconfig:GetLatestConfiguration"],
        resources=[world.flags],
    )


def _record(world: World) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        sid="RecordDecisions", actions=["sqs:SendMessage"], resources=[world.ledger_queue.queue_arn]
    )


def _secret(world: World) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        sid="PseudonymKey",
        actions=["secretsmanager:GetSecretValue"],
        resources=[world.pseudonym_key],
    )


def _decrypt_secret(world: World) -> iam.PolicyStatement:
    return _use_key(world, "pseudonym_key", "secretsmanager", "Read", "kms:Decrypt")


def _name(setting: str) -> str:
    return "".join(part.capitalize() for part in setting.split("_"))


_POLICIES = {
    "gate": _gate,
    "detect": _detect,
    "recognize": _recognize,
    "review": _review,
    "ledger": _ledger,
    "api": _api,
    "flags": _flags,
    "console": _console,
}
