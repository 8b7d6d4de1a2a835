"""Console: the pages that people work with, behind an HTTP API of API Gateway."""

from __future__ import annotations

from typing import Any

from abeyance.console.gateway import answer
from abeyance.console.web.app import create_app
from abeyance.deployment.build import build_console

application = create_app(build_console())


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer a request, in payload format 2.0."""
    return answer(application, event)
