"""Signers of checkpoints: a key in KMS that nobody can take out, or for one machine a key made of a secret."""

from __future__ import annotations

import functools
import hashlib
from typing import Any, Final, Protocol

from abeyance.ledger.checkpoint import LogCheckpoint
from abeyance.ledger.errors import LedgerUnavailable
from abeyance.ledger.signatures import SIGN, VerifierKey, check, generate

#: What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410, section 4).
_PUBLIC_KEY_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")


class Signer(Protocol):
    """The port of the log's own key."""

    def verifier(self, origin: str) -> VerifierKey:
        """Return the public key under the name of the log."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return a signature, 64 bytes. Raises ``LedgerUnavailable``."""
        ...

    def signed(self, checkpoint: LogCheckpoint) -> bool:
        """Return whether the checkpoint has a good signature by this key. Raises ``LedgerUnavailable``."""
        ...


class KmsSigner:
    """A KMS key of the spec ``ECC_NIST_EDWARDS25519``. The function that uses it needs no library of signatures.

    Parameters
    ----------
    client
        A low-level KMS client.
    key
        ARN or id of the key.
    """

    def __init__(self, client: Any, key: str) -> None:
        self._client = client
        self._key = key

    def verifier(self, origin: str) -> VerifierKey:
        return VerifierKey(origin, SIGN, self._public)

    def sign(self, message: bytes) -> bytes:
        answer = self._call("sign", Message=message, MessageType="RAW", SigningAlgorithm="ED25519_SHA_512")
        return bytes(answer["Signature"])

    def signed(self, checkpoint: LogCheckpoint) -> bool:
        key = self.verifier(checkpoint.origin)
        mine = [one for one in checkpoint.signatures if (one.name, one.key_id) == (key.name, key.key_id)]
        return len(mine) == 1 and self._verifies(checkpoint.text.encode(), mine[0].value)

    def _verifies(self, message: bytes, value: bytes) -> bool:
        try:
            answer = self._client.verify(
                KeyId=self._key,
                Message=message,
                MessageType="RAW",
                Signature=value,
                SigningAlgorithm="ED25519_SHA_512",
            )
        except self._client.exceptions.KMSInvalidSignatureException:
            return False
        except Exception as error:  # noqa: BLE001 - whatever it was, the signature is not known to be good
            raise LedgerUnavailable(f"KMS did not verify: {type(error).__name__}") from None
        return bool(answer["SignatureValid"])

    @functools.cached_property
    def _public(self) -> bytes:
        found = bytes(self._call("get_public_key")["PublicKey"])
        if not found.startswith(_PUBLIC_KEY_PREFIX) or len(found) != len(_PUBLIC_KEY_PREFIX) + 32:
            raise LedgerUnavailable(
                "the key of the ledger is no Ed25519 key; make one of ECC_NIST_EDWARDS25519"
            )
        return found[len(_PUBLIC_KEY_PREFIX) :]

    def _call(self, operation: str, **parameters: Any) -> Any:
        try:
            return getattr(self._client, operation)(KeyId=self._key, **parameters)
        except Exception as error:  # noqa: BLE001 - whatever it was, there is no signature
            raise LedgerUnavailable(f"KMS did not {operation}: {type(error).__name__}") from None


class LocalSigner:
    """A key made of a secret, for one machine and for emulators; needs the package ``cryptography``."""

    def __init__(self, secret: bytes) -> None:
        self._seed = hashlib.sha256(b"abeyance ledger key\n" + secret).digest()

    def verifier(self, origin: str) -> VerifierKey:
        return generate(origin, self._seed).verifier(SIGN)

    def sign(self, message: bytes) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self._seed).sign(message)

    def signed(self, checkpoint: LogCheckpoint) -> bool:
        good, _ = check(checkpoint, [self.verifier(checkpoint.origin)])
        return bool(good)
