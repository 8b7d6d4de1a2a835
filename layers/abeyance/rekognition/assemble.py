"""Puts the service together for a function: settings from the environment, adapters around AWS clients."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from abeyance.aws.clients import client
from abeyance.ledger.pseudonym import pseudonym
from abeyance.ledger.queue import LedgerQueue, queue_url
from abeyance.moratorium.tenants import DynamoTenants
from abeyance.pipeline import assemble as stages
from abeyance.pipeline.settings import Settings
from abeyance.rekognition.access import Access
from abeyance.rekognition.gateway import request_of, response_of
from abeyance.rekognition.operations import Services
from abeyance.rekognition.operations.services import EmbeddingModel
from abeyance.rekognition.photos import Photos
from abeyance.rekognition.service import Rekognition
from abeyance.vision.analysis import FaceAnalyzer
from abeyance.vision.models.manifest import Manifest


def api() -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """What answers an API Gateway proxy event in this environment; models are loaded when a photo comes."""
    service = Rekognition(*_parts(Settings.from_environment()))
    return lambda event: response_of(service(request_of(event)))


def _parts(settings: Settings) -> tuple[Access, Services]:
    access = Access(
        stages.guard(settings),
        DynamoTenants(client("dynamodb"), settings.tenants_table),
        _LazyQueue(settings.ledger_queue),
        lambda text: pseudonym(stages.pseudonym_key(settings), text),
    )
    gallery = stages.gallery(settings)
    return access, Services(
        gallery=gallery,
        searcher=stages.searcher(settings, gallery),
        photos=Photos(client("s3"), settings.uploads_bucket),
        analyzer=FaceAnalyzer(
            stages.detector(settings), functools.cache(lambda: stages.attributes(settings))
        ),
        embedder=stages.embedder(settings),
        scale=stages.similarity_scale(settings),
        embedding_model=functools.cache(lambda: _embedding_model(settings)),
    )


def _embedding_model(settings: Settings) -> EmbeddingModel:
    entry = Manifest.load()[settings.embedder_model]
    return EmbeddingModel(entry.identity, entry.dimension)


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
