"""Pseudonyms: equal for the same person or file, and only the holder of the key can tell whose one is."""

from __future__ import annotations

import hmac
from typing import Final

from abeyance.ledger.errors import LedgerError

#: Shorter keys could be guessed together with what they hide.
MIN_KEY_BYTES: Final = 16


def pseudonym(key: bytes, text: str) -> str:
    """HMAC-SHA256 of ``text`` (RFC 2104, FIPS 180-4).

    Parameters
    ----------
    key
        Secret of at least 16 bytes; 32 random bytes are recommended. Destroying it makes every pseudonym
        anonymous, which is how a ledger that is never edited forgets.
    text
        The identifier to hide, compared as its UTF-8 bytes: no case folding, no Unicode normalisation.

    Returns
    -------
    str
        64 lower-case hexadecimal digits.

    Raises
    ------
    LedgerError
        The key is too short.
    """
    if len(key) < MIN_KEY_BYTES:
        raise LedgerError(
            f"the pseudonym key has {len(key)} bytes; use at least {MIN_KEY_BYTES}, better 32 random ones"
        )
    return hmac.digest(key, text.encode(), "sha256").hex()
