"""A process that does one step on a log, and says how much processor time and memory that took."""

from __future__ import annotations

import itertools
import json
import sys
import time
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from abeyance.ledger.objects import DirectoryObjects
from abeyance.ledger.opened import open_log
from abeyance.ledger.policy import trust_keys
from abeyance.ledger.receipts import read_checkpoint
from abeyance.ledger.signatures import parse_verifier
from abeyance.ledger.tiles import ENTRIES, WIDTH, TileName, decode_bundle
from abeyance.ledger.verification import verify_log


def step(folder: str, what: str, key: str) -> dict[str, float | str]:
    """Verify a log, open it, or only hash it; return the processor seconds and the peak memory of this process."""
    objects = DirectoryObjects(Path(folder))
    start = time.process_time()
    if what == "verify":
        found = verify_log(objects, trust_keys([parse_verifier(key)]), now=datetime.now(UTC))
        result = f"{found.verdict.name.lower()}, {found.checkpoints} signed checkpoints"
    elif what == "open":
        opened = open_log(objects, read_checkpoint(objects).size)
        result = f"{opened.opened} opened, {opened.found} defects"
    else:
        result = f"{_hash_alone(objects, read_checkpoint(objects).size)} hashed"
    return {"seconds": time.process_time() - start, "mib": peak_mib(), "result": result}


def _hash_alone(objects: DirectoryObjects, size: int) -> int:
    """Read every entry and hash it, and as many nodes: the least that any verification does."""
    hashed = 0
    for number in range(-(-size // WIDTH)):
        name = TileName(ENTRIES, number, min(WIDTH, size - number * WIDTH))
        row = [sha256(b"\x00" + leaf).digest() for leaf in decode_bundle(objects.get(str(name)) or b"")]
        for left, right in itertools.pairwise(row):
            sha256(b"\x01" + left + right).digest()
        hashed += len(row)
    return hashed


def peak_mib() -> float:
    """Return the most memory that this process has had, in MiB."""
    # On Linux ru_maxrss begins with what the parent had at the fork; VmHWM is this program's own.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    print(json.dumps(step(**json.loads(sys.stdin.readline()))), flush=True)  # noqa: T201
