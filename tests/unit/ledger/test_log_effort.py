"""How the effort and the memory of a verification grow with the log."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.effort import counted

from abeyance.ledger.objects import DirectoryObjects
from abeyance.ledger.opened import open_log
from abeyance.ledger.policy import trust_keys
from abeyance.ledger.receipts import make_receipt, read_checkpoint
from abeyance.ledger.signatures import SIGN
from abeyance.ledger.verification import verify_log
from benchmarks import ledger as bench

POLICY = trust_keys([bench.KEY.verifier(SIGN)])


@pytest.mark.slow
def test_each_entry_takes_as_many_steps_as_any_other(tmp_path: Path) -> None:
    verifying, opening = [], []
    for count in (2_000, 8_000):
        bench.write_log(tmp_path / str(count), count)
        objects = DirectoryObjects(tmp_path / str(count))
        with counted() as effort:
            assert verify_log(objects, POLICY, now=datetime.now(UTC)).found == 0
        verifying.append(effort.calls / count)
        with counted() as effort:
            assert open_log(objects, count).opened == count
        opening.append(effort.calls / count)
    assert verifying[1] < 1.05 * verifying[0]
    assert opening[1] < 1.05 * opening[0]
    # Two hashes an entry, and what stands around them.
    assert verifying[1] < 20


def test_a_receipt_takes_no_longer_from_a_longer_log(tmp_path: Path) -> None:
    calls = []
    for count in (3_000, 70_000):
        bench.write_log(tmp_path / str(count), count)
        objects = DirectoryObjects(tmp_path / str(count))
        with counted() as effort:
            make_receipt(objects, read_checkpoint(objects), 1_000)
        calls.append(effort.calls)
    assert calls[1] < 2 * calls[0]


@pytest.mark.slow
def test_a_log_of_any_length_is_verified_in_constant_memory(tmp_path: Path) -> None:
    peak_mib = {}
    for count in (10_000, 100_000):
        bench.write_log(tmp_path / str(count), count)
        for what in ("verify", "open"):
            request = {
                "folder": str(tmp_path / str(count)),
                "what": what,
                "key": str(bench.KEY.verifier(SIGN)),
            }
            command = [sys.executable, "-m", "benchmarks.ledger_steps"]
            done = subprocess.run(
                command, input=json.dumps(request).encode(), capture_output=True, check=True
            )
            peak_mib[count, what] = json.loads(done.stdout)["mib"]
    assert peak_mib[100_000, "verify"] < peak_mib[10_000, "verify"] + 2
    # The buffers of IdIndex grow, up to a limit.
    assert peak_mib[100_000, "open"] < peak_mib[10_000, "open"] + 24
