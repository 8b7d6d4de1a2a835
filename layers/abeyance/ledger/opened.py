"""The second step of verification: every field of every entry is opened, and every id is seen once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from hashlib import sha256
from typing import Final

import msgspec

from abeyance.ledger.defects import Defect, DefectKind, DefectList, LedgerReport, LogVerdict
from abeyance.ledger.entry import CONFLICT, REFUSED, Opening, blob_key, read_opening
from abeyance.ledger.errors import LedgerCorrupt
from abeyance.ledger.id_index import IdIndex
from abeyance.ledger.objects import LogObjects
from abeyance.ledger.read_ahead import read_ahead
from abeyance.ledger.tiles import ENTRIES, OPENINGS, WIDTH, TileName, decode_bundle, read_tile

_CACHED_BLOBS: Final = 1024


class OpenedLog(msgspec.Struct, frozen=True):
    """The result of opening a log; the fields are those of :class:`abeyance.ledger.defects.LedgerReport`."""

    opened: int | None
    repeated: int
    conflicts: int
    refused: int
    defects: tuple[Defect, ...]
    found: int
    notices: tuple[str, ...]


def open_log(
    objects: LogObjects,
    size: int,
    *,
    accepted: Collection[int] = (),
    readers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> OpenedLog:
    """Open every field of the first ``size`` entries, and look for ids that come again.

    Parameters
    ----------
    objects
        The log. Without a single opening it is one whose fields are withheld, which is no defect.
    size
        Number of entries.
    accepted
        Indices of conflicts that somebody has looked into.
    readers, progress
        As for :func:`abeyance.ledger.verification.verify_log`.
    """
    if next(objects.keys(f"{OPENINGS}/"), None) is None:
        notice = (f"the fields of all {size} entries are withheld",) if size else ()
        return OpenedLog(None, 0, 0, 0, (), 0, notice)
    with IdIndex() as seen:
        step = _Opening(objects, size, accepted, seen)
        for number, bundle in enumerate(read_ahead(step.load, range(-(-size // WIDTH)), readers)):
            step.check(number, *bundle)
            if progress and not number & 0xF:
                progress(number * WIDTH)
        return step.result()


def with_opened(report: LedgerReport, opened: OpenedLog) -> LedgerReport:
    """Return the report of a verification with the result of opening the same log."""
    found = report.found + opened.found
    broken = {}
    if opened.found:
        broken = {
            "verdict": LogVerdict.BROKEN,
            "why": f"the log is broken: {found} defect{'s' if found > 1 else ''}",
        }
    return msgspec.structs.replace(
        report,
        defects=(*report.defects, *opened.defects),
        found=found,
        notices=(*report.notices, *opened.notices),
        opened=opened.opened,
        repeated=opened.repeated,
        conflicts=opened.conflicts,
        refused=opened.refused,
        **broken,
    )


class _Opening:
    def __init__(self, objects: LogObjects, size: int, accepted: Collection[int], seen: IdIndex) -> None:
        self.objects = objects
        self.size = size
        self.accepted = accepted
        self.seen = seen
        self.defects = DefectList()
        self.notices: list[str] = []
        self.opened = self.repeated = 0
        self.types = {CONFLICT: 0, REFUSED: 0}
        self.blobs: OrderedDict[str, int] = OrderedDict()

    def load(self, number: int) -> tuple[list[bytes] | None, list[bytes] | None]:
        """Return the leaves and the openings of a bundle; ``None`` for what cannot be read."""
        return self._read(ENTRIES, number), self._read(OPENINGS, number)

    def check(self, number: int, leaves: list[bytes] | None, openings: list[bytes] | None) -> None:
        """Open the entries of a bundle."""
        first = number * WIDTH
        if openings is None:
            name = TileName(OPENINGS, number, min(WIDTH, self.size - first))
            what = "the bundle of openings is missing or damaged"
            self.defects.add(DefectKind.MISSING, what, key=str(name), index=first)
        if openings is None or leaves is None:  # a missing leaf is found by the walk through the tree
            return
        for index, (leaf, data) in enumerate(zip(leaves, openings, strict=True), first):
            try:
                opening = read_opening(data)
            except LedgerCorrupt as error:
                self.defects.add(DefectKind.WRONG_OPENING, str(error), index=index)
                continue
            if opening.leaf() != leaf:
                what = "the opening does not open the entry: a field, a salt, or the entry was changed"
                self.defects.add(DefectKind.WRONG_OPENING, what, index=index)
                continue
            self._take(index, opening)

    def result(self) -> OpenedLog:
        """Return the result, after the last bundle."""
        for content, index, first_content, first in self.seen.repeated():
            if content == first_content:
                self.repeated += 1
            else:
                self._conflict(
                    f"the id of the entry is also that of entry {first}, with other content", index
                )
        if self.repeated:
            self.notices.append(f"{self.repeated} entries repeat an earlier one, and count once")
        return OpenedLog(
            self.opened,
            self.repeated,
            self.types[CONFLICT],
            self.types[REFUSED],
            tuple(self.defects.kept),
            self.defects.found,
            tuple(self.notices),
        )

    def _take(self, index: int, opening: Opening) -> None:
        self.opened += 1
        self.seen.add(opening.id.encode(), int.from_bytes(opening.content()[:8], "big"), index)
        if opening.type in self.types:
            self.types[opening.type] += 1
            if opening.type == CONFLICT:
                self._conflict("the entry is a record whose id came before with other content", index)
        for digest, length in opening.blobs():
            if self._blob_bytes(digest) != length:
                what = "a member stored by digest is missing, or is another one"
                self.defects.add(DefectKind.WRONG_BLOB, what, key=blob_key(digest), index=index)

    def _conflict(self, what: str, index: int) -> None:
        if index in self.accepted:
            self.notices.append(f"the conflict of entry {index} is accepted")
        else:
            self.defects.add(DefectKind.CONFLICT, what, index=index)

    def _blob_bytes(self, digest: str) -> int:
        """Return the length of a stored member; -1 if it is missing or does not have its digest."""
        if digest not in self.blobs:
            data = self.objects.get(blob_key(digest))
            good = data is not None and sha256(data).hexdigest() == digest
            self.blobs[digest] = len(data) if data is not None and good else -1
            if len(self.blobs) > _CACHED_BLOBS:
                self.blobs.popitem(last=False)
        return self.blobs[digest]

    def _read(self, row: str, number: int) -> list[bytes] | None:
        try:
            name = TileName(row, number, min(WIDTH, self.size - number * WIDTH))
            return read_tile(self.objects, name, decode_bundle)
        except LedgerCorrupt:
            return None
