"""An export in pieces, each of some entries and what lies beside them: unpacked into one folder, they are the export.

A piece is small enough for an answer of Lambda, and which objects are in it follows from the size alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from abeyance.ledger.checkpoint import CHECKPOINTS, COSIGNATURES, LATEST, LogCheckpoint
from abeyance.ledger.entry import blob_key
from abeyance.ledger.errors import LedgerCorrupt
from abeyance.ledger.identity import LOG
from abeyance.ledger.integrate import DIGITS
from abeyance.ledger.objects import LogObjects
from abeyance.ledger.tiles import (
    ENTRIES,
    HEIGHT,
    OPENINGS,
    WIDTH,
    TileName,
    decode_bundle,
    encode_bundle,
    read_tile,
    split_hashes,
)

_BLOB: Final = re.compile(rb'\{"blob":"([0-9a-f]{64})","bytes":[1-9][0-9]{0,9}\}')


def export_piece(
    objects: LogObjects,
    checkpoint: LogCheckpoint,
    first: int,
    stop: int,
    put: Callable[[str, bytes], object],
) -> None:
    """Copy the objects that begin with entries ``first`` to ``stop`` of the log of a checkpoint.

    Parameters
    ----------
    objects, checkpoint
        As for :func:`abeyance.ledger.exporting.export_log`.
    first, stop
        Multiples of a bundle's entries; ``stop`` may lie behind the end.
    put
        Takes key and content.

    Raises
    ------
    LedgerCorrupt
        An object is missing or damaged: verify the log itself.
    """
    last = stop >= checkpoint.size
    if first == 0:
        put(LOG, _needed(objects, LOG))
    for key in _notes(objects, first, checkpoint.size if last else stop):
        put(key, _needed(objects, key))
    for name in _names(first, min(stop, checkpoint.size), checkpoint.size):
        decode = split_hashes if name.level is not None else decode_bundle
        items = read_tile(objects, name, decode)
        put(str(name), b"".join(items) if name.level is not None else encode_bundle(items))
        if name.row == OPENINGS:
            for digest in sorted(set(_BLOB.findall(b"".join(items)))):
                if (content := objects.get(blob_key(digest.decode()))) is not None:
                    put(blob_key(digest.decode()), content)
    if last:
        put(LATEST, str(checkpoint).encode())


def _names(first: int, stop: int, size: int) -> Iterator[TileName]:
    """Yield the bundles of these entries, and the tiles whose last leaf is one of them."""
    for row, level in ((ENTRIES, 0), (OPENINGS, 0), *((f"tile/{n}", n) for n in range(size.bit_length()))):
        count, leaves = size >> HEIGHT * level, WIDTH << HEIGHT * level
        for index in range(first // leaves, -(-stop // leaves)):
            width = min(WIDTH, count - index * WIDTH)
            final = min((index + 1) * leaves, size)
            if width > 0 and first < final <= stop:
                yield TileName(row, index, width)


def _notes(objects: LogObjects, first: int, last: int) -> Iterator[str]:
    """Yield the keys of the checkpoints and cosignatures of the sizes above ``first``, up to ``last``."""
    for prefix in (CHECKPOINTS, COSIGNATURES):
        for key in objects.keys(f"{prefix}/", f"{prefix}/{first:0{DIGITS}d}0" if first else ""):
            if key.split("/")[1] > f"{last:0{DIGITS}d}":
                break
            yield key


def _needed(objects: LogObjects, key: str) -> bytes:
    data = objects.get(key)
    if data is None:
        raise LedgerCorrupt(f"{key} is missing; run: abeyance ledger verify")
    return data
