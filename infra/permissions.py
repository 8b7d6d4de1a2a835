"""The permissions of each function, of officers and of auditors: one policy each, every statement on named resources.

The statements are in ``permissions.toml``. Read it beside docs/operations.md, "Who may do what". It keeps four
promises, which tests/infra checks:

- The gate asks for the head of an object, which IAM cannot tell from reading it (both are ``s3:GetObject``). That it
  cannot read is a matter of the key: it may not decrypt with that of the photos, and a deny makes sure of it. In
  buckets of tenants it may read the tags of objects and nothing else.
- Only recognize and api reach the gallery and the key of the templates, and the console, which erases.
- Only ledger gives entries their places, and only checkpoint signs; neither can do the other.
- Only flags, the change service, deploys configuration and writes registrations, proposals and people. Officers and the
  console ask it, through API Gateway, which says who asks; nobody may invoke it directly.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aws_cdk import aws_iam as iam

from abeyance.pipeline import events, topology
from infra.constructs.stage import StageQueue
from infra.constructs.storage import key_of
from infra.stacks.state import StateStack

Statements = Iterator[iam.PolicyStatement]

#: Unit -> the events that it may put on the bus. People end reviews in the console, and an erasure there hands on what
#: the stages recorded and may have died before they emitted it.
_EMITTED_BY: dict[str, set[type[events.Event]]] = {
    **{stage.name: set(stage.emits) for stage in topology.STAGES},
    "review": {events.EventRefused},
    "console": {
        *(set(topology.REVIEW.emits) - {events.EventRefused}),
        *(events.UploadPermitted, events.FacesDetected, events.UploadRejected),
    },
}
_TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())


class Permissions:
    """The statements of ``permissions.toml`` on the resources of one deployment.

    Parameters
    ----------
    queues
        The queues of the stages, by the stage's name.
    arns
        Further ARNs by the names that ``permissions.toml`` has for them.
    emulator
        Leave out the conditions that a key is there (``Null``): the emulator of the tests does not give KMS's.
    """

    def __init__(
        self,
        state: StateStack,
        queues: Mapping[str, StageQueue],
        arns: Mapping[str, Sequence[str]],
        *,
        emulator: bool = False,
    ) -> None:
        self._without = {"Null"} if emulator else set()
        self._state, self._queues = state, queues
        tables = {name: [table.table_arn] for name, table in state.tables.by_setting.items()}
        keys = {f"{name}_key": [key.key_arn] for name, key in state.keys.by_name.items()}
        index = [state.vector_index] if state.vector_index else []
        self._arns: dict[str, Sequence[str]] = {
            **tables,
            **keys,
            "any": ["*"],
            "vector_index": index,
            "signing_key": [state.signing_key] if state.signing_key else [],
            "ledger_secrets": state.ledger_secrets,
            **arns,
        }

    def of(self, policy: str) -> list[iam.PolicyStatement]:
        """Return the statements of a policy, each once, as stores that share a key repeat its use.

        A function's policy has those that its logs and its queue need besides.

        Raises
        ------
        ValueError
            If two statements share a name and differ: one would be lost.
        """
        distinct: dict[str, iam.PolicyStatement] = {}
        for statement in self._use(policy):
            known = distinct.setdefault(statement.sid or "", statement)
            if known is not statement and known.to_json() != statement.to_json():
                raise ValueError(f"two different statements are named {statement.sid}")
        return list(distinct.values())

    def _use(self, policy: str) -> Statements:
        for entry in _TABLE["policies"][policy]:
            (verb, subject), *options = entry.items()
            yield from getattr(self, f"_{verb}")(subject, **dict(options))

    def _head(self, setting: str) -> Statements:
        # Without ListBucket a missing object would be a 403 and look like our fault.
        bucket = self._state.buckets.by_setting[setting]
        yield from self._objects("Head", setting, "s3:GetObject", "s3:GetObjectVersion")
        # Who verifies the ledger looks for objects that were written over.
        versions = ["s3:ListBucketVersions"] if setting == "ledger_bucket" else []
        yield _statement(f"List{_name(setting)}", ["s3:ListBucket", *versions], [bucket.bucket_arn])

    def _read(self, setting: str) -> Statements:
        yield from self._head(setting)
        yield self._use_key(setting, "s3", "Read", "kms:Decrypt")

    def _put(self, setting: str, under: Sequence[str] = ("*",)) -> Statements:
        yield from self._objects("Put", setting, "s3:PutObject", under=under)
        yield self._use_key(setting, "s3", "Write", "kms:GenerateDataKey")

    def _replace(self, setting: str) -> Statements:
        yield from self._put(setting)
        yield from self._objects("Delete", setting, "s3:DeleteObject")

    def _objects(
        self, purpose: str, setting: str, *actions: str, under: Sequence[str] = ("*",)
    ) -> Statements:
        bucket = self._state.buckets.by_setting[setting]
        objects = [bucket.arn_for_objects(keys) for keys in under]
        yield _statement(f"{purpose}{_name(setting)}", actions, objects)

    def _items(self, setting: str, actions: Sequence[str]) -> Statements:
        verbs = [f"dynamodb:{action}" for action in _expanded(actions)]
        yield _statement(f"Items{_name(setting)}", verbs, self._arns[setting])
        yield from self._key(setting)

    def _key(self, setting: str) -> Statements:
        # DynamoDB decrypts the table's key in the caller's name, for writing too.
        yield self._use_key(setting, "dynamodb", "Items", "kms:Decrypt", "kms:DescribeKey")

    def _secrets(self, others: Sequence[str]) -> Statements:
        arns = [self._state.pseudonym_key, *self._named(others)]
        yield _statement("Secrets", ["secretsmanager:GetSecretValue"], arns)
        yield self._use_key("pseudonym_key", "secretsmanager", "Read", "kms:Decrypt")

    def _secret(self, name: str) -> Statements:
        """Yield the reading of one secret; nothing where this deployment does not have it."""
        if arns := self._named([name]):
            yield _statement("Secrets", ["secretsmanager:GetSecretValue"], arns)
            yield self._use_key("pseudonym_key", "secretsmanager", "Read", "kms:Decrypt")

    def _send(self, stage: str, sid: str) -> Statements:
        yield _statement(sid, ["sqs:SendMessage"], [self._queues[stage].queue.queue_arn])

    def _emit(self, unit: str) -> Statements:
        kinds = sorted(kind.detail_type for kind in _EMITTED_BY[unit])
        # Every entry has both keys; IfExists, because the emulator of the tests knows neither.
        only = {"StringEqualsIfExists": {"events:source": topology.SOURCE, "events:detail-type": kinds}}
        yield _statement("Emit", ["events:PutEvents"], self._arns["bus"], only)

    def _deny(self, sid: str, actions: Sequence[str], on: Sequence[str]) -> Statements:
        yield _statement(sid, actions, self._named(on), effect=iam.Effect.DENY)

    def _allow(
        self,
        sid: str,
        actions: Sequence[str],
        on: Sequence[str],
        when: Mapping[str, Mapping[str, str]] | None = None,
        *,
        optional: bool = False,
    ) -> Statements:
        """Yield a statement; none on an ``optional`` resource that this deployment does not have."""
        arns = self._named(on)
        if arns or not optional:
            conditions = {name: keys for name, keys in (when or {}).items() if name not in self._without}
            yield _statement(sid, _expanded(actions), arns, conditions or None)

    def _named(self, names: Sequence[str]) -> list[str]:
        return [arn for name in names for arn in self._arns[name]]

    def _use_key(self, setting: str, service: str, purpose: str, *actions: str) -> iam.PolicyStatement:
        """Return the use of a key through one service only."""
        name = key_of(setting)
        through = {"StringEquals": {"kms:ViaService": f"{service}.{self._state.region}.amazonaws.com"}}
        sid = f"{purpose}{service.capitalize()}Key{name.capitalize()}"
        return _statement(sid, actions, self._arns[f"{name}_key"], through)


def _expanded(actions: Sequence[str]) -> list[str]:
    """Return the actions with those of each group ``@name`` in its place."""
    return [one for name in actions for one in (_TABLE["groups"][name[1:]] if name[0] == "@" else [name])]


def _statement(
    sid: str,
    actions: Sequence[str],
    resources: Sequence[str],
    conditions: Mapping[str, Mapping[str, Any]] | None = None,
    effect: iam.Effect = iam.Effect.ALLOW,
) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        sid=sid, effect=effect, actions=list(actions), resources=list(resources), conditions=conditions
    )


def _name(setting: str) -> str:
    return "".join(part.capitalize() for part in setting.split("_"))
