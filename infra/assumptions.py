"""Every behaviour of AWS that code, fakes and simulation rest on: one list, with its documentation.

docs/aws-assumptions.md is made from it (``python -m infra.awscheck --write``); ``make aws-check`` checks what
:mod:`infra.awscheck` has a check for, by the assumption's name. Those without a check say why not.
"""

from __future__ import annotations

import msgspec

_DOCS = "https://docs.aws.amazon.com/"
_DYNAMODB = f"{_DOCS}amazondynamodb/latest/developerguide/"
_DYNAMODB_API = f"{_DOCS}amazondynamodb/latest/APIReference/"
_S3 = f"{_DOCS}AmazonS3/latest/userguide/"
_SQS = f"{_DOCS}AWSSimpleQueueService/latest/SQSDeveloperGuide/"
_EVENTS = f"{_DOCS}eventbridge/latest/userguide/"
_LAMBDA = f"{_DOCS}lambda/latest/dg/"
_APPCONFIG = f"{_DOCS}appconfig/latest/userguide/"


class Assumption(msgspec.Struct, frozen=True, kw_only=True):
    """A behaviour of AWS. ``unchecked`` says why no check can show it; empty where ``make aws-check`` has one."""

    name: str
    holds: str
    source: str
    #: Modules and documents that rest on it.
    used_by: tuple[str, ...]
    unchecked: str = ""
    #: What the emulator of the tests does instead; empty where it is right.
    emulator: str = ""


_NO_FAULT = "only a fault of AWS shows it; the simulation makes it instead"
_NO_LOAD = "it takes a load that is not worth its price"
_NO_WAIT = "it takes longer than a check may"
_NO_FUNCTION = "it takes a deployed function; `make e2e` and a deployment show it"

_TABLE = "abeyance.aws.dynamodb"
_MOTO = "abeyance.local.moto"

