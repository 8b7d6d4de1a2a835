"""The errors of moving, each with what to do about it."""

from __future__ import annotations


class MovingError(Exception):
    """A move that cannot be made or has to be made again; the message says what to do."""
