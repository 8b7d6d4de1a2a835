"""Somebody else's code reads our log: Go's own sumdb/note and sumdb/tlog, in a program of some lines.

It needs Debian's packages ``golang-go`` and ``golang-golang-x-mod-dev``; ``make go`` installs them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.logs import ORIGIN, Log, Witness, signer

from abeyance.ledger.checkpoint import LogCheckpoint
from abeyance.ledger.exporting import export_log
from abeyance.ledger.objects import DirectoryObjects
from abeyance.ledger.receipts import make_receipt, read_checkpoint
from abeyance.ledger.signatures import SIGN
from abeyance.ledger.tiles import TileReader
from abeyance.ledger.witness import add_checkpoint_body

SOURCE = Path(__file__).parent / "c2sp_verifier" / "main.go"
#: Where Debian puts Go packages.
GOPATH = Path("/usr/share/gocode")

Verify = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program."""
    if shutil.which("go") is None or not (GOPATH / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        pytest.skip("needs Go and its x/mod: apt-get install golang-go golang-golang-x-mod-dev")
    folder = tmp_path_factory.mktemp("go")
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "GOPATH": str(GOPATH),
        "GOCACHE": str(folder / "cache"),
    }
    command = ["go", "build", "-o", str(folder / "verifier"), str(SOURCE)]
    subprocess.run(command, check=True, env=environment, timeout=280)
    return folder / "verifier"


@pytest.fixture(scope="module")
def log() -> Log:
    log = Log(witnesses=1)
    for count in (300, 10, 65_000, 700):
        log.grow(count)
        log.checkpoint()
    return log


@pytest.fixture
def verify(verifier: Path, log: Log, tmp_path: Path) -> Verify:
    def run(
        index: int,
        *,
        leaf: bytes | None = None,
        receipt: Callable[[str], str] = str,
        key: str = "",
        witness: str = "",
        old: int = 310,
        request: Callable[[bytes], bytes] = bytes,
    ) -> subprocess.CompletedProcess[str]:
        note = read_checkpoint(log.objects)
        folder = DirectoryObjects(tmp_path / "log")
        export_log(log.objects, note, lambda name, data: folder.replace(name, data), openings=False)
        made = make_receipt(folder, note, index, fields=[])
        (tmp_path / "receipt.tlog-proof").write_text(receipt(str(made)))
        (tmp_path / "leaf").write_bytes(made.leaf if leaf is None else leaf)
        proof = TileReader(folder, note.size).consistency(old)
        (tmp_path / "request").write_bytes(request(add_checkpoint_body(old, proof, note)))
        command = [
            verifier,
            tmp_path / "log",
            key or str(log.key.verifier(SIGN)),
            witness or str(log.witnesses[0].entry.key),
            *(tmp_path / name for name in ("receipt.tlog-proof", "leaf", "request")),
        ]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)

    return run


@pytest.mark.parametrize(("index", "old"), [(0, 300), (255, 310), (12_345, 65_310), (66_009, 66_010)])
def test_checkpoint_cosignature_proofs_and_tiles_are_accepted(verify: Verify, index: int, old: int) -> None:
    done = verify(index, old=old)
    assert done.stderr == ""
    assert done.stdout == f"2 signatures, entry {index} of 66010, extends {old}\n"


def test_and_what_is_wrong_is_not(verify: Verify, log: Log) -> None:
    stranger, impostor = signer(ORIGIN, 66), Witness("w0.example", 66, [log.key])
    assert verify(7, leaf=b"{}").stderr.startswith("inclusion:")
    assert verify(7, receipt=lambda text: text.replace("index 7", "index 8")).stderr.startswith("inclusion:")
    assert verify(7, witness=str(impostor.entry.key)).stdout.startswith("1 signatures")
    both = verify(7, key=str(stranger.verifier(SIGN)), witness=str(impostor.entry.key))
    assert both.stderr.startswith("note:")
    done = verify(7, request=lambda body: body.replace(b"old 310", b"old 311"))
    assert done.stderr.startswith("consistency:")


def test_a_checkpoint_with_a_changed_root_is_not_theirs_either(verify: Verify, log: Log) -> None:
    def forge(text: str) -> str:
        note = read_checkpoint(log.objects)
        return text.replace(note.text, LogCheckpoint(ORIGIN, note.size, bytes(32)).text)

    assert verify(7, receipt=forge).stderr.startswith("note:")
