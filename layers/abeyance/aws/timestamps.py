"""Moments as text: RFC 3339, in UTC, ending in ``Z``."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the moment now, aware, in UTC."""
    return datetime.now(UTC)


def rfc3339(moment: datetime, timespec: str = "milliseconds") -> str:
    """Return an aware moment in UTC as RFC 3339; ``timespec`` is that of ``datetime.isoformat``."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=timespec) + "Z"


def timestamp() -> str:
    """Return the moment now as RFC 3339 with milliseconds."""
    return rfc3339(utc_now())
