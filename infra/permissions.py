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
from typing import TYPE_CHECKING

import msgspec
from aws_cdk import Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_

from infra.constructs.bus import Announcements
from infra.constructs.console import Console
from infra.constructs.moratoria import Moratoria
from infra.constructs.stage import StageQueue
from infra.constructs.storage import key_of
from infra.stacks.state import StateStack

if TYPE_CHECKING:
    from infra.stacks.embedding import EmbeddingStack

Statements = Iterator[iam.PolicyStatement]

#: Actions of AppConfig that find the flags in force, that deploy others, and that show more to people.
_FIND = ("ListEnvironments", "ListConfigurationProfiles", "ListDeployments", "GetHostedConfigurationVersion")
_VERSIONS = ("ListHostedConfigurationVersions", "CreateHostedConfigurationVersion")
_DEPLOY = (*_FIND, *_VERSIONS, "StartDeployment", "StopDeployment")
_INSPECT = (
    "GetApplication",
    "GetConfigurationProfile",
    "GetDeployment",
    "GetEnvironment",
    "ValidateConfiguration",
)

#: Actions of DynamoDB on the records of uploads.
_RECORD = ("GetItem", "BatchGetItem", "UpdateItem")
#: Actions of DynamoDB by which the stores read and write items.
_READ = ("GetItem", "BatchGetItem", "Query")
_WRITE = ("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "ConditionCheckItem")


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a deployment that policies name."""

    stack: Stack
    state: StateStack
    bus: events.IEventBus
    #: The queues of the stages, by the stage's name.
    queues: Mapping[str, StageQueue]
    moratoria: Moratoria
    announcements: Announcements
    flags_function: lambda_.IFunction
    embedding: EmbeddingStack | None
    console: Console | None


def of(function: str, resources: Resources) -> list[iam.PolicyStatement]:
    """Return the statements of a function's policy, besides those that its logs and its queue need."""
    return _distinct(_POLICIES[function](resources))


def of_flag_pipeline(resources: Resources) -> list[iam.PolicyStatement]:
    """Return the statements of the policy by which people propose, approve and deploy flags."""
    statements = [
        _deploy_flags(resources, *_DEPLOY, *_INSPECT),
        _find_by_name("ListApplications", "ListDeploymentStrategies"),
        _read_flags(resources),
        *_items(resources, "proposals_table", "GetItem", "PutItem", "Scan"),
        *_items(resources, "tenants_table", "GetItem", "Scan"),
        _send(resources, "ledger", "RecordOnLedger"),
    ]
    return _distinct(statements)


def _gate(resources: Resources) -> Statements:
    yield from _head(resources, "uploads_bucket")
    yield iam.PolicyStatement(
        sid="NeverReadsPhotos",
        effect=iam.Effect.DENY,
        actions=["kms:Decrypt"],
        resources=[resources.state.keys.by_name["photos"].key_arn],
    )
    yield from _photo_stage(resources, "PutItem")
    yield _send(resources, "gate", "GroupByTenant")


def _detect(resources: Resources) -> Statements:
    yield from _read_objects(resources, "uploads_bucket")
    yield from _replace_objects(resources, "chips_bucket")
    yield from _photo_stage(resources)


def _recognize(resources: Resources) -> Statements:
    yield from _read_objects(resources, "chips_bucket")
    yield from _replace_objects(resources, "chips_bucket")
    yield from _photo_stage(resources)
    yield _allow(
        "ScanTenants", ["dynamodb:Scan"], [resources.state.tables.by_setting["tenants_table"].table_arn]
    )
    yield _send(resources, "recognize", "WaitForTheEmbedder")
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
    yield _send(resources, "ledger", "RecordDecisions")
    yield _read_flags(resources)
    yield _count_requests(resources)
    yield _use_key(resources, "uploads_table", "dynamodb", "Items", "kms:Decrypt", "kms:DescribeKey")
    yield from _secrets(resources)


def _count_requests(resources: Resources) -> iam.PolicyStatement:
    """Return the use of the uploads table for the counters of :mod:`abeyance.rekognition.rates`, and nothing else."""
    counters = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": "rate#*"}}
    table = resources.state.tables.by_setting["uploads_table"].table_arn
    return _allow("CountRequests", ["dynamodb:UpdateItem"], [table], counters)


def _flags(resources: Resources) -> Statements:
    yield from _items(resources, "proposals_table", "GetItem")
    yield from _items(resources, "tenants_table", "GetItem", "Scan")
    yield _read_flags(resources)
    yield _deploy_flags(resources, *_DEPLOY)
    yield _find_by_name("ListApplications", "ListDeploymentStrategies")
    schedules = [f"scheduler:{verb}Schedule" for verb in ("Create", "Delete", "Get")]
    yield _allow("Announce", schedules, [resources.announcements.schedules_arn])
    yield _allow("ListAnnouncements", ["scheduler:ListSchedules"], ["*"])
    passed_to = {"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}}
    yield _allow("AnnounceAs", ["iam:PassRole"], [resources.announcements.role.role_arn], passed_to)


def _console(resources: Resources) -> Statements:
    yield from _items(resources, "reviews_table", *_READ, "PutItem", "UpdateItem", "DeleteItem")
    # Judging: the two pictures, of which one may have to be cut anew from its photo, and the result.
    yield from _read_objects(resources, "uploads_bucket")
    yield from _read_objects(resources, "chips_bucket")
    yield from _put_objects(resources, "chips_bucket")
    yield from _items(resources, "uploads_table", *_RECORD, "Scan")
    yield from _replace_objects(resources, "results_bucket")
    yield _emit(resources)
    # Erasing.
    yield from _items(resources, "erasures_table", *_READ, "PutItem", "UpdateItem", "DeleteItem")
    yield from _gallery_store(resources)
    # Moratoria: proposals are stored here and deployed by flags.
    yield from _items(resources, "proposals_table", "GetItem", "PutItem", "Scan")
    yield from _items(resources, "tenants_table", "GetItem", "Scan")
    yield _read_flags(resources)
    yield _allow("SeeFlags", _appconfig(*_FIND), resources.moratoria.control_plane())
    yield _find_by_name("ListApplications")
    yield _allow("HandOver", ["lambda:InvokeFunction"], [resources.flags_function.function_arn])
    # The console reads the ledger; what happens at the console is put on it by its writer.
    yield from _items(resources, "ledger_table", *_READ)
    yield from _read_objects(resources, "ledger_bucket")
    yield _send(resources, "ledger", "RecordDecisions")
    console = resources.console
    yield from _secrets(resources, *(console.secrets if console else ()))
    if console and console.user_pool:
        yield _allow("ClientSecret", ["cognito-idp:DescribeUserPoolClient"], [console.user_pool])


def _photo_stage(resources: Resources, *record_actions: str) -> Statements:
    """Yield what gate, detect and recognize need to decide, record, answer and emit."""
    yield from _items(resources, "uploads_table", *_RECORD, *record_actions)
    yield from _items(resources, "tenants_table", "GetItem")
    yield from _replace_objects(resources, "results_bucket")
    yield _emit(resources)
    yield _read_flags(resources)


def _gallery(resources: Resources) -> Statements:
    yield from _gallery_store(resources)
    if resources.state.vector_index:
        yield _allow("SearchVectors", ["dynamodb:SearchVectors"], [resources.state.vector_index])
    if resources.embedding and resources.embedding.sagemaker:
        yield _allow("Embed", ["sagemaker:InvokeEndpoint"], resources.embedding.sagemaker.arns)


def _gallery_store(resources: Resources) -> Statements:
    yield from _items(resources, "gallery_table", *_READ, *_WRITE)
    yield from _read_objects(resources, "gallery_bucket")
    yield from _replace_objects(resources, "gallery_bucket")


def _head(resources: Resources, setting: str) -> Statements:
    """Yield what heads of objects need. Without ListBucket a missing object would be a 403 and look like our fault."""
    bucket = resources.state.buckets.by_setting[setting]
    actions = ["s3:GetObject", "s3:GetObjectVersion"]
    yield _allow(f"Head{_name(setting)}", actions, [bucket.arn_for_objects("*")])
    yield _allow(f"List{_name(setting)}", ["s3:ListBucket"], [bucket.bucket_arn])


def _read_objects(resources: Resources, setting: str) -> Statements:
    yield from _head(resources, setting)
    yield _use_key(resources, setting, "s3", "Read", "kms:Decrypt")


def _put_objects(resources: Resources, setting: str) -> Statements:
    objects = resources.state.buckets.by_setting[setting].arn_for_objects("*")
    yield _allow(f"Put{_name(setting)}", ["s3:PutObject"], [objects])
    yield _use_key(resources, setting, "s3", "Write", "kms:GenerateDataKey")


def _replace_objects(resources: Resources, setting: str) -> Statements:
    """Yield what putting and deleting objects needs."""
    yield from _put_objects(resources, setting)
    objects = resources.state.buckets.by_setting[setting].arn_for_objects("*")
    yield _allow(f"Delete{_name(setting)}", ["s3:DeleteObject"], [objects])


def _items(resources: Resources, setting: str, *actions: str) -> Statements:
    table = resources.state.tables.by_setting[setting].table_arn
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
    return _allow(sid, actions, [resources.state.keys.by_name[key].key_arn], through)


def _secrets(resources: Resources, *others: str) -> Statements:
    yield _allow("Secrets", ["secretsmanager:GetSecretValue"], [resources.state.pseudonym_key, *others])
    yield _use_key(resources, "pseudonym_key", "secretsmanager", "Read", "kms:Decrypt")


def _emit(resources: Resources) -> iam.PolicyStatement:
    return _allow("Emit", ["events:PutEvents"], [resources.bus.event_bus_arn])


def _send(resources: Resources, stage: str, sid: str) -> iam.PolicyStatement:
    return _allow(sid, ["sqs:SendMessage"], [resources.queues[stage].queue.queue_arn])


def _read_flags(resources: Resources) -> iam.PolicyStatement:
    actions = _appconfig("StartConfigurationSession", "GetLatestConfiguration")
    return _allow("ReadFlags", actions, [resources.moratoria.flags_arn()])


def _find_by_name(*actions: str) -> iam.PolicyStatement:
    return _allow("FindByName", _appconfig(*actions), ["*"])


def _deploy_flags(resources: Resources, *actions: str) -> iam.PolicyStatement:
    targets = [*resources.moratoria.control_plane(), *resources.moratoria.strategies()]
    return _allow("DeployFlags", _appconfig(*actions), targets)


def _appconfig(*actions: str) -> list[str]:
    return [f"appconfig:{action}" for action in actions]


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
