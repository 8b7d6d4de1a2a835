"""Builds the object graph of every deployed unit. Functions, local runtime, commands and tests build here.

Each builder imports only what its unit needs, because a cold start is made of imports. Models are opened when the
first photo needs them. ``clients`` makes the AWS client of a service; it is a parameter so that a simulation can give
its own.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abeyance.aws.clients import Clients, client
from abeyance.aws.dynamodb import DynamoTable
from abeyance.deployment.parts import (
    build_access_keys,
    build_analyzer,
    build_authorizations,
    build_change_client,
    build_embedder,
    build_flag_source,
    build_former_models,
    build_gallery,
    build_guard,
    build_heads,
    build_ledger_queue,
    build_log_objects,
    build_outbox,
    build_policy,
    build_pseudonyms,
    build_searcher,
    build_sequencer,
    build_signer,
    build_similarity_scale,
    build_tenants,
    build_upload_records,
    build_witnesses,
    read_secret,
)
from abeyance.deployment.settings import (
    ApiSettings,
    CheckpointSettings,
    ConsoleSettings,
    DetectSettings,
    GateSettings,
    IndexSettings,
    LedgerGroup,
    LedgerSettings,
    OversightSettings,
    RecognizeSettings,
    ReconcileSettings,
    ReviewSettings,
)
from abeyance.deployment.videos import build_stored_videos

if TYPE_CHECKING:
    from abeyance.assurance.reconcile import Trace
    from abeyance.assurance.reconciler import Reconciler
    from abeyance.console.reviews import ReviewService
    from abeyance.console.web.context import ConsoleServices
    from abeyance.erasure.erase import Erasures
    from abeyance.ledger.indexer import Indexer
    from abeyance.pipeline.detect import Detect
    from abeyance.pipeline.fairness import GroupByTenant
    from abeyance.pipeline.recognize import Recognize
    from abeyance.pipeline.record import RecordDecisions
    from abeyance.pipeline.review import EnqueueReviews
    from abeyance.rekognition.service import Rekognition


#: Time to begin new segments of the lookup index, of the 600 s of its function; the next run goes on.
INDEX_WITHIN_S = 240.0


def build_gate(settings: GateSettings | None = None, clients: Clients = client) -> GroupByTenant:
    """Return the stage that decides on metadata alone, fair to every tenant."""
    from abeyance.pipeline.aws import S3Objects
    from abeyance.pipeline.fairness import GroupByTenant
    from abeyance.pipeline.gate import Gate

    settings = settings or GateSettings.from_environment()
    gate = Gate(
        build_guard(settings, clients),
        S3Objects(clients("s3")),
        build_upload_records(settings, clients),
        build_outbox("gate", settings, clients),
        settings.uploads_bucket,
    )
    return GroupByTenant(
        gate, functools.partial(clients, "sqs"), settings.gate_queue, settings.uploads_bucket
    )


def build_detect(settings: DetectSettings | None = None, clients: Clients = client) -> Detect:
    """Return the stage that finds faces."""
    from abeyance.pipeline.aws import S3Objects
    from abeyance.pipeline.detect import Detect

    settings = settings or DetectSettings.from_environment()
    return Detect(
        build_guard(settings, clients),
        S3Objects(clients("s3")),
        build_outbox("detect", settings, clients),
        build_analyzer(settings),
        settings.chips_bucket,
    )


def build_recognize(settings: RecognizeSettings | None = None, clients: Clients = client) -> Recognize:
    """Return the stage that makes templates, and indexes or searches."""
    from abeyance.pipeline.aws import S3Objects
    from abeyance.pipeline.postpone import Postpone
    from abeyance.pipeline.recognize import Recognize

    settings = settings or RecognizeSettings.from_environment()
    gallery = build_gallery(settings, clients)
    embedder = build_embedder(settings, clients)
    return Recognize(
        build_guard(settings, clients),
        S3Objects(clients("s3")),
        build_outbox("recognize", settings, clients),
        gallery,
        build_searcher(settings, gallery, clients),
        embedder,
        build_similarity_scale(settings),
        Postpone(clients("sqs"), settings.recognize_queue),
        build_former_models(settings, embedder, clients),
        chips_bucket=settings.chips_bucket,
        threshold=settings.search_threshold,
        max_candidates=settings.max_candidates,
    )


def build_sweep(
    settings: RecognizeSettings | None = None, clients: Clients = client
) -> Callable[[], dict[str, int]]:
    """Return the task that finishes interrupted deletions of collections and counts them."""
    settings = settings or RecognizeSettings.from_environment()
    gallery = build_gallery(settings, clients)
    tenants = build_tenants(settings, clients)
    return lambda: {"finished": sum(gallery.sweep(tenant.id) for tenant in tenants.all())}


def build_lapse(
    settings: RecognizeSettings | None = None, clients: Clients = client
) -> Callable[[], dict[str, int]]:
    """Return the task that settles searches whose authorisation was to follow, and counts them."""
    from abeyance.aws.timestamps import utc_now
    from abeyance.pipeline import topology
    from abeyance.pipeline.aws import S3Objects
    from abeyance.pipeline.lapse import SettleLateSearches
    from abeyance.pipeline.leftovers import Leftovers

    settings = settings or RecognizeSettings.from_environment()
    objects, outbox = S3Objects(clients("s3")), build_outbox(topology.LAPSE.task, settings, clients)
    return SettleLateSearches(
        build_authorizations(settings, clients),
        build_upload_records(settings, clients),
        Leftovers(build_gallery(settings, clients), objects, outbox, settings.chips_bucket),
        outbox,
        utc_now,
    )


def build_review(settings: ReviewSettings | None = None, clients: Clients = client) -> EnqueueReviews:
    """Return the stage that queues matches for people."""
    from abeyance.pipeline import topology
    from abeyance.pipeline.review import EnqueueReviews

    settings = settings or ReviewSettings.from_environment()
    table = DynamoTable(clients("dynamodb"), settings.reviews_table)
    outbox = build_outbox(topology.REVIEW.name, settings, clients)
    return EnqueueReviews(table, outbox, keep_s=settings.retention_days * 86400)


def build_record(settings: LedgerSettings | None = None, clients: Clients = client) -> RecordDecisions:
    """Return the ledger's writer."""
    from abeyance.pipeline.record import RecordDecisions
    from abeyance.pipeline.senders import Senders

    settings = settings or LedgerSettings.from_environment()
    key = read_secret(settings.pseudonym_key, clients)
    return RecordDecisions(build_sequencer(settings, clients), key, Senders(settings.ledger_senders))


