"""Strict decoders of base64 and hexadecimal text from outside: one value has exactly one accepted spelling.

The decoders of the standard library take several texts for the same bytes: unused bits at the end of base64 may be
set, and hexadecimal may be in upper case and hold blanks. Where a text is signed, compared or used as a token, that
lets somebody change it unnoticed.
"""

from __future__ import annotations

import base64


def decode_base64(text: str, *, url: bool = False) -> bytes:
    """Return the bytes that canonical base64 stands for.

    Parameters
    ----------
    text
        Base64 of RFC 4648, section 4: padded, without line breaks, unused bits zero.
    url
        Expect section 5 instead, as JSON Web Tokens use it: ``-`` and ``_`` for ``+`` and ``/``, and no padding.

    Raises
    ------
    ValueError
        If ``text`` is not base64, or is not the one spelling that encoding gives.
    """
    padded = text + "=" * (-len(text) % 4) if url else text
    decoded = base64.b64decode(padded, altchars=b"-_" if url else None, validate=True)
    if encode_base64(decoded, url=url) != text:
        raise ValueError("not the canonical spelling of base64")
    return decoded


def encode_base64(data: bytes, *, url: bool = False) -> str:
    """Return the text that :func:`decode_base64` accepts for ``data``."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=") if url else base64.b64encode(data).decode()


def decode_hex(text: str) -> bytes:
    """Return the bytes that hexadecimal digits in lower case, without blanks, stand for.

    Raises
    ------
    ValueError
        If ``text`` is anything else.
    """
    decoded = bytes.fromhex(text)
    if decoded.hex() != text:
        raise ValueError("not hexadecimal in lower case")
    return decoded
