"""Puts the service together for a function: settings from the environment, adapters around AWS clients."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from abeyance.ledger.pseudonym import pseudonym
from abeyance.ledger.queue import LedgerQueue, queue_url
from abeyance.moratorium.tenants import DynamoTenants
from abeyance.pipeline import assemble as stages
from abeyance.pipeline.aws import client
from abeyance.pipeline.settings import Settings
from abeyance.rekognition.access import Access
from abeyance.rekognition.eyes import Eyes
from abeyance.rekognition.gateway import request_of, response_of
from abeyance.rekognition.operations import Tools
from abeyance.rekognition.operations.tools import Embedding
from abeyance.rekognition.photos import Photos
from abeyance.rekognition.service import Rekognition
from abeyance.vision.models.manifest import Manifest


def api() -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """What answers an API Gateway proxy event in this environment; models are loaded when a photo comes."""
    service = Rekognition(*_parts(Settings.from_environment()))
    return lambda event: response_of(service(request_of(event)))


def _parts(settings: Settings) -> tuple[Access, Tools]:
    access = Access(
        stages.guard(settings),
        DynamoTenants(client("dynamodb"), settings.tenants_table),
        _LazyQueue(settings.ledger_queue),
        lambda text: pseudonym(stages.pseudonym_key(settings), text),
    )
    gallery = stages.gallery(settings)
    return access, Tools(
        gallery=gallery,
        searcher=stages.searcher(settings, gallery),
        photos=Photos(client("s3"), settings.uploads_bucket),
        eyes=eyes(settings),
        embedding=functools.cache(lambda: _embedding(settings)),
    )


def eyes(settings: Settings) -> Eyes:
    """Detector, embedder, scale and attribute models of this deployment."""
    return Eyes(stages.detector(settings), stages.embedder(settings), stages.similarity_scale(settings))


def _embedding(settings: Settings) -> Embedding:
    entry = Manifest.load()[settings.embedder_model]
    return Embedding(entry.identity, entry.dimension)


class _LazyQueue:
    """The ledger's queue, whose URL is asked for when the first decision comes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def put(self, record: Any) -> None:
        self._queue.put(record)

    @functools.cached_property
    def _queue(self) -> LedgerQueue:
        sqs = client("sqs")
        return LedgerQueue(sqs, queue_url(sqs, self._name))
