"""TagResource, UntagResource, ListTagsForResource: the tags of collections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abeyance.gallery.errors import CollectionNotFound
from abeyance.gallery.model import COLLECTION_PATTERN, CollectionRef
from abeyance.rekognition.call import Call
from abeyance.rekognition.errors import invalid
from abeyance.rekognition.operations.collections import arn
from abeyance.rekognition.operations.services import Services

_COLLECTION = ":collection/"


def tag_resource(call: Call, services: Services) -> dict[str, Any]:
    """Add tags to a collection; a key that is there gets the new value."""
    services.gallery.add_tags(_tagged(call), call.params["Tags"])
    return {}


def untag_resource(call: Call, services: Services) -> dict[str, Any]:
    """Remove tags of a collection by key."""
    services.gallery.remove_tags(_tagged(call), call.params["TagKeys"])
    return {}


def list_tags_for_resource(call: Call, services: Services) -> dict[str, Any]:
    """Return the tags of a collection."""
    return {"Tags": services.gallery.tags(_tagged(call))}


def tagged_collection(params: Mapping[str, Any]) -> str:
    """Return the name of the collection in the request's ARN; empty if it is the ARN of nothing that Abeyance has."""
    name: str = params["ResourceArn"].partition(_COLLECTION)[2]
    return name if COLLECTION_PATTERN.fullmatch(name) else ""


def _tagged(call: Call) -> CollectionRef:
    """Return the collection of the request's ARN, written as CreateCollection or as DescribeCollection answers it.

    Raises
    ------
    ApiError
        InvalidParameterException for the ARN of something else.
    CollectionNotFound
        For a collection of another region or account.
    """
    name = tagged_collection(call.params)
    if not name:
        raise invalid("The resource must be a collection: arn:aws:rekognition:REGION:ACCOUNT:collection/NAME")
    if call.params["ResourceArn"].removeprefix("arn:") != arn(call.request, name):
        raise CollectionNotFound("there is no collection of that name in this account and region")
    return CollectionRef(call.grant.tenant, name)
