"""Moments as text: RFC 3339, in UTC, ending in ``Z``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def utc_now() -> datetime:
    """Return the moment now, aware, in UTC."""
    return datetime.now(UTC)


def later(moment: datetime, wait: timedelta) -> datetime:
    """Return ``moment`` (aware) + ``wait``, or the last moment of the calendar where that lies beyond it; in UTC."""
    last = datetime.max.replace(tzinfo=UTC)
    return moment.astimezone(UTC) + wait if last - moment > wait else last


def parse_moment(text: str) -> datetime:
    """Return the moment, in UTC, of a date or date and time in ISO 8601; one without an offset is UTC.

    Raises ``ValueError``, also for a moment that in UTC is in no year from 1 to 9999.
    """
    parsed = datetime.fromisoformat(text)
    try:
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except OverflowError:
        raise ValueError("the moment lies outside the calendar") from None


def rfc3339(moment: datetime, timespec: str = "milliseconds") -> str:
    """Return an aware moment in UTC as RFC 3339; ``timespec`` is that of ``datetime.isoformat``.

    Raises ``OverflowError`` for a moment that in UTC is in no year from 1 to 9999.
    """
    utc = moment.astimezone(UTC)
    return f"{utc.date()}T{utc.time().isoformat(timespec)}Z"


def timestamp(timespec: str = "milliseconds") -> str:
    """Return the moment now as RFC 3339; ``timespec`` is that of ``datetime.isoformat``."""
    return rfc3339(utc_now(), timespec)
