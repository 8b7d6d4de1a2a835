"""Base64 and hexadecimal from outside: what was encoded is decoded, and no other spelling of it."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abeyance.encoding import decode_base64, decode_hex, encode_base64


@given(st.binary(max_size=40), st.booleans())
def test_what_was_encoded_is_decoded(data: bytes, url: bool) -> None:
    assert decode_base64(encode_base64(data, url=url), url=url) == data
    assert decode_hex(data.hex()) == data


@given(st.text(alphabet="AEQIVWxyz019+/-_= \n", max_size=12), st.booleans())
def test_no_other_text_is_accepted(text: str, url: bool) -> None:
    """Whatever is accepted is the text that encoding gives."""
    try:
        decoded = decode_base64(text, url=url)
    except ValueError:
        return
    encoded = base64.urlsafe_b64encode(decoded).rstrip(b"=") if url else base64.b64encode(decoded)
    assert encoded.decode() == text


@pytest.mark.parametrize("text", ["AB==", "AAB=", "AA", "AA=", "AAAA=", "AA==\n", " AA==", "AA-_", "A", "é"])
def test_padded_base64_has_one_spelling(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any kind of it
        decode_base64(text)


@pytest.mark.parametrize("text", ["AB", "AAB", "AA==", "AA=", "AAAA=", "AA\n", "AA+/", "A", "é"])
def test_base64url_has_one_spelling(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        decode_base64(text, url=True)


@pytest.mark.parametrize("text", ["AB", "aB", "a", "ab ", " ab", "ab cd", "0x", "ag", "é"])
def test_hexadecimal_has_one_spelling(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        decode_hex(text)
