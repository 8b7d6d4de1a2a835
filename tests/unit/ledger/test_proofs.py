"""Proofs, notes and keys: what others can check without us."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.chains import signed_at

from abeyance.ledger.chain import Entry, Header
from abeyance.ledger.errors import LedgerCorrupt, LedgerError
from abeyance.ledger.note import Checkpoint, NoteError, parse_checkpoint, parse_signature
from abeyance.ledger.proofs import Proof, check_proof, prove_consistency, prove_inclusion
from abeyance.ledger.signatures import COSIGN, SIGN, check, generate, parse_signer, parse_verifier

At = Callable[..., Checkpoint]

#: The example of the signed-note format, in use since Go's checksum database.
KNOWN_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
#: The example of C2SP tlog-cosignature.
KNOWN_SIGNATURE = (
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJs"
    "X3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA=="
)
OURS, THEIRS = generate("acme.example/ledger", b"a" * 32), generate("witness.example/w1", b"b" * 32)


@given(st.integers(1, 12), st.integers(1, 12))
def test_every_entry_is_proved_against_every_checkpoint_that_covers_it(
    header: Header, entries: list[Entry], at: At, seq: int, size: int
) -> None:
    lines = [entry.canonical for entry in entries]
    checkpoint = at(header, entries[:size])
    if seq > size:
        with pytest.raises(LedgerError, match="after the checkpoint"):
            prove_inclusion(lines, lines[seq - 1], checkpoint)
        return
    proof = msgspec.json.encode(prove_inclusion(lines, lines[seq - 1], checkpoint))
    report = check_proof(proof, against=checkpoint)
    assert (report.ok, report.kind, report.seq, report.size) == (True, "inclusion", seq, size)
    assert not check_proof(proof.replace(b'"outcome":"', b'"outcome":"x'), against=checkpoint).ok
    if size < 12:
        assert not check_proof(proof, against=at(header, entries)).ok


@given(st.integers(1, 12), st.integers(1, 12))
def test_every_older_ledger_is_proved_to_begin_the_newer(
    header: Header, entries: list[Entry], at: At, first: int, second: int
) -> None:
    lines = [entry.canonical for entry in entries]
    old, new = at(header, entries[:first]), at(header, entries[:second])
    if first > second:
        with pytest.raises(LedgerError, match="larger"):
            prove_consistency(lines, old, new)
        return
    proof = prove_consistency(lines, old, new)
    report = check_proof(msgspec.json.encode(proof))
    assert (report.ok, report.since, report.size) == (True, first, second)
    rewritten = msgspec.structs.replace(old, root=bytes(32))
    forged = msgspec.structs.replace(proof, since=str(rewritten))
    assert not check_proof(msgspec.json.encode(forged)).ok


@given(st.integers(0), st.integers(0, 7))
def test_a_damaged_proof_does_not_hold(
    header: Header, entries: list[Entry], at: At, place: int, bit: int
) -> None:
    lines = [entry.canonical for entry in entries]
    proof = bytearray(msgspec.json.encode(prove_inclusion(lines, lines[4], at(header, entries))))
    before = bytes(proof)
    proof[place % len(proof)] ^= 1 << bit
    report = check_proof(bytes(proof), against=at(header, entries))
    assert not report.ok or msgspec.json.decode(bytes(proof)) == msgspec.json.decode(before)


def respell(text: str) -> str:
    """Other base64 for the same bytes: a bit that stands for nothing is set."""
    body = text.rstrip("=")
    assert body != text
    other = body[:-1] + {"A": "B", "Q": "R", "g": "h", "w": "x"}.get(body[-1], chr(ord(body[-1]) + 1))
    other += "=" * (len(text) - len(body))
    assert base64.b64decode(other, validate=True) == base64.b64decode(text, validate=True)
    return other


def test_a_proof_has_one_spelling(header: Header, entries: list[Entry], at: At) -> None:
    lines = [entry.canonical for entry in entries]
    proof = prove_inclusion(lines, lines[4], at(header, entries))
    assert check_proof(msgspec.json.encode(proof)).ok
    for place, node in enumerate(proof.path):
        path = (*proof.path[:place], respell(node), *proof.path[place + 1 :])
        assert not check_proof(msgspec.json.encode(msgspec.structs.replace(proof, path=path))).ok
    entry = {**(proof.entry or {}), "hash": entries[4].hash.upper()}
    assert not check_proof(msgspec.json.encode(msgspec.structs.replace(proof, entry=entry))).ok


def test_notes_signatures_and_keys_have_one_spelling(header: Header, entries: list[Entry], at: At) -> None:
    checkpoint = at(header, entries)
    root = str(checkpoint).split("\n")[2]
    with pytest.raises(NoteError):
        parse_checkpoint(str(checkpoint).replace(root, respell(root)))
    name, value = KNOWN_SIGNATURE.rsplit(" ", 1)
    with pytest.raises(NoteError):
        parse_signature(f"{name} {respell(value)}")
    signed = str(checkpoint.signed(parse_signature(KNOWN_SIGNATURE)))
    assert parse_checkpoint(signed).signatures
    with pytest.raises(NoteError):
        parse_checkpoint(signed.replace(value, respell(value)))
    with pytest.raises(NoteError):
        parse_verifier(KNOWN_KEY.replace("c74f20a3", "C74F20A3"))
    with pytest.raises(NoteError):
        parse_verifier(KNOWN_KEY.replace("c74f20a3", "c74f 20a3"))
    with pytest.raises(NoteError):
        parse_verifier(KNOWN_KEY + "=")
    with pytest.raises(NoteError):
        parse_signer(OURS.secret + "====")


def test_a_proof_from_damaged_entries_is_not_handed_out(header: Header, entries: list[Entry], at: At) -> None:
    lines = [entry.canonical for entry in entries]
    damaged = [*lines[:3], lines[2], *lines[4:]]
    with pytest.raises(LedgerCorrupt):
        prove_inclusion(damaged, lines[4], at(header, entries))
    altered = lines[4].replace(b'"deny"', b'"dent"')
    with pytest.raises(LedgerError, match="hash"):
        prove_inclusion(lines, altered, at(header, entries))


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"null", b'{"format":"x"}', b"\xff", b"[" * 2000])
def test_what_is_no_proof_is_one_that_does_not_hold(text: bytes) -> None:
    assert not check_proof(text).ok


def test_a_proof_without_its_parts_does_not_hold(header: Header, entries: list[Entry], at: At) -> None:
    for kind in ("inclusion", "consistency"):
        proof = Proof(
            format="abeyance-ledger-proof-1", kind=kind, checkpoint=str(at(header, entries)), path=()
        )
        assert not check_proof(msgspec.json.encode(proof)).ok
        assert not check_proof(msgspec.json.encode(msgspec.structs.replace(proof, format="other"))).ok


def test_a_proof_can_require_a_signature(header: Header, entries: list[Entry], at: At) -> None:
    lines = [entry.canonical for entry in entries]
    checkpoint = at(header, entries)
    signed = checkpoint.signed(OURS.sign(checkpoint))
    proof = msgspec.json.encode(prove_inclusion(lines, lines[0], signed))
    assert check_proof(proof, trusted=[OURS.verifier(SIGN)]).signed_by == ("acme.example/ledger",)
    assert not check_proof(proof, trusted=[THEIRS.verifier(SIGN)]).ok
    assert check_proof(proof).ok


def test_checkpoints_read_as_they_are_written(header: Header, entries: list[Entry], at: At) -> None:
    checkpoint = at(header, entries)
    now = datetime(2026, 6, 10, 12, tzinfo=UTC)
    ours, theirs = OURS.sign(checkpoint), THEIRS.countersign(checkpoint, now)
    for one in (checkpoint, checkpoint.signed(ours), checkpoint.signed(ours, theirs)):
        assert parse_checkpoint(str(one)) == one
    assert checkpoint.signed(ours).signed(ours, theirs) == checkpoint.signed(ours, theirs)
    assert str(checkpoint).splitlines()[:2] == ["abeyance/unit-test", "12"]
    assert (signed_at(ours), signed_at(theirs)) == (None, now)


@pytest.mark.parametrize("bit", range(8))
def test_any_change_of_a_signed_checkpoint_is_refused_or_unsigned(
    header: Header, entries: list[Entry], at: At, bit: int
) -> None:
    checkpoint = at(header, entries)
    signed = checkpoint.signed(OURS.sign(checkpoint), THEIRS.countersign(checkpoint, datetime.now(UTC)))
    trusted = [OURS.verifier(SIGN), THEIRS.verifier(COSIGN)]
    assert check(signed, trusted) == ([OURS.name, THEIRS.name], [])
    text = str(signed).encode()
    for place in range(len(text)):
        edited = bytearray(text)
        edited[place] ^= 1 << bit
        try:
            good, _ = check(parse_checkpoint(edited.decode()), trusted)
        except (UnicodeDecodeError, NoteError):
            continue
        assert len(good) < 2


def test_public_known_answers() -> None:
    key = parse_verifier(KNOWN_KEY)
    assert (key.name, key.algorithm, str(key)) == ("PeterNeumann", SIGN, KNOWN_KEY)
    signature = parse_signature(KNOWN_SIGNATURE)
    assert str(signature) == KNOWN_SIGNATURE
    assert signed_at(signature) == datetime.fromtimestamp(1679315147, UTC)


def test_keys_read_as_they_are_written() -> None:
    assert parse_signer(OURS.secret + "\n") == OURS
    for algorithm in (SIGN, COSIGN):
        assert parse_verifier(f" {OURS.verifier(algorithm)}\n") == OURS.verifier(algorithm)
    assert OURS.verifier(SIGN).key_id != OURS.verifier(COSIGN).key_id
    assert "PRIVATE" not in f"{OURS} {OURS!r}"
    secret = OURS.secret
    for text in (
        "",
        "x",
        KNOWN_KEY,
        secret[:-8],
        secret.replace("acme", "acmf"),
        secret.replace("+AW", "+Am"),
    ):
        with pytest.raises(NoteError):
            parse_signer(text)
    for text in ("", "a+b+c", KNOWN_KEY.replace("c7", "c8"), secret, "a+00000000+", "a+zz+AAAA"):
        with pytest.raises(NoteError):
            parse_verifier(text)
    for name in ("", "a b", "a+b"):
        with pytest.raises(NoteError):
            generate(name, bytes(32))
    with pytest.raises(NoteError):
        generate("a", bytes(31))
