"""Signature lines of signed notes (C2SP signed-note): ``— <name> <base64 of key id and signature>``.

The notes of the log are its checkpoints (:mod:`abeyance.ledger.checkpoint`); the signatures themselves are in
:mod:`abeyance.ledger.signatures`.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from abeyance.encoding import decode_base64, encode_base64
from abeyance.ledger.errors import LedgerError

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


class SignedNote(msgspec.Struct, frozen=True):
    """A text, which ends in a newline, and the signatures under it."""

    text: str
    signatures: tuple[Signature, ...] = ()

    def __str__(self) -> str:
        return self.text + "\n" + "".join(f"{signature}\n" for signature in self.signatures)


def parse_signed_note(note: str) -> SignedNote:
    """Return a signed note from its text.

    Raises
    ------
    NoteError
        Not a text, an empty line, and signature lines.
    """
    text, separator, lines = note.rpartition("\n\n")
    if not separator or not lines.endswith("\n"):
        raise NoteError("not a signed note: needs a text, an empty line, and signature lines")
    return SignedNote(text + "\n", tuple(map(parse_signature, lines[:-1].split("\n"))))


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
