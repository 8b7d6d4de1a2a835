"""What the operations work with, and the faces of a collection as the service writes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from abeyance.gallery.errors import ModelMismatch
from abeyance.gallery.model import Face
from abeyance.gallery.port import Gallery
from abeyance.gallery.search import Searcher
from abeyance.rekognition.call import Call
from abeyance.rekognition.eyes import Eyes, percent, wire_box
from abeyance.rekognition.photos import Photos


@dataclass(frozen=True, slots=True)
class Embedding:
    """The deployment's embedding model, known without loading it."""

    identity: str
    dimension: int


@dataclass(frozen=True, slots=True)
class Tools:
    """Ports and adapters that the operations use."""

    gallery: Gallery
    searcher: Searcher
    photos: Photos
    eyes: Eyes
    embedding: Callable[[], Embedding]


def deployed_model(call: Call, tools: Tools) -> str:
    """The collection's model; raises ``ModelMismatch`` if its similarities are not on the deployment's scale."""
    model = tools.gallery.describe(call.ref).model
    if model != tools.embedding().identity:
        raise ModelMismatch(f"the collection holds templates of {model}, which is not deployed here")
    return model


def wire_face(face: Face) -> dict[str, Any]:
    """A stored face."""
    return {
        "FaceId": face.id,
        "BoundingBox": wire_box(face.box),
        "ImageId": face.image_id or None,
        "ExternalImageId": face.external_image_id or None,
        # Shares are stored; a percentage, by somebody who read it otherwise, is taken for what it is.
        "Confidence": percent(face.confidence),
        "IndexFacesModelVersion": version_number(face.model),
        "UserId": face.user_id or None,
    }


def version_number(model: str) -> str:
    """A model's identity as the digits that IndexFacesModelVersion may consist of: its hash, as a decimal number."""
    digits = model.rpartition("@")[2]
    try:
        return str(int(digits, 16))
    except ValueError:
        return "0"
