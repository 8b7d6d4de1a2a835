"""The ledger by policy: what is written once stays, who sequences cannot sign, and who signs cannot sequence.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html
"""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3

from constructs import Construct
from infra.config import Config
from infra.constructs.deny import deny

#: The one object that is written over: a pointer to the latest checkpoint, which nothing trusts.
POINTER = "checkpoint"
#: The lookup index, which may be made again, and which nothing trusts either.
INDEX = "index/*"
#: What each of the two roles writes, and nobody else.
SEQUENCED = ("log", "sequenced/*", "tile/*", "opening/*")
SIGNED = (POINTER, "checkpoints/*", "cosignatures/*", "refusals/*")


def retention(config: Config) -> s3.ObjectLockRetention:
    """Return the lock of every object: one that nobody ends, unless the deployment is there to be destroyed."""
    days = Duration.days(config.ledger_lock_days)
    if config.removal == "retain":
        return s3.ObjectLockRetention.compliance(days)
    return s3.ObjectLockRetention.governance(days)


def write_once(
    config: Config,
    bucket: s3.Bucket,
    sequencer: Sequence[str],
    signer: Sequence[str],
    indexer: Sequence[str],
) -> None:
    """Let objects be written once, whole, by their one writer, and never be deleted.

    A request without ``If-None-Match`` is denied, so S3 itself refuses the second write of a key. The parts of a
    multipart upload and copies cannot carry that header, and are denied by name too. An emulator does not tell its
    policies about the header, and would deny every write. Where a deployment is there to be destroyed, its
    objects may be deleted. Operators may repair the index, and nothing else.
    """
    everything = bucket.arn_for_objects("*")
    once = deny(
        "WrittenOnce",
        ["s3:PutObject"],
        but=[bucket.arn_for_objects(POINTER), bucket.arn_for_objects(INDEX)],
        conditions={"Null": {"s3:if-none-match": "true"}},
    )
    forever = deny(
        "NobodyDeletes",
        [
            "s3:DeleteObject",
            "s3:DeleteObjectVersion",
            "s3:BypassGovernanceRetention",
            "s3:ReplicateDelete",
        ],
        [everything],
    )
    for statement in (
        *(() if config.emulator else (once,)),
        deny("NoCopies", ["s3:PutObject"], [everything], {"Null": {"s3:x-amz-copy-source": "false"}}),
        deny("NoParts", ["s3:PutObject"], [everything], {"Bool": {"s3:ObjectCreationOperation": "false"}}),
        *(() if config.removal == "destroy" else (forever,)),
        _one_writer("OneSequencer", bucket, SEQUENCED, sequencer),
        _one_writer("OneSigner", bucket, SIGNED, signer),
        _one_writer("OneIndexer", bucket, (INDEX,), indexer),
    ):
        bucket.add_to_resource_policy(statement)


def _one_writer(
    sid: str, bucket: s3.Bucket, keys: tuple[str, ...], role: Sequence[str]
) -> iam.PolicyStatement:
    objects = [bucket.arn_for_objects(key) for key in keys]
    return deny(sid, ["s3:PutObject"], objects, {"ArnNotEquals": {"aws:PrincipalArn": role}})


def one_head(table: dynamodb.Table, sequencer: Sequence[str]) -> None:
    """Let only the sequencer put the head, by ``PutItem``, and nobody change or delete it otherwise."""
    verbs = ("UpdateItem", "DeleteItem", "BatchWriteItem", "PartiQLUpdate", "PartiQLDelete", "PartiQLInsert")
    table.add_to_resource_policy(deny("NobodyElseMoves", [f"dynamodb:{verb}" for verb in verbs], ["*"]))
    others = {"ArnNotEquals": {"aws:PrincipalArn": sequencer}}
    table.add_to_resource_policy(deny("OneSequencer", ["dynamodb:PutItem"], ["*"], others))


class SigningKey(Construct):
    """The Ed25519 key that signs checkpoints. It never leaves KMS, and only the signer's role may use it."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        config: Config,
        removal: RemovalPolicy,
        signer: Sequence[str],
    ) -> None:
        super().__init__(scope, construct_id)
        self.key = kms.Key(
            self,
            "Key",
            description=f"{config.name}: signs the ledger's checkpoints",
            key_spec=kms.KeySpec.ECC_NIST_P256,
            key_usage=kms.KeyUsage.SIGN_VERIFY,
            removal_policy=removal,
            pending_window=Duration.days(7 if config.removal == "destroy" else 30),
        )
        resource = self.key.node.default_child
        assert isinstance(resource, kms.CfnKey)
        # The construct library has no name for it yet.
        resource.add_property_override("KeySpec", "ECC_NIST_EDWARDS25519")
        others = {"ArnNotEquals": {"aws:PrincipalArn": signer}}
        self.key.add_to_resource_policy(deny("OneSigner", ["kms:Sign"], ["*"], others))
