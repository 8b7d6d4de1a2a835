"""Console: what people have to look at, in a browser, behind an HTTP API of API Gateway."""

from __future__ import annotations

from typing import Any

from abeyance.console.assemble import build_console
from abeyance.console.gateway import answer
from abeyance.console.web.app import create_app

application = create_app(build_console())


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer a request, in payload format 2.0."""
    return answer(application, event)
