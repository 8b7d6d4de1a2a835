"""The table and bucket that all stores of a gallery share: reads of its items, and writes in the order of one seq."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from abeyance.aws.dynamodb import ATTEMPTS
from abeyance.aws.objects import Objects
from abeyance.aws.table import LAST_SORT, Conflict, Item, Key, Table
from abeyance.aws.timestamps import rfc3339
from abeyance.gallery.draft import ChangeDraft
from abeyance.gallery.errors import CollectionNotFound, GalleryBusy, InvalidInput
from abeyance.gallery.items import Meta, face_key, face_of, log_key, meta_key
from abeyance.gallery.model import FACE_PATTERN, Collection, CollectionRef, Face

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Written(Generic[R]):
    """The effect of a write."""

    #: Of the drafts that were committed, or had nothing to commit.
    results: list[R]
    #: As it was before the last draft.
    meta: Meta
    #: Of the collection, after the last draft.
    seq: int


class Storage:
    """A gallery's table and bucket, with its clock, its waits and the locks of its writers.

    Parameters
    ----------
    table, objects
        Where items and snapshot segments are stored.
    clock
        Returns the time now.
    pause
        Waits before attempt n + 1.
    """

    def __init__(
        self, table: Table, objects: Objects, clock: Callable[[], datetime], pause: Callable[[int], None]
    ) -> None:
        self.table = table
        self.objects = objects
        self.clock = clock
        self._pause = pause
        # Writers of one process wait for each other here rather than by failing in the table.
        self._locks = tuple(threading.Lock() for _ in range(64))

    def now(self) -> str:
        """Return the time now, RFC 3339, UTC, to the millisecond."""
        return rfc3339(self.clock())

    def find_meta(self, ref: CollectionRef) -> Meta | None:
        """Return META, or ``None`` where there is no such collection."""
        item = self.table.get(meta_key(ref))
        return Meta.of(item) if item else None

    def meta(self, ref: CollectionRef) -> Meta:
        """Return META. Raises :class:`CollectionNotFound`."""
        meta = self.find_meta(ref)
        if meta is None:
            raise CollectionNotFound("there is no collection of that name; create it first")
        return meta

    def open(self, collection: CollectionRef | Collection) -> Meta | Collection:
        """Return the collection to read from; META is read only where a bare name is given."""
        return collection if isinstance(collection, Collection) else self.meta(collection)

    def retry(self, action: Callable[P, R], *args: P.args, **named: P.kwargs) -> R:
        """Return the result of an action, tried again while it raises :class:`Conflict`.

        Raises :class:`GalleryBusy` when other writers win every attempt.
        """
        for attempt in range(ATTEMPTS):
            try:
                return action(*args, **named)
            except Conflict as conflict:
                if attempt == ATTEMPTS - 1:
                    raise GalleryBusy(
                        "other writers changed the collection each time; try again after a moment"
                    ) from conflict
                self._pause(attempt)
        raise AssertionError("unreachable")

    def write(
        self,
        ref: CollectionRef,
        plan: Callable[[ChangeDraft], tuple[R, bool]],
        refused: Callable[[Sequence[bool]], None] = lambda failed: None,
    ) -> Written[R]:
        """Commit the drafts of ``plan`` until it returns that there is no more to do.

        ``plan`` reads the collection (after META was read for the draft), drafts what fits one transaction, and
        returns its result and whether there is more. It is called anew after each commit and after each conflict,
        and depends only on what it reads: so a call after a crash continues where the crashed one stopped. ``refused``
        is given, for each operation of a draft that met a conflict, whether its own condition did not hold.
        """
        results: list[R] = []

        def step() -> tuple[ChangeDraft, R, bool]:
            draft = ChangeDraft(self.meta(ref), self.clock(), results)
            result, more = plan(draft)
            if not draft.empty:
                try:
                    self.table.transact(draft.operations())
                except Conflict as conflict:
                    refused(conflict.failed)
                    raise
            return draft, result, more

        more = True
        with self._locks[zlib.crc32(f"{ref.tenant}#{ref.name}".encode()) % len(self._locks)]:
            while more:
                draft, result, more = self.retry(step)
                results.append(result)
        return Written(results, draft.meta, draft.seq)

    def list_items(self, pk: str, prefix: str, after: str, limit: int) -> list[Item]:
        """Return ``limit`` + 1 items of a partition, by sort key, that begin with ``prefix`` and come after an id."""
        # A space sorts before every character of an id, so this is the first key after it.
        first = f"{prefix}{after} " if after else prefix
        return list(self.table.query(pk, first, f"{prefix}{LAST_SORT}", limit=limit + 1))

    def faces(self, collection: Meta | Collection, face_ids: Iterable[str]) -> dict[str, Face]:
        """Return those of the faces that exist, by id."""
        items = self.table.get_many(face_key(collection.pk, face_id) for face_id in face_ids)
        return {sk[2:]: face_of(collection.ref, item) for (_, sk), item in items.items()}

    def templates(
        self, collection: Meta | Collection, seqs: Sequence[int]
    ) -> dict[int, npt.NDArray[np.float32]]:
        """Return templates by their seqs, (d,) float32 each; those that are gone are left out."""
        keys: dict[Key, int] = {log_key(collection.pk, seq): seq for seq in seqs}
        return {
            keys[key]: np.frombuffer(item["v"], dtype="<f2").astype(np.float32)
            for key, item in self.table.get_many(keys, attributes=("v",)).items()
            if "v" in item
        }

    def templates_of(
        self, collection: Meta | Collection, faces: Iterable[Face]
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Return the templates of faces as they were read, by face id; those that are gone are left out."""
        seqs = {face.seq: face.id for face in faces}
        return {seqs[seq]: template for seq, template in self.templates(collection, list(seqs)).items()}

    def face_templates(
        self, collection: Meta | Collection, face_ids: Iterable[str]
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Return the templates of those of the faces that exist, by face id."""
        return self.templates_of(collection, self.faces(collection, face_ids).values())


def require_face_ids(face_ids: Sequence[str]) -> None:
    """Raise :class:`InvalidInput` unless all are canonical UUIDs."""
    if not all(FACE_PATTERN.fullmatch(face_id) for face_id in face_ids):
        raise InvalidInput("a face id is a UUID in lower case, with hyphens")
