"""Checkpoints as text: what the ledger was at one size, in a form that others can sign and compare.

::

    abeyance/6f2c0e4d9a7b1c35            the origin: which chain
    20852                                number of entries
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2…    root of the Merkle tree, base64
    head 9f86d081884c7d659a2feaa0c55a…   hash of the last entry, hex

    — acme.example/ledger Az3grl…        any number of signatures

This is a C2SP tlog-checkpoint (with one extension line) in a C2SP signed-note, so the witnesses of
transparency logs can sign it too. Signatures themselves are in :mod:`abeyance.ledger.signatures`.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from abeyance.encoding import decode_base64, encode_base64
from abeyance.ledger.chain import CHAIN_PATTERN, MAX_SEQ
from abeyance.ledger.errors import LedgerError

_TEXT: Final = re.compile(
    rf"(abeyance/{CHAIN_PATTERN})\n(0|[1-9][0-9]{{0,15}})\n([A-Za-z0-9+/]{{43}}=)\nhead ([0-9a-f]{{64}})\n"
)
_SIGNATURE: Final = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")


class NoteError(LedgerError, ValueError):
    """A text that is no checkpoint, no signature or no key; the message says which part."""


class Signature(msgspec.Struct, frozen=True):
    """One signature line: the signer's name, the id of the key, and the signature itself."""

    name: str
    key_id: bytes
    value: bytes

    def __str__(self) -> str:
        return f"— {self.name} {encode_base64(self.key_id + self.value)}"


class Checkpoint(msgspec.Struct, frozen=True):
    """The state of a chain at one size.

    Attributes
    ----------
    origin
        ``abeyance/<chain id>``.
    size
        Number of entries, 0 for an empty chain.
    root
        Root of the Merkle tree over their hashes, 32 bytes.
    head
        Hash of the last entry, hex; of the header if there is none.
    signatures
        As found, unverified.
    """

    origin: str
    size: int
    root: bytes
    head: str
    signatures: tuple[Signature, ...] = ()

    @property
    def text(self) -> str:
        """The signed text: the lines above the blank one."""
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\nhead {self.head}\n"

    def __str__(self) -> str:
        if not self.signatures:
            return self.text
        return self.text + "\n" + "".join(f"{signature}\n" for signature in self.signatures)

    def signed(self, *signatures: Signature) -> Checkpoint:
        """Return the same checkpoint with more signatures; one that is there already is not repeated."""
        return msgspec.structs.replace(self, signatures=tuple(dict.fromkeys((*self.signatures, *signatures))))


def parse_checkpoint(text: str) -> Checkpoint:
    """Return a checkpoint from its text, with or without signatures; only the exact form is accepted.

    Raises
    ------
    NoteError
        Not a checkpoint of this ledger's form.
    """
    body, blank, rest = text.partition("\n\n")
    match = _TEXT.fullmatch(body + "\n" if blank else body)
    if match is None:
        raise NoteError("not a checkpoint: needs the lines origin, size, base64 root and 'head <hash>'")
    if blank and not rest.endswith("\n"):
        raise NoteError("not a checkpoint: the last signature line has no end")
    origin, size, root, head = match.groups()
    if int(size) > MAX_SEQ:
        raise NoteError("not a checkpoint: the size is out of range")
    signatures = tuple(parse_signature(line) for line in rest[:-1].split("\n")) if blank else ()
    checkpoint = Checkpoint(origin, int(size), _base64(root), head, signatures)
    if str(checkpoint) != text:
        raise NoteError("not a checkpoint: not in its one exact form")
    return checkpoint


def parse_signature(line: str) -> Signature:
    """Return a signature from its line, without newline.

    Raises
    ------
    NoteError
        Not a signature line.
    """
    match = _SIGNATURE.fullmatch(line)
    value = _base64(match[2]) if match else b""
    if match is None or len(value) < 5:
        raise NoteError("not a signature line: needs '— <name> <base64>'")
    return Signature(match[1], value[:4], value[4:])


def _base64(text: str) -> bytes:
    try:
        return decode_base64(text)
    except ValueError:
        raise NoteError("not base64") from None
