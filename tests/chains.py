"""Chains for the tests of the ledger, and the time in a countersignature."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from abeyance.ledger.chain import Entry, Header, Record, follow, normalise
from abeyance.ledger.note import Signature


def chain(header: Header, records: Iterable[Record]) -> Iterator[Entry]:
    """Yield the entries of a new chain that holds ``records`` in order; ids must differ."""
    seq, prev = 0, header.genesis
    for record in records:
        entry = follow(seq, prev, normalise(record))
        yield entry
        seq, prev = entry.seq, entry.hash


def signed_at(signature: Signature) -> datetime | None:
    """Return the time of a countersignature, in UTC; ``None`` for anything else."""
    if len(signature.value) != 72:
        return None
    return datetime.fromtimestamp(struct.unpack(">Q", signature.value[:8])[0], UTC)
