"""Verdicts of people that two subjects of a collection are not the same person, for good.

Each is two items, so that those of a subject are found by its id:

``N#<subject>#<other>`` and ``N#<other>#<subject>``, where a subject is ``F:<face id>`` or ``U:<user id>``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from abeyance.aws.table import LAST_SORT, SORT, Delete, Operation, Put, Update
from abeyance.gallery.errors import InvalidInput
from abeyance.gallery.items import Meta, keyed
from abeyance.gallery.model import FACE_PATTERN, USER_PATTERN, Collection, CollectionRef, TemplateKind
from abeyance.gallery.storage import Storage

_LETTERS = {TemplateKind.FACE: "F", TemplateKind.USER: "U"}
_KINDS = {letter: kind for kind, letter in _LETTERS.items()}
_PATTERNS = {TemplateKind.FACE: FACE_PATTERN, TemplateKind.USER: USER_PATTERN}


class CollectionSubject(NamedTuple):
    """A face or a user of a collection."""

    kind: TemplateKind
    id: str

    @property
    def key(self) -> str:
        """Its text in keys. Raises :class:`InvalidInput` on an id that could not exist."""
        if not _PATTERNS[self.kind].fullmatch(self.id):
            raise InvalidInput("a subject is a face by its UUID, or a user by its id")
        return f"{_LETTERS[self.kind]}:{self.id}"


class VerdictStore:
    """The verdicts of a gallery's collections; its methods are those of :class:`~abeyance.gallery.facade.Gallery`."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def add(self, ref: CollectionRef, one: CollectionSubject, other: CollectionSubject) -> bool:
        """Note that two subjects are different people; return whether that is new."""
        if one == other:
            raise InvalidInput("a verdict is about two subjects")
        return self._storage.retry(self._change, ref, one, other, True)

    def withdraw(self, ref: CollectionRef, one: CollectionSubject, other: CollectionSubject) -> bool:
        """Take a verdict back; return whether there was one."""
        return self._storage.retry(self._change, ref, one, other, False)

    def of(
        self, collection: CollectionRef | Collection, subject: CollectionSubject
    ) -> set[CollectionSubject]:
        """Return the subjects that are known to be another person than this one."""
        return rejected(self._storage, self._storage.open(collection), subject)

    def all(
        self, collection: CollectionRef | Collection
    ) -> Iterator[tuple[CollectionSubject, CollectionSubject]]:
        """Yield every verdict once, by the key of its first subject."""
        pk = self._storage.open(collection).pk
        for item in self._storage.table.query(pk, "N#", f"N#{LAST_SORT}", attributes=(SORT,)):
            one, other = item[SORT][2:].split("#")
            if one < other:
                yield _subject(one), _subject(other)

    def match(self, source: Collection, ref: CollectionRef) -> int:
        """Give another collection exactly the verdicts of this one; return how many it gained or lost."""
        if not source.verdicts and not self._storage.meta(ref).verdicts:
            return 0
        wanted, present = set(self.all(source)), set(self.all(ref))
        gained = [self.add(ref, *pair) for pair in wanted - present]
        return sum(gained) + sum(self.withdraw(ref, *pair) for pair in present - wanted)

    def forget(self, ref: CollectionRef, subject: CollectionSubject) -> None:
        """Remove all verdicts about a subject that is about to be erased."""
        meta = self._storage.meta(ref)
        if meta.verdicts:
            for other in rejected(self._storage, meta, subject):
                self.withdraw(ref, subject, other)

    def _change(
        self, ref: CollectionRef, one: CollectionSubject, other: CollectionSubject, there: bool
    ) -> bool:
        meta = self._storage.meta(ref)
        keys = [(meta.pk, f"N#{a.key}#{b.key}") for a, b in ((one, other), (other, one))]
        if (self._storage.table.get(keys[0]) is not None) == there:
            return False
        changes: list[Operation] = [
            Put(keyed(key) | {"since": self._storage.now()}, absent=True)
            if there
            else Delete(key, expect={SORT: key[1]})
            for key in keys
        ]
        # The count tells a search whether there is anything to look for.
        moved = {"verdicts": 1 if there else -1}
        count = Update(meta.key, add=moved, expect={"generation": meta.generation})
        self._storage.table.transact([*changes, count])
        return True


def rejected(
    storage: Storage, collection: Meta | Collection, subject: CollectionSubject
) -> set[CollectionSubject]:
    """Return the subjects that are known to be another person than this one; reads only where there are verdicts."""
    if not collection.verdicts:
        return set()
    prefix = f"N#{subject.key}#"
    items = storage.table.query(collection.pk, prefix, f"{prefix}{LAST_SORT}", attributes=(SORT,))
    return {_subject(item[SORT].removeprefix(prefix)) for item in items}


def _subject(key: str) -> CollectionSubject:
    return CollectionSubject(_KINDS[key[0]], key[2:])
