"""The public status: what is in force, since when, until when, why, who is exempt, the latest checkpoint, certificates.

It is data first, ``status.json``; the page is made of it, so neither says what the other does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from abeyance.assurance.files import CertificateFile, read_certificates, replace_file
from abeyance.assurance.pages import checkpoint_facts, status_page
from abeyance.aws.timestamps import rfc3339
from abeyance.ledger.checkpoint import LogCheckpoint
from abeyance.moratorium.document import FlagSet

FORMAT: Final = "abeyance-status-1"
#: Names of the files of a public folder, beside those of certificates.
INDEX: Final = "index.html"
STATUS: Final = "status.json"
CHECKPOINT: Final = "checkpoint"
POLICY: Final = "policy.txt"
PAGE_FILES: Final = (INDEX, STATUS, CHECKPOINT, POLICY)


def public_status(
    flags: FlagSet,
    now: datetime,
    checkpoint: LogCheckpoint | None,
    certificates: Mapping[str, CertificateFile],
) -> dict[str, Any]:
    """Return the public status as JSON.

    Parameters
    ----------
    flags
        What holds, the brake with it.
    now
        With a time zone.
    checkpoint
        The latest; ``None`` before the first.
    certificates
        By their stem; see :func:`abeyance.assurance.files.read_certificates`.

    Returns
    -------
    dict
        ``in_force`` and ``announced`` are flags with their attributes as in a flags document, and ``phase``:
        ``in_force``, ``held`` (past its planned end) or ``announced``.
    """
    found: dict[str, list[dict[str, Any]]] = {"in_force": [], "held": [], "announced": []}
    statements = flags.statements()
    for flag in flags.flags:
        if flag.until <= now:
            continue
        ended = flag.ends is not None and flag.ends <= now
        phase = "announced" if flag.starts > now else "held" if ended else "in_force"
        key = flag.key.rpartition(":")[2]
        one = {
            "key": key,
            "version": flag.version,
            "phase": phase,
            "says": msgspec.json.decode(statements[flag.key]),
        }
        found[phase].append({**one, "brake": flag.key.startswith("brake:")})
    return {
        "format": FORMAT,
        "made": rfc3339(now, "seconds"),
        "flags": flags.digest,
        "in_force": [*found["in_force"], *found["held"]],
        "announced": found["announced"],
        "checkpoint": None
        if checkpoint is None
        else {**checkpoint_facts(str(checkpoint)), "note": str(checkpoint)},
        "certificates": [
            {
                "name": stem,
                "flag": file.certificate["flag"],
                "from": file.certificate["from"]["size"],
                "to": file.certificate["to"]["size"],
                "first": file.certificate["counted"]["first"],
                "last": file.certificate["counted"]["last"],
                "requests": file.certificate["counted"]["requests"],
                "denied": _outcomes(file, "denied"),
                "exempted": _outcomes(file, "exempted"),
                "findings": file.certificate["findings"],
            }
            for stem, file in certificates.items()
        ],
    }


def write_public(
    folder: Path, flags: FlagSet, now: datetime, checkpoint: LogCheckpoint | None, policy: str
) -> dict[str, Any]:
    """Write the public page beside the certificates of a folder, with its JSON, the checkpoint and the keys.

    Returns the status.
    """
    folder.mkdir(parents=True, exist_ok=True)
    status = public_status(flags, now, checkpoint, read_certificates(folder))
    replace_file(folder / STATUS, msgspec.json.format(msgspec.json.encode(status), indent=1) + b"\n")
    if checkpoint is not None:
        replace_file(folder / CHECKPOINT, str(checkpoint).encode())
    replace_file(folder / POLICY, policy.encode())
    replace_file(folder / INDEX, status_page(status).encode())
    return status


def _outcomes(file: CertificateFile, name: str) -> int:
    return sum(span.get(name, 0) for span in file.certificate["counted"]["spans"])
