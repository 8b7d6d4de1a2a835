"""Witnesses: the protocol of C2SP tlog-witness, its status codes, and what a client makes of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.logs import BEGUN, ORIGIN, Log, Witness, grown, signer

from abeyance.ledger.checkpoint import LogCheckpoint
from abeyance.ledger.note import Signature, parse_signature
from abeyance.ledger.policy import WitnessEntry
from abeyance.ledger.signatures import COSIGN, SIGN, cosigned_at, verify
from abeyance.ledger.tiles import TileReader
from abeyance.ledger.witness import (
    SIZE_TYPE,
    WitnessRefused,
    WitnessUnavailable,
    add_checkpoint_body,
    ask_witness,
    post_with_urllib3,
)
from abeyance.ledger.witness_server import (
    MAX_REQUEST_BYTES,
    CheckpointWitness,
    WitnessAnswer,
    WitnessMemory,
)


@pytest.fixture
def log() -> Log:
    return grown(5, 3)


@pytest.fixture
def witness(log: Log) -> Witness:
    return Witness("w.example", 7, [log.key])


def note_of(log: Log, size: int, root: bytes | None = None, key: Any = None) -> LogCheckpoint:
    note = LogCheckpoint(ORIGIN, size, TileReader(log.objects, size).root() if root is None else root)
    return note.signed((key or log.key).sign(note))


def submit(
    witness: Witness, log: Log, size: int, old: int, proof: Sequence[bytes] | None = None, **changed: Any
) -> WitnessAnswer:
    nodes = TileReader(log.objects, size).consistency(old) if proof is None else proof
    return witness.server.add_checkpoint(add_checkpoint_body(old, nodes, note_of(log, size, **changed)))


def test_a_log_that_grows_is_cosigned(witness: Witness, log: Log) -> None:
    for old, size in ((0, 5), (5, 5), (5, 8), (8, 8)):
        answer = submit(witness, log, size, old)
        assert answer.status == 200
        signature = parse_signature(answer.body.decode().removesuffix("\n"))
        assert verify(note_of(log, size), signature, witness.entry.key)
        assert cosigned_at(signature) == BEGUN.timestamp()
        assert witness.memory.last(ORIGIN)[0] == size


def test_the_status_codes_of_the_standard(witness: Witness, log: Log) -> None:
    assert submit(witness, log, 5, 0).status == 200
    assert submit(witness, log, 8, 5).status == 200
    stale = submit(witness, log, 8, 5)
    assert (stale.status, stale.kind, stale.body) == (409, SIZE_TYPE, b"8\n")
    rolled_back = submit(witness, log, 5, 5)
    assert (rolled_back.status, rolled_back.kind, rolled_back.body) == (409, SIZE_TYPE, b"8\n")
    first_again = submit(witness, log, 5, 0)
    assert (first_again.status, first_again.body) == (409, b"8\n")
    fork = submit(witness, log, 8, 8, root=bytes(32))
    assert (fork.status, fork.kind == SIZE_TYPE) == (409, False)
    log.grow(2)
    assert submit(witness, log, 10, 8, proof=[bytes(32)] * 3).status == 422
    assert submit(witness, log, 10, 8, proof=[]).status == 422
    assert submit(witness, log, 10, 8, root=bytes(32)).status == 422
    assert submit(witness, log, 8, 8, proof=[bytes(32)]).status == 422
    assert submit(witness, log, 10, 8, key=signer(ORIGIN, 66)).status == 403
    assert submit(witness, log, 10, 8, key=signer("abeyance/another", 1)).status == 403
    other = LogCheckpoint("abeyance/another", 3, bytes(32))
    other = other.signed(signer("abeyance/another", 1).sign(other))
    assert witness.server.add_checkpoint(add_checkpoint_body(0, [], other)).status == 404
    smaller = witness.server.add_checkpoint(add_checkpoint_body(9, [], note_of(log, 8)))
    assert smaller.status == 400
    assert witness.memory.last(ORIGIN)[0] == 8
    assert submit(witness, log, 10, 8).status == 200
    assert len(witness.memory.evidence()) == 4


def test_a_first_checkpoint_needs_no_proof_and_takes_none(witness: Witness, log: Log) -> None:
    assert submit(witness, log, 5, 0, proof=[bytes(32)]).status == 422
    assert submit(witness, Log(), 0, 0).status == 200
    assert submit(witness, log, 5, 0).status == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"old 0\n\n", b"old 0\n", b"old -1\n\n{note}", b"old 00\n\n{note}", b"old 0 \n\n{note}", b"old x\n\n{note}",
     b"new 0\n\n{note}", b"old 0\nnonsense\n\n{note}", b"old 0\nAAAA\n\n{note}", b"old \xd9\xa1\n\n{note}",
     b"old 0\n" + b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n" * 64 + b"\n{note}", b"\xff", b"old 0\n\n{note}x",
     b"old 0\n\nabeyance/unit-test\n5\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"],
)  # fmt: skip
def test_what_is_no_request_is_answered_400(witness: Witness, log: Log, body: bytes) -> None:
    request = body.replace(b"{note}", str(note_of(log, 5)).encode())
    assert witness.server.add_checkpoint(request).status == 400
    assert witness.memory.last(ORIGIN)[0] == 0


@settings(max_examples=200)
@given(st.binary(max_size=300), st.integers(0), st.integers(0, 60))
def test_no_request_at_all_makes_it_fail_or_forget(noise: bytes, at: int, gone: int) -> None:
    log = grown(5)
    witness = Witness("w.example", 7, [log.key])
    body = add_checkpoint_body(0, [], note_of(log, 5))
    start = at % len(body)
    edited = body[:start] + noise + body[start + gone :]
    for request in (noise, edited):
        answer = witness.server.add_checkpoint(request)
        assert answer.status in (200, 400, 403, 404, 409, 422)
        assert (answer.status == 200) == (witness.memory.last(ORIGIN)[0] == 5)


def test_a_key_that_was_rotated_is_known_beside_the_new_one(log: Log) -> None:
    new = signer(ORIGIN, 2)
    server = CheckpointWitness(
        signer("w.example", 7),
        [log.key.verifier(SIGN), new.verifier(SIGN)],
        WitnessMemory(":memory:"),
        lambda: BEGUN,
    )
    first, second = note_of(log, 5), note_of(log, 8, key=new)
    assert server.add_checkpoint(add_checkpoint_body(0, [], first)).status == 200
    proof = TileReader(log.objects, 8).consistency(5)
    assert server.add_checkpoint(add_checkpoint_body(5, proof, second)).status == 200


def test_what_was_signed_is_remembered_beyond_the_process(tmp_path: Path, log: Log) -> None:
    def opened() -> CheckpointWitness:
        memory = WitnessMemory(tmp_path / "witness.db")
        return CheckpointWitness(signer("w.example", 7), [log.key.verifier(SIGN)], memory, lambda: BEGUN)

    assert opened().add_checkpoint(add_checkpoint_body(0, [], note_of(log, 5))).status == 200
    again = opened().add_checkpoint(add_checkpoint_body(0, [], note_of(log, 5)))
    assert (again.status, again.body) == (409, b"5\n")


def test_of_two_extensions_at_once_one_is_signed(tmp_path: Path, log: Log) -> None:
    """Two processes on one file: the second sees what the first wrote."""
    servers = [
        CheckpointWitness(
            signer("w.example", 7), [log.key.verifier(SIGN)], WitnessMemory(tmp_path / "w.db"), lambda: BEGUN
        )
        for _ in range(2)
    ]
    assert servers[0].add_checkpoint(add_checkpoint_body(0, [], note_of(log, 5))).status == 200
    forks = []
    for number in range(8):
        fork = grown(5)
        from tests.logs import entries

        fork.append(entries(100 + number, 3))
        fork.key = log.key
        forks.append(add_checkpoint_body(5, TileReader(fork.objects, 8).consistency(5), note_of(fork, 8)))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: servers[n % 2].add_checkpoint(forks[n]).status, range(8)))
    assert sorted(answers) == [200, *[409] * 7]


def ask(log: Log, witness: Witness, size: int, old: int, post: Any = None) -> Signature:
    reader = TileReader(log.objects, size)
    return ask_witness(witness.entry, note_of(log, size), old, reader.consistency, post or witness.post)


def test_a_client_finds_out_what_the_witness_signed_last(witness: Witness, log: Log) -> None:
    ask(log, witness, 5, 0)
    assert verify(note_of(log, 8), ask(log, witness, 8, 0), witness.entry.key)
    assert ask(log, witness, 8, 3)


def test_a_client_tells_a_refusal_from_an_absence(witness: Witness, log: Log) -> None:
    witness.online = False
    with pytest.raises(WitnessUnavailable, match="ConnectionError"):
        ask(log, witness, 5, 0)
    witness.online = True
    ask(log, witness, 8, 0)
    with pytest.raises(WitnessRefused, match="entries were lost"):
        ask(log, witness, 5, 5)
    from tests.logs import entries

    fork = Log()
    fork.append(entries(50, 8))
    with pytest.raises(WitnessRefused, match="does not extend"):
        ask(fork, witness, 8, 8)
    fork.append(entries(70, 8))
    with pytest.raises(WitnessRefused, match="answers 422"):
        ask(fork, witness, 16, 8)


@pytest.mark.parametrize(
    "answer",
    [
        (500, "text/plain", b"sorry"),
        (200, "text/plain", b""),
        (200, "text/plain", b"\xff"),
        (200, "text/plain", "— w.example AAAAAAAA\n".encode()),
        (409, SIZE_TYPE, b"3\n"),
        (404, "text/plain", b""),
        (302, "text/plain", b""),
    ],
)
def test_an_answer_that_is_no_good_cosignature_is_none(
    witness: Witness, log: Log, answer: tuple[int, str, bytes]
) -> None:
    expected = WitnessRefused if answer[0] == 409 else WitnessUnavailable
    with pytest.raises(expected):
        ask(log, witness, 5, 0, post=lambda url, body: answer)


def test_a_cosignature_of_another_witness_is_none_of_this(witness: Witness, log: Log) -> None:
    impostor = Witness("w.example", 8, [log.key])
    with pytest.raises(WitnessUnavailable, match="no good signature"):
        ask(log, witness, 5, 0, post=impostor.post)


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_over_http(witness: Witness, log: Log) -> None:
    import urllib3

    with make_server("127.0.0.1", 0, witness.server.wsgi, handler_class=_Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            entry = WitnessEntry("w", witness.entry.key, f"{url}/a/prefix/")
            reader = TileReader(log.objects, 8)
            post = post_with_urllib3(5)
            assert ask_witness(entry, note_of(log, 5), 0, TileReader(log.objects, 5).consistency, post)
            signature = ask_witness(entry, note_of(log, 8), 0, reader.consistency, post)
            assert verify(note_of(log, 8), signature, witness.key.verifier(COSIGN))
            status = {
                ("GET", "/add-checkpoint", b""): 405,
                ("POST", "/", b"x"): 404,
                ("POST", "/add-checkpoint", b"x" * (MAX_REQUEST_BYTES + 1)): 413,
                ("POST", "/add-checkpoint", b"x"): 400,
            }
            pool = urllib3.PoolManager(retries=False, timeout=5)
            for (method, path, body), expected in status.items():
                assert pool.request(method, url + path, body=body or None).status == expected
        finally:
            server.shutdown()
    with pytest.raises(WitnessUnavailable):
        ask_witness(entry, note_of(log, 8), 0, reader.consistency, post_with_urllib3(1))
