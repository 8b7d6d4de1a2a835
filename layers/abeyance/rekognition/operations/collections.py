"""CreateCollection, DeleteCollection, DescribeCollection, ListCollections."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from abeyance.rekognition.call import Call
from abeyance.rekognition.operations.services import Services

#: Default for the collections of a page.
PAGE: Final = 1000


def create_collection(call: Call, services: Services) -> dict[str, Any]:
    """Create a collection, pinned to the deployment's embedding model. Tags are checked, and not kept."""
    embedding = services.embedding_model()
    made = services.gallery.create_collection(
        call.ref, model=embedding.identity, dimension=embedding.dimension
    )
    return {"StatusCode": 200, "CollectionArn": _arn(call, ""), "FaceModelVersion": made.model}


def delete_collection(call: Call, services: Services) -> dict[str, Any]:
    """Remove a collection and everything in it."""
    services.gallery.delete_collection(call.ref)
    return {"StatusCode": 200}


def describe_collection(call: Call, services: Services) -> dict[str, Any]:
    """Return a collection's counts, model and creation time."""
    found = services.gallery.describe(call.ref)
    return {
        "FaceCount": found.face_count,
        "UserCount": found.user_count,
        "FaceModelVersion": found.model,
        "CollectionARN": _arn(call, "arn:"),
        "CreationTimestamp": round(datetime.fromisoformat(found.created).timestamp(), 3),
    }


def list_collections(call: Call, services: Services) -> dict[str, Any]:
    """List the tenant's own collections by name."""
    page = services.gallery.list_collections(
        call.grant.tenant, limit=call.params.get("MaxResults") or PAGE, token=call.params.get("NextToken", "")
    )
    return {
        "CollectionIds": [found.ref.name for found in page.items],
        "FaceModelVersions": [found.model for found in page.items],
        "NextToken": page.next_token or None,
    }


def _arn(call: Call, scheme: str) -> str:
    """Return the ARN; like the service's, CreateCollection's has no ``arn:``, DescribeCollection's has."""
    where = f"{call.request.region}:{call.request.account}"
    return f"{scheme}aws:rekognition:{where}:collection/{call.params['CollectionId']}"
