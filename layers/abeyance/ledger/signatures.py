"""Ed25519 signatures and countersignatures of checkpoints, and their keys, as text (C2SP signed-note,
tlog-cosignature).

Needs the package ``cryptography``, which deployed functions do not carry; it is imported when first used.

- A *signature* (algorithm 0x01) is the operator's statement of what the ledger is.
- A *countersignature* (0x04, cosignature/v1) is a witness's statement that it verified, at this time, that this
  checkpoint extends the one before. With one of them, nobody can show two people two versions of the ledger.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from abeyance.encoding import decode_base64, decode_hex, encode_base64
from abeyance.ledger.note import NoteError, Signature, parse_signed_note

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGN: Final = 1
COSIGN: Final = 4
_PRIVATE: Final = "PRIVATE+KEY+"


class SignedText(Protocol):
    """A text and the signatures under it: a checkpoint."""

    @property
    def text(self) -> str: ...

    @property
    def signatures(self) -> tuple[Signature, ...]: ...


class VerifierKey(msgspec.Struct, frozen=True):
    """A public key and its algorithm; ``str`` is the text to hand out: ``<name>+<key id>+<base64>``."""

    name: str
    algorithm: int
    public: bytes

    @property
    def key_id(self) -> bytes:
        """4 bytes that identify the key of a signature."""
        return hashlib.sha256(f"{self.name}\n".encode() + bytes([self.algorithm]) + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{_encode(self.algorithm, self.public)}"


class SignerKey(msgspec.Struct, frozen=True):
    """A private key. ``str`` never shows it; :attr:`secret` does."""

    name: str
    seed: bytes

    def __str__(self) -> str:
        return f"private key of {self.name}"

    __repr__ = __str__

    @property
    def secret(self) -> str:
        """The text to keep secret: ``PRIVATE+KEY+<name>+<key id>+<base64>``."""
        return f"{_PRIVATE}{self.name}+{self.verifier(SIGN).key_id.hex()}+{_encode(SIGN, self.seed)}"

    def verifier(self, algorithm: int) -> VerifierKey:
        """Return the public key for signatures (:data:`SIGN`) or countersignatures (:data:`COSIGN`)."""
        return VerifierKey(self.name, algorithm, self._private().public_key().public_bytes_raw())

    def sign(self, checkpoint: SignedText) -> Signature:
        """Return the ledger's own signature of a checkpoint."""
        return Signature(self.name, self.verifier(SIGN).key_id, self.sign_bytes(checkpoint.text.encode()))

    def sign_bytes(self, message: bytes) -> bytes:
        """Return the Ed25519 signature of a message, 64 bytes."""
        return self._private().sign(message)

    def countersign(self, checkpoint: SignedText, time: datetime) -> Signature:
        """Return a countersignature: the caller had verified the checkpoint at ``time``."""
        seconds = int(time.timestamp())
        value = self._private().sign(_cosigned(checkpoint, seconds))
        return Signature(self.name, self.verifier(COSIGN).key_id, struct.pack(">Q", seconds) + value)

    def _private(self) -> Ed25519PrivateKey:
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        except ImportError as error:
            raise NoteError("signatures need one more package: pip install 'abeyance[cli]'") from error
        return Ed25519PrivateKey.from_private_bytes(self.seed)


def generate(name: str, seed: bytes) -> SignerKey:
    """Return a private key from 32 random bytes.

    Raises
    ------
    NoteError
        The name is empty or has blanks or ``+``, or the seed has not 32 bytes.
    """
    _check_name(name)
    if len(seed) != 32:
        raise NoteError("a private key is made from 32 bytes")
    return SignerKey(name, seed)


def parse_signer(text: str) -> SignerKey:
    """Return a private key from its text.

    Raises
    ------
    NoteError
        Not such a text, or its parts contradict each other.
    """
    if not text.startswith(_PRIVATE):
        raise NoteError(
            "not a private key: it starts with PRIVATE+KEY+; make one with: abeyance ledger keygen"
        )
    name, key_id, algorithm, seed = _parts(text.strip().removeprefix(_PRIVATE))
    if algorithm != SIGN:
        raise NoteError("not an Ed25519 private key")
    key = generate(name, seed)
    if key.verifier(SIGN).key_id != key_id:
        raise NoteError("this private key is damaged: its id does not fit")
    return key


def parse_verifier(text: str) -> VerifierKey:
    """Return a public key from its text.

    Raises
    ------
    NoteError
        Not such a text, or its parts contradict each other.
    """
    name, key_id, algorithm, public = _parts(text.strip())
    _check_name(name)
    key = VerifierKey(name, algorithm, public)
    if algorithm not in (SIGN, COSIGN) or len(public) != 32 or key.key_id != key_id:
        raise NoteError("not a public key for Ed25519 signatures or countersignatures, or a damaged one")
    return key


def cosigned_at(signature: Signature) -> int:
    """Return the time in a countersignature, in seconds since 1970; 0 for any other signature."""
    return int.from_bytes(signature.value[:8], "big") if len(signature.value) == 72 else 0


def verify(checkpoint: SignedText, signature: Signature, key: VerifierKey) -> bool:
    """Return whether this signature of the checkpoint is by this key."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise NoteError("signatures need one more package: pip install 'abeyance[cli]'") from error
    if (signature.name, signature.key_id) != (key.name, key.key_id):
        return False
    message, value = checkpoint.text.encode(), signature.value
    if key.algorithm == COSIGN:
        if len(value) != 72:
            return False
        message, value = _cosigned(checkpoint, struct.unpack(">Q", value[:8])[0]), value[8:]
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(value, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def check(checkpoint: SignedText, trusted: Iterable[VerifierKey]) -> tuple[list[str], list[str]]:
    """Return the names of the trusted keys with a good signature, and of those with a bad one; ignore others."""
    keys = {(key.name, key.key_id): key for key in trusted}
    good: list[str] = []
    bad: list[str] = []
    for signature in checkpoint.signatures:
        key = keys.get((signature.name, signature.key_id))
        if key is not None:
            (good if verify(checkpoint, signature, key) else bad).append(key.name)
    return good, bad


def good_signers(note: str, keys: Iterable[str]) -> tuple[str, ...]:
    """Return those of some public keys, as text, that have a good signature under a signed note.

    Raises
    ------
    NoteError
        Not a signed note, or a text that is no public key.
    """
    signed = parse_signed_note(note)
    found = []
    for text in keys:
        key = parse_verifier(text)
        if any(verify(signed, signature, key) for signature in signed.signatures):
            found.append(text)
    return tuple(found)


def _check_name(name: str) -> None:
    if not name or "+" in name or any(character.isspace() or character < " " for character in name):
        raise NoteError("a key name is not empty and has no blanks and no '+'; try example.com/ledger")


def _cosigned(checkpoint: SignedText, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{checkpoint.text}".encode()


def _encode(algorithm: int, key: bytes) -> str:
    return encode_base64(bytes([algorithm]) + key)


def _parts(text: str) -> tuple[str, bytes, int, bytes]:
    try:
        name, key_id, key = text.split("+", 2)
        raw = decode_base64(key)
        return name, decode_hex(key_id), raw[0], raw[1:]
    except (ValueError, IndexError):
        raise NoteError("not a key: it reads <name>+<id>+<base64>") from None
