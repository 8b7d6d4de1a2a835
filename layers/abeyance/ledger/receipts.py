"""Receipts: the proof that one entry is on the log, by a few reads, checked without the log (C2SP tlog-proof).

::

    c2sp.org/tlog-proof@v1
    extra eyJkaXNjbG9zdXJlcyI6…          the leaf, and the fields that are disclosed; see below
    index 73894
    gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
    …                                    the path from the leaf to the root

    abeyance/6f2c0e4d9a7b1c35            the checkpoint, with its signatures
    …

Any program that reads such proofs checks ours, given the leaf. ``extra`` is ours: base64 of the canonical JSON
``{"disclosures":[["<salt>","<field>",<value>],…],"leaf":"<leaf>"}``. Nothing in it is believed: the path proves the
leaf, and the leaf the disclosures.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec

from abeyance.encoding import decode_base64, encode_base64
from abeyance.ledger.canonical import is_canonical
from abeyance.ledger.checkpoint import COSIGNATURES, LATEST, LogCheckpoint, checkpoint_key, parse_note
from abeyance.ledger.entry import Disclosure, is_leaf, read_opening
from abeyance.ledger.errors import LedgerCorrupt, LedgerError
from abeyance.ledger.integrate import DIGITS
from abeyance.ledger.merkle import leaf_hash, verify_inclusion
from abeyance.ledger.note import NoteError, parse_signature
from abeyance.ledger.objects import LogObjects
from abeyance.ledger.policy import Policy
from abeyance.ledger.tiles import HASH_BYTES, TileReader

MAGIC: Final = "c2sp.org/tlog-proof@v1"
#: Longest receipt that is read, in bytes: a leaf and a record of 60 KiB each, twice in base64, and the rest.
MAX_RECEIPT_BYTES: Final = 512 * 1024
_MAX_PATH: Final = 63
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,18})")


class Receipt(msgspec.Struct, frozen=True):
    """A receipt; ``str`` is its text.

    Attributes
    ----------
    index
        Of the entry, from 0.
    path
        Hashes from the leaf's sibling to the root's child.
    checkpoint
        With its signatures.
    leaf
        The entry's public half; empty in a proof that somebody else wrote without it.
    disclosures
        Fields that are shown.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: LogCheckpoint
    leaf: bytes = b""
    disclosures: tuple[Disclosure, ...] = ()

    def __str__(self) -> str:
        lines = [MAGIC]
        if self.leaf:
            lines.append(f"extra {encode_base64(_extra(self.leaf, self.disclosures))}")
        lines += [f"index {self.index}", *map(encode_base64, self.path)]
        return "\n".join([*lines, "", str(self.checkpoint)])


class ReceiptReport(msgspec.Struct, frozen=True):
    """The result of checking a receipt.

    Attributes
    ----------
    ok
        The entry is on the log of the checkpoint, which is signed and witnessed as the policy demands.
    what
        In words.
    index, origin, size
        Of the entry, the log, and the checkpoint.
    fields
        The disclosed values by their names, each shown to be the one of the entry.
    withheld
        Names of the others.
    witnessed_by
        Names of witnesses with a good cosignature.
    """

    ok: bool
    what: str
    index: int | None = None
    origin: str = ""
    size: int = 0
    fields: dict[str, Any] = {}
    withheld: tuple[str, ...] = ()
    witnessed_by: tuple[str, ...] = ()


def read_checkpoint(objects: LogObjects, size: int | None = None) -> LogCheckpoint:
    """Return the latest published checkpoint, or that of a size, with the cosignatures that came later.

    Raises
    ------
    LedgerError
        There is none.
    LedgerCorrupt
        It is damaged.
    """
    data = objects.get(LATEST if size is None else checkpoint_key(size))
    if data is None:
        raise LedgerError(
            "there is no checkpoint yet; wait until the log is signed, which it is every minute"
        )
    try:
        note = parse_note(data)
        for key in objects.keys(f"{COSIGNATURES}/{note.size:0{DIGITS}d}/"):
            note = note.signed(parse_signature((objects.get(key) or b"").decode().removesuffix("\n")))
    except (NoteError, UnicodeDecodeError) as error:
        raise LedgerCorrupt(f"a checkpoint is damaged: {error}; run: abeyance ledger verify") from None
    return note


