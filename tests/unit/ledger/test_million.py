"""A million entries: how long, and how much memory."""

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

from abeyance.ledger.chain import Header, new_header
from abeyance.ledger.export import write_export

MILLION = 1_000_000
VERIFY = """
import json, resource, sys, time
from pathlib import Path
from abeyance.ledger.verify import verify_export
start = time.process_time()
with open(sys.argv[1], "rb", buffering=1 << 20) as file:
    report = verify_export(file)
# On Linux ru_maxrss begins with what the parent had at the fork; VmHWM is this program's own.
status = Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
peak = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
memory = (peak or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])[0] / 1024
print(json.dumps([report.ok, report.entries, time.process_time() - start, memory]))
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


@pytest.mark.slow
def test_a_million_entries_are_verified_in_seconds_and_in_constant_memory(tmp_path: Path) -> None:
    header = new_header("million", datetime(2020, 6, 10, tzinfo=UTC))
    measured = {}
    for count in (10_000, MILLION):
        path = tmp_path / f"{count}.jsonl"
        with path.open("wb", buffering=1 << 20) as file:
            write_export(file, header, made(header, count))
        done = subprocess.run([sys.executable, "-c", VERIFY, path], capture_output=True, check=True)
        ok, entries, seconds, memory = json.loads(done.stdout)
        assert (ok, entries) == (True, count)
        measured[count] = (seconds, memory)
    print(measured)
    assert measured[MILLION][0] < 20, "seconds of processor time"
    assert measured[MILLION][1] < measured[10_000][1] + 24, (
        "MiB: what grows is the buffers of SeenIds, and they end"
    )
