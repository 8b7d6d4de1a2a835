"""Canonical JSON (RFC 8785, JCS): one spelling for every value, written and recognised fast.

msgspec writes strings and integers as RFC 8785 does, and is some thirty times faster than a writer in Python. It
differs in three things, which take the slow way: numbers with a fraction that is none or is very small or large;
integers that a double does not hold; and the order of keys beyond the basic plane, which UTF-8 and UTF-16 sort
differently. A property test holds that both ways give the same bytes.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import msgspec
import rfc8785

# One table finds both at once: digits in a row, and bytes that begin a character beyond the basic plane.
_CLASSES: Final = bytes(48 if 48 <= byte < 58 else 255 if byte >= 240 else 32 for byte in range(256))
_LONG_INTEGER: Final = re.compile(rb"(?:^|[:\[,])-?[0-9]{16}")
_SMALLEST_PLAIN: Final = 1e-3
_LARGEST_PLAIN: Final = 1e15


class _NotCanonical(Exception):
    pass


def _same_float(text: str) -> msgspec.Raw:
    if rfc8785.dumps(float(text)) != text.encode():
        raise _NotCanonical
    return msgspec.Raw(text.encode())


_decode: Final = msgspec.json.Decoder(float_hook=_same_float).decode
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


def is_plain(number: float) -> bool:
    """Return whether msgspec writes this finite float as RFC 8785 does."""
    return _SMALLEST_PLAIN <= abs(number) < _LARGEST_PLAIN and not number.is_integer()


def canonical_json(value: Any, *, plain: bool = False) -> bytes:
    """Return a JSON value in the form of RFC 8785.

    Parameters
    ----------
    value
        Objects, arrays, strings without lone surrogates, finite numbers that a double holds, booleans and ``None``.
    plain
        Take the fast way: every float satisfies :func:`is_plain`, integers are below 2**53, and keys are ASCII.
        :func:`abeyance.ledger.admissible.check_body` returns whether that is so.

    Raises
    ------
    ValueError
        ``value`` has no canonical form.
    """
    return _encode(value) if plain else rfc8785.dumps(value)


def is_canonical(text: bytes) -> bool:
    """Return whether ``text`` is one JSON value in the form of RFC 8785, its integers exact in a double."""
    classes = text.translate(_CLASSES)
    if b"\xff" in classes or (b"0" * 16 in classes and _LONG_INTEGER.search(text)):
        return is_canonical_slowly(text)
    try:
        return _encode(_decode(text)) == text
    except (msgspec.DecodeError, ValueError, RecursionError, _NotCanonical):
        return False


def is_canonical_slowly(text: bytes) -> bool:
    """Return the same as :func:`is_canonical`, by the obvious way: decode, write as RFC 8785, compare."""
    try:
        return rfc8785.dumps(json.loads(text.decode())) == text
    except (ValueError, RecursionError):
        return False