def make_receipt(
    objects: LogObjects, checkpoint: LogCheckpoint, index: int, fields: Collection[str] | None = None
) -> Receipt:
    """Return the receipt of an entry, by some ten reads whatever the size of the log.

    Parameters
    ----------
    objects
        The log.
    checkpoint
        Of this log; see :func:`read_checkpoint`.
    index
        Of the entry, from 0.
    fields
        Names of the fields to disclose, such as ``body.tenant``; ``None`` for all.

    Raises
    ------
    LedgerError
        The entry came after the checkpoint, or has no such field.
    LedgerCorrupt
        The tiles do not have the checkpoint's root.
    """
    if not 0 <= index < checkpoint.size:
        raise LedgerError(
            f"the checkpoint is of {checkpoint.size} entries, from 0; wait for the next, or see index"
        )
    reader = TileReader(objects, checkpoint.size)
    leaf, path = reader.leaf(index), tuple(reader.inclusion(index))
    if not verify_inclusion(leaf_hash(leaf), index, checkpoint.size, path, checkpoint.root):
        raise LedgerCorrupt("the entries are not those of the checkpoint; run: abeyance ledger verify")
    disclosures: tuple[Disclosure, ...] = ()
    if fields is None or fields:
        opening = read_opening(reader.opening(index))
        if missing := sorted(set(fields or ()) - opening.fields.keys()):
            raise LedgerError(
                f"entry {index} has no field {missing[0]}; it has {', '.join(sorted(opening.fields))}"
            )
        disclosures = tuple(map(opening.disclose, sorted(opening.fields if fields is None else set(fields))))
    return Receipt(index, path, checkpoint, leaf, disclosures)


def parse_receipt(text: str) -> Receipt:
    """Return a receipt from its text; only the exact form is accepted, and nothing is verified.

    Raises
    ------
    LedgerError
        Not a receipt.
    """
    if len(text) > MAX_RECEIPT_BYTES:
        raise NoteError(f"not a receipt: more than {MAX_RECEIPT_BYTES} bytes")
    head, _, note = text.partition("\n\n")
    lines = head.split("\n")
    if lines.pop(0) != MAGIC:
        raise NoteError(f"not a receipt: the first line is not {MAGIC}")
    leaf, disclosures = b"", tuple[Disclosure, ...]()
    try:
        if lines and lines[0].startswith("extra "):
            leaf, disclosures = _parse_extra(decode_base64(lines.pop(0).removeprefix("extra ")))
        match = _INDEX.fullmatch(lines.pop(0)) if lines else None
        path = tuple(map(decode_base64, lines))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        raise NoteError("not a receipt: a line is not base64, or 'extra' holds something else") from None
    if match is None or len(path) > _MAX_PATH or any(len(node) != HASH_BYTES for node in path):
        raise NoteError("not a receipt: needs 'index <n>' and hashes of 32 bytes")
    return Receipt(int(match[1]), path, parse_note(note), leaf, disclosures)


def check_receipt(text: str, policy: Policy, *, leaf: bytes | None = None) -> ReceiptReport:
    """Check a receipt with nothing but itself and the policy.

    Parameters
    ----------
    text
        The receipt.
    policy
        Whose signatures are believed. One without any key of the log believes no receipt.
    leaf
        The entry, for a proof that does not bring it.

    Returns
    -------
    ReceiptReport
        Total: anything that is not a receipt is one that does not hold.
    """
    try:
        receipt = parse_receipt(text)
    except LedgerError as error:
        return ReceiptReport(False, str(error))
    note = receipt.checkpoint
    entry = receipt.leaf if leaf is None else leaf

    def report(what: str, *, ok: bool = False, **more: Any) -> ReceiptReport:
        return ReceiptReport(ok, what, receipt.index, note.origin, note.size, **more)

    if not entry:
        return report("the receipt does not bring the entry; give it with --leaf")
    if not verify_inclusion(leaf_hash(entry), receipt.index, note.size, receipt.path, note.root):
        return report("the entry is not shown to be on the log of this checkpoint")
    if not is_leaf(entry) or not all(shown.opens(entry) for shown in receipt.disclosures):
        return report("a disclosed field is not that of the entry")
    trust = policy.judge(note, note.origin, note.size)
    if not trust.signed:
        return report("no believed key of the log signed the checkpoint; give it with --trust or --policy")
    if not policy.witnessed(trust.cosigned):
        return report("the checkpoint is not witnessed as the policy demands")
    fields = {shown.field: msgspec.json.decode(shown.value) for shown in receipt.disclosures}
    names = msgspec.json.decode(entry)["commitments"]
    return report(
        f"entry {receipt.index} is on the log {note.origin} of {note.size} entries",
        ok=True,
        fields=fields,
        withheld=tuple(name for name in names if name not in fields),
        witnessed_by=tuple(sorted(trust.cosigned)),
    )


class _Extra(msgspec.Struct, forbid_unknown_fields=True):
    disclosures: list[tuple[str, str, msgspec.Raw]]
    leaf: str


def _extra(leaf: bytes, disclosures: Sequence[Disclosure]) -> bytes:
    parts = b",".join(
        b'["%b",%b,%b]' % (shown.salt.encode(), msgspec.json.encode(shown.field), shown.value)
        for shown in disclosures
    )
    return b'{"disclosures":[%b],"leaf":%b}' % (parts, msgspec.json.encode(leaf.decode()))


def _parse_extra(data: bytes) -> tuple[bytes, tuple[Disclosure, ...]]:
    extra = msgspec.json.decode(data, type=_Extra)
    if not is_canonical(data):
        raise ValueError("not canonical")
    disclosures = (Disclosure(salt, field, bytes(value)) for salt, field, value in extra.disclosures)
    return extra.leaf.encode(), tuple(disclosures)
