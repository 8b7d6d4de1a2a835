"""CreateCollection, DeleteCollection, DescribeCollection, ListCollections."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from abeyance.rekognition.call import Call
from abeyance.rekognition.operations.services import Services

#: Collections of a page, where the request names no number.
PAGE: Final = 1000


def create_collection(call: Call, services: Services) -> dict[str, Any]:
    """A new collection, pinned to the deployment's embedding model. Tags are checked, and not kept."""
    embedding = services.embedding_model()
    made = services.gallery.create_collection(
        call.ref, model=embedding.identity, dimension=embedding.dimension
    )
    return {"StatusCode": 200, "CollectionArn": _arn(call, ""), "FaceModelVersion": made.model}


def delete_collection(call: Call, services: Services) -> dict[str, Any]:
    """Remove a collection with all that is in it."""
    services.gallery.delete_collection(call.ref)
    return {"StatusCode": 200}


def describe_collection(call: Call, services: Services) -> dict[str, Any]:
    """Counts, model and age."""
    found = services.gallery.describe(call.ref)
    return {
        "FaceCount": found.face_count,
        "UserCount": found.user_count,
        "FaceModelVersion": found.model,
        "CollectionARN": _arn(call, "arn:"),
        "CreationTimestamp": round(datetime.fromisoformat(found.created).timestamp(), 3),
    }


def list_collections(call: Call, services: Services) -> dict[str, Any]:
    """The tenant's own collections, by name."""
    page = services.gallery.list_collections(
        call.grant.tenant, limit=call.params.get("MaxResults") or PAGE, token=call.params.get("NextToken", "")
    )
    return {
        "CollectionIds": [found.ref.name for found in page.items],
        "FaceModelVersions": [found.model for found in page.items],
        "NextToken": page.next_token or None,
    }


def _arn(call: Call, scheme: str) -> str:
    """CreateCollection answers the ARN without its first part, DescribeCollection whole; so does the service."""
    where = f"{call.request.region}:{call.request.account}"
    return f"{scheme}aws:rekognition:{where}:collection/{call.params['CollectionId']}"
