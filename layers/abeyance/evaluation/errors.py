"""Errors of measurements. Their texts say what to do, and never name a person or a photo."""

from __future__ import annotations


class EvaluationError(Exception):
    """A measurement that cannot be made."""


class DataInvalid(EvaluationError):
    """The photos, or the table that describes them, are not what the command needs."""


class TooFew(EvaluationError):
    """There is not enough data for the number that was asked for.

    Attributes
    ----------
    have, need
        The number that was counted (of pairs, photos or people, as the text says), and the number that is needed.
    """

    def __init__(self, message: str, *, have: int, need: int) -> None:
        super().__init__(message)
        self.have = have
        self.need = need
