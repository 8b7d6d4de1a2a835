"""The permissions of each function and of the flag pipeline: one policy each, every statement on named resources.

Read it beside docs/operations.md, "Who may do what". It keeps four promises, which tests/infra checks:

- The gate asks for the head of an object, which IAM cannot tell from reading it (both are ``s3:GetObject``). That it
  cannot read is a matter of the key: it may not decrypt with that of the photos, and a deny makes sure of it.
- Only recognize and api reach the gallery and the key of the templates, and the console, which erases.
- Only ledger writes the ledger, by ``PutItem``.
- Only the flag pipeline deploys configuration: people with its policy, and flags, which checks every document as
  AppConfig's validator does. The console hands documents to flags and can deploy nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from aws_cdk import Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs

from infra.constructs.storage import key_of

Statements = Iterator[iam.PolicyStatement]

#: To find the flags in force.
_FIND_FLAGS = (
    "appconfig:ListEnvironments",
    "appconfig:ListConfigurationProfiles",
    "appconfig:ListDeployments",
    "appconfig:GetHostedConfigurationVersion",
)
#: To find the flags in force and to deploy others.
_DEPLOY_FLAGS = (
    *_FIND_FLAGS,
    "appconfig:ListHostedConfigurationVersions",
    "appconfig:CreateHostedConfigurationVersion",
    "appconfig:StartDeployment",
    "appconfig:StopDeployment",
)
#: What people need beside that, in AppConfig's console and command line.
_INSPECT_FLAGS = (
    "appconfig:GetApplication",
    "appconfig:GetConfigurationProfile",
    "appconfig:GetDeployment",
    "appconfig:GetEnvironment",
    "appconfig:ValidateConfiguration",
)

#: Actions of DynamoDB on the records of uploads.
_RECORD = ("GetItem", "BatchGetItem", "UpdateItem")
#: Actions of DynamoDB by which the stores read and write items.
_READ = ("GetItem", "BatchGetItem", "Query")
_WRITE = ("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "ConditionCheckItem")


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """The resources that policies name; buckets and tables by the setting that holds their name."""

    stack: Stack
    keys: Mapping[str, kms.IKey]
    buckets: Mapping[str, s3.IBucket]
    tables: Mapping[str, dynamodb.ITable]
    #: ARN of the secret.
    pseudonym_key: str
    bus: events.IEventBus
    ledger_queue: sqs.IQueue
    recognize_queue: sqs.IQueue
    #: ARN of the flags in AppConfig's data plane.
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


def of(function: str, resources: Resources) -> list[iam.PolicyStatement]:
    """Return the statements of a function's policy, besides those that its logs and its queue need."""
    return _distinct(_POLICIES[function](resources))


def of_flag_pipeline(resources: Resources) -> list[iam.PolicyStatement]:
    """Return the statements of the policy by which people propose, approve and deploy flags."""
    statements = [
        _allow("DeployFlags", [*_DEPLOY_FLAGS, *_INSPECT_FLAGS], _control_plane(resources)),
        _find_by_name("ListApplications", "ListDeploymentStrategies"),
        _read_flags(resources),
        *_items(resources, "proposals_table", "GetItem", "PutItem", "Scan"),
        *_items(resources, "tenants_table", "GetItem", "Scan"),
        _send(resources.ledger_queue, "RecordOnLedger"),
    ]
    return _distinct(statements)


def _gate(resources: Resources) -> Statements:
    yield from _head(resources, "uploads_bucket")
    yield iam.PolicyStatement(
        sid="NeverReadsPhotos",
        effect=iam.Effect.DENY,
        actions=["kms:Decrypt"],
        resources=[resources.keys["photos"].key_arn],
    )
    yield from _photo_stage(resources, "PutItem")


def _detect(resources: Resources) -> Statements:
    yield from _read_objects(resources, "uploads_bucket")
    yield from _replace_objects(resources, "chips_bucket")
    yield from _photo_stage(resources)


def _recognize(resources: Resources) -> Statements:
    yield from _read_objects(resources, "chips_bucket")
    yield from _replace_objects(resources, "chips_bucket")
    yield from _photo_stage(resources)
    yield _allow("ScanTenants", ["dynamodb:Scan"], [resources.tables["tenants_table"].table_arn])
    yield _send(resources.recognize_queue, "WaitForTheEmbedder")
    yield from _gallery(resources)


