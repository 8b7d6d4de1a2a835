"""Puts the stages together for a function: settings from the environment, adapters around AWS clients.

Each builder imports only what its stage needs, because an import is what a cold start is made of.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

from abeyance.aws.clients import client
from abeyance.aws.dynamodb import DynamoTable
from abeyance.pipeline.aws import EventBridgeBus, S3Objects
from abeyance.pipeline.outbox import Outbox
from abeyance.pipeline.settings import Settings
from abeyance.pipeline.upload_records import KEY, UploadRecords

if TYPE_CHECKING:
    from collections.abc import Callable

    from abeyance.embedding.port import Embedder
    from abeyance.gallery.search import Searcher
    from abeyance.gallery.store import DynamoGallery
    from abeyance.moratorium.guard import Guard
    from abeyance.pipeline.detect import Detect
    from abeyance.pipeline.gate import Gate
    from abeyance.pipeline.recognize import Recognize
    from abeyance.pipeline.record import RecordDecisions
    from abeyance.pipeline.review import EnqueueReviews
    from abeyance.vision.attributes.estimator import AttributeEstimator
    from abeyance.vision.detector import Detector
    from abeyance.vision.similarity import SimilarityScale


def gate() -> Gate:
    """The gate of this environment."""
    from abeyance.pipeline.gate import Gate

    settings = Settings.from_environment()
    return Gate(guard(settings), S3Objects(client("s3")), _records(settings), _outbox("gate", settings))


def detect() -> Detect:
    """The detection stage of this environment; its model is loaded when the first photo comes."""
    from abeyance.pipeline.detect import Detect
    from abeyance.vision.analysis import FaceAnalyzer

    settings = Settings.from_environment()
    return Detect(
        guard(settings),
        S3Objects(client("s3")),
        _outbox("detect", settings),
        FaceAnalyzer(detector(settings), functools.cache(lambda: attributes(settings))),
        settings.chips_bucket,
    )


def recognize() -> Recognize:
    """The recognition stage of this environment."""
    from abeyance.pipeline.postpone import Postpone
    from abeyance.pipeline.recognize import Recognize

    settings = Settings.from_environment()
    faces = gallery(settings)
    return Recognize(
        guard(settings),
        S3Objects(client("s3")),
        _outbox("recognize", settings),
        faces,
        searcher(settings, faces),
        embedder(settings),
        similarity_scale(settings),
        Postpone(client("sqs"), settings.recognize_queue),
        chips_bucket=settings.chips_bucket,
        threshold=settings.search_threshold,
        max_candidates=settings.max_candidates,
    )


def sweep() -> dict[str, int]:
    """Finish deletions of collections that were cut off; how many there were."""
    from abeyance.moratorium.tenants import DynamoTenants

    settings = Settings.from_environment()
    faces = gallery(settings)
    tenants = DynamoTenants(client("dynamodb"), settings.tenants_table)
    return {"finished": sum(faces.sweep(tenant.id) for tenant in tenants.all())}


def review() -> EnqueueReviews:
    """What puts reviews into the queue of this environment."""
    from abeyance.pipeline.review import EnqueueReviews

    settings = Settings.from_environment()
    table = DynamoTable(client("dynamodb"), settings.reviews_table)
    return EnqueueReviews(table, keep_s=settings.retention_days * 86400)


def record() -> RecordDecisions:
    """The ledger's writer of this environment."""
    from abeyance.ledger.store import LedgerStore
    from abeyance.pipeline.record import RecordDecisions

    settings = Settings.from_environment()
    return RecordDecisions(LedgerStore(client("dynamodb"), settings.ledger_table), pseudonym_key(settings))


def checkpoint() -> dict[str, Any]:
    """Write a checkpoint of this environment's ledger; its origin and size, or nothing for an empty ledger."""
    from abeyance.ledger.checkpoints import Checkpointer
    from abeyance.ledger.store import LedgerStore

    settings = Settings.from_environment()
    store = LedgerStore(client("dynamodb"), settings.ledger_table)
    written = Checkpointer(client("s3"), settings.ledger_bucket).checkpoint(store)
    return {"origin": written.origin, "size": written.size} if written else {}


