"""What can go wrong when somebody measures. The texts say what to do and name no person and no photo."""

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
        What was counted (pairs, photos or people, as the text says), and how many would do.
    """

    def __init__(self, message: str, *, have: int, need: int) -> None:
        super().__init__(message)
        self.have = have
        self.need = need
