"""The defects that verification finds, and its report."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final

import msgspec

#: Defects that are kept; the others are only counted.
MAX_DEFECTS: Final = 100


class DefectKind(StrEnum):
    """The kind of a defect. Each means that the log is broken."""

    LOG = "log"  # the object that names the log is missing, damaged, or names another
    FOREIGN = "foreign"  # an object that is no part of this log
    REWRITTEN = "rewritten"  # a second version of an object that is written once
    DELETED = "deleted"  # a delete marker
    MISSING = "missing"  # an object is missing
    DAMAGED = "damaged"  # an object does not have its form
    ALTERED = "altered"  # an entry does not have the hash that the tree has for it
    WRONG_TILE = "wrong_tile"  # a tile does not have the hashes of the tiles below it
    WRONG_PARTIAL = "wrong_partial"  # a partial tile or bundle does not begin the full one
    WRONG_CHECKPOINT = "wrong_checkpoint"  # a checkpoint that is of other entries, or of another log
    TWO_HISTORIES = "two_histories"  # both of two contradicting states are signed by keys that are believed
    LOST = "lost"  # a checkpoint has more entries than there are
    BAD_SIGNATURE = "bad_signature"  # a signature of the log's own key that is not good
    RETIRED_KEY = "retired_key"  # signed by a key beyond the size up to which it is believed
    WRONG_OPENING = "wrong_opening"  # an opening that does not open its entry
    WRONG_BLOB = "wrong_blob"  # a member stored by digest is missing, or has another one
    CONFLICT = "conflict"  # an id stands on the log with two contents


class LogVerdict(IntEnum):
    """The result of a verification; its number is the exit status."""

    WHOLE = 0  # all of it is signed, and witnessed as the policy demands
    BROKEN = 1
    UNSIGNED = 4  # nothing contradicts, but a part is not signed or not witnessed, so it may still be changed


class Defect(msgspec.Struct, frozen=True):
    """One thing that is wrong, and where.

    Attributes
    ----------
    kind
        See :class:`DefectKind`.
    what
        In words.
    key
        Key of the object.
    index
        Index of the entry, from 0.
    """

    kind: DefectKind
    what: str
    key: str = ""
    index: int | None = None


class LedgerReport(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a verification.

    Attributes
    ----------
    verdict
        See :class:`LogVerdict`.
    why
        The verdict in words, with what to do.
    origin, created
        Of the log.
    size
        Number of entries that are there.
    root
        Recomputed root of the tree over all of them, base64; empty if the defects leave no tree.
    signed
        Number of entries under the largest checkpoint that agrees and is signed by a key of the log that is believed.
    witnessed
        The same, with cosignatures that fulfil the policy; equal to ``signed`` if the policy needs none.
    witnessed_at
        Time of the quorum's newest cosignatures, seconds since 1970.
    checkpoints
        Number of checkpoints that agree.
    defects, found
        The first :data:`MAX_DEFECTS`, and how many there are.
    notices
        What deserves a look and is no defect.
    opened
        Number of entries of which every field was opened; ``None`` if that was not asked for or openings are withheld.
    repeated
        Entries that repeat an earlier one, id and content. Every reading counts them once.
    conflicts, refused
        Entries of these types.
    """

    verdict: LogVerdict
    why: str
    origin: str = ""
    created: str = ""
    size: int = 0
    root: str = ""
    signed: int = 0
    witnessed: int = 0
    witnessed_at: int | None = None
    checkpoints: int = 0
    defects: tuple[Defect, ...] = ()
    found: int = 0
    notices: tuple[str, ...] = ()
    opened: int | None = None
    repeated: int = 0
    conflicts: int = 0
    refused: int = 0


class DefectList:
    """The defects found so far: all are counted, and the first :data:`MAX_DEFECTS` kept."""

    def __init__(self) -> None:
        self.kept: list[Defect] = []
        self.found = 0

    def add(self, kind: DefectKind, what: str, *, key: str = "", index: int | None = None) -> None:
        """Add one."""
        self.found += 1
        if len(self.kept) < MAX_DEFECTS:
            self.kept.append(Defect(kind, what, key, index))
