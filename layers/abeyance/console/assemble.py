"""Puts the console together for a function: settings from the environment, adapters around AWS clients."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from abeyance.aws.clients import client
from abeyance.console import meaning
from abeyance.console.books import Books
from abeyance.console.desk import Desk, Settle
from abeyance.console.erase import Galleries
from abeyance.console.identity import Closed, Identity, LoopbackPicker
from abeyance.console.oidc import OpenIdConnect
from abeyance.console.pictures import Pictures
from abeyance.console.policy import Policy
from abeyance.console.reviews import DynamoReviews
from abeyance.console.web.parts import Parts, Scale
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
from abeyance.pipeline.events import Event
from abeyance.pipeline.outbox import Outbox
from abeyance.pipeline.settings import Settings
from abeyance.vision.analysis import FaceAnalyzer
from abeyance.vision.models.manifest import Manifest


def parts(settings: Settings | None = None) -> Parts:
    """The rooms of this environment's console; models are opened when a picture has to be cut anew."""
    settings = settings or Settings.from_environment()
    objects, dynamodb = S3Objects(client("s3")), client("dynamodb")
    gallery = DynamoGallery(dynamodb, settings.gallery_table, client("s3"), settings.gallery_bucket)
    ledger, hide = _Ledger(settings.ledger_queue), _pseudonyms(settings)
    analyzer = FaceAnalyzer(_detector(settings), functools.cache(lambda: stages.attributes(settings)))
    pictures = Pictures(objects, settings.chips_bucket, analyzer)
    desk = Desk(
        DynamoReviews(dynamodb, settings.reviews_table),
        objects,
        settings.chips_bucket,
        gallery,
        stages.guard(settings),
        _settle(stages._outbox("review", settings)),
        ledger,
        hide,
        time.time,
    )
    books = Books(
        LedgerStore(dynamodb, settings.ledger_table),
        Checkpointer(client("s3"), settings.ledger_bucket),
        _clock,
        *_drawer(dynamodb, settings.reviews_table),
    )
    report = os.environ.get("ABEYANCE_ACCURACY_REPORT", "")
    return Parts(
        identity=identity(settings),
        key=_secret(settings.console_key) or os.urandom(32),
        desk=desk,
        pictures=pictures,
        policy=_policy(settings, ledger, books),
        books=books,
        galleries=Galleries(gallery, pictures, desk, ledger, hide),
        scale=functools.cache(lambda: _scale(settings)),
        report=Path(report) if report else None,
    )


def _settle(outbox: Outbox) -> Settle:
    """The outbox of the stage *review*, which has nothing to say of an upload that was replaced or deleted."""

    def settle(event: Event) -> Event | None:
        return outbox.record_outcome(event) if outbox.is_latest(event.upload) else None

    return settle


def identity(settings: Settings) -> Identity:
    """Who signs in, from the setting ``console_identity``; raises ``ValueError`` on one that says nothing."""
    kind, _, rest = settings.console_identity.partition(":")
    if kind == "nobody":
        return Closed()
    if kind == "loopback":
        return LoopbackPicker()
    if kind == "oidc" and len(words := rest.split()) == 3:
        return OpenIdConnect(*words, now=time.time, client_secret=functools.cache(_client_secret))
    raise ValueError(
        "ABEYANCE_CONSOLE_IDENTITY must be nobody, loopback, or oidc:<issuer> <client id> <console>"
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


def _policy(settings: Settings, ledger: _Ledger, books: Books) -> Policy:
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
            ledger.put(Record(id=f"moratorium:{os.urandom(8).hex()}", type=kind, time=now, body=body))
        except LedgerUnavailable as error:
            raise MoratoriumError(str(error)) from None

    def places() -> frozenset[str]:
        return frozenset(tenant.jurisdiction for tenant in tenants.all())

    proposals = Proposals(client("dynamodb"), settings.proposals_table, publisher, record, places=places)
    return Policy(source, publisher, proposals, tenants.all, books.since, _clock)


def _scale(settings: Settings) -> Scale:
    entry = Manifest.load()[settings.embedder_model]
    provenance = entry.calibration.provenance if entry.calibration else ""
    return Scale(
        model=entry.identity, about=entry.about, provenance=provenance, anchors=meaning.anchors(provenance)
    )


def _detector(settings: Settings) -> Callable[[], Any]:
    def load() -> Any:
        from abeyance.vision.models.store import load_detector

        return load_detector(settings.detector_model, settings.models)

    return functools.cache(load)


def _pseudonyms(settings: Settings) -> Callable[[str], str]:
    key = functools.cache(lambda: stages.pseudonym_key(settings))
    return lambda text: pseudonym(key(), text)


def _drawer(dynamodb: Any, table: str) -> tuple[Callable[[bytes], None], Callable[[], bytes | None]]:
    """Where the last verification is kept: one item beside the reviews."""
    key: Mapping[str, Any] = {"pk": {"S": "verification"}, "sk": {"S": "last"}}

    def keep(body: bytes) -> None:
        dynamodb.put_item(TableName=table, Item={**key, "body": {"B": body}})

    def kept() -> bytes | None:
        item = dynamodb.get_item(TableName=table, Key=key).get("Item")
        return None if item is None else bytes(item["body"]["B"])

    return keep, kept


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
