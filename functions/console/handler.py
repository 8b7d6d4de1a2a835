"""Console: the pages that people work with, behind an HTTP API of API Gateway."""

from __future__ import annotations

from typing import Any

from abeyance.console.gateway import answer
from abeyance.console.web.app import create_app
from abeyance.deployment.build import build_console
from abeyance.pipeline import topology

services = build_console()
application = create_app(services)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer a request, in payload format 2.0; or, on schedule, continue interrupted erasures."""
    if event.get("task") == topology.ERASE.task:
        return services.galleries.resume()
    return answer(application, event)
