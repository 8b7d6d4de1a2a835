"""SearchFacesByTemplate and GetFaceTemplate: not in Rekognition, and off until a tenant is registered for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from abeyance.rekognition.call import Call
from abeyance.rekognition.errors import ApiError, invalid
from abeyance.rekognition.operations.search import face_matches
from abeyance.rekognition.operations.services import Services, searched_collection
from abeyance.rekognition.wire import single


def search_faces_by_template(call: Call, services: Services) -> dict[str, Any]:
    """Search for faces that match a template of the caller's own."""
    collection = searched_collection(call, services)
    if call.params["FaceModelVersion"] != collection.model:
        raise invalid(
            f"The collection's templates are of {collection.model}; make the template with that model"
        )
    template = np.array(call.params["Template"], dtype=np.float64)
    length = float(np.linalg.norm(template))
    if len(template) != collection.dimension or not 1e-6 < length < 1e30:
        raise invalid(
            f"A template of this collection is {collection.dimension} numbers, not all of them zero"
        )
    matches = face_matches(call, services, (template / length).astype(np.float32), collection)
    return {"FaceMatches": matches, "FaceModelVersion": collection.model}


def get_face_template(call: Call, services: Services) -> dict[str, Any]:
    """Return a face's template."""
    face_id = call.params["FaceId"]
    collection = services.gallery.describe(call.ref)
    template = services.gallery.templates(collection, [face_id]).get(face_id)
    if template is None:
        raise ApiError("ResourceNotFoundException", "faceId was not found in the collection.")
    return {
        "FaceId": face_id,
        "Template": [single(x) for x in template.tolist()],
        "FaceModelVersion": collection.model,
    }
