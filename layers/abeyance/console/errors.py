"""What a person at the console can be told."""

from __future__ import annotations


class ConsoleError(Exception):
    """Something that was asked for cannot be done; the message says what to do."""


class Refused(ConsoleError):
    """The rules do not allow it."""


class NotFound(ConsoleError):
    """It is not there, or not for this person to see."""


class Unavailable(ConsoleError):
    """Something that is needed does not answer; nothing was changed."""
