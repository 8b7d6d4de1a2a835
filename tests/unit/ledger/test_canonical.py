"""Canonical JSON: the fast way and the obvious way are the same way."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given, settings
from hypothesis import strategies as st

from abeyance.ledger.admissible import MAX_NUMBER, check_body
from abeyance.ledger.canonical import canonical_json, is_canonical, is_canonical_slowly, is_plain
from abeyance.ledger.errors import Inadmissible

numbers = (
    st.integers(-MAX_NUMBER, MAX_NUMBER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([1e16, 2**53, -(2**53), 10**16, 1e21, 5e-324, 1e-7, 0.0, -0.0, 123456789012345.6])
)
texts = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(
    ["𐀀", "\ue000", "\x7f", "\u2028", "/"]
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def spelled(value: Any, style: int) -> bytes:
    """A value as JSON, in one of several spellings of which at most one is canonical."""
    if style == 0:
        try:
            return rfc8785.dumps(value)
        except rfc8785.CanonicalizationError:
            style = 1
    separators = (",", ":") if style < 4 else (", ", ": ")
    text = json.dumps(value, ensure_ascii=style == 2, sort_keys=style != 3, separators=separators)
    return text.encode("utf-8", "surrogatepass")


@settings(max_examples=600)
@given(values, st.integers(0, 4), st.none() | st.tuples(st.integers(0), st.integers(0, 255)))
@example({"a": 2**53}, 1, None)
@example({"\ue000": 1, "𐀀": 2}, 0, None)
@example({"\ue000": 1, "𐀀": 2}, 1, None)
@example([1e20, 1.0, 100.5], 1, None)
@example(10**16, 1, None)
def test_fast_and_slow_canonical_agree(value: Any, style: int, change: tuple[int, int] | None) -> None:
    text = spelled(value, style)
    if change is not None:
        at = change[0] % len(text)
        text = text[:at] + bytes([change[1]]) + text[at + 1 :]
    assert is_canonical(text) == is_canonical_slowly(text)
    if style == 0 and change is None and text == spelled(value, 0):
        assert is_canonical(text) or re.search(rb"[0-9]{16}", text)


@pytest.mark.parametrize(
    "text",
    [
        # RFC 8785, section 3.2.3: keys in the order of their UTF-16 code units.
        '{"\\r":"Carriage Return","1":"One","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis",'
        '"\u20ac":"Euro Sign","\U0001f600":"Emoji: Grinning Face","\ufb33":"Hebrew Letter Dalet With Dagesh"}',
        # Section 3.2.2.
        '{"literals":[null,true,false],"numbers":[333333333.3333333,4.5,0.002,1e-27],'
        '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    ],
)
def test_the_examples_of_the_standard_are_canonical(text: str) -> None:
    assert is_canonical(text.encode())
    assert is_canonical_slowly(text.encode())


@pytest.mark.parametrize(
    "text",
    ['{"b":1,"a":2}', '{"a":1,"a":1}', '{"a":1.0}', '{"a":-0}', '{"a":1E3}', '{"a":9007199254740992}', '{"a": 1}',
     '"\\/"', '"\\u00e9"', "NaN", "[1e400]", '"\\ud800"', "", "[" * 5000, "[01]", "1" * 5000],
)  # fmt: skip
def test_other_spellings_are_not(text: str) -> None:
    assert not is_canonical(text.encode())
    assert not is_canonical_slowly(text.encode())


bodies = st.dictionaries(st.sampled_from(["a", "b", "A b", "zz", "~", "n"]), values, max_size=6)


@settings(max_examples=600)
@given(bodies)
@example({"a": 1e-3})
@example({"a": 1e15})
@example({"a": 999999999999999.9})
@example({"a": -0.0})
@example({"a": 1e-7, "b": {"a": 2.5}})
@example({"a": "𐀀\u007f\u2028/"})
def test_an_admissible_body_is_written_alike_both_ways(body: dict[str, Any]) -> None:
    try:
        plain = check_body(body)
    except Inadmissible:
        return
    assert canonical_json(body, plain=plain) == rfc8785.dumps(body)


@settings(max_examples=2000)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_plain_float_is_written_alike_both_ways(number: float) -> None:
    if is_plain(number):
        assert canonical_json(number, plain=True) == rfc8785.dumps(number)
