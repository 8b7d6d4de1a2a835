"""The errors of the ledger. Each says what to do."""

from __future__ import annotations


class LedgerError(Exception):
    """Base of every error of this room."""


class Inadmissible(LedgerError, ValueError):
    """A record that must not or cannot be written: personal or biometric data, or no lossless canonical form.

    The text names the place in the record and the rule, and never the value found there.
    """


class LedgerUnavailable(LedgerError):
    """The ledger did not confirm. Do not act on the record: deny, or try again."""


class LedgerBusy(LedgerUnavailable):
    """Other sequencers moved the head at every attempt. Nothing was written; redeliver the records."""


class LedgerCorrupt(LedgerError):
    """The log contradicts itself. Stop, keep everything, and run ``abeyance ledger verify``."""


class CheckpointConflict(LedgerCorrupt):
    """A checkpoint of this size exists with another root: two histories were shown, or one was rewritten."""