def build_checkpoint(
    settings: CheckpointSettings | None = None, clients: Clients = client
) -> Callable[[], dict[str, Any]]:
    """Return the task that signs a checkpoint.

    It returns origin, size and the log's public key; nothing for an empty ledger.
    """
    from abeyance.ledger.checkpointer import Checkpointer
    from abeyance.ledger.policy import parse_policy
    from abeyance.pipeline.record import corruption_logged

    settings = settings or CheckpointSettings.from_environment()
    signer = build_signer(settings, clients)
    checkpointer = Checkpointer(
        build_heads(settings, clients),
        build_log_objects(settings, clients),
        signer,
        build_witnesses(settings),
        parse_policy(settings.ledger_policy) if settings.ledger_policy else None,
        parallel=settings.ledger_parallel,
    )

    def checkpoint() -> dict[str, Any]:
        with corruption_logged():
            made = checkpointer.checkpoint()
        if made is None:
            return {}
        return {"origin": made.origin, "size": made.size, "key": str(signer.verifier(made.origin))}

    return checkpoint


def build_index(
    settings: IndexSettings | None = None, clients: Clients = client
) -> Callable[[], dict[str, Any]]:
    """Return the task that writes what is due of the lookup index; it returns how much is in the index."""
    from msgspec import to_builtins

    from abeyance.pipeline.record import corruption_logged

    indexer = build_indexer(settings or IndexSettings.from_environment(), clients)

    def index() -> dict[str, Any]:
        with corruption_logged():
            state: dict[str, Any] = to_builtins(indexer.index(INDEX_WITHIN_S))
        return state

    return index


def build_indexer(settings: LedgerGroup, clients: Clients = client) -> Indexer:
    """Return the writer of the lookup index."""
    from abeyance.ledger.indexer import Indexer

    heads = build_heads(settings, clients)
    return Indexer(
        heads.integrated,
        build_log_objects(settings, clients),
        parallel=settings.ledger_parallel,
    )


