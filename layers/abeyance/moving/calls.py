"""Calls of the Rekognition API that several moves make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def pages(client: Any, operation: str, **request: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the answers of a client's operation page by page; the next page is asked for when it is needed."""
    while True:
        page = getattr(client, operation)(**request)
        yield page
        if not page.get("NextToken"):
            return
        request["NextToken"] = page["NextToken"]


def require_collection(api: Any, name: str) -> tuple[Mapping[str, Any], bool]:
    """Return DescribeCollection's answer, and whether the collection was missing and is created by this call."""
    try:
        return api.describe_collection(CollectionId=name), False
    except api.exceptions.ResourceNotFoundException:
        api.create_collection(CollectionId=name)
        return api.describe_collection(CollectionId=name), True
