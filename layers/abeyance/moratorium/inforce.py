"""The record of what is in force: for flags and brake, the document that the change service deployed last.

Only the change service writes it. Stages read it beside the document that AppConfig hands them, so that a document
which somebody else deployed is noticed, and cannot loosen anything: then the tighter of both holds.

========================  ==================================================================================
``pk``, ``sk``            holds
========================  ==================================================================================
``in-force``, ``flags``   an :class:`InForce`: ``body`` without its documents, both documents, ``revision``
``in-force``, ``brake``   the same for the brake
========================  ==================================================================================
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct, structs

from abeyance.aws.table import PARTITION, SORT, Item, Key, Put, Require, Table
from abeyance.moratorium.document import FlagSet, parse
from abeyance.moratorium.errors import MoratoriumError

PARTITION_KEY: Final = "in-force"
#: The documents, by name.
FLAGS: Final = "flags"
BRAKE: Final = "brake"
#: Of the 400 KB of an item, for both documents together, compressed.
_MAX_BYTES: Final = 350_000

Phase = Literal["pending", "rolling", "settled"]


class InForce(Struct, frozen=True, kw_only=True):
    """The document in force.

    Attributes
    ----------
    generation
        Counts the documents; a proposal is made against one generation.
    previous, previous_digest
        The document before, until this one has settled.
    earlier
        Digests of documents before that one which may still be handed out, until this one has settled.
    version
        The store's name for the deployed document; empty until it is deployed.
    phase
        ``pending``: its store does not hand it out yet. ``rolling``: the one before may still be handed out.
    loosening
        Whether it loosens the one before. A document that tightens holds at once, whatever its store hands out.
    proposal
        The proposal that brought it; empty for a tightening.
    since_s
        Epoch seconds of the last change of document or phase.
    drift
        Digest of a document that its store hands out and the service did not deploy; empty if there is none.
    revision
        Counts the writes.
    """

    name: str
    generation: int
    document: dict[str, Any]
    digest: str
    previous: dict[str, Any] | None = None
    previous_digest: str = ""
    earlier: tuple[str, ...] = ()
    version: str = ""
    phase: Phase
    loosening: bool = False
    proposal: str = ""
    note: str = ""
    since_s: int = 0
    drift: str = ""
    revision: int = 0

    def agreed(self) -> tuple[dict[str, Any], ...]:
        """Return every document that may be handed out: this one, and the one before until this one has settled."""
        if self.phase == "settled" or self.previous is None:
            return (self.document,)
        return self.document, self.previous

    def expects(self, digest: str) -> bool:
        """Return whether a store may hand out the document of this digest now."""
        before = () if self.phase == "settled" else (self.previous_digest, *self.earlier)
        return digest in (self.digest, *before)

    def holds(self, digest: str) -> tuple[dict[str, Any], ...]:
        """Return the documents that hold beside the one of this digest, which a store handed out."""
        if digest == self.digest:
            return ()
        if self.phase != "settled" and digest == self.previous_digest:
            # A loosening has not reached everybody yet; what tightens holds at once.
            return () if self.loosening else (self.document,)
        return self.agreed()


def combine(flags: FlagSet, record: InForce | None) -> FlagSet:
    """Return the flags that hold: those handed out, and what was agreed if that is something else.

    ``drift`` is the digest of what was agreed if the service did not deploy the flags. Without a record nothing is
    added.
    """
    if record is None:
        return flags
    held = record.holds(flags.digest)
    others = [("agreed:", parse(document)) for document in held]
    return flags.joined(others, drift="" if record.expects(flags.digest) else record.digest)


class InForceTable:
    """The records, in the change service's table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def read(self, name: str) -> InForce | None:
        """Return one record, or ``None`` before the first."""
        item = self._table.get(_key(name))
        return None if item is None else _record(item)

    def read_all(self, names: Iterable[str] = (FLAGS, BRAKE)) -> dict[str, InForce]:
        """Return the records that there are, by name."""
        found = self._table.get_many([_key(name) for name in names])
        return {sk: _record(item) for (_, sk), item in found.items()}

    def write(self, record: InForce) -> Put:
        """Return the operation that stores a record in the place of the one that it was made from.

        Raises ``MoratoriumError`` if its documents are too large for an item.
        """
        item = _item(structs.replace(record, revision=record.revision + 1))
        if record.revision == 0:
            return Put(item, absent=True)
        return Put(item, expect={"revision": record.revision})

    @staticmethod
    def unchanged(record: InForce) -> Require:
        """Return the condition that this is still the record."""
        return Require(_key(record.name), {"revision": record.revision})


_DOCUMENTS: Final = ("document", "previous")


def _key(name: str) -> Key:
    return PARTITION_KEY, name


def _item(record: InForce) -> Item:
    fields = structs.asdict(record)
    packed = {name: pack(fields.pop(name)) for name in _DOCUMENTS if fields[name] is not None}
    if sum(map(len, packed.values())) > _MAX_BYTES:
        raise MoratoriumError("the document is too large to be recorded; shorten it")
    body = msgspec.json.encode({name: value for name, value in fields.items() if name not in _DOCUMENTS})
    return {PARTITION: PARTITION_KEY, SORT: record.name, "revision": record.revision, "body": body, **packed}


def _record(item: Item) -> InForce:
    documents = {name: unpack(item[name]) for name in _DOCUMENTS if name in item}
    return msgspec.convert({**msgspec.json.decode(item["body"]), **documents}, InForce)


def pack(document: dict[str, Any]) -> bytes:
    """Return a document as bytes for an item."""
    return zlib.compress(json.dumps(document, ensure_ascii=False).encode())


def unpack(packed: bytes) -> dict[str, Any]:
    """Return the document that :func:`pack` was given."""
    document: dict[str, Any] = json.loads(zlib.decompress(packed))
    return document
