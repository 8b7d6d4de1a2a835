"""Errors whose messages a person at the console reads."""

from __future__ import annotations


class ConsoleError(Exception):
    """A request that cannot be done; the message says what to do."""


class RequestRefused(ConsoleError):
    """A request that the rules do not allow."""


class NotFound(ConsoleError):
    """A thing that does not exist, or that this person may not see."""


class Unavailable(ConsoleError):
    """A service that does not answer; nothing was changed unless the message says so."""
