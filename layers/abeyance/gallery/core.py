"""What all operations of a gallery share: reading META, and writing in the order of one seq."""

from __future__ import annotations

import random
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from abeyance.encoding import decode_base64, encode_base64
from abeyance.gallery.draft import Draft
from abeyance.gallery.errors import CollectionNotFound, GalleryBusy, InvalidInput, InvalidPage
from abeyance.gallery.items import Meta, face_key, face_of, log_key, meta_key, rfc3339
from abeyance.gallery.model import FACE_PATTERN, LISTED_PATTERN, CollectionRef, Face
from abeyance.gallery.table import Conflict, Key, Objects, Table

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Written(Generic[R]):
    """What a write did."""

    #: Of the drafts that were committed, or had nothing to commit.
    results: list[R]
    #: As it was before the last draft.
    meta: Meta
    #: Of the collection, after it.
    seq: int


#: Attempts at one transaction before the caller is told that the gallery is busy.
ATTEMPTS = 8
#: Full jitter: sleeps are drawn from 0 to this times 2**attempt, in seconds.
BACKOFF = 0.02


def utc_now() -> datetime:
    return datetime.now(UTC)


class Core:
    """Reads META and commits drafts.

    Parameters
    ----------
    table, objects
        Where items and snapshot segments lie.
    clock
        Tells the time for ``created`` and times to live.
    sleep
        Waits between attempts.
    """

    def __init__(
        self,
        table: Table,
        objects: Objects,
        *,
        clock: Callable[[], datetime] = utc_now,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.table = table
        self.objects = objects
        self._clock = clock
        self._sleep = sleep
        # Writers of one process wait for each other here rather than by failing in the table.
        self._turns = tuple(threading.Lock() for _ in range(64))

    def now(self) -> str:
        """RFC 3339, UTC, to the millisecond."""
        return rfc3339(self._clock())

    def find_meta(self, ref: CollectionRef) -> Meta | None:
        item = self.table.get(meta_key(ref))
        return Meta.of(item) if item else None

    def meta(self, ref: CollectionRef) -> Meta:
        """META, or :class:`CollectionNotFound`."""
        meta = self.find_meta(ref)
        if meta is None:
            raise CollectionNotFound("there is no collection of that name; create it first")
        return meta

    def pause(self, attempt: int) -> None:
        """Wait before another attempt; the first attempt's number is 0."""
        self._sleep(random.uniform(0, BACKOFF * 2 ** (attempt + 1)))

    def write(self, ref: CollectionRef, plan: Callable[[Draft], tuple[R, bool]]) -> Written[R]:
        """Commit what ``plan`` drafts, again and again until it says that there is no more to do.

        ``plan`` looks at the collection (after META was read for the draft), drafts what fits one
        transaction, and returns its result and whether there is more. It is called anew after each commit
        and after each conflict, and knows only what it reads: so a call after a crash goes on where the
        crashed one stopped.

        """
        results: list[R] = []
        attempt = 0
        with self._turns[zlib.crc32(f"{ref.tenant}#{ref.name}".encode()) % len(self._turns)]:
            while True:
                draft = Draft(self.meta(ref), self._clock(), results)
                result, more = plan(draft)
                if not draft.empty:
                    try:
                        self.table.transact(draft.operations())
                    except Conflict as conflict:
                        attempt += 1
                        if attempt == ATTEMPTS:
                            raise GalleryBusy(
                                "other writers changed the collection each time; try again after a moment"
                            ) from conflict
                        self.pause(attempt)
                        continue
                attempt = 0
                results.append(result)
                if not more:
                    return Written(results, draft.meta, draft.seq)

    def faces(self, meta: Meta, face_ids: Iterable[str]) -> dict[str, Face]:
        """Those of the faces that exist, by id."""
        items = self.table.get_many(face_key(meta.pk, i) for i in face_ids)
        return {key[1][2:]: face_of(meta.ref, item) for key, item in items.items()}

    def templates_of(self, meta: Meta, seqs: Sequence[int]) -> dict[int, npt.NDArray[np.float32]]:
        """Templates by their seqs, (d,) float32 each; those that are gone are left out."""
        keys: dict[Key, int] = {log_key(meta.pk, seq): seq for seq in seqs}
        return {
            keys[key]: np.frombuffer(item["v"], dtype="<f2").astype(np.float32)
            for key, item in self.table.get_many(keys, attributes=("v",)).items()
            if "v" in item
        }


def require_face_ids(face_ids: Sequence[str]) -> None:
    """Raise :class:`InvalidInput` unless all are canonical UUIDs."""
    if not all(FACE_PATTERN.fullmatch(face_id) for face_id in face_ids):
        raise InvalidInput("a face id is a UUID in lower case, with hyphens")


def new_generation() -> str:
    return uuid.uuid4().hex[:16]


def page_token(listing: str, last: str) -> str:
    """Opaque to the caller; names the listing that it is of, so that no other takes it."""
    check = zlib.crc32(f"{listing}\n{last}".encode())
    return encode_base64(check.to_bytes(4, "big") + last.encode(), url=True)


def page_start(listing: str, token: str) -> str:
    """The last id of the page before; empty for no token. Raises :class:`InvalidPage`."""
    if not token:
        return ""
    try:
        last = decode_base64(token, url=True)[4:].decode()
    except ValueError:
        last = ""
    if not LISTED_PATTERN.fullmatch(last) or page_token(listing, last) != token:
        raise InvalidPage("the paging token is not from this listing; list again without one")
    return last
