"""Puts the console together for a function: settings from the environment, adapters around AWS clients."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from abeyance.aws.clients import client
from abeyance.aws.dynamodb import DynamoTable
from abeyance.console.error_rates import MeasuredErrorRates
from abeyance.console.galleries import GalleryService
from abeyance.console.identity import identity_provider
from abeyance.console.ledger import LedgerService, VerificationStore
from abeyance.console.pictures import Pictures
from abeyance.console.policy import PolicyService
from abeyance.console.reviews import ReviewService
from abeyance.console.web.context import ConsoleServices
from abeyance.gallery.store import DynamoGallery
from abeyance.ledger.chain import Record
from abeyance.ledger.checkpoints import Checkpointer
from abeyance.ledger.errors import LedgerUnavailable
from abeyance.ledger.pseudonym import pseudonym
from abeyance.ledger.queue import LedgerQueue
from abeyance.ledger.store import LedgerStore
from abeyance.moratorium.delegate import DelegatedPublisher
from abeyance.moratorium.errors import MoratoriumError
from abeyance.moratorium.proposals import Proposals
from abeyance.moratorium.publish import FlagPublisher, publisher_from
from abeyance.moratorium.source import source_from
from abeyance.moratorium.tenants import DynamoTenants
from abeyance.pipeline import assemble as stages
from abeyance.pipeline.aws import S3Objects
from abeyance.pipeline.review_store import ReviewStore
from abeyance.pipeline.settings import Settings
from abeyance.vision.analysis import FaceAnalyzer
from abeyance.vision.models.manifest import Manifest


def build_console(settings: Settings | None = None) -> ConsoleServices:
    """Return the services of this environment's console; models are opened when a picture has to be cut again."""
    settings = settings or Settings.from_environment()
    objects, dynamodb = S3Objects(client("s3")), client("dynamodb")
    gallery = DynamoGallery(dynamodb, settings.gallery_table, client("s3"), settings.gallery_bucket)
    ledger_queue, hide = _Ledger(settings.ledger_queue), _pseudonyms(settings)
    analyzer = FaceAnalyzer(_detector(settings), functools.cache(lambda: stages.attributes(settings)))
    pictures = Pictures(objects, settings.chips_bucket, analyzer)
    reviews_table = DynamoTable(dynamodb, settings.reviews_table)
    reviews = ReviewService(
        ReviewStore(reviews_table),
        objects,
        settings.chips_bucket,
        gallery,
        stages.guard(settings),
        stages._outbox("review", settings),
        ledger_queue,
        hide,
        time.time,
    )
    ledger = LedgerService(
        LedgerStore(dynamodb, settings.ledger_table),
        Checkpointer(client("s3"), settings.ledger_bucket),
        VerificationStore(reviews_table),
        _clock,
    )
    report = os.environ.get("ABEYANCE_ACCURACY_REPORT", "")
    return ConsoleServices(
        identity=identity_provider(settings.console_identity, functools.cache(_client_secret)),
        session_key=_secret(settings.console_key) or os.urandom(32),
        reviews=reviews,
        pictures=pictures,
        policy=_policy(settings, ledger_queue, ledger),
        ledger=ledger,
        galleries=GalleryService(gallery, pictures, reviews, ledger_queue, hide),
        error_rates=functools.cache(lambda: MeasuredErrorRates.of(Manifest.load()[settings.embedder_model])),
        accuracy_report=Path(report) if report else None,
    )


class _Ledger:
    """The ledger's queue, whose URL is asked for when the first record comes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def put(self, record: Record) -> None:
        self._queue.put(record)

    @functools.cached_property
    def _queue(self) -> LedgerQueue:
        sqs = client("sqs")
        try:
            url = self._name if "://" in self._name else sqs.get_queue_url(QueueName=self._name)["QueueUrl"]
        except Exception as error:  # noqa: BLE001 - whatever the client raises, the ledger is not to be had
            raise LedgerUnavailable(f"the ledger queue cannot be found: {type(error).__name__}") from None
        return LedgerQueue(sqs, url)


def _policy(settings: Settings, queue: _Ledger, ledger: LedgerService) -> PolicyService:
    deployed = settings.flags.startswith("appconfig:")
    source = source_from(
        settings.flags,
        client=client("appconfigdata") if deployed else None,
        max_age=settings.flags_max_age,
        poll_interval=settings.flags_poll_interval,
    )
    publisher: FlagPublisher = publisher_from(
        settings.flags, client=client("appconfig") if deployed else None
    )
    if pipeline := os.environ.get("ABEYANCE_FLAG_PIPELINE", ""):
        publisher = DelegatedPublisher(publisher, functools.partial(_invoke, pipeline))
    tenants = DynamoTenants(client("dynamodb"), settings.tenants_table)

    def record(kind: str, body: dict[str, Any]) -> None:
        now = _clock().isoformat().replace("+00:00", "Z")
        try:
            queue.put(Record(id=f"moratorium:{os.urandom(8).hex()}", type=kind, time=now, body=body))
        except LedgerUnavailable as error:
            raise MoratoriumError(str(error)) from None

    def places() -> frozenset[str]:
        return frozenset(tenant.jurisdiction for tenant in tenants.all())

    proposals = Proposals(client("dynamodb"), settings.proposals_table, publisher, record, places=places)
    return PolicyService(source, publisher, proposals, tenants.all, ledger.since, _clock)


def _detector(settings: Settings) -> Callable[[], Any]:
    def load() -> Any:
        from abeyance.vision.models.store import load_detector

        return load_detector(settings.detector_model, settings.models)

    return functools.cache(load)


def _pseudonyms(settings: Settings) -> Callable[[str], str]:
    key = functools.cache(lambda: stages.pseudonym_key(settings))
    return lambda text: pseudonym(key(), text)


def _secret(setting: str) -> bytes:
    kind, _, value = setting.partition(":")
    if kind == "secret" and value:
        secret: str = client("secretsmanager").get_secret_value(SecretId=value)["SecretString"]
        return secret.encode()
    if setting and kind != "text":
        raise ValueError("a secret is given as text:<secret> or secret:<ARN>")
    return value.encode()


def _client_secret() -> str:
    """The provider's secret for this console: Cognito is asked for it, others' is kept in Secrets Manager."""
    setting = os.environ.get("ABEYANCE_CONSOLE_CLIENT_SECRET", "")
    kind, _, value = setting.partition(":")
    if kind != "cognito":
        return _secret(setting).decode()
    pool, _, client_id = value.partition("/")
    found = client("cognito-idp").describe_user_pool_client(UserPoolId=pool, ClientId=client_id)
    return str(found["UserPoolClient"]["ClientSecret"])


def _invoke(function: str, event: dict[str, Any]) -> dict[str, Any]:
    answer = client("lambda").invoke(FunctionName=function, Payload=json.dumps(event).encode())
    if answer.get("FunctionError"):
        raise RuntimeError(answer["FunctionError"])
    return dict(json.loads(answer["Payload"].read()))


def _clock() -> datetime:
    return datetime.now(UTC)
