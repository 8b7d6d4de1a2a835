"""The inventory of a log's objects: every version, every delete marker, every partial tile. Streaming.

Who may write to a bucket and not delete can still put a second version over an object, or a delete marker, or a
second history beside the first. None of these is seen by who reads only what is current.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from abeyance.ledger.batches import PREFIX as SEQUENCED
from abeyance.ledger.checkpoint import CHECKPOINTS, COSIGNATURES, LATEST, REFUSALS
from abeyance.ledger.defects import MAX_DEFECTS, DefectKind, DefectList
from abeyance.ledger.errors import LedgerCorrupt
from abeyance.ledger.identity import LOG
from abeyance.ledger.index_files import INDEX
from abeyance.ledger.objects import LogObjects
from abeyance.ledger.read_ahead import read_ahead
from abeyance.ledger.tiles import (
    ENTRIES,
    HASH_BYTES,
    HEIGHT,
    OPENINGS,
    WIDTH,
    TileName,
    decode_bundle,
    parse_tile_name,
)

_OTHER: Final = re.compile(
    rf"{LOG}|{LATEST}|{CHECKPOINTS}/[0-9]{{20}}|{COSIGNATURES}/[0-9]{{20}}/[0-9a-f]{{8}}-[0-9]{{1,12}}"
    rf"|{REFUSALS}/[0-9a-f]{{8}}/[0-9]{{12}}"
    rf"|{SEQUENCED}[0-9]{{20}}-[0-9a-f]{{16}}|blob/[0-9a-f]{{64}}"
)


class Inventory:
    """The extent of a log by its keys.

    Attributes
    ----------
    size
        Number of entries of which there is a bundle.
    sequenced
        Index of the first entry of the last sequenced batch; -1 without one.
    openings
        Whether there is any bundle of openings.
    """

    def __init__(self) -> None:
        self.size = 0
        self.sequenced = -1
        self.openings = False


def take_inventory(objects: LogObjects, defects: DefectList) -> Inventory:
    """List every version of every object; add those that should not be there to ``defects``."""
    found, last, told = Inventory(), "", ""
    bundles, number = 0, -1
    for one in objects.versions():
        key = one.key
        if key.startswith(INDEX):  # it is made from the log, may be made again, and proves nothing
            continue
        if one.deleted:
            defects.add(DefectKind.DELETED, "a delete marker hides an object that is never deleted", key=key)
        elif key == last and key != LATEST and key != told:
            defects.add(DefectKind.REWRITTEN, "an object that is written once has two versions", key=key)
            told = key
        if key == last:
            continue
        last = key
        name = parse_tile_name(key)
        if name is None:
            if not _OTHER.fullmatch(key):
                defects.add(DefectKind.FOREIGN, "the object is no part of this log", key=key)
            elif key.startswith(SEQUENCED):
                found.sequenced = max(found.sequenced, int(key.partition("/")[2][:20]))
        elif name.row == ENTRIES:
            found.size = max(found.size, name.number * WIDTH + name.width)
            bundles += name.number != number  # the full one and the partial ones of a number come together
            number = name.number
        elif name.row == OPENINGS:
            found.openings = True
    # One bundle far behind the others must not make the walk a walk through nothing.
    if found.size > (bundles + MAX_DEFECTS) * WIDTH:
        missing = -(-found.size // WIDTH) - bundles
        defects.add(DefectKind.MISSING, f"{missing} bundles of entries are missing", key=ENTRIES)
        found.size = (bundles + MAX_DEFECTS) * WIDTH
    return found


def check_partials(objects: LogObjects, size: int, defects: DefectList, readers: int = 1) -> None:
    """Compare every partial tile and bundle that was left behind with what it became.

    A partial one that does not begin the full one is what remains of another history.
    """

    def load(name: TileName) -> tuple[TileName, bytes | None]:
        return name, objects.get(str(name))

    full: tuple[str, int] = ("", -1)
    whole = b""
    for name, data in read_ahead(load, _left_behind(objects, size, defects), readers):
        if (name.row, name.number) != full:
            full = (name.row, name.number)
            whole = objects.get(str(name._replace(width=_width(name, size)))) or b""
        # Where the full one is missing, the walk through the tree says so.
        if data is not None and whole and not _begins(name, data, whole):
            what = f"it does not begin {name._replace(width=_width(name, size))}: two histories were written"
            defects.add(DefectKind.WRONG_PARTIAL, what, key=str(name), index=_first_index(name))


def _left_behind(objects: LogObjects, size: int, defects: DefectList) -> Iterator[TileName]:
    """Yield the partial tiles that have grown since; add tiles behind the end of the log to ``defects``."""
    for prefix in (OPENINGS + "/", "tile/"):
        for key in objects.keys(prefix):
            name = parse_tile_name(key)
            if name is None:
                continue
            width = _width(name, size)
            if name.width > width:
                what = f"it is of more entries than the {size} that are there"
                defects.add(DefectKind.LOST, what, key=key, index=size)
            elif name.width < width:
                yield name


def _width(name: TileName, size: int) -> int:
    count = size >> HEIGHT * name.level if name.level is not None else size
    return max(0, min(WIDTH, count - name.number * WIDTH))


def _first_index(name: TileName) -> int:
    return name.number * WIDTH << HEIGHT * (name.level or 0)


def _begins(name: TileName, data: bytes, whole: bytes) -> bool:
    if not whole.startswith(data):
        return False
    if name.level is not None:
        return len(data) == name.width * HASH_BYTES
    try:
        return len(decode_bundle(data)) == name.width
    except LedgerCorrupt:
        return False
