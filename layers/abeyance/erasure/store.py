"""The table of erasures: what each one will erase, written down before the first deletion.

It names nobody: faces are UUIDs, users and names are pseudonyms, photos are digests. It is never restored from a
backup, because after a restore of any other store the erasures are done again from it.

=====================  ======================  ==============================================================
``pk``                 ``sk``                  holds
=====================  ======================  ==============================================================
``open``               ``<subject>``           an erasure under way: its id; one for a subject
``done``               ``<finished>#<id>``     a finished erasure
``erasure#<id>``       ``erasure``             ``body``, the :class:`Erasure`, and its ``state``
``erasure#<id>``       ``<kind>#<name>``       one thing to erase, of a :class:`TargetKind`
=====================  ======================  ==============================================================
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any

import msgspec

from abeyance.aws.dynamodb import batches
from abeyance.aws.table import (
    LAST_SORT,
    PARTITION,
    SORT,
    TRANSACTION_LIMIT,
    Conflict,
    Delete,
    Item,
    Key,
    Put,
    Table,
    Update,
)
from abeyance.gallery.items import keyed
from abeyance.gallery.model import CollectionRef

_OPEN = "open"
_DONE = "done"


class TargetKind(StrEnum):
    """The kinds of things to erase, and what names one."""

    #: A face's id.
    FACE = "face"
    #: A user's pseudonym.
    USER = "user"
    #: The digest of a photo that faces come from; the photo itself stays.
    PHOTO = "photo"
    #: The identity of an upload whose records or result name the person.
    UPLOAD = "upload"
    #: The key of a chips file and a row, with ``#`` between.
    CHIP = "chip"
    #: The identity of a reviewed upload and the number of a comparison, with ``#`` between.
    COMPARISON = "case"


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """One person's erasure.

    Attributes
    ----------
    id
        Names its ledger entries.
    subject
        Pseudonym of the name that the person was asked for by.
    named_by
        ``user_id``, ``external_image_id`` or ``face_id``.
    principal
        Pseudonym of the person who asked.
    asked
        When, RFC 3339 UTC.
    run
        1; more when it is done again after a restore.
    until
        Of a later run: it erases only what is not newer than this. Empty for the first run.
    verified, receipt
        When the absence was verified, and the receipt's body on the ledger; empty before.
    finished
        When the ledger had the receipt; empty before.
    """

    id: str
    ref: CollectionRef
    subject: str
    named_by: str
    principal: str
    asked: str
    run: int = 1
    until: str = ""
    verified: str = ""
    receipt: dict[str, Any] = {}
    finished: str = ""


class ErasureStore:
    """See the module. Every read sees every write that has returned."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def begin(self, erasure: Erasure, kind: TargetKind | None = None, name: str = "") -> Erasure:
        """Write an erasure down, and a first thing to erase; return the one under way for the subject if there is."""
        header = Put(keyed(_header(erasure.id)) | _content(erasure), absent=True)
        first = [Put(keyed(_note(erasure, kind, name)))] if kind else []
        try:
            self._table.transact([_pointer(erasure), header, *first])
        except Conflict:
            if (other := self.open_for(erasure.subject)) is None:
                raise
            return other
        return erasure

    def open_for(self, subject: str) -> Erasure | None:
        """Return the erasure under way for a subject."""
        pointer = self._table.get((_OPEN, subject))
        return self.get(pointer["erasure"]) if pointer else None

    def get(self, erasure_id: str) -> Erasure | None:
        """Return an erasure by its id."""
        item = self._table.get(_header(erasure_id))
        return _erasure(item) if item else None

    def open(self) -> Iterator[Erasure]:
        """Yield the erasures under way."""
        return self._each(item["erasure"] for item in self._table.query(_OPEN))

    def finished_since(self, moment: str) -> Iterator[Erasure]:
        """Yield the erasures that were finished at a moment (RFC 3339) or later, each once."""
        items = self._table.query(_DONE, moment, LAST_SORT)
        return self._each(dict.fromkeys(item[SORT].partition("#")[2] for item in items))

    def note(self, erasure: Erasure, kind: TargetKind, names: Iterable[str]) -> None:
        """Add things to erase; those that are noted already stay."""
        puts = (Put(keyed(_note(erasure, kind, name))) for name in dict.fromkeys(names))
        for some in batches(puts, TRANSACTION_LIMIT):
            self._table.transact(some)

    def noted(self, erasure: Erasure, kind: TargetKind) -> list[str]:
        """Return the names of the things of a kind."""
        first = f"{kind}#"
        items = self._table.query(_header(erasure.id)[0], first, f"{first}{LAST_SORT}", attributes=(SORT,))
        return [item[SORT].removeprefix(first) for item in items]

    def verify(self, erasure: Erasure, moment: str, receipt: dict[str, Any]) -> Erasure:
        """Write the receipt down, unless somebody has; return the erasure as it stands."""
        verified = msgspec.structs.replace(erasure, verified=moment, receipt=receipt)
        with contextlib.suppress(Conflict):
            self._table.transact([_update(erasure, verified)])
        return self.get(erasure.id) or verified

    def finish(self, erasure: Erasure, moment: str) -> None:
        """Take an erasure whose receipt is on the ledger off the work list, unless somebody has."""
        done = msgspec.structs.replace(erasure, finished=moment)
        # Losing this race means that it is finished.
        with contextlib.suppress(Conflict):
            self._table.transact(
                [
                    Delete((_OPEN, erasure.subject), expect={"erasure": erasure.id}),
                    _update(erasure, done),
                    Put({PARTITION: _DONE, SORT: f"{moment}#{erasure.id}"}),
                ]
            )

    def reopen(self, erasure: Erasure) -> Erasure:
        """Put a finished erasure on the work list again; return it, or another one under way for its subject."""
        again = msgspec.structs.replace(
            erasure,
            run=erasure.run + 1,
            until=erasure.until or erasure.verified,
            verified="",
            receipt={},
            finished="",
        )
        try:
            self._table.transact([_pointer(erasure), _update(erasure, again)])
        except Conflict:
            if (other := self.open_for(erasure.subject)) is None:
                raise
            return other
        return again

    def _each(self, ids: Iterable[str]) -> Iterator[Erasure]:
        for some in batches(ids, TRANSACTION_LIMIT):
            keys = [_header(erasure_id) for erasure_id in some]
            items = self._table.get_many(keys)
            yield from (_erasure(items[key]) for key in keys if key in items)


def _header(erasure_id: str) -> Key:
    return f"erasure#{erasure_id}", "erasure"


def _note(erasure: Erasure, kind: TargetKind, name: str) -> Key:
    return _header(erasure.id)[0], f"{kind}#{name}"


def _pointer(erasure: Erasure) -> Put:
    return Put({PARTITION: _OPEN, SORT: erasure.subject, "erasure": erasure.id}, absent=True)


def _content(erasure: Erasure) -> Item:
    state = "finished" if erasure.finished else "verified" if erasure.verified else "open"
    return {"body": msgspec.json.encode(erasure).decode(), "state": f"{erasure.run} {state}"}


def _update(before: Erasure, after: Erasure) -> Update:
    return Update(_header(before.id), set=_content(after), expect={"state": _content(before)["state"]})


def _erasure(item: Item) -> Erasure:
    return msgspec.json.decode(item["body"], type=Erasure)
