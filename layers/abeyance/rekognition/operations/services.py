"""The ports and adapters behind the operations, and the faces of a collection as the service writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abeyance.embedding.former import FormerEmbedding, FormerModels
from abeyance.embedding.port import Embedder
from abeyance.gallery.errors import ModelMismatch
from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import Collection, Face, Refusal
from abeyance.gallery.search import Searcher
from abeyance.rekognition.call import Call
from abeyance.rekognition.facedetail import percent, wire_box
from abeyance.rekognition.photos import Photos
from abeyance.rekognition.videos import StoredVideos
from abeyance.rekognition.wire import single
from abeyance.vision.analysis import AnalyzedFace, FaceAnalyzer
from abeyance.vision.models.manifest import ModelEntry, ModelRole
from abeyance.vision.quality import QualityFilter
from abeyance.vision.similarity import SimilarityScale


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """The deployment's embedding model, known without loading it."""

    identity: str
    dimension: int
    entry: ModelEntry | None = None


@dataclass(frozen=True, slots=True)
class Services:
    """The ports and adapters of the operations. Models are loaded when they are first called."""

    gallery: Gallery
    searcher: Searcher
    photos: Photos
    analyzer: FaceAnalyzer
    embedder: Callable[[], Embedder]
    scale: Callable[[], SimilarityScale]
    embedding_model: Callable[[], EmbeddingModel]
    videos: StoredVideos
    #: Models beside the deployed one, whose collections are answered too.
    former: Callable[[], FormerModels] = dict

    def analyze(
        self,
        call: Call,
        data: bytes,
        *,
        quality_filter: str = QualityFilter.NONE,
        attributes: Set[ModelRole] = frozenset(),
    ) -> tuple[AnalyzedFace, ...]:
        """Return the faces of a photo, largest first; see :meth:`abeyance.vision.analysis.FaceAnalyzer.analyze`.

        ``quality_filter`` is the operation's default, where the request names none.
        """
        return self.analyzer.analyze(
            data,
            quality_filter=QualityFilter(call.params.get("QualityFilter", quality_filter)),
            attributes=attributes,
            measure=call.timings.measure,
        ).faces

    def embed(self, call: Call, faces: Sequence[AnalyzedFace], model: str = "") -> NDArray[np.float32]:
        """Return templates of faces, of the deployed model or another: (n, d) float32 of unit length."""
        former = self._former(model)
        embedder = former.embedder if former else self.embedder
        with call.timings.measure("embed"):
            return embedder().embed(np.stack([face.chip for face in faces]))

    def similarity(self, cosine: float, model: str = "") -> float:
        """Return the similarity, 0 to 100, as the service writes it, of templates of a model."""
        return single(min(100.0, max(0.0, float(self._scale(model).similarity(cosine)))))

    def cosine(self, similarity: float, model: str = "") -> float:
        """Return the lowest cosine that has at least this similarity."""
        return float(self._scale(model).cosine(similarity))

    def serves(self, model: str) -> bool:
        """Return whether templates of a model can be made here."""
        return model == self.embedding_model().identity or model in self.former()

    def entry(self, model: str) -> ModelEntry | None:
        """Return the manifest's entry of a model, if its templates can be made here."""
        deployed = self.embedding_model()
        if model == deployed.identity:
            return deployed.entry
        former = self.former().get(model)
        return former.entry if former else None

    def _scale(self, model: str) -> SimilarityScale:
        former = self._former(model)
        return former.scale() if former else self.scale()

    def _former(self, model: str) -> FormerEmbedding | None:
        if not model or model == self.embedding_model().identity:
            return None
        return self.former()[model]


def deployed_model(call: Call, services: Services) -> str:
    """Return the collection's model; raise ``ModelMismatch`` if its templates cannot be made here."""
    return _of_deployed_model(services.gallery.describe(call.ref), services).model


def searched_collection(call: Call, services: Services) -> Collection:
    """Return the collection, up to date in memory; raise ``ModelMismatch`` if its templates cannot be made here.

    The search and the reads of the call take it in place of the name, which is so looked up once.
    """
    with call.timings.measure("search"):
        collection = services.searcher.refresh(call.ref)
    return _of_deployed_model(collection, services)


def _of_deployed_model(collection: Collection, services: Services) -> Collection:
    if not services.serves(collection.model):
        raise ModelMismatch(
            f"the collection holds templates of {collection.model}, which is not deployed here"
        )
    return collection


def wire_face(face: Face) -> dict[str, Any]:
    """Return a stored face as a Face of the service."""
    return {**stored_members(face), "IndexFacesModelVersion": version_number(face.model)}


def stored_members(face: Face) -> dict[str, Any]:
    """Return the members that a stored face has in every answer."""
    return {
        "FaceId": face.id,
        "BoundingBox": wire_box(face.box),
        "ImageId": face.image_id or None,
        "ExternalImageId": face.external_image_id or None,
        "Confidence": percent(face.confidence),
        "UserId": face.user_id or None,
    }


def wire_refusal(refusal: Refusal) -> dict[str, Any]:
    """Return the members that every unsuccessful deletion or association of a face has."""
    return {
        "FaceId": refusal.face_id,
        "UserId": refusal.user_id or None,
        "Reasons": [str(refusal.reason)],
    }


def version_number(model: str) -> str:
    """Return the hash in a model's identity as a decimal number: IndexFacesModelVersion consists of digits."""
    digits = model.rpartition("@")[2]
    try:
        return str(int(digits, 16))
    except ValueError:
        return "0"