def announce() -> dict[str, int]:
    """Bring the schedules of announcements in step with the deployed flags; how many were put and removed."""
    from abeyance.moratorium.boundaries import SchedulerSchedule, synchronize
    from abeyance.moratorium.source import deployed_flags, utc_now

    settings = Settings.from_environment()
    deployed = settings.flags.startswith("appconfig:")
    flags = deployed_flags(settings.flags, client("appconfigdata") if deployed else None)
    scheduler = client("scheduler")
    # arn:<partition>:iam::<account>:role/...
    _, partition, _, _, account, _ = settings.announcement_role.split(":", 5)
    place = f"{scheduler.meta.region_name}:{account}"
    bus = f"arn:{partition}:events:{place}:event-bus/{settings.event_bus}"
    schedule = SchedulerSchedule(
        scheduler, group=settings.announcement_group, bus=bus, role=settings.announcement_role
    )
    put, removed = synchronize(schedule, flags, utc_now())
    return {"put": put, "removed": removed}


def detector(settings: Settings) -> Callable[[], Detector]:
    """The deployment's detector; opened by the first call."""

    def load() -> Detector:
        from abeyance.vision.models.store import load_detector

        return load_detector(settings.detector_model, settings.models, verify=settings.verify_models)

    return functools.cache(load)


def embedder(settings: Settings) -> Callable[[], Embedder]:
    """The deployment's embedder, in this process or at its endpoint; opened by the first call."""
    from abeyance.embedding.selection import embedder_from

    return functools.cache(
        lambda: embedder_from(
            settings.embedder,
            settings.embedder_model,
            settings.models,
            sagemaker_runtime=lambda: client("sagemaker-runtime"),
            verify=settings.verify_models,
        )
    )


def gallery(settings: Settings) -> DynamoGallery:
    """The deployment's gallery."""
    from abeyance.gallery.store import DynamoGallery

    return DynamoGallery(
        client("dynamodb"),
        settings.gallery_table,
        client("s3"),
        settings.gallery_bucket,
        vector_index=settings.vector_index,
    )


def searcher(settings: Settings, gallery: DynamoGallery) -> Searcher:
    """What searches the gallery: in memory, or large collections through the vector index if there is one."""
    if not settings.vector_index:
        from abeyance.gallery.search import Searcher

        return Searcher(gallery)
    from abeyance.gallery.vector_index import DynamoIndex, IndexSearcher

    index = DynamoIndex(client("dynamodb"), settings.gallery_table, settings.vector_index)
    return IndexSearcher(gallery, index, exact_up_to=settings.exact_up_to)


def similarity_scale(settings: Settings) -> Callable[[], SimilarityScale]:
    """What similarity means with the deployment's embedder."""
    from abeyance.vision.models.manifest import Manifest
    from abeyance.vision.similarity import SimilarityScale

    return functools.cache(lambda: SimilarityScale.of(Manifest.load()[settings.embedder_model]))


def attributes(settings: Settings) -> AttributeEstimator:
    """What describes faces beyond where they are; imported and opened only where that is asked for."""
    from abeyance.vision.attributes.estimator import load_attributes

    return load_attributes(settings.models, verify=settings.verify_models)


def guard(settings: Settings) -> Guard:
    """What decides, from this environment's flags and tenants."""
    from abeyance.moratorium.guard import Guard
    from abeyance.moratorium.source import source_from
    from abeyance.moratorium.tenants import DynamoTenants

    deployed = settings.flags.startswith("appconfig:")
    source = source_from(
        settings.flags,
        client=client("appconfigdata") if deployed else None,
        max_age=settings.flags_max_age,
        poll_interval=settings.flags_poll_interval,
    )
    tenants = DynamoTenants(client("dynamodb"), settings.tenants_table)
    return Guard(source, tenants, max_age=settings.flags_max_age)


def _outbox(stage: str, settings: Settings) -> Outbox:
    bus = EventBridgeBus(client("events"), settings.event_bus)
    return Outbox(stage, _records(settings), bus, S3Objects(client("s3")), settings.results_bucket)


def _records(settings: Settings) -> UploadRecords:
    table = DynamoTable(client("dynamodb"), settings.uploads_table, partition=KEY, sort="")
    return UploadRecords(table, settings.retention_days, time.time)


def pseudonym_key(settings: Settings) -> bytes:
    """What hides the keys of objects in the ledger; raises ``ValueError`` if the setting names none."""
    kind, _, value = settings.pseudonym_key.partition(":")
    if kind == "text" and value:
        return value.encode()
    if kind == "secret":
        secret: str = client("secretsmanager").get_secret_value(SecretId=value)["SecretString"]
        return secret.encode()
    raise ValueError("ABEYANCE_PSEUDONYM_KEY must be text:<secret> or secret:<ARN>")