def build_api(
    settings: ApiSettings | None = None, clients: Clients = client
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return the function that answers a proxy event of API Gateway."""
    from abeyance.rekognition.cors import answer_headers, parse_origins
    from abeyance.rekognition.front_door import FrontDoor
    from abeyance.rekognition.gateway import header_of
    from abeyance.rekognition.sigv4 import SignatureVerifier

    settings = settings or ApiSettings.from_environment()
    service = build_rekognition(settings, clients)
    region = clients("dynamodb").meta.region_name
    origins = parse_origins(settings.cors_origins)
    keys = build_access_keys(settings, settings.tenants_table, clients)
    front = FrontDoor(service, SignatureVerifier(keys.secret))

    def answer(event: Mapping[str, Any]) -> dict[str, Any]:
        response = front(event, region)
        response["headers"] |= answer_headers(header_of(event, "origin"), origins)
        return response

    return answer


def build_rekognition(settings: ApiSettings | None = None, clients: Clients = client) -> Rekognition:
    """Return the Rekognition operations."""
    from abeyance.pipeline.upload_records import KEY
    from abeyance.rekognition.access import Access
    from abeyance.rekognition.operations import Services
    from abeyance.rekognition.operations.services import EmbeddingModel
    from abeyance.rekognition.photos import Photos
    from abeyance.rekognition.rates import TenantRates
    from abeyance.rekognition.service import Rekognition
    from abeyance.vision.models.manifest import Manifest

    settings = settings or ApiSettings.from_environment()
    gallery = build_gallery(settings, clients)

    @functools.cache
    def embedding_model() -> EmbeddingModel:
        entry = Manifest.load()[settings.embedder_model]
        return EmbeddingModel(entry.identity, entry.dimension, entry)

    embedder = build_embedder(settings, clients)
    tenants = build_tenants(settings, clients)
    rates_table = DynamoTable(clients("dynamodb"), settings.rates_table, partition=KEY, sort="")
    access = Access(
        build_guard(settings, clients),
        tenants,
        build_ledger_queue(settings, clients),
        build_pseudonyms(settings, clients),
        rates=TenantRates(rates_table, settings.tenant_rate, tenants) if settings.tenant_rate else None,
    )
    photos = Photos(clients("s3"), settings.uploads_bucket, tenants.get, frozenset({settings.gallery_bucket}))
    services = Services(
        gallery=gallery,
        searcher=build_searcher(settings, gallery, clients),
        photos=photos,
        analyzer=build_analyzer(settings),
        embedder=embedder,
        scale=build_similarity_scale(settings),
        embedding_model=embedding_model,
        former=build_former_models(settings, embedder, clients),
        videos=build_stored_videos(settings, photos, clients),
    )
    return Rekognition(access, services)


def build_console(settings: ConsoleSettings | None = None, clients: Clients = client) -> ConsoleServices:
    """Return the services of the console; models are opened when a picture has to be cut again."""
    from abeyance.aws.timestamps import utc_now
    from abeyance.console.error_rates import MeasuredErrorRates
    from abeyance.console.galleries import GalleryService
    from abeyance.console.identity import identity_provider
    from abeyance.console.ledger import LedgerService, VerificationStore
    from abeyance.console.pictures import Pictures
    from abeyance.console.policy import PolicyService
    from abeyance.console.web.context import ConsoleServices
    from abeyance.deployment.curation import build_curation
    from abeyance.pipeline.aws import S3Objects
    from abeyance.vision.models.manifest import Manifest

    settings = settings or ConsoleSettings.from_environment()
    pictures = Pictures(S3Objects(clients("s3")), settings.chips_bucket, build_analyzer(settings))
    reviews_table = DynamoTable(clients("dynamodb"), settings.reviews_table)
    reviews = build_reviews(settings, clients)
    ledger = LedgerService(
        build_heads(settings, clients),
        build_log_objects(settings, clients),
        build_policy(settings, clients),
        VerificationStore(reviews_table),
        utc_now,
        settings.ledger_parallel,
    )
    policy = PolicyService(
        build_flag_source(settings, clients),
        build_change_client(settings, clients),
        ledger.since,
        utc_now,
    )
    model = settings.embedder_model
    return ConsoleServices(
        identity=identity_provider(
            settings.console_identity,
            functools.cache(lambda: read_client_secret(settings.console_client_secret, clients)),
        ),
        session_key=read_secret(settings.console_key, clients) if settings.console_key else os.urandom(32),
        reviews=reviews,
        pictures=pictures,
        policy=policy,
        ledger=ledger,
        curation=build_curation(settings, clients),
        galleries=GalleryService(build_gallery(settings, clients), build_erasures(settings, clients)),
        error_rates=functools.cache(lambda: MeasuredErrorRates.of(Manifest.load()[model])),
        accuracy_report=Path(settings.accuracy_report) if settings.accuracy_report else None,
    )


def build_reviews(settings: OversightSettings, clients: Clients = client) -> ReviewService:
    """Return the service that hands out comparisons and closes reviews."""
    from abeyance.console.reviews import ReviewService
    from abeyance.pipeline.aws import S3Objects
    from abeyance.pipeline.review_store import ReviewStore

    return ReviewService(
        ReviewStore(DynamoTable(clients("dynamodb"), settings.reviews_table)),
        S3Objects(clients("s3")),
        settings.chips_bucket,
        build_gallery(settings, clients),
        build_guard(settings, clients, consumes=False),
        build_outbox("review", settings, clients),
        build_ledger_queue(settings, clients),
        build_pseudonyms(settings, clients),
        time.time,
    )


def build_erasures(settings: OversightSettings, clients: Clients = client) -> Erasures:
    """Return the erasures of people, for the console, its hourly task and the command."""
    from abeyance.erasure.erase import Erasures
    from abeyance.erasure.remains import Retention
    from abeyance.erasure.store import ErasureStore
    from abeyance.erasure.walk import PersonWalk
    from abeyance.pipeline.aws import S3Objects
    from abeyance.pipeline.review_store import ReviewStore

    chips_bucket = settings.chips_bucket
    gallery, objects = build_gallery(settings, clients), S3Objects(clients("s3"))
    records = build_upload_records(settings, clients)
    dynamodb = clients("dynamodb")
    reviews = ReviewStore(DynamoTable(dynamodb, settings.reviews_table))
    return Erasures(
        ErasureStore(DynamoTable(dynamodb, settings.erasures_table)),
        PersonWalk(gallery, records, reviews, objects, chips_bucket),
        gallery,
        records,
        build_outbox("review", settings, clients),
        objects,
        chips_bucket,
        build_reviews(settings, clients),
        build_ledger_queue(settings, clients),
        build_pseudonyms(settings, clients),
        Retention(
            retention_days=settings.retention_days,
            archive_days=settings.archive_days,
            recovery_days=settings.recovery_days,
            log_days=settings.log_days,
        ),
    )


def build_reconciler(
    settings: ReconcileSettings | OversightSettings | None = None, clients: Clients = client
) -> Reconciler:
    """Return the comparison of the stores with the ledger.

    That of a person who may read galleries compares faces, too. The scheduled function may not read templates.
    """
    from abeyance.assurance import traces
    from abeyance.assurance.reconciler import Reconciler
    from abeyance.aws.timestamps import utc_now
    from abeyance.moratorium.authorization_uses import UseTable
    from abeyance.pipeline.review_store import ReviewStore

    settings = settings or ReconcileSettings.from_environment()
    records = build_upload_records(settings, clients)
    reviews = ReviewStore(DynamoTable(clients("dynamodb"), settings.reviews_table))
    uses = UseTable(DynamoTable(clients("dynamodb"), settings.authorizations_table))
    bucket = settings.results_bucket
    stores: list[Callable[[], Iterable[Trace]]] = [
        lambda: traces.of_records(records),
        lambda: traces.of_results(clients("s3"), bucket),
        lambda: traces.of_reviews(reviews),
        lambda: traces.of_uses(uses),
    ]
    if isinstance(settings, OversightSettings):
        from abeyance.assurance.faces import of_faces

        gallery, tenants = build_gallery(settings, clients), build_tenants(settings, clients)
        stores.append(lambda: of_faces(gallery, [tenant.id for tenant in tenants.all()]))
    return Reconciler(build_heads(settings, clients), build_log_objects(settings, clients), stores, utc_now)


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
