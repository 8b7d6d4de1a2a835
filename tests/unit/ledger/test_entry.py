"""Entries: their form by known answers, what a record becomes, and what a disclosure shows."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abeyance.ledger.admissible import check_body
from abeyance.ledger.entry import (
    CONFLICT,
    MAX_ENTRY_BYTES,
    Disclosure,
    Record,
    blob_value,
    conflict_entry,
    conflict_id,
    is_leaf,
    make_entry,
    read_opening,
    refusal,
)
from abeyance.ledger.errors import Inadmissible, LedgerCorrupt
from abeyance.ledger.fields import RULING
from abeyance.moratorium.decide import Decision

TIME = "2020-06-10T00:00:00Z"
SEED = bytes(range(16))
KNOWN_SALT = "n8Pe/jgiUMdEZOKqykszeg=="
KNOWN_COMMITMENT = "lQ9qKL9mzSZByw7OCGpazAfC3ybkUPLVgcn9sdqhaHU="
BODY: dict[str, Any] = {
    "tenant": "agency-1",
    "reason": "Halted — until further notice 𐀀",
    "decision": {
        "outcome": "deny",
        "min_similarity": 99.5,
        "flags": [{"key": "amazon-2020"}],
        "tenant": "agency-1",
        "registration": {"sector": "law_enforcement"},
    },
    "decision-like": 1,
    "z": 1.0,
}


def entry_of(body: dict[str, Any] = BODY, **changed: Any) -> Any:
    return make_entry(Record(**{"id": "d1", "type": "decision", "time": TIME, "body": body} | changed), SEED)


def independent_leaf(opening: bytes) -> bytes:
    """The leaf, from the documentation and the standard library alone."""
    text = json.loads(opening)
    seed, record = base64.b64decode(text["seed"]), text["record"]
    fields = {"body." + name: value for name, value in record.pop("body").items()} | record
    decision = fields.get("body.decision")
    if isinstance(decision, dict):
        ruling = {name: decision.pop(name) for name in list(decision) if name in RULING}
        fields |= {f"body.decision.{name}": value for name, value in decision.items()}
        fields["body.decision"] = ruling

    def spell(value: Any) -> str:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    commitments = {}
    for name, value in fields.items():
        salt = hashlib.sha256(b"\0\0\0\1" + seed + name.encode()).digest()[:16]
        disclosure = spell([base64.b64encode(salt).decode(), name, value])
        commitments[name] = base64.b64encode(hashlib.sha256(disclosure.encode()).digest()).decode()
    return spell({"commitments": commitments, "format": "abeyance-entry-1"}).encode()


def test_a_leaf_can_be_recomputed_with_nothing_but_json_and_sha256() -> None:
    entry = entry_of()
    assert entry.leaf == independent_leaf(entry.opening)
    assert is_leaf(entry.leaf)
    opened = read_opening(entry.opening)
    assert (opened.leaf(), opened.content()) == (entry.leaf, entry.content)
    assert opened.record() == Record("d1", "decision", "2020-06-10T00:00:00.000000Z", {**BODY, "z": 1})


def test_a_decision_is_shown_without_whom_it_was_about() -> None:
    opened = read_opening(entry_of().opening)
    ruling = {"outcome": "deny", "min_similarity": 99.5, "flags": [{"key": "amazon-2020"}]}
    assert json.loads(opened.disclose("body.decision").value) == ruling
    assert opened.disclose("body.decision.tenant").value == b'"agency-1"'
    assert set(opened.fields) - {"body.decision", "body.decision.tenant"} >= {"body.decision.registration"}


def test_every_member_of_a_decision_that_could_name_somebody_is_a_field_of_its_own() -> None:
    """Who adds a member to the decision decides here whether it is shown with the outcome."""
    apart = {"tenant", "purpose", "sector", "jurisdiction", "place", "registration", "reason"}
    assert set(Decision.__struct_fields__) >= RULING
    assert set(Decision.__struct_fields__) - RULING >= apart


def test_a_member_cannot_pass_for_a_part_of_a_decision() -> None:
    with pytest.raises(Inadmissible, match="decision"):
        entry_of({"decision.tenant": "agency-1"})
    entry = entry_of({"decision_tenant": "agency-1"})
    with pytest.raises(LedgerCorrupt):
        read_opening(entry.opening.replace(b"decision_tenant", b"decision.tenant"))


def test_a_decision_that_stands_by_its_digest_is_one_field() -> None:
    value = blob_value(b"anything")[1]
    opened = read_opening(entry_of({"decision": value}).opening)
    assert set(opened.fields) == {"body.decision", "id", "time", "type"}
    assert opened.blobs() == [(value["blob"], 8)]


def test_known_answer() -> None:
    """Made with printf, sha256sum and base64, not with this package."""
    entry = make_entry(Record("a", "t", TIME, {}), bytes(16))
    salt = base64.b64encode(hashlib.sha256(b"\0\0\0\1" + bytes(16) + b"id").digest()[:16]).decode()
    assert salt == KNOWN_SALT
    assert json.loads(entry.leaf)["commitments"]["id"] == KNOWN_COMMITMENT


def test_the_same_record_has_another_leaf_under_another_seed_and_the_same_content() -> None:
    record = Record("d1", "decision", TIME, BODY)
    one, other = make_entry(record, SEED), make_entry(record, SEED[::-1])
    assert not set(json.loads(one.leaf)["commitments"].values()) & set(
        json.loads(other.leaf)["commitments"].values()
    )
    later = make_entry(Record("d1", "decision", "2021-01-01T00:00:00Z", BODY), SEED)
    assert one.content == other.content == later.content
    assert entry_of({**BODY, "z": 2}).content != one.content != entry_of(type="other").content


@given(st.sampled_from(["id", "type", "time", "body.tenant", "body.decision", "body.z"]), st.data())
def test_a_disclosure_opens_its_field_of_its_leaf_and_no_other(field: str, data: st.DataObject) -> None:
    entry = entry_of()
    shown = read_opening(entry.opening).disclose(field)
    assert shown.opens(entry.leaf)
    salt = data.draw(st.sampled_from([shown.salt, shown.salt + "=", shown.salt[:-3] + "B==", ""]))
    name = data.draw(st.sampled_from(["id", "body.tenant", field]))
    value = data.draw(st.sampled_from([shown.value, shown.value + b" ", b'"agency-2"', b"1.0"]))
    changed = Disclosure(salt, name, value)
    assert changed.opens(entry.leaf) == (changed == shown)
    assert not shown.opens(make_entry(Record("d1", "decision", TIME, BODY), SEED[::-1]).leaf)


def test_a_large_member_stands_by_its_digest() -> None:
    document = {f"flag-{n}": {"reason": "words and more words " * 40} for n in range(100)}
    entry = entry_of({**BODY, "document": document, "small": "x"})
    ((digest, content),) = entry.blobs
    assert json.loads(content) == document
    assert digest == hashlib.sha256(content).hexdigest()
    opened = read_opening(entry.opening)
    assert opened.record().body["document"] == {"blob": digest, "bytes": len(content)}
    assert opened.record().body["tenant"] == "agency-1"
    assert opened.blobs() == [(digest, len(content))]
    assert opened.leaf() == entry.leaf == independent_leaf(entry.opening)
    assert max(len(entry.leaf), len(entry.opening)) <= MAX_ENTRY_BYTES + 256


def test_a_producer_may_store_a_document_itself() -> None:
    key, value = blob_value(b"anything")
    entry = entry_of({"document": value})
    assert read_opening(entry.opening).blobs() == [(key.removeprefix("blob/"), 8)]
    assert entry.blobs == ()


def test_records_of_every_size_fit_or_are_refused() -> None:
    made = random.Random(17)
    for _ in range(300):
        count, length = made.choice([1, 5, 40, 400, 2000]), made.choice([1, 100, 2000])
        body = {f"m{n}": "word " * made.randrange(length // 5 + 1) for n in range(count)}
        try:
            entry = entry_of(body)
        except Inadmissible:
            assert count >= 400
            continue
        assert max(len(entry.leaf), len(entry.opening)) < 65536
        assert read_opening(entry.opening).leaf() == entry.leaf


def test_a_conflict_holds_the_whole_record() -> None:
    first, second = entry_of(), entry_of({"tenant": "agency-2"})
    entry = conflict_entry(second, 7, SEED)
    record = read_opening(entry.opening).record()
    assert record.type == CONFLICT
    assert record.id == entry.id == conflict_id(second) != conflict_id(first)
    assert record.body == {
        "conflicts_with": 7,
        "id": "d1",
        "type": "decision",
        "body": {"tenant": "agency-2"},
    }
    assert read_opening(entry.opening).leaf() == entry.leaf


@pytest.mark.parametrize(
    ("given_time", "stands"),
    [
        ("2020-06-10T00:00:00Z", "2020-06-10T00:00:00.000000Z"),
        ("2020-06-10T00:00:00.123456789Z", "2020-06-10T00:00:00.123456Z"),
        ("2020-06-10T01:30:00+01:30", "2020-06-10T00:00:00.000000Z"),
        ("2020-06-09T20:00:00.5-04:00", "2020-06-10T00:00:00.500000Z"),
    ],
)
def test_times_stand_in_utc_in_one_width(given_time: str, stands: str) -> None:
    assert entry_of(time=given_time).time == stands


@pytest.mark.parametrize(
    "record",
    [
        Record("", "t", TIME, {}),
        Record('a"b', "t", TIME, {}),
        Record("a" * 129, "t", TIME, {}),
        Record("conflict:1", "t", TIME, {}),
        Record("a\n", "t", TIME, {}),
        Record("a", "", TIME, {}),
        Record("a", "t\\", TIME, {}),
        Record("a", "conflict", TIME, {}),
        Record("a", "t", "2020-06-10", {}),
        Record("a", "t", "2020-06-10T00:00:00", {}),
        Record("a", "t", "2020-02-30T00:00:00Z", {}),
        Record("a", "t", "2020-06-10T25:00:00Z", {}),
        Record("a", "t", "0001-01-01T00:00:00+01:00", {}),
        Record("a", "t", TIME, {"x": "\ud800"}),
        Record("a", "t", TIME, {"x": b"bytes"}),
        Record("a", "t", TIME, {f"member-{n}": n for n in range(1200)}),
        Record(1, "t", TIME, {}),  # type: ignore[arg-type]
        Record("a", "t", None, {}),  # type: ignore[arg-type]
        Record("a", None, TIME, {}),  # type: ignore[arg-type]
        Record("a", "t", TIME, None),  # type: ignore[arg-type]
    ],
)
def test_a_refused_record_leaves_a_note(record: Record) -> None:
    with pytest.raises(Inadmissible) as refused:
        make_entry(record, SEED)
    note = make_entry(refusal(record, refused.value), SEED)
    assert note.type == "refused"
    assert refusal(record, refused.value) == refusal(record, refused.value)
    check_body(read_opening(note.opening).record().body)


def test_only_the_one_form_of_an_opening_is_read() -> None:
    opening = entry_of().opening
    assert read_opening(opening)
    for damaged in (
        b"",
        opening[:-1],
        opening + b" ",
        opening.replace(b'"id"', b'"ID"'),
        opening.replace(b'"z":1', b'"z":1.0'),
        opening.replace(b"==", b"="),
        opening.replace(b'{"record"', b'{"more":1,"record"'),
        opening.replace(b'"body":{', b'"body":{"zz":1,'),
        b'"\\ud800"',
        b"[" * 100_000,
    ):
        with pytest.raises(LedgerCorrupt):
            read_opening(damaged)


@given(st.binary(max_size=64), st.integers(0), st.integers(0))
def test_any_other_leaf_is_none_or_canonical(noise: bytes, at: int, length: int) -> None:
    leaf = entry_of().leaf
    start = at % len(leaf)
    changed = leaf[:start] + noise + leaf[start + length % 64 :]
    if is_leaf(changed):
        parsed = json.loads(changed)
        assert json.dumps(parsed, sort_keys=True, separators=(",", ":")).encode() == changed
        assert all(len(base64.b64decode(value)) == 32 for value in parsed["commitments"].values())
