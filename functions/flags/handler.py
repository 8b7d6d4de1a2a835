"""Flags: the change service behind API Gateway, AppConfig's validator, and the announcements of moratoria."""

from __future__ import annotations

from typing import Any

from abeyance.deployment.flags import build_flags

flags = build_flags()


def handler(event: dict[str, Any], context: object) -> dict[str, Any] | None:
    """Answer a signed request, validate a document for AppConfig, or do a scheduled task."""
    return flags(event)
