"""Tokens that continue a listing."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TypeVar

from abeyance.encoding import decode_base64, encode_base64
from abeyance.gallery.errors import InvalidPage
from abeyance.gallery.model import LISTED_PATTERN, Page

T = TypeVar("T")


def page_token(listing: str, last: str) -> str:
    """Return the token of the page after the item ``last``; only this listing accepts it."""
    check = zlib.crc32(f"{listing}\n{last}".encode())
    return encode_base64(check.to_bytes(4, "big") + last.encode(), url=True)


def page_start(listing: str, token: str) -> str:
    """Return the last id of the page before; empty for no token. Raises :class:`InvalidPage`."""
    if not token:
        return ""
    try:
        last = decode_base64(token, url=True)[4:].decode()
    except ValueError:
        last = ""
    if not LISTED_PATTERN.fullmatch(last) or page_token(listing, last) != token:
        raise InvalidPage("the paging token is not from this listing; list again without one")
    return last


def page_of(listing: str, items: Sequence[T], ids: Sequence[str], limit: int) -> Page[T]:
    """Return the first ``limit`` items, and a token if there are more of them."""
    token = page_token(listing, ids[limit - 1]) if len(items) > limit else ""
    return Page(tuple(items[:limit]), token)
