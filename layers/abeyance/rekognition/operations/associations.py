"""AssociateFaces and DisassociateFaces."""

from __future__ import annotations

from typing import Any, Final

from abeyance.rekognition.call import Call
from abeyance.rekognition.operations.services import Services, wire_refusal

#: Default for the least similarity of a face to the user.
THRESHOLD: Final = 75.0


def associate_faces(call: Call, services: Services) -> dict[str, Any]:
    """Associate faces with a user. It makes a new template of the user, so it takes the action ``index``."""
    params = call.params
    threshold = call.threshold("UserMatchThreshold", THRESHOLD)
    # Without other models there is no need to look which one the collection has.
    model = services.gallery.describe(call.ref).model if services.former() else ""
    if model and not services.serves(model):
        model = ""
    outcome = services.gallery.associate_faces(
        call.ref,
        params["UserId"],
        params["FaceIds"],
        min_cosine=services.cosine(threshold, model),
        token=params.get("ClientRequestToken", ""),
    )
    return {
        "AssociatedFaces": [{"FaceId": face_id} for face_id in outcome.done],
        "UnsuccessfulFaceAssociations": [
            wire_refusal(refusal)
            | {"Confidence": None if refusal.cosine is None else services.similarity(refusal.cosine, model)}
            for refusal in outcome.refused
        ],
        "UserStatus": str(outcome.status) if outcome.status else None,
    }


def disassociate_faces(call: Call, services: Services) -> dict[str, Any]:
    """Take faces from a user; they stay in the collection. This is never halted."""
    params = call.params
    outcome = services.gallery.disassociate_faces(
        call.ref, params["UserId"], params["FaceIds"], token=params.get("ClientRequestToken", "")
    )
    return {
        "DisassociatedFaces": [{"FaceId": face_id} for face_id in outcome.done],
        "UnsuccessfulFaceDisassociations": [wire_refusal(refusal) for refusal in outcome.refused],
        "UserStatus": str(outcome.status) if outcome.status else None,
    }
