"""Errors of measurements. Their texts say what to do, and never name a person or a photo."""

from __future__ import annotations


class EvaluationError(Exception):
    """A measurement that cannot be made."""


class DataInvalid(EvaluationError):
    """Photos, or a table that describes them, that a command cannot use."""


class TooFew(EvaluationError):
    """Too little data for the number that was asked for.

    Attributes
    ----------
    have, need
        The number that was counted (of pairs, photos or people, as the text says), and the number that is needed.
    """

    def __init__(self, message: str, *, have: int, need: int) -> None:
        super().__init__(message)
        self.have = have
        self.need = need
