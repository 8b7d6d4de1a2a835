"""Keys that encrypt the data keys of an export: a passphrase in a file, or a key in KMS."""

from __future__ import annotations

import base64
import functools
import os
from pathlib import Path
from typing import Any, Final, Protocol

from abeyance.moving.errors import MovingError

#: Shorter passphrases can be guessed.
MIN_PASSPHRASE_BYTES: Final = 16
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
#: 64 MiB and some 0.2 s for each guess (RFC 7914).
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**16, 8, 1
#: What a wrapped key is for; one that was wrapped for anything else cannot be opened.
_CONTEXT: Final = "abeyance collection export"


class MasterKey(Protocol):
    """The key that wraps data keys."""

    def wrap(self, data_key: bytes) -> str:
        """Return a data key encrypted, as ASCII."""
        ...

    def unwrap(self, wrapped: str) -> bytes:
        """Return a data key; raises :class:`MovingError` if this is not the key that wrapped it."""
        ...


class PassphraseKey:
    """A passphrase, stretched by scrypt; data keys are wrapped with AES-256-GCM.

    Raises :class:`MovingError` on a passphrase that is too short.
    """

    def __init__(self, passphrase: bytes) -> None:
        if len(passphrase) < MIN_PASSPHRASE_BYTES:
            raise MovingError(
                f"the passphrase has fewer than {MIN_PASSPHRASE_BYTES} bytes; make one with: openssl rand -base64 32"
            )
        self._derive = functools.cache(functools.partial(_stretch, passphrase))

    @classmethod
    def read(cls, path: Path) -> PassphraseKey:
        """Return the key of the passphrase in a file, without the line's end."""
        return cls(path.read_bytes().rstrip(b"\r\n"))

    def wrap(self, data_key: bytes) -> str:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
        sealed = AESGCM(self._derive(salt)).encrypt(nonce, data_key, _CONTEXT.encode())
        return base64.b64encode(salt + nonce + sealed).decode()

    def unwrap(self, wrapped: str) -> bytes:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        raw = base64.b64decode(wrapped)
        salt, nonce = raw[:_SALT_BYTES], raw[_SALT_BYTES:][:_NONCE_BYTES]
        try:
            key = AESGCM(self._derive(salt))
            return key.decrypt(nonce, raw[_SALT_BYTES + _NONCE_BYTES :], _CONTEXT.encode())
        except InvalidTag:
            raise MovingError("the file was encrypted with another passphrase") from None


class KmsKey:
    """A symmetric key in AWS KMS.

    Parameters
    ----------
    kms
        A boto3 KMS client.
    key_id
        Id, ARN or alias of the key.
    """

    def __init__(self, kms: Any, key_id: str) -> None:
        self._kms = kms
        self._key_id = key_id

    def wrap(self, data_key: bytes) -> str:
        answer = self._kms.encrypt(
            KeyId=self._key_id, Plaintext=data_key, EncryptionContext={"for": _CONTEXT}
        )
        return base64.b64encode(answer["CiphertextBlob"]).decode()

    def unwrap(self, wrapped: str) -> bytes:
        sealed = base64.b64decode(wrapped)
        answer = self._kms.decrypt(
            KeyId=self._key_id, CiphertextBlob=sealed, EncryptionContext={"for": _CONTEXT}
        )
        opened: bytes = answer["Plaintext"]
        return opened


def _stretch(passphrase: bytes, salt: bytes) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    return Scrypt(salt, 32, _SCRYPT_N, _SCRYPT_R, _SCRYPT_P).derive(passphrase)
