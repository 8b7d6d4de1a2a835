"""Index: writes the files by which entries of the ledger are found. It can neither write an entry nor sign."""

from __future__ import annotations

from typing import Any

from abeyance.deployment.build import build_index

index = build_index()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Write what is due; return how many entries are in the index, and on the log."""
    return index()
