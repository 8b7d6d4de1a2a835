"""The change log as columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from abeyance.gallery.items import FACE
from abeyance.gallery.model import Kind
from abeyance.gallery.port import ID_BYTES, Block
from abeyance.gallery.table import SORT, Item

#: What of a log item a reader needs.
ATTRIBUTES = (SORT, "k", "id", "v", "of")


@dataclass(slots=True)
class Log:
    """Log items taken in, in ascending order of their seq."""

    dimension: int
    #: Every seq that has an item.
    seen: list[int] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)
    _rows: dict[Kind, tuple[list[int], list[bytes], list[bytes]]] = field(
        default_factory=lambda: {kind: ([], [], []) for kind in Kind}
    )

    def take(self, items: Iterable[Item]) -> Log:
        """Read items; returns itself."""
        size = 2 * self.dimension
        faces, users = self._rows[Kind.FACE], self._rows[Kind.USER]
        pad = ID_BYTES[Kind.USER]
        for item in items:
            seq = int(item[SORT][2:])
            self.seen.append(seq)
            of = item.get("of")
            if of:
                self.dead.append(of)
            template = item.get("v")
            if template is None or len(template) != size:
                continue
            if item["k"] == FACE:
                rows, name = faces, bytes.fromhex(item["id"].replace("-", ""))
            else:
                rows, name = users, item["id"].encode().ljust(pad, b"\0")
            rows[0].append(seq)
            rows[1].append(name)
            rows[2].append(template)
        return self

    def blocks(self) -> tuple[Block, ...]:
        """Templates, at most one block of each kind; kinds without templates are left out."""
        found = []
        for kind, (seqs, ids, templates) in self._rows.items():
            if seqs:
                order = np.argsort(np.array(seqs, dtype=np.int64), kind="stable")
                found.append(
                    Block(
                        kind,
                        np.array(seqs, dtype=np.int64)[order],
                        np.frombuffer(b"".join(ids), dtype=np.uint8).reshape(len(seqs), -1)[order],
                        np.frombuffer(b"".join(templates), dtype="<f2").reshape(len(seqs), -1)[order],
                    )
                )
        return tuple(found)
