"""A million entries: how the effort and the memory of a verification grow."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from tests.effort import counted

from abeyance.ledger.chain import Header, new_header
from abeyance.ledger.export import write_export
from abeyance.ledger.verify import verify_export

MILLION = 1_000_000
VERIFY = """
import json, resource, sys
from pathlib import Path
from abeyance.ledger.verify import verify_export
with open(sys.argv[1], "rb", buffering=1 << 20) as file:
    report = verify_export(file)
# On Linux ru_maxrss begins with what the parent had at the fork; VmHWM is this program's own.
status = Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
peak = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
memory = (peak or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])[0] / 1024
print(json.dumps([report.ok, report.entries, memory]))
"""


def made(header: Header, count: int) -> Iterator[bytes]:
    """Entries as they are stored, made faster than the store makes them; verification says if they are right."""
    encode = msgspec.json.Encoder(order="deterministic").encode
    prev = header.genesis
    for seq in range(1, count + 1):
        body = {
            "action": "search",
            "as_of": "2020-06-10T00:00:00Z",
            "clause": "halt",
            "flags": [
                {"effect": "halt", "key": "amazon-2020-police", "reason": "One year without police use"}
            ],
            "human_review": 0,
            "jurisdiction": "US-OR",
            "min_similarity": 99.5 if seq % 3 else None,
            "outcome": "deny" if seq % 2 else "permit",
            "reason": "Halted — police use",
            "tenant": f"agency-{seq % 50}",
        }
        entry = {
            "body": body,
            "id": f"d-{seq}",
            "prev": prev,
            "seq": seq,
            "time": "2020-06-10T00:00:00.000000Z",
        }
        raw = encode({**entry, "type": "decision"})
        prev = hashlib.sha256(raw).hexdigest()
        cut = raw.rfind(b',"id":"')
        yield b'%b,"hash":"%b"%b' % (raw[:cut], prev.encode(), raw[cut:])


def exported(folder: Path, count: int) -> Path:
    """An export of ``count`` entries."""
    path = folder / f"{count}.jsonl"
    with path.open("wb", buffering=1 << 20) as file:
        header = new_header("million", datetime(2020, 6, 10, tzinfo=UTC))
        write_export(file, header, made(header, count))
    return path


def test_each_entry_takes_as_many_steps_as_any_other(tmp_path: Path) -> None:
    steps = []
    for count in (1_000, 10_000):
        with exported(tmp_path, count).open("rb") as file, counted() as effort:
            assert verify_export(file).ok
        steps.append(effort.calls / count)
    assert steps[1] == pytest.approx(steps[0], rel=0.05)


@pytest.mark.slow
def test_a_million_entries_are_verified_in_constant_memory(tmp_path: Path) -> None:
    peak_mib = {}
    for count in (10_000, MILLION):
        command = [sys.executable, "-c", VERIFY, exported(tmp_path, count)]
        done = subprocess.run(command, capture_output=True, check=True)
        ok, entries, peak_mib[count] = json.loads(done.stdout)
        assert (ok, entries) == (True, count)
    # The buffers of IdIndex grow, up to a limit.
    assert peak_mib[MILLION] < peak_mib[10_000] + 24
