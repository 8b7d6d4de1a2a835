"""A search through the API looks its collection up once, before it does anything else."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.fakes import InMemoryGallery

from abeyance.gallery.model import CollectionRef, NewFace
from abeyance.gallery.search import Searcher
from abeyance.rekognition.call import Call, Timings
from abeyance.rekognition.operations.search import search_faces, search_users
from abeyance.rekognition.operations.services import EmbeddingModel, Services
from abeyance.rekognition.operations.templates import search_faces_by_template
from abeyance.vision.similarity import SimilarityScale

STAFF = CollectionRef("acme", "staff")
FACE = str(uuid.UUID(int=1))
BY_TEMPLATE = {"FaceModelVersion": "m@0", "Template": [1.0] * 8}


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        (search_faces, {"FaceId": FACE}),
        (search_users, {"FaceId": FACE}),
        (search_users, {"UserId": "ann"}),
        (search_faces_by_template, BY_TEMPLATE),
    ],
)
def test_a_search_reads_meta_once(
    operation: Any, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = InMemoryGallery()
    gallery.create_collection(STAFF, model="m@0", dimension=8)
    template = np.full(8, 8**-0.5, dtype=np.float32)
    gallery.index(STAFF, [NewFace(id=FACE, model="m@0", template=template)])
    gallery.create_user(STAFF, "ann")
    gallery.associate_faces(STAFF, "ann", [FACE])
    lookups: list[str] = []
    get = gallery.table.get
    monkeypatch.setattr(gallery.table, "get", lambda key: lookups.append(key[1][:2]) or get(key))  # type: ignore[func-returns-value]
    untouched: Any = None
    services = Services(
        gallery=gallery,
        searcher=Searcher(gallery),
        photos=untouched,
        analyzer=untouched,
        embedder=untouched,
        scale=lambda: SimilarityScale([(-1.0, 0.0), (1.0, 100.0)]),
        embedding_model=lambda: EmbeddingModel("m@0", 8),
        videos=untouched,
    )
    grant: Any = SimpleNamespace(tenant="acme", min_similarity=0.0)
    call = Call(untouched, {"CollectionId": "staff", **params}, grant, Timings())
    for _ in ("cold", "warm"):
        lookups.clear()
        answer = operation(call, services)
        assert answer["FaceModelVersion"] == "m@0"
        assert lookups.count("C#") == 1
