"""Exports: a whole ledger as one file that can be verified far from where it came.

JSON Lines, every line canonical JSON (RFC 8785) and ended by a newline:

1. the header, ``{"chain":…,"created":…,"format":"abeyance-ledger-1","genesis":…}``;
2. every entry, as stored;
3. behind the entries that they cover, any checkpoints, ``{"checkpoint":"<note>","sha256":…}``;
4. last of all, one checkpoint of everything, so that a file that was cut off shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO

from abeyance.ledger.chain import Entry, Header, decode_entry
from abeyance.ledger.findings import BadLine
from abeyance.ledger.lines import (
    checkpoint_line,
    header_line,
    is_checkpoint_line,
    read_entry,
    read_header,
)
from abeyance.ledger.merkle import CompactRange, leaf_hash
from abeyance.ledger.note import Checkpoint


def write_export(
    out: IO[bytes], header: Header, lines: Iterable[bytes], checkpoints: Iterable[Checkpoint] = ()
) -> Checkpoint | None:
    """Write an export.

    Parameters
    ----------
    out
        Open for writing bytes.
    header
        Of the chain.
    lines
        Its entries as canonical JSON, in order. They are written as they are: a damaged ledger can be
        exported as evidence, and the export then shows the damage.
    checkpoints
        Of this chain, sizes ascending; those beyond the last entry are left out.

    Returns
    -------
    Checkpoint or None
        The last line; ``None``, and no such line, if the entries are damaged, because then nothing can be
        vouched for.
    """
    waiting = iter(checkpoints)
    following = next(waiting, None)
    tree, head, intact = CompactRange(), header.genesis, True
    out.write(header_line(header) + b"\n")
    final: Checkpoint | None = None
    for size, line in enumerate(_with_start(lines)):
        if line is not None:
            out.write(line + b"\n")
            try:
                entry = read_entry(line)
            except BadLine:
                intact = False
            else:
                intact &= entry.seq == size and entry.computed == entry.stated and entry.prev.hex() == head
                head = entry.computed.hex()
                tree.append(leaf_hash(entry.computed))
        final = None
        while following is not None and following.size <= size:
            if following.size == size:
                out.write(checkpoint_line(following) + b"\n")
                final = following
            following = next(waiting, None)
    if not intact:
        return None
    if final is None or (final.root, final.head) != (tree.root(), head):
        final = Checkpoint(header.origin, tree.size, tree.root(), head)
        out.write(checkpoint_line(final) + b"\n")
    return final


def read_export(export: IO[bytes]) -> tuple[Header, Iterator[Entry]]:
    """Header and entries of an export that has been verified; nothing is checked here beyond the form.

    Raises
    ------
    BadLine
        The first line is not a header.
    msgspec.DecodeError, msgspec.ValidationError
        From the iterator: a line is no entry. Run ``abeyance ledger verify`` to learn more.
    """
    header = read_header(export.readline().removesuffix(b"\n"))
    return header, (decode_entry(line) for line in export if not is_checkpoint_line(line))


def _with_start(lines: Iterable[bytes]) -> Iterator[bytes | None]:
    """``None`` before the first line: the place of a checkpoint of the empty chain."""
    yield None
    yield from lines
