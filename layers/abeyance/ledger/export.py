"""Exports: a whole ledger as one file that can be verified far from where it came.

JSON Lines, every line canonical JSON (RFC 8785) and ended by a newline:

1. the header, ``{"chain":…,"created":…,"format":"abeyance-ledger-1","genesis":…}``;
2. every entry, as stored;
3. behind the entries that they cover, any checkpoints, ``{"checkpoint":"<note>","sha256":…}``;
4. last of all, one checkpoint of everything, so that a file that was cut off shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from abeyance.ledger.chain import Entry, Header, decode_entry
from abeyance.ledger.findings import BadLine
from abeyance.ledger.lines import (
    checkpoint_line,
    header_line,
    is_checkpoint_line,
    read_checkpoint,
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


class ExportFile:
    """An export to read from, again and again. Nothing is checked beyond the form: verify it first.

    Every method raises :class:`~abeyance.ledger.findings.BadLine` at a line that is not what it should be.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def header(self) -> Header:
        """Return the header, which is the first line."""
        with self._path.open("rb") as file:
            return read_header(file.readline().removesuffix(b"\n"))

    def lines(self) -> Iterator[bytes]:
        """Yield the entries as canonical JSON, as they stand."""
        with self._path.open("rb", buffering=1 << 20) as file:
            next(file, None)
            for line in file:
                if not is_checkpoint_line(line):
                    yield line.removesuffix(b"\n")

    def entries(self) -> Iterator[Entry]:
        """Yield the entries, decoded."""
        for line in self.lines():
            read_entry(line)
            yield decode_entry(line)

    def find(self, name: str) -> bytes | None:
        """Return the line of the entry with this sequence number or id."""
        for line in self.lines():
            entry = read_entry(line)
            if name in (str(entry.seq), entry.id.decode()):
                return line
        return None

    def checkpoint(self) -> Checkpoint | None:
        """Return the last checkpoint."""
        final = None
        with self._path.open("rb", buffering=1 << 20) as file:
            for line in file:
                if is_checkpoint_line(line):
                    final = line
        return None if final is None else read_checkpoint(final.removesuffix(b"\n"))


def _with_start(lines: Iterable[bytes]) -> Iterator[bytes | None]:
    """Yield ``None`` before the first line: the place of a checkpoint of the empty chain."""
    yield None
    yield from lines
