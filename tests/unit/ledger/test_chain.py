"""The chain: its form by known answers, and what a record becomes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from tests.chains import chain

from abeyance.ledger.chain import (
    Entry,
    Header,
    Record,
    conflict,
    content_digest,
    decode_entry,
    new_header,
    normalise,
    refusal,
)
from abeyance.ledger.errors import Inadmissible, LedgerError, LedgerUnavailable
from abeyance.ledger.pseudonym import pseudonym
from abeyance.ledger.queue import LedgerQueue, encode_record

TIME = "2020-06-10T00:00:00Z"

# Made with printf and sha256sum from the canonical texts in the test, not with this package.
GENESIS = "15d2b3898cb1f18dc094beabc3c5729ede2843669c8b60bc27146a33a69f450a"
FIRST = "c8932318d9d51949333346eb53d0f5a056d40126f21c98f20e98f4304937fe6a"


def test_known_answers() -> None:
    header = new_header("known-answer", datetime(2020, 6, 10, tzinfo=UTC))
    assert header.canonical == (
        b'{"chain":"known-answer","created":"2020-06-10T00:00:00.000000Z","format":"abeyance-ledger-1"}'
    )
    assert header.genesis == GENESIS
    body = {"z": 1.0, "a": [1e-7, 1.5, True, None], "text": '€$\x0f\nA\'B"\\"/'}
    (entry,) = chain(header, [Record("d1", "decision", "2020-06-10T02:00:00.25+02:00", body)])
    # Strings as in RFC 8785, section 3.2.2.2, numbers as in 3.2.2.3, keys in the order of 3.2.3.
    text = '"€$\\u000f\\nA\'B\\"\\\\\\"/"'
    without = (
        '{"body":{"a":[1e-7,1.5,true,null],"text":' + text + ',"z":1},"id":"d1","prev":"' + GENESIS + '",'
        '"seq":1,"time":"2020-06-10T00:00:00.250000Z","type":"decision"}'
    )
    assert entry.hash == hashlib.sha256(without.encode()).hexdigest() == FIRST
    assert entry.canonical.decode() == without.replace(',"id"', f',"hash":"{FIRST}","id"')


def test_a_hash_can_be_recomputed_with_nothing_but_json_and_sha256(
    entries: list[Entry], header: Header
) -> None:
    prev = header.genesis
    for entry in entries:
        fields = json.loads(entry.canonical)
        stated = fields.pop("hash")
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(text.encode()).hexdigest() == stated
        assert fields["prev"] == prev
        assert decode_entry(entry.canonical) == entry
        prev = stated


def test_two_chains_with_the_same_records_share_no_hash() -> None:
    made = datetime(2020, 6, 10, tzinfo=UTC)
    record = Record("d1", "decision", TIME, {})
    hashes = {next(chain(new_header(name, made), [record])).hash for name in ("one", "two")}
    assert len(hashes) == 2


@pytest.mark.parametrize(
    ("given", "stands"),
    [
        ("2020-06-10T00:00:00Z", "2020-06-10T00:00:00.000000Z"),
        ("2020-06-10T00:00:00.123456789Z", "2020-06-10T00:00:00.123456Z"),
        ("2020-06-10T01:30:00+01:30", "2020-06-10T00:00:00.000000Z"),
        ("2020-06-09T20:00:00.5-04:00", "2020-06-10T00:00:00.500000Z"),
    ],
)
def test_times_stand_in_utc_in_one_width(given: str, stands: str) -> None:
    assert normalise(Record("a", "t", given, {})).time == stands


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
        Record("a", "t", TIME, {"x": "y" * 2000, "z": ["words and words " * 100] * 50}),
        Record(1, "t", TIME, {}),  # type: ignore[arg-type]
        Record("a", "t", None, {}),  # type: ignore[arg-type]
        Record("a", None, TIME, {}),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_stand_on_the_ledger_is_refused_before_it_gets_there(record: Record) -> None:
    with pytest.raises(Inadmissible) as refused:
        normalise(record)
    note = normalise(refusal(record, refused.value))
    assert note.type == "refused"
    assert refusal(record, refused.value) == refusal(record, refused.value)


def test_a_refusal_keeps_nothing_of_the_body() -> None:
    record = Record("a1", "Faces Found", TIME, {"template": "c2VjcmV0"})
    with pytest.raises(Inadmissible) as refused:
        normalise(record)
    note = normalise(refusal(record, refused.value))
    assert (note.id, note.time, note.body["type"]) == (
        "refused:a1",
        "2020-06-10T00:00:00.000000Z",
        "Faces Found",
    )
    assert "c2Vj" not in repr(note)


def test_normalising_again_changes_nothing() -> None:
    record = Record("a", "Upload Halted", TIME, {"x": 1.0, "y": -0.0, "z": 0.1, "t": ("ü", "𐀀"), "n": None})
    once = normalise(record)
    assert once == normalise(once)
    assert json.dumps(once.body) == json.dumps({"n": None, "t": ["ü", "𐀀"], "x": 1, "y": 0, "z": 0.1})


def test_the_content_of_a_record_is_its_type_and_body() -> None:
    def digest(kind: str, time: str, body: dict[str, Any]) -> str:
        return content_digest(normalise(Record("a", kind, time, body)))

    same = digest("t", TIME, {"x": 1})
    assert same == digest("t", "2021-01-01T00:00:00Z", {"x": 1.0})
    assert same != digest("u", TIME, {"x": 1})
    assert same != digest("t", TIME, {"x": 2})
    assert (
        conflict(Record("a", "t", TIME, {"x": 1}), 1).id != conflict(Record("a", "t", TIME, {"x": 2}), 1).id
    )


def test_records_survive_the_queue() -> None:
    record = normalise(Record("a", "t", TIME, {"text": "ünï 𐀀", "n": 1.5}))
    assert msgspec.json.decode(encode_record(record), type=Record) == record


class Sqs:
    """Answers ``send_message`` as told."""

    def __init__(self, answer: Callable[[dict[str, Any]], Any]) -> None:
        self._answer = answer

    def send_message(self, **arguments: Any) -> Any:
        return self._answer(arguments)


def refuse(_: dict[str, Any]) -> Any:
    raise TimeoutError("with the body of the request in it: agency-1")


@pytest.mark.parametrize(
    "answer",
    [refuse, lambda _: {}, lambda _: None, lambda _: {"MessageId": "m", "MD5OfMessageBody": "0" * 32}],
    ids=["timeout", "empty", "nothing", "other bytes"],
)
def test_anything_but_a_confirmation_is_an_error(answer: Callable[[dict[str, Any]], Any]) -> None:
    with pytest.raises(LedgerUnavailable) as error:
        LedgerQueue(Sqs(answer), "url").put(Record("a", "t", TIME, {}))
    assert "agency" not in str(error.value)


def test_an_inadmissible_record_is_a_denial_too() -> None:
    with pytest.raises(LedgerUnavailable, match="embedding"):
        LedgerQueue(Sqs(refuse), "url").put(Record("a", "t", TIME, {"embedding": [0.1] * 128}))


def test_pseudonyms() -> None:
    # RFC 4231, test case 7 is the first with a key that is long enough here and text that is text.
    key = b"\xaa" * 131
    text = (
        "This is a test using a larger than block-size key and a larger than block-size data. "
        "The key needs to be hashed before being used by the HMAC algorithm."
    )
    assert pseudonym(key, text) == "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"
    assert pseudonym(b"k" * 32, "anna") != pseudonym(b"l" * 32, "anna")
    with pytest.raises(LedgerError, match="at least 16"):
        pseudonym(b"short", text)


def test_a_function_imports_nothing_heavy_for_the_ledger() -> None:
    code = (
        "import sys, abeyance.ledger.store, abeyance.ledger.queue, abeyance.ledger.checkpoints, abeyance.ledger.verify;"
        "print(*({'numpy', 'boto3', 'cryptography', 'typer', 'rich', 'onnxruntime'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
