"""Builds the object graph of every deployed unit. Functions, local runtime, commands and tests build here.

Each builder imports only what its unit needs, because a cold start is made of imports. Models are opened when the
first photo needs them. ``clients`` makes the AWS client of a service; it is a parameter so that a simulation can give
its own.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abeyance.aws.clients import Clients, client
from abeyance.aws.dynamodb import DynamoTable
from abeyance.deployment.settings import (
    ApiSettings,
    ConsoleSettings,
    DecisionGroup,
    DeploymentSettings,
    DetectionGroup,
    DetectSettings,
    EmbeddingGroup,
    FlagsSettings,
    GalleryGroup,
    GateSettings,
    LedgerGroup,
    LedgerSettings,
    OutcomeGroup,
    PseudonymGroup,
    RecognizeSettings,
    RecordingGroup,
    ReviewSettings,
)

if TYPE_CHECKING:
    from abeyance.console.web.context import ConsoleServices
    from abeyance.embedding.port import Embedder
    from abeyance.gallery.search import Searcher
    from abeyance.gallery.store import DynamoGallery
    from abeyance.ledger.checkpoints import Checkpointer
    from abeyance.ledger.queue import LedgerQueue
    from abeyance.ledger.store import LedgerStore
    from abeyance.moratorium.document import FlagSet
    from abeyance.moratorium.guard import Guard
    from abeyance.moratorium.proposals import Proposals
    from abeyance.moratorium.publish import FlagPublisher
    from abeyance.moratorium.source import FlagSource
    from abeyance.moratorium.tenants import TenantTable
    from abeyance.pipeline.detect import Detect
    from abeyance.pipeline.gate import Gate
    from abeyance.pipeline.outbox import Outbox
    from abeyance.pipeline.recognize import Recognize
    from abeyance.pipeline.record import RecordDecisions
    from abeyance.pipeline.review import EnqueueReviews
    from abeyance.pipeline.upload_records import UploadRecords
    from abeyance.rekognition.service import Rekognition
    from abeyance.vision.analysis import FaceAnalyzer
    from abeyance.vision.attributes.estimator import AttributeEstimator
    from abeyance.vision.detector import Detector
    from abeyance.vision.similarity import SimilarityScale


def build_gate(settings: GateSettings | None = None, clients: Clients = client) -> Gate:
    """Return the stage that decides on metadata alone."""
    from abeyance.pipeline.aws import S3Objects
    from abeyance.pipeline.gate import Gate

    settings = settings or GateSettings.from_environment()
    return Gate(
        build_guard(settings.decisions, clients),
        S3Objects(clients("s3")),
        _upload_records(settings.outcomes, clients),
        build_outbox("gate", settings.outcomes, clients),
    )


def build_detect(settings: DetectSettings | None = None, clients: Clients = client) -> Detect:
    """Return the stage that finds faces."""
    from abeyance.pipeline.aws import S3Objects
    from abeyance.pipeline.detect import Detect

    settings = settings or DetectSettings.from_environment()
    return Detect(
        build_guard(settings.decisions, clients),
        S3Objects(clients("s3")),
        build_outbox("detect", settings.outcomes, clients),
        build_analyzer(settings.detection),
        settings.chips.chips_bucket,
    )


def build_recognize(settings: RecognizeSettings | None = None, clients: Clients = client) -> Recognize:
    """Return the stage that makes templates, and indexes or searches."""
    from abeyance.pipeline.aws import S3Objects
    from abeyance.pipeline.postpone import Postpone
    from abeyance.pipeline.recognize import Recognize

    settings = settings or RecognizeSettings.from_environment()
    gallery = build_gallery(settings.gallery, clients)
    return Recognize(
        build_guard(settings.decisions, clients),
        S3Objects(clients("s3")),
        build_outbox("recognize", settings.outcomes, clients),
        gallery,
        build_searcher(settings.gallery, gallery, clients),
        build_embedder(settings.embedding, settings.detection, clients),
        build_similarity_scale(settings.embedding),
        Postpone(clients("sqs"), settings.waiting.recognize_queue),
        chips_bucket=settings.chips.chips_bucket,
        threshold=settings.search.search_threshold,
        max_candidates=settings.search.max_candidates,
    )


def build_sweep(
    settings: RecognizeSettings | None = None, clients: Clients = client
) -> Callable[[], dict[str, int]]:
    """Return the task that finishes interrupted deletions of collections and counts them."""
    settings = settings or RecognizeSettings.from_environment()
    gallery = build_gallery(settings.gallery, clients)
    tenants = build_tenants(settings.decisions, clients)
    return lambda: {"finished": sum(gallery.sweep(tenant.id) for tenant in tenants.all())}


def build_review(settings: ReviewSettings | None = None, clients: Clients = client) -> EnqueueReviews:
    """Return the stage that queues matches for people."""
    from abeyance.pipeline.review import EnqueueReviews

    settings = settings or ReviewSettings.from_environment()
    table = DynamoTable(clients("dynamodb"), settings.reviews.reviews_table)
    return EnqueueReviews(table, keep_s=settings.outcomes.retention_days * 86400)


def build_record(settings: LedgerSettings | None = None, clients: Clients = client) -> RecordDecisions:
    """Return the ledger's writer."""
    from abeyance.pipeline.record import RecordDecisions

    settings = settings or LedgerSettings.from_environment()
    key = read_secret(settings.pseudonyms.pseudonym_key, clients)
    return RecordDecisions(build_ledger_store(settings.ledger, clients), key)


