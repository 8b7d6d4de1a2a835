"""CreateCollection, DeleteCollection, DescribeCollection, ListCollections."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from abeyance.rekognition.call import ApiRequest, Call
from abeyance.rekognition.operations.services import Services

#: Default for the collections of a page.
PAGE: Final = 1000


def create_collection(call: Call, services: Services) -> dict[str, Any]:
    """Create a collection, pinned to the deployment's embedding model."""
    embedding = services.embedding_model()
    made = services.gallery.create_collection(
        call.ref,
        model=embedding.identity,
        dimension=embedding.dimension,
        tags=call.params.get("Tags"),
    )
    return {
        "StatusCode": 200,
        "CollectionArn": arn(call.request, call.params["CollectionId"]),
        "FaceModelVersion": made.model,
    }


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
        "CollectionARN": f"arn:{arn(call.request, call.params['CollectionId'])}",
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


def arn(request: ApiRequest, collection: str) -> str:
    """Return a collection's ARN without ``arn:``, as CreateCollection answers it; DescribeCollection puts it before."""
    return f"aws:rekognition:{request.region}:{request.account}:collection/{collection}"
