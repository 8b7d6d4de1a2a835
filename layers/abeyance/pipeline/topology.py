"""The event flow, described once: stages, what each consumes, and the tables and buckets they share.

The CDK constructs and the local runtime are both built from this module, so both run the same flow. Names of
resources come from the deployment's settings; here is only their shape.

::

    S3 Object Created/Deleted -> gate -> Upload Permitted -> detect -> Faces Detected -> recognize -> Faces Matched ...
                                   |\\-> of a video -> frames, a segment at a time ----^
                                   \\-> Upload Withdrawn -------------------------------^
    Faces Matched, for review by people -> review -> Matches Released | Matches Withheld
    every event of ours -> ledger, thousands at a time -> checkpoint, every minute
"""

from __future__ import annotations

from typing import Any

import msgspec

from abeyance.pipeline import events

#: ``source`` of every event that this system puts on its bus.
SOURCE = "abeyance"

#: The bucket in the upload of a job; no bucket of S3 has such a name.
JOBS = "abeyance:jobs"

#: The collection in the key of a job that has none.
NO_COLLECTION = "-"

#: The tenant in an event about an upload, as an EventBridge target's parameter reads it at run time.
TENANT_PATH = "$.detail.upload.tenant"


class Subscription(msgspec.Struct, frozen=True):
    """An EventBridge rule that sends events of a bus to a stage's queue."""

    source: str
    #: Empty means every detail-type of the source.
    detail_types: tuple[str, ...] = ()
    #: True for the account's default bus, where AWS services publish; False for the system's own.
    default_bus: bool = False
    #: Names of the settings that hold the places that events must come from, for S3 events; ``*`` for everywhere.
    place_settings: tuple[str, ...] = ()
    #: Name of the setting that holds the bucket that events must come from, for S3 events.

    #: Only uploads of this kind, ``photo`` or ``video``; empty for all.
    media: str = ""
    #: Only the jobs of the Rekognition API.
    jobs: bool = False

    def pattern(self, settings: Any) -> dict[str, Any]:
        """Return the rule's event pattern, with bucket names from ``settings``."""
        pattern: dict[str, Any] = {"source": [self.source]}
        if self.detail_types:
            pattern["detail-type"] = list(self.detail_types)
        places = [place for name in self.place_settings for place in getattr(settings, name).split()]
        if places and "*" not in places:
            buckets = dict.fromkeys(place.partition("/")[0] for place in places)
            pattern["detail"] = {"bucket": {"name": list(buckets)}}
        if self.media:
            pattern["detail"] = {"media": [self.media]}
        if self.jobs:
            pattern["detail"] = {"upload": {"bucket": [JOBS]}}
        return pattern


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A Lambda function behind a queue. Times are in seconds, memory in MiB."""

    name: str
    consumes: tuple[Subscription, ...]
    emits: tuple[type[events.Event], ...] = ()
    #: Messages of one invocation; 1 for a stage in which a message could crash the process. More than 10 need a window.
    batch_size: int = 1
    #: Seconds for which Lambda gathers messages, at most; it also stops at 6 MB.
    batch_window: int = 0
    #: Days that a message may wait. A dead letter keeps its age, so its queue keeps it for longer.
    waiting_days: int = 4
    #: Whether SQS keeps the queue fair between tenants.
    fair: bool = True
    timeout: int = 30
    #: Deliveries before a message goes to the dead-letter queue.
    max_receives: int = 5
    memory: int = 256
    #: Most invocations at the same time.
    max_concurrency: int = 10
    #: Worker processes in the local runtime.
    local_workers: int = 1

    @property
    def visibility_timeout(self) -> int:
        """Six times the function's timeout, as the Lambda guide asks of a source queue."""
        return 6 * self.timeout + self.batch_window

    @property
    def queue(self) -> str:
        return f"abeyance-{self.name}"

    def message_group(self, subscription: Subscription) -> str:
        """Return the group of the messages of a subscription, a path in the event; empty for none.

        The group is the tenant, by which SQS keeps the queue fair; an event of S3 names none, see
        :mod:`abeyance.pipeline.fairness`.
        """
        return TENANT_PATH if self.fair and not subscription.default_bus else ""

    @property
    def dead_letter_queue(self) -> str:
        return f"abeyance-{self.name}-dead"


#: Decides on metadata alone, without an image library and without permission to read the bytes.
GATE = Stage(
    name="gate",
    consumes=(
        Subscription(
            "aws.s3",
            ("Object Created", "Object Deleted"),
            default_bus=True,
            place_settings=("uploads_bucket", "tenant_buckets"),
        ),
    ),
    emits=(events.UploadPermitted, events.UploadHalted, events.UploadRejected, events.UploadWithdrawn),
    batch_size=5,
    timeout=60,
    memory=512,
    max_concurrency=100,
)

#: One photo an invocation: a photo that exhausts memory or time stops no other.
DETECT = Stage(
    name="detect",
    consumes=(Subscription(SOURCE, (events.UploadPermitted.detail_type,), media=events.PHOTO),),
    emits=(events.FacesDetected, events.UploadRejected, events.RecognitionHalted, events.EventRefused),
    timeout=60,
    memory=2048,
    max_receives=4,
    max_concurrency=150,
)

#: Opens a video and sends its segments to its own queue; then one segment an invocation, as for photos.
FRAMES = Stage(
    name="frames",
    consumes=(Subscription(SOURCE, (events.UploadPermitted.detail_type,), media=events.VIDEO),),
    emits=(
        events.VideoRequested,
        events.VideoOpened,
        events.SegmentExamined,
        events.FacesDetected,
        events.FacesAnalyzed,
        events.UploadRejected,
        events.RecognitionHalted,
        events.EventRefused,
    ),
    timeout=300,
    memory=3008,
    max_receives=4,
    max_concurrency=50,
    local_workers=2,
)