def build_checkpoint(
    settings: LedgerSettings | None = None, clients: Clients = client
) -> Callable[[], dict[str, Any]]:
    """Return the task that writes a checkpoint; it returns origin and size, or nothing for an empty ledger."""
    settings = settings or LedgerSettings.from_environment()
    store, checkpointer = (
        build_ledger_store(settings.ledger, clients),
        build_checkpointer(settings.ledger, clients),
    )

    def checkpoint() -> dict[str, Any]:
        written = checkpointer.checkpoint(store)
        return {"origin": written.origin, "size": written.size} if written else {}

    return checkpoint


def build_api(
    settings: ApiSettings | None = None, clients: Clients = client
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return the function that answers a proxy event of API Gateway."""
    from abeyance.rekognition.gateway import request_of, response_of

    service = build_rekognition(settings, clients)
    return lambda event: response_of(service(request_of(event)))


def build_rekognition(settings: ApiSettings | None = None, clients: Clients = client) -> Rekognition:
    """Return the Rekognition operations."""
    from abeyance.rekognition.access import Access
    from abeyance.rekognition.operations import Services
    from abeyance.rekognition.operations.services import EmbeddingModel
    from abeyance.rekognition.photos import Photos
    from abeyance.rekognition.service import Rekognition
    from abeyance.vision.models.manifest import Manifest

    settings = settings or ApiSettings.from_environment()
    gallery = build_gallery(settings.gallery, clients)

    @functools.cache
    def embedding_model() -> EmbeddingModel:
        entry = Manifest.load()[settings.embedding.embedder_model]
        return EmbeddingModel(entry.identity, entry.dimension)

    access = Access(
        build_guard(settings.decisions, clients),
        build_tenants(settings.decisions, clients),
        build_ledger_queue(settings.recording, clients),
        build_pseudonyms(settings.pseudonyms, clients),
    )
    services = Services(
        gallery=gallery,
        searcher=build_searcher(settings.gallery, gallery, clients),
        photos=Photos(clients("s3"), settings.uploads.uploads_bucket),
        analyzer=build_analyzer(settings.detection),
        embedder=build_embedder(settings.embedding, settings.detection, clients),
        scale=build_similarity_scale(settings.embedding),
        embedding_model=embedding_model,
    )
    return Rekognition(access, services)


def build_announcements(
    settings: FlagsSettings | None = None, clients: Clients = client
) -> Callable[[], dict[str, int]]:
    """Return the task that brings the schedules of announcements in step with the flags; it counts changes."""
    from abeyance.aws.timestamps import utc_now
    from abeyance.moratorium.boundaries import SchedulerSchedule, synchronize

    settings = settings or FlagsSettings.from_environment()
    scheduler, role = clients("scheduler"), settings.announcements.announcement_role
    # arn:<partition>:iam::<account>:role/...
    _, partition, _, _, account, _ = role.split(":", 5)
    place = f"{scheduler.meta.region_name}:{account}"
    schedule = SchedulerSchedule(
        scheduler,
        group=settings.announcements.announcement_group,
        bus=f"arn:{partition}:events:{place}:event-bus/{settings.outcomes.event_bus}",
        role=role,
    )

    def announce() -> dict[str, int]:
        put, removed = synchronize(schedule, read_deployed_flags(settings.decisions, clients), utc_now())
        return {"put": put, "removed": removed}

    return announce


def build_flags(
    settings: FlagsSettings | None = None, clients: Clients = client
) -> Callable[[Mapping[str, Any]], dict[str, Any] | None]:
    """Return AppConfig's validator, which also deploys documents that the console hands over."""
    from abeyance.moratorium.delegate import FlagDeployer
    from abeyance.moratorium.proposals import is_approved

    settings = settings or FlagsSettings.from_environment()
    tenants = build_tenants(settings.decisions, clients)
    return FlagDeployer(
        in_force=lambda: read_deployed_flags(settings.decisions, clients),
        publisher=lambda: build_publisher(settings.decisions, clients),
        approved=functools.partial(is_approved, clients("dynamodb"), settings.proposals.proposals_table),
        places=lambda: {tenant.jurisdiction for tenant in tenants.all()},
    )


def build_console(settings: ConsoleSettings | None = None, clients: Clients = client) -> ConsoleServices:
    """Return the services of the console; models are opened when a picture has to be cut again."""
    from abeyance.aws.timestamps import utc_now
    from abeyance.console.error_rates import MeasuredErrorRates
    from abeyance.console.galleries import GalleryService
    from abeyance.console.identity import identity_provider
    from abeyance.console.ledger import LedgerService, VerificationStore
    from abeyance.console.pictures import Pictures
    from abeyance.console.policy import PolicyService
    from abeyance.console.reviews import ReviewService
    from abeyance.console.web.context import ConsoleServices
    from abeyance.moratorium.delegate import DelegatedPublisher, invoke_function
    from abeyance.pipeline.aws import S3Objects
    from abeyance.pipeline.review_store import ReviewStore
    from abeyance.vision.models.manifest import Manifest

    settings = settings or ConsoleSettings.from_environment()
    sign_in, chips_bucket = settings.sign_in, settings.chips.chips_bucket
    objects = S3Objects(clients("s3"))
    gallery = build_gallery(settings.gallery, clients)
    queue = build_ledger_queue(settings.recording, clients)
    hide = build_pseudonyms(settings.pseudonyms, clients)
    pictures = Pictures(objects, chips_bucket, build_analyzer(settings.detection))
    reviews_table = DynamoTable(clients("dynamodb"), settings.reviews.reviews_table)
    reviews = ReviewService(
        ReviewStore(reviews_table),
        objects,
        chips_bucket,
        gallery,
        build_guard(settings.decisions, clients),
        build_outbox("review", settings.outcomes, clients),
        queue,
        hide,
        time.time,
    )
    ledger = LedgerService(
        build_ledger_store(settings.ledger, clients),
        build_checkpointer(settings.ledger, clients),
        VerificationStore(reviews_table),
        utc_now,
    )
    publisher = build_publisher(settings.decisions, clients)
    if sign_in.flag_pipeline:
        invoke = functools.partial(invoke_function, clients("lambda"), sign_in.flag_pipeline)
        publisher = DelegatedPublisher(publisher, invoke)
    policy = PolicyService(
        build_flag_source(settings.decisions, clients),
        publisher,
        build_proposals(settings, publisher, clients),
        build_tenants(settings.decisions, clients).all,
        ledger.since,
        utc_now,
    )
    model = settings.embedding.embedder_model
    return ConsoleServices(
        identity=identity_provider(
            sign_in.console_identity,
            functools.cache(lambda: read_client_secret(sign_in.console_client_secret, clients)),
        ),
        session_key=read_secret(sign_in.console_key, clients) if sign_in.console_key else os.urandom(32),
        reviews=reviews,
        pictures=pictures,
        policy=policy,
        ledger=ledger,
        galleries=GalleryService(gallery, pictures, reviews, queue, hide),
        error_rates=functools.cache(lambda: MeasuredErrorRates.of(Manifest.load()[model])),
        accuracy_report=Path(sign_in.accuracy_report) if sign_in.accuracy_report else None,
    )


def build_proposals(
    settings: ConsoleSettings | DeploymentSettings, publisher: FlagPublisher, clients: Clients = client
) -> Proposals:
    """Return the rules for changing what is in force; every step is recorded on the ledger or does not happen."""
    from abeyance.ledger.errors import LedgerUnavailable
    from abeyance.ledger.queue import record_change
    from abeyance.moratorium.errors import MoratoriumError
    from abeyance.moratorium.proposals import Proposals

    queue = build_ledger_queue(settings.recording, clients)
    tenants = build_tenants(settings.decisions, clients)

    def record(kind: str, body: dict[str, Any]) -> None:
        try:
            record_change(queue, kind, body)
        except LedgerUnavailable as error:
            raise MoratoriumError(str(error)) from None

    return Proposals(
        clients("dynamodb"),
        settings.proposals.proposals_table,
        publisher,
        record,
        places=lambda: frozenset(tenant.jurisdiction for tenant in tenants.all()),
    )


def read_client_secret(setting: str, clients: Clients = client) -> str:
    """Return the identity provider's secret for the console; empty for a public client.

    Cognito is asked for it (``cognito:<pool>/<client id>``); others' are settings of :func:`read_secret`.
    """
    kind, _, value = setting.partition(":")
    if kind != "cognito":
        return read_secret(setting, clients).decode() if setting else ""
    pool, _, client_id = value.partition("/")
    found = clients("cognito-idp").describe_user_pool_client(UserPoolId=pool, ClientId=client_id)
    return str(found["UserPoolClient"]["ClientSecret"])


def build_guard(settings: DecisionGroup, clients: Clients = client) -> Guard:
    """Return the guard, which decides from the flags and tenants of this moment."""
    from abeyance.moratorium.guard import Guard

    return Guard(
        build_flag_source(settings, clients), build_tenants(settings, clients), max_age=settings.flags_max_age
    )


def build_flag_source(settings: DecisionGroup, clients: Clients = client) -> FlagSource:
    """Return the source of the flags in force."""
    from abeyance.moratorium.source import source_from

    return source_from(
        settings.flags,
        clients,
        max_age=settings.flags_max_age,
        poll_interval=settings.flags_poll_interval,
    )


def read_deployed_flags(settings: DecisionGroup, clients: Clients = client) -> FlagSet:
    """Return the flags that are deployed at this moment; raises as ``moratorium.source.deployed_flags`` does."""
    from abeyance.moratorium.source import deployed_flags

    return deployed_flags(settings.flags, clients)


def build_publisher(settings: DecisionGroup, clients: Clients = client) -> FlagPublisher:
    """Return the publisher of new flags."""
    from abeyance.moratorium.publish import publisher_from

    return publisher_from(settings.flags, clients)


def build_tenants(settings: DecisionGroup, clients: Clients = client) -> TenantTable:
    """Return the registry of tenants."""
    from abeyance.moratorium.tenants import TenantTable

    return TenantTable(DynamoTable(clients("dynamodb"), settings.tenants_table))


def build_outbox(stage: str, settings: OutcomeGroup, clients: Clients = client) -> Outbox:
    """Return the outbox of a stage."""
    from abeyance.pipeline.aws import EventBridgeBus, S3Objects
    from abeyance.pipeline.outbox import Outbox

    bus = EventBridgeBus(clients("events"), settings.event_bus)
    return Outbox(
        stage, _upload_records(settings, clients), bus, S3Objects(clients("s3")), settings.results_bucket
    )


def build_gallery(settings: GalleryGroup, clients: Clients = client) -> DynamoGallery:
    """Return the gallery."""
    from abeyance.gallery.store import DynamoGallery

    return DynamoGallery(
        clients("dynamodb"),
        settings.gallery_table,
        clients("s3"),
        settings.gallery_bucket,
        vector_index=settings.vector_index,
    )


def build_searcher(settings: GalleryGroup, gallery: DynamoGallery, clients: Clients = client) -> Searcher:
    """Return the gallery's searcher: in memory, or for large collections through the vector index if there is one."""
    if not settings.vector_index:
        from abeyance.gallery.search import Searcher

        return Searcher(gallery)
    from abeyance.gallery.vector_index import DynamoIndex, IndexSearcher

    index = DynamoIndex(clients("dynamodb"), settings.gallery_table, settings.vector_index)
    return IndexSearcher(gallery, index, exact_up_to=settings.exact_up_to)


def build_ledger_queue(settings: RecordingGroup, clients: Clients = client) -> LedgerQueue:
    """Return the queue onto the ledger; its URL is asked for when the first record comes."""
    from abeyance.ledger.queue import LedgerQueue

    return LedgerQueue(clients("sqs"), settings.ledger_queue)


def build_ledger_store(settings: LedgerGroup, clients: Clients = client) -> LedgerStore:
    """Return the ledger."""
    from abeyance.ledger.store import LedgerStore

    return LedgerStore(clients("dynamodb"), settings.ledger_table)


def build_checkpointer(settings: LedgerGroup, clients: Clients = client, **options: Any) -> Checkpointer:
    """Return the reader and writer of the ledger's checkpoints; ``options`` are the constructor's own."""
    from abeyance.ledger.checkpoints import Checkpointer

    return Checkpointer(clients("s3"), settings.ledger_bucket, **options)


def build_pseudonyms(settings: PseudonymGroup, clients: Clients = client) -> Callable[[str], str]:
    """Return the function that hides the key of an object; the secret is read when it is first called."""
    from abeyance.ledger.pseudonym import pseudonym

    key = functools.cache(lambda: read_secret(settings.pseudonym_key, clients))
    return lambda text: pseudonym(key(), text)


def build_analyzer(settings: DetectionGroup) -> FaceAnalyzer:
    """Return the way from a photo to analysed faces; each model is opened when it is first needed."""
    from abeyance.vision.analysis import FaceAnalyzer

    return FaceAnalyzer(build_detector(settings), build_attributes(settings))


def build_detector(settings: DetectionGroup) -> Callable[[], Detector]:
    """Return a loader of the detector, which opens it once."""

    def load() -> Detector:
        from abeyance.vision.models.store import load_detector

        return load_detector(settings.detector_model, settings.models, verify=settings.verify_models)

    return functools.cache(load)


def build_attributes(settings: DetectionGroup) -> Callable[[], AttributeEstimator]:
    """Return a loader of the models that describe faces, which opens them once."""

    def load() -> AttributeEstimator:
        from abeyance.vision.attributes.estimator import load_attributes

        return load_attributes(settings.models, verify=settings.verify_models)

    return functools.cache(load)


def build_embedder(
    settings: EmbeddingGroup, detection: DetectionGroup, clients: Clients = client
) -> Callable[[], Embedder]:
    """Return a loader of the embedder, in this process or at its endpoint, which opens it once."""

    def load() -> Embedder:
        from abeyance.embedding.selection import embedder_from

        return embedder_from(
            settings.embedder,
            settings.embedder_model,
            detection.models,
            sagemaker_runtime=lambda: clients("sagemaker-runtime"),
            verify=detection.verify_models,
        )

    return functools.cache(load)


def build_similarity_scale(settings: EmbeddingGroup) -> Callable[[], SimilarityScale]:
    """Return a loader of the embedder's similarity scale."""

    def load() -> SimilarityScale:
        from abeyance.vision.models.manifest import Manifest
        from abeyance.vision.similarity import SimilarityScale

        return SimilarityScale.of(Manifest.load()[settings.embedder_model])

    return functools.cache(load)


def read_secret(setting: str, clients: Clients = client) -> bytes:
    """Return the secret that a setting names.

    Raises ``ValueError`` unless it is ``text:<secret>`` or ``secret:<ARN in Secrets Manager>``.
    """
    kind, _, value = setting.partition(":")
    if kind == "text" and value:
        return value.encode()
    if kind == "secret" and value:
        secret: str = clients("secretsmanager").get_secret_value(SecretId=value)["SecretString"]
        return secret.encode()
    raise ValueError("a secret is given as text:<secret> or secret:<ARN in Secrets Manager>")


def _upload_records(settings: OutcomeGroup, clients: Clients) -> UploadRecords:
    from abeyance.pipeline.upload_records import KEY, UploadRecords

    table = DynamoTable(clients("dynamodb"), settings.uploads_table, partition=KEY, sort="")
    return UploadRecords(table, settings.retention_days, time.time)