def _review(resources: Resources) -> Statements:
    yield from _items(resources, "reviews_table", "PutItem")


def _ledger(resources: Resources) -> Statements:
    # A transaction's conditional puts are PutItem; nothing here changes or deletes.
    yield from _items(resources, "ledger_table", *_READ, "PutItem")
    # Checkpoints, which Object Lock protects from everybody, the writer included.
    yield from _read_objects(resources, "ledger_bucket")
    yield from _put_objects(resources, "ledger_bucket")
    yield from _secrets(resources)


def _api(resources: Resources) -> Statements:
    yield from _read_objects(resources, "uploads_bucket")
    yield from _items(resources, "tenants_table", "GetItem")
    yield from _gallery(resources)
    yield _send(resources.ledger_queue, "RecordDecisions")
    yield _read_flags(resources)
    yield from _secrets(resources)


def _flags(resources: Resources) -> Statements:
    yield from _items(resources, "proposals_table", "GetItem")
    yield from _items(resources, "tenants_table", "GetItem", "Scan")
    yield _read_flags(resources)
    yield _allow("DeployFlags", _DEPLOY_FLAGS, _control_plane(resources))
    yield _find_by_name("ListApplications", "ListDeploymentStrategies")
    schedules = [f"scheduler:{verb}Schedule" for verb in ("Create", "Delete", "Get")]
    yield _allow("Announce", schedules, [resources.announcements])
    yield _allow("ListAnnouncements", ["scheduler:ListSchedules"], ["*"])
    passed_to = {"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}}
    yield _allow("AnnounceAs", ["iam:PassRole"], [resources.announcer], passed_to)


def _console(resources: Resources) -> Statements:
    yield from _items(resources, "reviews_table", "GetItem", "Query", "PutItem", "UpdateItem", "DeleteItem")
    # Judging: the two pictures, of which one may have to be cut anew from its photo, and the result.
    yield from _read_objects(resources, "uploads_bucket")
    yield from _read_objects(resources, "chips_bucket")
    yield from _put_objects(resources, "chips_bucket")
    yield from _items(resources, "uploads_table", *_RECORD)
    yield from _replace_objects(resources, "results_bucket")
    yield _emit(resources)
    # Erasing.
    yield from _gallery_store(resources)
    # Moratoria: proposals are stored here and deployed by flags.
    yield from _items(resources, "proposals_table", "GetItem", "PutItem", "Scan")
    yield from _items(resources, "tenants_table", "GetItem", "Scan")
    yield _read_flags(resources)
    yield _allow("SeeFlags", _FIND_FLAGS, resources.control_plane)
    yield _find_by_name("ListApplications")
    yield _allow("HandOver", ["lambda:InvokeFunction"], [resources.flags_function])
    # The console reads the ledger; what happens at the console is put on it by its writer.
    yield from _items(resources, "ledger_table", *_READ)
    yield from _read_objects(resources, "ledger_bucket")
    yield _send(resources.ledger_queue, "RecordDecisions")
    yield from _secrets(resources, *resources.console_secrets)
    if resources.user_pool:
        yield _allow("ClientSecret", ["cognito-idp:DescribeUserPoolClient"], [resources.user_pool])


def _photo_stage(resources: Resources, *record_actions: str) -> Statements:
    """Yield what gate, detect and recognize need to decide, record, answer and emit."""
    yield from _items(resources, "uploads_table", *_RECORD, *record_actions)
    yield from _items(resources, "tenants_table", "GetItem")
    yield from _replace_objects(resources, "results_bucket")
    yield _emit(resources)
    yield _read_flags(resources)


def _gallery(resources: Resources) -> Statements:
    yield from _gallery_store(resources)
    if resources.vector_index:
        yield _allow("SearchVectors", ["dynamodb:SearchVectors"], [resources.vector_index])
    if resources.endpoint:
        yield _allow("Embed", ["sagemaker:InvokeEndpoint"], resources.endpoint)


def _gallery_store(resources: Resources) -> Statements:
    yield from _items(resources, "gallery_table", *_READ, *_WRITE)
    yield from _read_objects(resources, "gallery_bucket")
    yield from _replace_objects(resources, "gallery_bucket")


def _head(resources: Resources, setting: str) -> Statements:
    """Yield what heads of objects need. Without ListBucket a missing object would be a 403 and look like our fault."""
    bucket = resources.buckets[setting]
    actions = ["s3:GetObject", "s3:GetObjectVersion"]
    yield _allow(f"Head{_name(setting)}", actions, [bucket.arn_for_objects("*")])
    yield _allow(f"List{_name(setting)}", ["s3:ListBucket"], [bucket.bucket_arn])


def _read_objects(resources: Resources, setting: str) -> Statements:
    yield from _head(resources, setting)
    yield _use_key(resources, setting, "s3", "Read", "kms:Decrypt")


def _put_objects(resources: Resources, setting: str) -> Statements:
    objects = resources.buckets[setting].arn_for_objects("*")
    yield _allow(f"Put{_name(setting)}", ["s3:PutObject"], [objects])
    yield _use_key(resources, setting, "s3", "Write", "kms:GenerateDataKey")


def _replace_objects(resources: Resources, setting: str) -> Statements:
    """Yield what putting and deleting objects needs."""
    yield from _put_objects(resources, setting)
    objects = resources.buckets[setting].arn_for_objects("*")
    yield _allow(f"Delete{_name(setting)}", ["s3:DeleteObject"], [objects])


def _items(resources: Resources, setting: str, *actions: str) -> Statements:
    table = resources.tables[setting].table_arn
    yield _allow(f"Items{_name(setting)}", [f"dynamodb:{action}" for action in actions], [table])
    # DynamoDB decrypts the table's key in the caller's name, for writing too.
    yield _use_key(resources, setting, "dynamodb", "Items", "kms:Decrypt", "kms:DescribeKey")


def _use_key(
    resources: Resources, setting: str, service: str, purpose: str, *actions: str
) -> iam.PolicyStatement:
    """Return the use of a key through one service only."""
    through = {"StringEquals": {"kms:ViaService": f"{service}.{resources.stack.region}.amazonaws.com"}}
    key = key_of(setting)
    sid = f"{purpose}{service.capitalize()}Key{key.capitalize()}"
    return _allow(sid, actions, [resources.keys[key].key_arn], through)


def _secrets(resources: Resources, *others: str) -> Statements:
    yield _allow("Secrets", ["secretsmanager:GetSecretValue"], [resources.pseudonym_key, *others])
    yield _use_key(resources, "pseudonym_key", "secretsmanager", "Read", "kms:Decrypt")


def _emit(resources: Resources) -> iam.PolicyStatement:
    return _allow("Emit", ["events:PutEvents"], [resources.bus.event_bus_arn])


def _send(queue: sqs.IQueue, sid: str) -> iam.PolicyStatement:
    return _allow(sid, ["sqs:SendMessage"], [queue.queue_arn])


def _read_flags(resources: Resources) -> iam.PolicyStatement:
    actions = ["appconfig:StartConfigurationSession", "appconfig:GetLatestConfiguration"]
    return _allow("ReadFlags", actions, [resources.flags])


def _find_by_name(*actions: str) -> iam.PolicyStatement:
    return _allow("FindByName", [f"appconfig:{action}" for action in actions], ["*"])


def _control_plane(resources: Resources) -> list[str]:
    return [*resources.control_plane, *resources.strategies]


def _allow(
    sid: str,
    actions: Sequence[str],
    resources: Sequence[str],
    conditions: Mapping[str, Mapping[str, str]] | None = None,
) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        sid=sid, actions=list(actions), resources=list(resources), conditions=conditions
    )


def _distinct(statements: Iterable[iam.PolicyStatement]) -> list[iam.PolicyStatement]:
    """Return the statements, each once: stores that share a key repeat its use.

    Raises
    ------
    ValueError
        If two statements share a name and differ: one would be lost.
    """
    distinct: dict[str, iam.PolicyStatement] = {}
    for statement in statements:
        known = distinct.setdefault(statement.sid or "", statement)
        if known is not statement and known.to_json() != statement.to_json():
            raise ValueError(f"two different statements are named {statement.sid}")
    return list(distinct.values())


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
