"""Reading a line: the fast way and the obvious way are the same way."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from abeyance.ledger.chain import ID_PATTERN, MAX_SEQ, TIME_PATTERN, TYPE_PATTERN, Entry
from abeyance.ledger.findings import BadLine, FindingKind
from abeyance.ledger.lines import read_entry

numbers = (
    st.integers(-MAX_SEQ, MAX_SEQ)
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


def read_slowly(line: bytes) -> tuple[int, str, str, str, str, str] | None:
    """The obvious way to read an entry: decode, look at every field, write it again, compare, hash."""
    try:
        fields = json.loads(line.decode())
        whole = rfc8785.dumps(fields)
    except (ValueError, RecursionError):
        return None
    if whole != line or not isinstance(fields, dict):
        return None
    if fields.keys() != {"body", "hash", "id", "prev", "seq", "time", "type"}:
        return None
    digest = "[0-9a-f]{64}"
    forms = {"hash": digest, "prev": digest, "id": ID_PATTERN, "type": TYPE_PATTERN, "time": TIME_PATTERN}
    for name, form in forms.items():
        if not isinstance(fields[name], str) or not re.fullmatch(form, fields[name]):
            return None
    seq = fields["seq"]
    if type(seq) is not int or not 1 <= seq <= MAX_SEQ or not isinstance(fields["body"], dict):
        return None
    stated = fields.pop("hash")
    computed = hashlib.sha256(rfc8785.dumps(fields)).hexdigest()
    return seq, computed, stated, fields["prev"], fields["id"], fields["type"]


def read_fast(line: bytes) -> tuple[int, str, str, str, str, str] | None:
    try:
        entry = read_entry(line)
    except BadLine as bad:
        return None if 0 <= bad.offset <= len(line) else (bad.offset, "", "", "", "", "")
    return (
        entry.seq,
        entry.computed.hex(),
        entry.stated.hex(),
        entry.prev.hex(),
        entry.id.decode(),
        entry.type.decode(),
    )


tricky = st.fixed_dictionaries(
    {
        "seq": st.sampled_from([1, 7, MAX_SEQ, MAX_SEQ + 1, 0, -1, 1.0, True, "1"]) | st.integers(1, 10**16),
        "time": st.sampled_from(["2020-06-10T00:00:00.000000Z", "2020-06-10T00:00:00Z", "2020-13-10T00:00:00.000000Z"]),
        "id": st.from_regex(ID_PATTERN, fullmatch=True) | st.sampled_from(['a","hash":"', "ä", "a\n", ""]),
        "type": st.sampled_from(["decision", "Upload Halted", 'x"', "", "conflict"]),
        "body": values | st.just({"x": f'","hash":"{"0" * 64}","id":"'}) | st.dictionaries(texts, values, max_size=3),
        "prev": st.sampled_from(["0" * 64, "A" * 64, "0" * 63]),
        "hash": st.sampled_from(["0" * 64, "f" * 65]),
    },
    optional={"more": st.none()},
)  # fmt: skip


@settings(max_examples=600)
@given(tricky)
def test_any_fields_are_read_alike(fields: dict[str, Any]) -> None:
    for style in (0, 1, 4):
        line = spelled(fields, style)
        assert read_fast(line) == read_slowly(line)


@settings(max_examples=600)
@given(st.integers(0, 11), st.integers(0), st.integers(0), st.binary(max_size=3))
def test_any_edit_of_a_line_is_read_alike(
    entries: list[Entry], which: int, start: int, length: int, put: bytes
) -> None:
    line = entries[which].canonical
    at = start % (len(line) + 1)
    edited = line[:at] + put + line[at + length % 4 :]
    assert read_fast(edited) == read_slowly(edited)


def test_every_single_bit_of_a_line_matters(entries: list[Entry]) -> None:
    line = entries[2].canonical
    intact = read_fast(line)
    assert intact is not None
    assert intact == read_slowly(line)
    for bit in range(8 * len(line)):
        edited = bytearray(line)
        edited[bit // 8] ^= 1 << bit % 8
        fast = read_fast(bytes(edited))
        assert fast == read_slowly(bytes(edited))
        assert fast is None or fast[1] != fast[2]


@pytest.mark.parametrize(
    ("old", "new", "kind", "what"),
    [
        (b'"seq":3', b'"seq":03', FindingKind.MALFORMED, "not JSON"),
        (b'"seq":3', b'"seq":0', FindingKind.MALFORMED, "seq"),
        (b'"seq":3', b'"seq": 3', FindingKind.NOT_CANONICAL, "canonical"),
        (b'"seq":3', b'"seq":3,"x":1', FindingKind.MALFORMED, "no entry"),
        (b'"type":"decision"', b'"type":"dec\\u0069sion"', FindingKind.NOT_CANONICAL, "canonical"),
        (b'"outcome":"deny"', b'"outcome":"de\xffny"', FindingKind.MALFORMED, "UTF-8"),
        (b'"version":"3"', b'"version":1e400', FindingKind.NOT_CANONICAL, "no canonical form"),
        (b'"id":"d3"', b'"id":"d 3"', FindingKind.MALFORMED, "id"),
        (b'{"body":{', b'{"body":[{', FindingKind.MALFORMED, "not JSON"),
    ],
)
def test_a_bad_line_is_diagnosed_at_the_byte(
    entries: list[Entry], old: bytes, new: bytes, kind: FindingKind, what: str
) -> None:
    line = entries[2].canonical
    assert old in line
    edited = line.replace(old, new, 1)
    with pytest.raises(BadLine, match=what) as bad:
        read_entry(edited)
    assert bad.value.kind is kind
    if kind is FindingKind.NOT_CANONICAL and what == "canonical":
        first = next(at for at, (a, b) in enumerate(zip(line, edited, strict=False)) if a != b)
        assert abs(bad.value.offset - first) <= 1
