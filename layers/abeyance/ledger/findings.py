"""The findings of verification, and its report."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from abeyance.ledger.errors import LedgerError

#: Findings that are kept; the others are only counted.
MAX_FINDINGS: Final = 100


class FindingKind(StrEnum):
    """The kind of a finding."""

    HEADER = "header"  # the first line is missing, damaged, or of another format
    MALFORMED = "malformed"  # a line is neither an entry nor a checkpoint
    NOT_CANONICAL = "not_canonical"  # the same entry in other bytes
    ALTERED = "altered"  # an entry does not have the hash that it states
    BROKEN_LINK = "broken_link"  # an entry is not bound to the one before it
    GAP = "gap"  # entries are missing
    MISPLACED = "misplaced"  # an entry stands behind its place
    REPEATED = "repeated"  # a sequence number comes again
    DUPLICATE_ID = "duplicate_id"  # an id comes again
    TRUNCATED = "truncated"  # the end is missing, or something was added behind it
    WRONG_CHECKPOINT = "wrong_checkpoint"  # a checkpoint does not fit the entries before it
    WRONG_HEAD = "wrong_head"  # the given head is not on this chain
    BAD_SIGNATURE = "bad_signature"  # a signature by a trusted key does not verify
    UNSIGNED = "unsigned"  # trusted keys were given and none signed


class BadLine(LedgerError):
    """A line that is not what it should be; ``offset`` is the first wrong byte in it, as far as that is
    known."""

    def __init__(self, kind: FindingKind, what: str, offset: int = 0) -> None:
        super().__init__(what)
        self.kind = kind
        self.what = what
        self.offset = offset


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong, and where.

    Attributes
    ----------
    kind
        See :class:`FindingKind`.
    what
        In words.
    seq
        Sequence number of the entry: as stated on the line, or where it should stand.
    line
        Line of the export, from 1 (the header); of a store, the number of entries read so far.
    offset
        Byte of the export where the damage is, or where the damaged line begins if that is all that is known.
    """

    kind: FindingKind
    what: str
    seq: int | None = None
    line: int | None = None
    offset: int | None = None


class VerificationReport(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a verification.

    Attributes
    ----------
    ok
        Nothing at all was found.
    chain, created
        From the header.
    entries
        Entries read, damaged ones not counted.
    head
        Recomputed hash of the last entry, hex.
    root
        Recomputed root of the Merkle tree over all entries, base64; empty if the findings leave no tree.
    findings
        The first :data:`MAX_FINDINGS`, in the order of the file.
    found
        How many there are.
    checkpoints, checkpointed
        How many checkpoints agree with the entries, and the size up to which all do.
    signed
        Size of the largest that agrees and has a good signature by a trusted key; 0 without trusted keys.
    conflicts, refused
        Entries of these types, which are no damage but deserve a look.
    """

    ok: bool
    chain: str
    created: str
    entries: int
    head: str
    root: str
    findings: tuple[Finding, ...]
    found: int
    checkpoints: int
    checkpointed: int
    signed: int
    conflicts: int
    refused: int
