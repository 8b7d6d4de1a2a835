"""Flags: validates and deploys moratorium flags, and keeps their announcements in step."""

from __future__ import annotations

from typing import Any

from abeyance.deployment.build import build_announcements, build_flags
from abeyance.pipeline import topology

flags = build_flags()


def handler(event: dict[str, Any], context: object) -> dict[str, Any] | None:
    """Validate a document for AppConfig, deploy one for the console, or, on schedule, renew announcements."""
    if event.get("task") == topology.ANNOUNCE.task:
        return dict(build_announcements()())
    return flags(event)