#: Batches, because the embedder is fastest on many chips at once; under load the queue fills them.
RECOGNIZE = Stage(
    name="recognize",
    consumes=(
        Subscription(
            SOURCE,
            (
                events.FacesDetected.detail_type,
                events.UploadWithdrawn.detail_type,
                # A photo that replaced an indexed one and has no faces of its own: the old faces are deleted.
                events.UploadHalted.detail_type,
                events.UploadRejected.detail_type,
                events.RecognitionHalted.detail_type,
            ),
        ),
    ),
    emits=(
        events.FacesIndexed,
        events.FacesMatched,
        events.FacesAnalyzed,
        events.FacesDeleted,
        events.RecognitionHalted,
        events.UploadRejected,
        events.AuthorizationLapsed,
        events.EventRefused,
    ),
    batch_size=10,
    timeout=60,
    memory=3008,
    max_concurrency=150,
)

#: Queues searches for review. People judge them in the console, which emits the outcome.
REVIEW = Stage(
    name="review",
    consumes=(Subscription(SOURCE, (events.FacesMatched.detail_type,)),),
    emits=(events.MatchesReleased, events.MatchesWithheld, events.EventRefused),
    batch_size=10,
)

#: Tells the callers of the Rekognition API that their jobs ended.
NOTIFY = Stage(
    name="notify",
    consumes=(
        Subscription(
            SOURCE,
            (
                events.FacesMatched.detail_type,
                events.FacesAnalyzed.detail_type,
                events.MatchesReleased.detail_type,
                events.MatchesWithheld.detail_type,
                events.RecognitionHalted.detail_type,
                events.UploadRejected.detail_type,
            ),
            jobs=True,
        ),
    ),
    emits=(events.EventRefused,),
    batch_size=10,
)

#: Thousands of messages at a time become one batch of entries. Two may run at once, the least that a mapping takes: the
#: head of the log moves for one of them, and the other takes the next place. A fault of AWS fails the whole batch and a
#: message alone never does, so a message has many deliveries.
LEDGER = Stage(
    name="ledger",
    consumes=(Subscription(SOURCE),),
    batch_size=10_000,
    batch_window=5,
    waiting_days=7,
    fair=False,
    timeout=60,
    memory=1769,
    max_receives=200,
    max_concurrency=2,
)

STAGES = (GATE, DETECT, FRAMES, RECOGNIZE, REVIEW, NOTIFY, LEDGER)
#: The stages that a photo passes.
PHOTO_STAGES = (GATE, DETECT, RECOGNIZE, REVIEW, LEDGER)


class Schedule(msgspec.Struct, frozen=True):
    """A task that a function does at intervals; it is invoked with ``{"task": <name>}``."""

    task: str
    function: str
    every_minutes: int


#: Signs the size of the log and the root of its tree, has witnesses sign it, and publishes it.
CHECKPOINT = Schedule("checkpoint", "checkpoint", 1)
#: Writes the index by which entries are found.
INDEX = Schedule("index", "index", 5)
#: Updates the schedules of moratoria that start and end from the flags.
ANNOUNCE = Schedule("announce", "flags", 60)
#: Finishes interrupted deletions of collections.
SWEEP = Schedule("sweep", "recognize", 60)
#: Gives searches the authorisations that were to follow, and deletes what was made where none arrived in time. Its
#: outcomes are recorded under its name.
LAPSE = Schedule("lapse", "recognize", 5)

#: Compares what happened with the ledger.
RECONCILE = Schedule("reconcile", "reconcile", 24 * 60)

#: Continues interrupted erasures of people.
ERASE = Schedule("erase", "console", 60)

#: Finds drift, deploys what waits, and sends to the ledger what it could not take before.
WATCH = Schedule("watch", "flags", 1)

SCHEDULES = (CHECKPOINT, INDEX, ANNOUNCE, SWEEP, LAPSE, RECONCILE, ERASE, WATCH)


class TableShape(msgspec.Struct, frozen=True):
    """The keys of a DynamoDB table, all strings; tables are billed on demand."""

    #: Field of the settings that holds its name.
    setting: str
    partition_key: str
    sort_key: str = ""
    #: Attribute that holds the expiry, epoch seconds; empty for none.
    ttl: str = ""


TABLES = (
    TableShape("tenants_table", "pk", "sk"),
    TableShape("uploads_table", "object", ttl="expires"),
    TableShape("gallery_table", "pk", "sk", ttl="expires"),
    TableShape("ledger_table", "pk", "sk"),
    TableShape("proposals_table", "pk", "sk"),
    TableShape("authorizations_table", "pk", "sk"),
    TableShape("reviews_table", "pk", "sk", ttl="expires"),
    TableShape("jobs_table", "pk", "sk", ttl="expires"),
    TableShape("erasures_table", "pk", "sk"),
)


class BucketShape(msgspec.Struct, frozen=True):
    """The properties of an S3 bucket; all are private, encrypted and TLS only."""

    setting: str
    #: Send its object events to EventBridge.
    events: bool = False
    versioned: bool = False
    #: Objects expire after ``retention_days``.
    expires: bool = False
    #: Objects can be neither overwritten nor deleted.
    object_lock: bool = False


BUCKETS = (
    BucketShape("uploads_bucket", events=True),
    BucketShape("chips_bucket", expires=True),
    BucketShape("results_bucket", expires=True),
    BucketShape("gallery_bucket"),
    BucketShape("ledger_bucket", versioned=True, object_lock=True),
)
