"""Builds the parts that several units share. As in :mod:`abeyance.deployment.build`, each imports what it needs."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from abeyance.aws.clients import Clients, client
from abeyance.aws.dynamodb import DynamoTable
from abeyance.deployment.settings import (
    AccessKeysGroup,
    ChangesGroup,
    DecisionGroup,
    DetectionGroup,
    EmbeddingGroup,
    GalleryGroup,
    LedgerGroup,
    OutcomeGroup,
    PseudonymGroup,
    RecordingGroup,
    RegistryGroup,
    SigningGroup,
)

if TYPE_CHECKING:
    from abeyance.embedding.former import FormerModels
    from abeyance.embedding.port import Embedder
    from abeyance.gallery.search import Searcher
    from abeyance.gallery.store import DynamoGallery
    from abeyance.ledger.checkpointer import HttpWitness
    from abeyance.ledger.heads import HeadStore
    from abeyance.ledger.ledger_bucket import LedgerBucket
    from abeyance.ledger.policy import Policy
    from abeyance.ledger.queue import LedgerQueue
    from abeyance.ledger.sequencer import Sequencer
    from abeyance.ledger.signers import Signer
    from abeyance.moratorium.access_keys import KeyStore
    from abeyance.moratorium.authorization_store import AuthorizationTable
    from abeyance.moratorium.client import ChangeClient
    from abeyance.moratorium.document import FlagSet
    from abeyance.moratorium.guard import Guard
    from abeyance.moratorium.publish import FlagPublisher
    from abeyance.moratorium.source import FlagSource
    from abeyance.moratorium.tenants import TenantTable
    from abeyance.pipeline.outbox import Outbox
    from abeyance.pipeline.upload_records import UploadRecords
    from abeyance.vision.analysis import FaceAnalyzer
    from abeyance.vision.attributes.estimator import AttributeEstimator
    from abeyance.vision.detector import Detector
    from abeyance.vision.similarity import SimilarityScale


def build_guard(settings: DecisionGroup, clients: Clients = client, *, consumes: bool = True) -> Guard:
    """Return the guard, which decides from the flags, tenants and authorisations of this moment."""
    from abeyance.moratorium.guard import Guard

    return Guard(
        build_flag_source(settings, clients),
        build_tenants(settings, clients),
        authorizations=build_authorizations(settings, clients, consumes=consumes),
        model=settings.deployed_model,
        max_age=settings.flags_max_age,
    )


def build_authorizations(
    settings: DecisionGroup, clients: Clients = client, *, consumes: bool = True
) -> AuthorizationTable:
    """Return the authorisations and their use; a unit that does not consume looks only at what was used before."""
    from abeyance.moratorium.authorization_store import AuthorizationTable
    from abeyance.moratorium.authorization_uses import UseTable

    dynamodb = clients("dynamodb")
    return AuthorizationTable(
        DynamoTable(dynamodb, settings.proposals_table),
        UseTable(DynamoTable(dynamodb, settings.authorizations_table)),
        consumes=consumes,
    )


def build_flag_source(settings: DecisionGroup, clients: Clients = client) -> FlagSource:
    """Return the source of the flags in force: those handed out, the brake, and the record of what was agreed."""
    from abeyance.moratorium.audit_store import AUDITS
    from abeyance.moratorium.governed import GovernedFlags, PolledRecords
    from abeyance.moratorium.inforce import BRAKE, FLAGS, InForceTable
    from abeyance.moratorium.source import source_from

    polling: dict[str, Any] = {
        "max_age": settings.flags_max_age,
        "poll_interval": settings.flags_poll_interval,
    }
    flags = source_from(settings.flags, clients, **polling)
    setting = brake_setting(settings)
    brake = source_from(setting, clients, optional=True, **polling) if setting else None
    table = InForceTable(DynamoTable(clients("dynamodb"), settings.proposals_table))
    if settings.flags.startswith("file:"):
        audits = functools.partial(table.read_all, (AUDITS,))
        return GovernedFlags(flags, brake, audits=PolledRecords(audits, **polling))
    records = functools.partial(table.read_all, (FLAGS, BRAKE, AUDITS))
    return GovernedFlags(flags, brake, PolledRecords(records, **polling))


def brake_setting(settings: DecisionGroup) -> str:
    """Return where the brake comes from: as set, or a file beside the flags' file; empty for nowhere."""
    if settings.brake or not settings.flags.startswith("file:"):
        return settings.brake
    return f"{settings.flags.removesuffix('.json')}.brake.json"


