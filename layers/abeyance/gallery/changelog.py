"""The change log of a collection, read as columns.

DynamoDB isolates a transaction from each single read, not from a query as a whole: META may already show a
change of which a log item is not yet to be seen. So gaps among the latest seqs are read again, transactionally.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from abeyance.aws.dynamodb import batches
from abeyance.aws.table import SORT, Item
from abeyance.gallery.items import FACE, LOG_KIND, Meta, log_key
from abeyance.gallery.model import TemplateKind
from abeyance.gallery.port import ID_BYTES, Block
from abeyance.gallery.storage import Storage

#: Attributes of a log item that a reader needs.
ATTRIBUTES = (SORT, LOG_KIND, "id", "v", "of")
#: Of this many of the latest seqs, an item may belong to a transaction that is still being written.
WINDOW = 256


@dataclass(slots=True)
class LogEntries:
    """Log items, added in any order."""

    #: Length of a template.
    dimension: int
    #: Every seq that has an item.
    seqs: list[int] = field(default_factory=list)
    #: Seqs of templates that went.
    dead: list[int] = field(default_factory=list)
    _rows: dict[TemplateKind, list[tuple[int, bytes, bytes]]] = field(
        default_factory=lambda: {kind: [] for kind in TemplateKind}
    )

    def add(self, items: Iterable[Item]) -> LogEntries:
        """Add items; return itself."""
        size = 2 * self.dimension
        faces, users = self._rows[TemplateKind.FACE], self._rows[TemplateKind.USER]
        for item in items:
            seq = int(item[SORT][2:])
            self.seqs.append(seq)
            if of := item.get("of"):
                self.dead.append(of)
            template = item.get("v")
            if template is None or len(template) != size:
                continue
            if item[LOG_KIND] == FACE:
                faces.append((seq, bytes.fromhex(item["id"].replace("-", "")), template))
            else:
                users.append((seq, item["id"].encode().ljust(ID_BYTES[TemplateKind.USER], b"\0"), template))
        return self

    def blocks(self) -> tuple[Block, ...]:
        """Return the templates, at most one block of each kind; kinds without templates are left out."""
        return tuple(_block(kind, rows) for kind, rows in self._rows.items() if rows)


class ChangeLog:
    """The change logs of a gallery's collections."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def read_span(self, meta: Meta, first: int, last: int) -> LogEntries:
        """Read the log from ``first`` to ``last``, both inclusive; it may have gaps."""
        log = LogEntries(meta.dimension)
        if first > last:
            return log
        pk, start = log_key(meta.pk, first)
        end = log_key(pk, last)[1]
        return log.add(self._storage.table.query(pk, start, end, attributes=ATTRIBUTES))

    def read(self, meta: Meta, after: int) -> LogEntries:
        """Read the log after a seq up to META's; an item that is missing in it has expired."""
        log = self.read_span(meta, after + 1, meta.seq)
        latest = range(max(after, meta.seq - window(meta)) + 1, meta.seq + 1)
        for some in batches((log_key(meta.pk, seq) for seq in sorted(set(latest).difference(log.seqs))), 100):
            log.add(self._storage.retry(self._storage.table.get_transactional, some).values())
        return log


def window(meta: Meta) -> int:
    """Return of how many of the latest seqs an item may still be in the writing."""
    return min(WINDOW, meta.span)


def _block(kind: TemplateKind, rows: list[tuple[int, bytes, bytes]]) -> Block:
    seqs, ids, templates = zip(*sorted(rows), strict=True)
    return Block(
        kind,
        np.array(seqs, dtype=np.int64),
        np.frombuffer(b"".join(ids), dtype=np.uint8).reshape(len(rows), -1),
        np.frombuffer(b"".join(templates), dtype="<f2").reshape(len(rows), -1),
    )
