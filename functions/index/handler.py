"""Index: writes the files by which entries of the ledger are found. It can neither write an entry nor sign."""

from __future__ import annotations

from typing import Any

import msgspec

from abeyance.deployment.build import build_indexer

#: Time to begin new segments; the function itself has longer, and the next run goes on.
WITHIN_S = 240

indexer = build_indexer()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Write what is due; return how many entries are in the index, and on the log."""
    state: dict[str, Any] = msgspec.to_builtins(indexer.index(WITHIN_S))
    return state
