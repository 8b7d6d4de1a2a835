"""Checkpoints: the state of a log at one size, as text that others sign and compare.

::

    abeyance/6f2c0e4d9a7b1c35            the origin: which log
    20852                                number of entries
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2…    root of the Merkle tree, base64

    — abeyance/6f2c0e4d9a7b1c35 Az3gr…   the log's own signature; the name of its key is the origin
    — witness.example/w1 jWbPPwAA…       cosignatures of witnesses

This is a C2SP tlog-checkpoint in a C2SP signed-note, as any witness of transparency logs signs it. Ours has no
extension lines; those of other logs are read, because :mod:`abeyance.ledger.witness_server` serves any log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from abeyance.encoding import decode_base64, encode_base64
from abeyance.ledger.integrate import DIGITS
from abeyance.ledger.note import NoteError, Signature, parse_signature
from abeyance.ledger.signatures import VerifierKey

#: The pointer to the latest checkpoint; written over, and trusted by nothing.
LATEST: Final = "checkpoint"
CHECKPOINTS: Final = "checkpoints"
COSIGNATURES: Final = "cosignatures"
#: What witnesses gave as reasons not to sign.
REFUSALS: Final = "refusals"
#: Longest note that is read, in bytes.
MAX_NOTE_BYTES: Final = 64 * 1024
_MAX_SIZE: Final = 2**63 - 1
_MAX_SIGNATURES: Final = 100
_TEXT: Final = re.compile(
    r"([^\x00-\x1f]+)\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/]{43}=)\n((?:[^\x00-\x1f]+\n)*)"
)


class LogCheckpoint(msgspec.Struct, frozen=True):
    """The state of a log at one size.

    Attributes
    ----------
    origin
        Name of the log: ``abeyance/<log id>``.
    size
        Number of entries.
    root
        Root of the Merkle tree over their leaves, 32 bytes.
    signatures
        As found, unverified.
    extensions
        Further lines of the text; empty in ours.
    """

    origin: str
    size: int
    root: bytes
    signatures: tuple[Signature, ...] = ()
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The signed text: the lines above the blank one."""
        lines = (self.origin, str(self.size), encode_base64(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines)

    def __str__(self) -> str:
        """The whole note; a note that nobody signed is none, so have a signature first."""
        return self.text + "\n" + "".join(f"{signature}\n" for signature in self.signatures)

    def signed(self, *signatures: Signature) -> LogCheckpoint:
        """Return the same checkpoint with more signatures; one that is there already is not repeated."""
        return msgspec.structs.replace(self, signatures=tuple(dict.fromkeys((*self.signatures, *signatures))))

    def signed_with(self, key: VerifierKey, sign: Callable[[bytes], bytes]) -> LogCheckpoint:
        """Return the same checkpoint with one signature more: ``sign`` maps the text to 64 bytes of Ed25519."""
        return self.signed(Signature(key.name, key.key_id, sign(self.text.encode())))


def parse_note(data: bytes | str) -> LogCheckpoint:
    """Return a checkpoint from its note; only the exact form is accepted. No signature is verified.

    Raises
    ------
    NoteError
        Not a checkpoint, not signed by anybody, or too long.
    """
    if len(data) > MAX_NOTE_BYTES:
        raise NoteError(f"not a checkpoint: more than {MAX_NOTE_BYTES} bytes")
    try:
        text = data if isinstance(data, str) else data.decode()
    except UnicodeDecodeError:
        raise NoteError("not a checkpoint: not UTF-8") from None
    body, blank, rest = text.partition("\n\n")
    match = _TEXT.fullmatch(body + "\n")
    if match is None or int(match[2]) > _MAX_SIZE:
        raise NoteError("not a checkpoint: needs the lines origin, size, and base64 root")
    if not blank or not rest.endswith("\n"):
        raise NoteError("not a checkpoint: needs a blank line and signature lines, each with its end")
    lines = rest[:-1].split("\n")
    if len(lines) > _MAX_SIGNATURES:
        raise NoteError(f"not a checkpoint: more than {_MAX_SIGNATURES} signatures")
    try:
        root = decode_base64(match[3])
    except ValueError:
        raise NoteError("not a checkpoint: the root is not base64") from None
    signatures = tuple(map(parse_signature, lines))
    extensions = tuple(match[4].split("\n")[:-1])
    return LogCheckpoint(match[1], int(match[2]), root, signatures, extensions)


def checkpoint_key(size: int) -> str:
    """Return the key of the numbered checkpoint of this size."""
    return f"{CHECKPOINTS}/{size:0{DIGITS}d}"


def cosignature_key(size: int, signature: Signature, seconds: int) -> str:
    """Return the key of a cosignature that came after its checkpoint was written."""
    return f"{COSIGNATURES}/{size:0{DIGITS}d}/{signature.key_id.hex()}-{seconds}"


def refusal_key(key_id: bytes, seconds: int) -> str:
    """Return the key of a witness's refusal at a time, seconds since 1970; later ones sort behind earlier ones."""
    return f"{REFUSALS}/{key_id.hex()}/{seconds:012d}"


def signature_lines(signatures: Iterable[Signature]) -> bytes:
    """Return signature lines, each with its newline."""
    return "".join(f"{signature}\n" for signature in signatures).encode()
