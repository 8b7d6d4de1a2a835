"""A process that certifies a log or checks the bundle, and says how much processor time and memory that took."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from abeyance.assurance.certificate import certificate_key_name
from abeyance.assurance.certifier import Certifier
from abeyance.assurance.checking import check_bundle
from abeyance.ledger.objects import DirectoryObjects
from abeyance.ledger.policy import Policy
from abeyance.ledger.receipts import read_checkpoint
from abeyance.ledger.signatures import SIGN, generate
from benchmarks.ledger import KEY
from benchmarks.ledger_steps import peak_mib

#: The key that signs the certificates of the measurement.
CERTIFICATES = generate(certificate_key_name(KEY.name), bytes([1] * 32))
FLAG = "police_halt"


def step(folder: str, what: str) -> dict[str, float | int | str]:
    """Certify the log of a folder, or check the bundle in it; return processor seconds, peak memory and bytes."""
    bundle = Path(folder) / "halt.bundle"
    start = time.process_time()
    if what == "certify":
        objects = DirectoryObjects(Path(folder) / "log")
        last = read_checkpoint(objects)
        certifier = Certifier(
            objects,
            last.size,
            lambda _: CERTIFICATES.verifier(SIGN),
            CERTIFICATES.sign_bytes,
            lambda: datetime.now(UTC),
        )
        with bundle.open("wb") as out:
            made = certifier.certify(FLAG, None, last, out)
        replayed = made.certificate["stated"]["replay"]
        result = f"{replayed['same']} made again, {replayed['different']} different"
        size = len(json.dumps(made.certificate))
    else:
        policy = Policy(logs=(KEY.verifier(SIGN),), certificates=(CERTIFICATES.verifier(SIGN),))
        found = check_bundle(bundle, policy)
        result = f"{found.entries} entries, {found.found} contradictions"
        size = bundle.stat().st_size
    return {"seconds": time.process_time() - start, "mib": peak_mib(), "bytes": size, "result": result}


if __name__ == "__main__":
    print(json.dumps(step(**json.loads(sys.stdin.readline()))), flush=True)  # noqa: T201