def read_deployed_flags(settings: DecisionGroup, clients: Clients = client) -> FlagSet:
    """Return the flags that hold now, with the brake; raises as ``moratorium.source.deployed_flags`` does."""
    from abeyance.moratorium.source import deployed_flags

    flags = deployed_flags(settings.flags, clients)
    setting = brake_setting(settings)
    if not setting:
        return flags
    brake = deployed_flags(setting, clients, optional=True)
    return flags.joined([("brake:", brake)], brake=brake.digest)


def build_publishers(settings: DecisionGroup, clients: Clients = client) -> dict[str, FlagPublisher]:
    """Return the stores of flags and brake, by name."""
    from abeyance.moratorium.inforce import BRAKE, FLAGS
    from abeyance.moratorium.publish import publisher_from

    where = {FLAGS: settings.flags, BRAKE: brake_setting(settings)}
    return {name: publisher_from(setting, clients) for name, setting in where.items() if setting}


def build_change_client(settings: ChangesGroup, clients: Clients = client) -> ChangeClient:
    """Return the client of the change service, which signs as this process."""
    from abeyance.moratorium.client import ChangeClient
    from abeyance.moratorium.errors import MoratoriumError

    local = os.environ.get("AWS_ENDPOINT_URL", "").rstrip("/")
    url = settings.changes_url or (f"{local}/changes" if local else "")
    if url.startswith("/"):
        url = f"{local}{url}"

    def post(body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        if not url:
            raise MoratoriumError(
                "set ABEYANCE_CHANGES_URL to the change service's URL, which make env prints"
            )
        answer: tuple[int, bytes] = clients("execute-api").post(url, body, headers)
        return answer

    return ChangeClient(post)


def build_tenants(settings: RegistryGroup, clients: Clients = client) -> TenantTable:
    """Return the registry of tenants."""
    from abeyance.moratorium.tenants import TenantTable

    return TenantTable(DynamoTable(clients("dynamodb"), settings.tenants_table))


def build_access_keys(settings: AccessKeysGroup, tenants_table: str, clients: Clients = client) -> KeyStore:
    """Return the keys with which SDKs sign as a tenant; KMS is reached when the first one is needed."""
    from abeyance.moratorium.access_keys import KeyStore, KmsSealer

    sealer = KmsSealer(functools.partial(clients, "kms"), settings.access_keys_key)
    return KeyStore(DynamoTable(clients("dynamodb"), tenants_table), sealer)


def build_outbox(stage: str, settings: OutcomeGroup, clients: Clients = client) -> Outbox:
    """Return the outbox of a stage."""
    from abeyance.pipeline.aws import EventBridgeBus, S3Objects
    from abeyance.pipeline.outbox import Outbox
    from abeyance.pipeline.registered import RegisteredBuckets

    bus = EventBridgeBus(clients("events"), settings.event_bus)
    return Outbox(
        stage,
        build_upload_records(settings, clients),
        bus,
        S3Objects(clients("s3")),
        settings.results_bucket,
        RegisteredBuckets(build_tenants(settings, clients).registrations),
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


def build_log_objects(settings: LedgerGroup, clients: Clients = client) -> LedgerBucket:
    """Return the objects of the ledger."""
    from abeyance.ledger.ledger_bucket import LedgerBucket

    return LedgerBucket(clients("s3"), settings.ledger_bucket, settings.ledger_parallel)


def build_heads(settings: LedgerGroup, clients: Clients = client) -> HeadStore:
    """Return the head of the ledger."""
    from abeyance.ledger.heads import HeadStore

    return HeadStore(DynamoTable(clients("dynamodb"), settings.ledger_table))


def build_sequencer(settings: LedgerGroup, clients: Clients = client) -> Sequencer:
    """Return the ledger's writer of batches."""
    from abeyance.ledger.sequencer import Sequencer

    return Sequencer(build_heads(settings, clients), build_log_objects(settings, clients))


def build_witnesses(settings: SigningGroup) -> list[HttpWitness]:
    """Return the witnesses of the policy that can be asked."""
    if not settings.ledger_policy:
        return []
    from abeyance.ledger.checkpointer import HttpWitness
    from abeyance.ledger.policy import parse_policy
    from abeyance.ledger.witness import post_with_urllib3

    post = post_with_urllib3()
    witnesses = parse_policy(settings.ledger_policy).witnesses
    return [HttpWitness(witness, post) for witness in witnesses if witness.url]


def build_policy(settings: SigningGroup, clients: Clients = client) -> Callable[[str], Policy]:
    """Return who is believed about the log of a name: its own key here, and the witnesses of the policy."""
    import msgspec

    from abeyance.ledger.policy import Policy, parse_policy

    signer = build_signer(settings, clients)
    policy = parse_policy(settings.ledger_policy) if settings.ledger_policy else Policy()
    return lambda origin: msgspec.structs.replace(policy, logs=(*policy.logs, signer.verifier(origin)))


def build_signer(settings: SigningGroup, clients: Clients = client) -> Signer:
    """Return the ledger's own key, for signing and for its public half."""
    from abeyance.ledger.signers import KmsSigner, LocalSigner

    kind, _, value = settings.ledger_key.partition(":")
    if kind == "kms" and value:
        return KmsSigner(clients("kms"), value)
    return LocalSigner(read_secret(settings.ledger_key, clients))


def build_pseudonyms(settings: PseudonymGroup, clients: Clients = client) -> Callable[[str], str]:
    """Return the function that hides the key of an object; the secret is read when it is first called."""
    from abeyance.ledger.pseudonym import pseudonym

    key = functools.cache(lambda: read_secret(settings.pseudonym_key, clients))
    return lambda text: pseudonym(key(), text)


def build_analyzer(settings: DetectionGroup) -> FaceAnalyzer:
    """Return the way from a photo to analysed faces; each model is opened once, when it is first needed."""
    from abeyance.vision.analysis import FaceAnalyzer

    @functools.cache
    def detector() -> Detector:
        from abeyance.vision.models.store import load_detector

        return load_detector(settings.detector_model, settings.models, verify=settings.verify_models)

    @functools.cache
    def attributes() -> AttributeEstimator:
        from abeyance.vision.attributes.estimator import load_attributes

        return load_attributes(settings.models, verify=settings.verify_models)

    return FaceAnalyzer(detector, attributes)


def build_embedder(
    settings: EmbeddingGroup, clients: Clients = client, *, former: bool = False
) -> Callable[[], Embedder]:
    """Return a loader of the embedder, in this process or at its endpoint, which opens it once.

    With ``former``, of the other model whose collections are answered too.
    """

    def load() -> Embedder:
        from abeyance.embedding.selection import embedder_from

        return embedder_from(
            (settings.former_embedder or "local") if former else settings.embedder,
            settings.former_embedder_model if former else settings.embedder_model,
            settings.models,
            sagemaker_runtime=lambda: clients("sagemaker-runtime"),
            verify=settings.verify_models,
        )

    return functools.cache(load)


def build_former_models(
    settings: EmbeddingGroup, embedder: Callable[[], Embedder], clients: Clients = client
) -> Callable[[], FormerModels]:
    """Return a loader of the models beside the deployed one, whose collections are answered too."""

    def load() -> FormerModels:
        from abeyance.embedding.former import former_models
        from abeyance.vision.models.manifest import Manifest

        manifest = Manifest.load()
        name = settings.former_embedder_model
        other = (manifest[name], build_embedder(settings, clients, former=True)) if name else None
        return former_models(manifest[settings.embedder_model], embedder, other)

    return functools.cache(load)


def build_similarity_scale(settings: EmbeddingGroup) -> Callable[[], SimilarityScale]:
    """Return a loader of the embedder's similarity scale."""

    def load() -> SimilarityScale:
        from abeyance.vision.models.manifest import Manifest
        from abeyance.vision.similarity import SimilarityScale

        return SimilarityScale.of(Manifest.load()[settings.embedder_model])

    return functools.cache(load)


def read_scale(identity: str) -> SimilarityScale | None:
    """Return the similarity scale of a model, one of its earlier forms included; None for one that is not known."""
    from abeyance.vision.models.manifest import Manifest, entry_of
    from abeyance.vision.similarity import SimilarityScale

    entry = entry_of(Manifest.load(), identity)
    return SimilarityScale.of(entry) if entry else None


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


def build_upload_records(settings: OutcomeGroup, clients: Clients = client) -> UploadRecords:
    """Return the records of uploads."""
    from abeyance.pipeline.upload_records import KEY, UploadRecords

    table = DynamoTable(clients("dynamodb"), settings.uploads_table, partition=KEY, sort="")
    return UploadRecords(table, settings.retention_days, time.time)
