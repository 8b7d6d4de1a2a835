"""Api: Amazon Rekognition's operations behind API Gateway. The principal that signed maps to a tenant."""

from __future__ import annotations

from typing import Any

from abeyance.deployment.build import build_api

api = build_api()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an API Gateway proxy event."""
    return api(event)
