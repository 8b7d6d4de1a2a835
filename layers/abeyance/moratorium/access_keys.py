"""Access keys of our own: an id and a secret, with which any AWS SDK signs as one tenant.

A key has two halves. Its secret lies here, sealed; its id is a principal of the tenant's registration, which takes two
people to add and one to take away. Neither half permits anything alone.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from abeyance.aws.table import PARTITION, SORT, Put, Table
from abeyance.moratorium.errors import MoratoriumError
from abeyance.moratorium.tenants import Tenant

#: As long as an AWS key's id, and begun otherwise, so that nobody takes one for the other.
_KEY_ID: Final = re.compile(r"ABEY[A-Z2-7]{16}")
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_ID_LETTERS: Final = 16
_SECRET_BYTES: Final = 30
#: A new key beside the old one, while programs change over.
MAX_KEYS: Final = 2
#: A process reads a key again after this time. Revocation does not wait for it: the registration is read each time.
REMEMBER_S: Final = 15.0
_MAX_REMEMBERED: Final = 10_000


class TooManyKeys(MoratoriumError):
    """A tenant that has as many keys as it may."""


class AccessKey(NamedTuple):
    """A new key. The secret is shown once and stored sealed."""

    id: str
    secret: str


class Sealer(Protocol):
    """Encryption of secrets, each for one key id."""

    def seal(self, key_id: str, secret: str, /) -> bytes:
        """Return the secret encrypted."""
        ...

    def open(self, key_id: str, sealed: bytes, /) -> str:
        """Return the secret; raises whatever the service does for another key id's."""
        ...


class KmsSealer:
    """:class:`Sealer` on KMS, where the key id is the encryption context.

    Parameters
    ----------
    kms
        Makes the client.
    key
        ARN, id or alias of the KMS key.
    """

    def __init__(self, kms: Callable[[], Any], key: str) -> None:
        self._kms = kms
        self._key = key

    def seal(self, key_id: str, secret: str, /) -> bytes:
        answer = self._kms().encrypt(
            KeyId=self._key, Plaintext=secret.encode(), EncryptionContext={"access-key": key_id}
        )
        sealed: bytes = answer["CiphertextBlob"]
        return sealed

    def open(self, key_id: str, sealed: bytes, /) -> str:
        answer = self._kms().decrypt(
            KeyId=self._key, CiphertextBlob=sealed, EncryptionContext={"access-key": key_id}
        )
        secret: bytes = answer["Plaintext"]
        return secret.decode()


def is_key_id(text: str) -> bool:
    """Return whether a text has the form of our keys' ids."""
    return bool(_KEY_ID.fullmatch(text))


def keys_of(tenant: Tenant) -> tuple[str, ...]:
    """Return the ids of the keys in a registration: those that are active."""
    return tuple(principal for principal in tenant.principals if is_key_id(principal))


class KeyStore:
    """The secrets, in the table of tenants: ``key#<id>``, ``secret``.

    Parameters
    ----------
    clock
        Seconds, monotonic.
    """

    def __init__(self, table: Table, sealer: Sealer, clock: Callable[[], float] = time.monotonic) -> None:
        self._table = table
        self._sealer = sealer
        self._clock = clock
        self._known: dict[str, tuple[float, str | None]] = {}

    def make(self, tenant: Tenant) -> AccessKey:
        """Make and store a key, which is nobody's until its id is in a registration; raises :class:`TooManyKeys`."""
        if len(keys_of(tenant)) >= MAX_KEYS:
            raise TooManyKeys(f"a tenant has at most {MAX_KEYS} keys; revoke one first")
        key_id = "ABEY" + "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LETTERS))
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        sealed = self._sealer.seal(key_id, secret)
        item = {PARTITION: f"key#{key_id}", SORT: "secret", "tenant": tenant.id, "sealed": sealed}
        self._table.transact([Put(item, absent=True)])
        return AccessKey(key_id, secret)

    def secret(self, key_id: str) -> str | None:
        """Return the secret of a key, or None for one that was never made."""
        if not is_key_id(key_id):
            return None
        until, secret = self._known.get(key_id, (0.0, None))
        now = self._clock()
        if now >= until:
            item = self._table.get((f"key#{key_id}", "secret"))
            secret = None if item is None else self._sealer.open(key_id, bytes(item["sealed"]))
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            self._known[key_id] = (now + REMEMBER_S, secret)
        return secret