ASSUMPTIONS = (
    # DynamoDB
    Assumption(
        name="dynamodb.conditional_write",
        holds="A conditional write is atomic, and one that fails returns the item that stands (ALL_OLD).",
        source=f"{_DYNAMODB}Expressions.ConditionExpressions.html",
        used_by=(_TABLE, "abeyance.pipeline.upload_records", "abeyance.rekognition.rates"),
    ),
    Assumption(
        name="dynamodb.consistent_read",
        holds="A strongly consistent GetItem or Query sees every write that was answered before it.",
        source=f"{_DYNAMODB}HowItWorks.ReadConsistency.html",
        used_by=(_TABLE, "abeyance.moratorium.tenants", "abeyance.gallery.search"),
    ),
    Assumption(
        name="dynamodb.transaction_atomic",
        holds="TransactWriteItems writes all or nothing, and names for each action why it did not.",
        source=f"{_DYNAMODB}transaction-apis.html",
        used_by=(_TABLE, _MOTO, "abeyance.ledger.store"),
    ),
    Assumption(
        name="dynamodb.transaction_limit",
        holds="A transaction takes up to 100 actions and refuses 101.",
        source=f"{_DYNAMODB_API}API_TransactWriteItems.html",
        used_by=("abeyance.aws.table",),
    ),
    Assumption(
        name="dynamodb.batch_get",
        holds="BatchGetItem takes up to 100 keys; keys that it leaves out it names as unprocessed.",
        source=f"{_DYNAMODB_API}API_BatchGetItem.html",
        used_by=(_TABLE,),
    ),
    Assumption(
        name="dynamodb.batch_write",
        holds="BatchWriteItem takes up to 25 requests and refuses 26.",
        source=f"{_DYNAMODB_API}API_BatchWriteItem.html",
        used_by=(_TABLE,),
    ),
    Assumption(
        name="dynamodb.item_size",
        holds="An item has at most 400 KB, attribute names included.",
        source=f"{_DYNAMODB}Constraints.html",
        used_by=("abeyance.gallery.items", "abeyance.ledger.store"),
    ),
    Assumption(
        name="dynamodb.query_order",
        holds="A query returns a partition in the order of the sort key's UTF-8 bytes, and pages of at most 1 MB.",
        source=f"{_DYNAMODB}Query.html",
        used_by=(_TABLE, "abeyance.gallery.items"),
    ),
    Assumption(
        name="dynamodb.ttl_lag",
        holds="Expired items stay readable until they are deleted, some days at most.",
        source=f"{_DYNAMODB}TTL.html",
        used_by=("abeyance.gallery.items", "abeyance.rekognition.rates"),
        unchecked=_NO_WAIT,
    ),
    Assumption(
        name="dynamodb.pitr",
        holds="A table with point-in-time recovery can be restored into a new table, as of any second of 35 days.",
        source=f"{_DYNAMODB}Point-in-time-recovery.html",
        used_by=("infra.constructs.storage", "docs/operations.md"),
    ),
    Assumption(
        name="dynamodb.partition_rate",
        holds="A partition takes 1 000 write units a second.",
        source=f"{_DYNAMODB}bp-partition-key-design.html",
        used_by=("abeyance.cost.limits",),
        unchecked=_NO_LOAD,
    ),
    Assumption(
        name="dynamodb.resource_policy",
        holds="A table's resource policy that denies an action denies it to every role of the account.",
        source=f"{_DYNAMODB}access-control-resource-based.html",
        used_by=("infra.constructs.storage",),
        emulator="keeps a table's policy and does not enforce it for the account's own user",
    ),
    # S3
    Assumption(
        name="s3.read_after_write",
        holds="A GET, HEAD or list sees every PUT and DELETE that was answered before it.",
        source=f"{_S3}Welcome.html#ConsistencyModel",
        used_by=("abeyance.aws.objects", "abeyance.ledger.checkpoints"),
    ),
    Assumption(
        name="s3.if_none_match_put",
        holds="A PUT with If-None-Match: * succeeds once for a key, and is a 412 after that.",
        source=f"{_S3}conditional-writes.html",
        used_by=("abeyance.aws.objects", "abeyance.ledger.checkpoints"),
    ),
    Assumption(
        name="s3.if_match_read",
        holds="HEAD and GET with If-Match are a 412 for another content.",
        source=f"{_S3}conditional-reads.html",
        used_by=("abeyance.pipeline.aws",),
    ),
    Assumption(
        name="s3.missing_object",
        holds="HEAD and GET of a missing key are a 404 for a caller that may list the bucket.",
        source=f"{_DOCS}AmazonS3/latest/API/API_HeadObject.html",
        used_by=("infra.permissions", "abeyance.pipeline.aws"),
    ),
    Assumption(
        name="s3.key_bytes",
        holds="A key has up to 1 024 bytes of UTF-8; one more is refused.",
        source=f"{_S3}object-keys.html",
        used_by=("abeyance.pipeline.uploads",),
        emulator="takes keys of any length",
    ),
    Assumption(
        name="s3.object_lock",
        holds="A version under compliance mode cannot be deleted before its date; an overwrite makes another version.",
        source=f"{_S3}object-lock.html",
        used_by=("abeyance.ledger.checkpoints", "infra.constructs.storage"),
    ),
    Assumption(
        name="s3.archived_object",
        holds="GET of an object in an archive tier is InvalidObjectState until it is restored; HEAD names the tier.",
        source=f"{_S3}archived-objects.html",
        used_by=("abeyance.pipeline.aws",),
    ),
    Assumption(
        name="s3.event_form",
        holds="Object Created and Object Deleted have bucket.name, object.key as it was given, etag and sequencer.",
        source=f"{_S3}ev-events.html",
        used_by=("abeyance.pipeline.uploads", _MOTO),
    ),
    Assumption(
        name="s3.sequencer_order",
        holds="Sequencers of one key, padded to one length, compare as the order of its events.",
        source=f"{_S3}notification-content-structure.html",
        used_by=("abeyance.aws.sequencer",),
    ),
    Assumption(
        name="s3.prefix_rate",
        holds="A prefix takes 3 500 PUTs a second.",
        source=f"{_S3}optimizing-performance.html",
        used_by=("abeyance.cost.flood",),
        unchecked=_NO_LOAD,
    ),
    # SQS
    Assumption(
        name="sqs.visibility",
        holds="A received message is not received again before its visibility timeout, and is after it.",
        source=f"{_SQS}sqs-visibility-timeout.html",
        used_by=("abeyance.pipeline.topology", "abeyance.local.poller"),
    ),
    Assumption(
        name="sqs.at_least_once",
        holds="A standard queue delivers a message at least once, in no order, sometimes after its deletion.",
        source=f"{_SQS}standard-queues-at-least-once-delivery.html",
        used_by=("abeyance.pipeline.batch", "abeyance.pipeline.outbox"),
        unchecked=_NO_FAULT,
    ),
    Assumption(
        name="sqs.receive_count",
        holds="ApproximateReceiveCount counts deliveries; after the maximum a message goes to the dead-letter queue.",
        source=f"{_SQS}sqs-dead-letter-queues.html",
        used_by=("abeyance.pipeline.topology", "abeyance.pipeline.postpone", "abeyance.pipeline.fairness"),
    ),
    Assumption(
        name="sqs.sent_timestamp",
        holds="SentTimestamp has the milliseconds since 1970 at which a message was sent.",
        source=f"{_DOCS}AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html",
        used_by=("abeyance.pipeline.fairness",),
    ),
    Assumption(
        name="sqs.delay",
        holds="DelaySeconds of a message is at most 900; 901 is refused.",
        source=f"{_SQS}sqs-message-timers.html",
        used_by=("abeyance.pipeline.postpone",),
        emulator="takes any delay",
    ),
    Assumption(
        name="sqs.fifo_deduplication",
        holds="A FIFO queue takes the same body once within five minutes.",
        source=f"{_SQS}FIFO-queues-exactly-once-processing.html",
        used_by=("abeyance.ledger.queue", "infra.constructs.queue"),
    ),
    Assumption(
        name="sqs.fifo_order",
        holds="A message group is delivered in order, and not while a message of it is in flight.",
        source=f"{_SQS}FIFO-queues-understanding-logic.html",
        used_by=("abeyance.pipeline.record",),
    ),
    Assumption(
        name="sqs.group_on_standard",
        holds="A standard queue takes a message group and returns it with the message.",
        source=f"{_SQS}sqs-fair-queues.html",
        used_by=("abeyance.pipeline.fairness", "docs/adr/0013-fair-queues.md"),
    ),
    Assumption(
        name="sqs.fair",
        holds="A group with a tenth of the messages in flight, and 30, waits behind all quiet groups.",
        source=f"{_SQS}sqs-fair-queues-detailed.html",
        used_by=("abeyance.cost.flood", "docs/adr/0013-fair-queues.md"),
        unchecked=_NO_LOAD,
    ),
    # EventBridge
    Assumption(
        name="events.at_least_once",
        holds="An event reaches each target at least once, in no order; it is retried for a day.",
        source=f"{_EVENTS}eb-rule-retry-policy.html",
        used_by=("abeyance.pipeline.outbox", "infra.constructs.stage"),
        unchecked=_NO_FAULT,
    ),
    Assumption(
        name="events.entry_size",
        holds="PutEvents takes up to 10 entries, and refuses one of more than its maximum size whole.",
        source=f"{_EVENTS}eb-putevents.html",
        used_by=("abeyance.aws.eventbridge",),
        emulator="takes more than ten entries and entries of any size",
    ),
    Assumption(
        name="events.partial_failure",
        holds="PutEvents answers for each entry by its place; some may fail.",
        source=f"{_DOCS}eventbridge/latest/APIReference/API_PutEvents.html",
        used_by=("abeyance.aws.eventbridge",),
        unchecked=_NO_FAULT,
    ),
    Assumption(
        name="events.whole_event",
        holds="A rule without a transformer sends the whole event, its detail as it was put.",
        source=f"{_EVENTS}eb-events-structure.html",
        used_by=("abeyance.pipeline.batch", _MOTO),
    ),
    Assumption(
        name="events.group_from_path",
        holds="A rule fills the message group of its SQS target in from a path in the event.",
        source=f"{_EVENTS}eb-targets.html",
        used_by=("abeyance.pipeline.topology", "docs/adr/0013-fair-queues.md"),
        emulator="leaves the group out for a standard queue",
    ),
    Assumption(
        name="events.archive",
        holds="An archive keeps events until its retention ends, and nobody can delete one event of it.",
        source=f"{_EVENTS}eb-archive.html",
        used_by=("infra.constructs.bus", "docs/operations.md"),
        unchecked=_NO_WAIT,
    ),
    # AppConfig
    Assumption(
        name="appconfig.session",
        holds="A session's first answer has the configuration, later ones are empty until it changes; tokens chain.",
        source=f"{_APPCONFIG}appconfig-retrieving-the-configuration.html",
        used_by=("abeyance.moratorium.source",),
    ),
    Assumption(
        name="appconfig.poll",
        holds="A session may poll every 15 s at least, as it asks for.",
        source=f"{_DOCS}appconfig/2019-10-09/APIReference/API_appconfigdata_StartConfigurationSession.html",
        used_by=("abeyance.moratorium.source",),
    ),
    Assumption(
        name="appconfig.one_deployment",
        holds="An environment has one deployment at a time; a second is a ConflictException.",
        source=f"{_APPCONFIG}appconfig-deploying.html",
        used_by=("abeyance.moratorium.publish",),
    ),
    Assumption(
        name="appconfig.stop",
        holds="StopDeployment takes a deployment that is under way back to the configuration before it.",
        source=f"{_DOCS}appconfig/2019-10-09/APIReference/API_StopDeployment.html",
        used_by=("abeyance.moratorium.publish",),
    ),
    # Lambda
    Assumption(
        name="lambda.partial_batch",
        holds="With ReportBatchItemFailures, the messages named are delivered again and the others deleted.",
        source=f"{_LAMBDA}services-sqs-errorhandling.html",
        used_by=("abeyance.pipeline.batch",),
        unchecked=_NO_FUNCTION,
    ),
    Assumption(
        name="lambda.batch_bytes",
        holds="An invocation takes 6 MB; a batch is made smaller for it.",
        source=f"{_LAMBDA}gettingstarted-limits.html",
        used_by=("abeyance.pipeline.topology",),
        unchecked=_NO_FUNCTION,
    ),
    Assumption(
        name="lambda.maximum_concurrency",
        holds="A mapping invokes at most MaximumConcurrency at a time and takes no account of reserved concurrency.",
        source=f"{_LAMBDA}services-sqs-scaling.html",
        used_by=("infra.constructs.stage",),
        unchecked=_NO_FUNCTION,
    ),
    Assumption(
        name="lambda.unreserved",
        holds="The account has executions to reserve: 100 always stay unreserved.",
        source=f"{_LAMBDA}configuration-concurrency.html",
        used_by=("infra.config",),
    ),
    # KMS
    Assumption(
        name="kms.deny_decrypt",
        holds="Whoever may not use the key of an encrypted object can HEAD it and cannot GET it.",
        source=f"{_S3}UsingKMSEncryption.html",
        used_by=("infra.permissions", "docs/adr/0005-gate-without-decrypt.md"),
        unchecked=_NO_FUNCTION,
    ),
    Assumption(
        name="kms.deletion_waits",
        holds="A key is deleted after 7 days at the earliest.",
        source=f"{_DOCS}kms/latest/developerguide/deleting-keys.html",
        used_by=("infra.constructs.storage",),
    ),
)
