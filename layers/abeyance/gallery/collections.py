"""Collections: made, listed, and removed with everything in them."""

from __future__ import annotations

from typing import Any

from abeyance.gallery.core import ATTEMPTS, Core, new_generation, page_start, page_token
from abeyance.gallery.errors import CollectionExists, CollectionNotFound, GalleryBusy, InvalidInput
from abeyance.gallery.items import END, Meta, purge_key
from abeyance.gallery.model import Collection, CollectionRef, Page
from abeyance.gallery.table import PARTITION, SORT, Conflict, Delete, Objects, Put, Table

#: Changes in a segment.
SPAN = 16_384


class Collections(Core):
    """The part of :class:`~abeyance.gallery.port.Gallery` on whole collections.

    Parameters
    ----------
    span
        Changes in a snapshot segment of a collection that is created here.
    vector_index
        Name of the table's vector index, which templates of collections that are created here go into; empty
        for none. It must be of the length of their templates.
    """

    def __init__(
        self, table: Table, objects: Objects, *, span: int = SPAN, vector_index: str = "", **rest: Any
    ) -> None:
        super().__init__(table, objects, **rest)
        self._span = span
        self._vector_index = vector_index

    def create_collection(self, ref: CollectionRef, *, model: str, dimension: int) -> Collection:
        if not model or dimension < 1:
            raise InvalidInput("a collection needs the identity of its model and the length of its templates")
        meta = Meta(ref, new_generation(), model, dimension, self.now(), self._span, index=self._vector_index)
        try:
            self.table.transact([Put(meta.item(), absent=True)])
        except Conflict:
            # Either it exists, or somebody is at it this moment, and then it will.
            raise CollectionExists("there is a collection of that name already") from None
        return meta.public()

    def describe(self, ref: CollectionRef) -> Collection:
        return self.meta(ref).public()

    def list_collections(self, tenant: str, *, limit: int = 100, token: str = "") -> Page[Collection]:
        CollectionRef(tenant, "any")
        listing = f"collections of {tenant}"
        start = page_start(listing, token)
        # A space sorts before every character of a name, so this is the first key after ``start``.
        first = f"C#{start} " if start else "C#"
        found = [
            Meta.of(item).public() for item in self.table.query(tenant, first, f"C#{END}", limit=limit + 1)
        ]
        items = tuple(found[:limit])
        return Page(items, page_token(listing, items[-1].ref.name) if len(found) > limit else "")

    def delete_collection(self, ref: CollectionRef) -> None:
        existed = self._unlist(ref)
        if not self._purge(ref.tenant, f"D#{ref.name}#") and not existed:
            raise CollectionNotFound("there is no collection of that name")

    def _unlist(self, ref: CollectionRef) -> bool:
        """Take a collection out of the listing and note that its items are to be removed."""
        for attempt in range(ATTEMPTS):
            meta = self.find_meta(ref)
            if meta is None:
                return False
            pk, sk = purge_key(ref, meta.generation)
            note = Put({PARTITION: pk, SORT: sk, "since": self.now()})
            try:
                self.table.transact([Delete(meta.key, expect={"generation": meta.generation}), note])
            except Conflict:
                # Somebody deleted it first, or is changing it this moment.
                self.pause(attempt)
            else:
                return True
        raise GalleryBusy("others are changing the collection; try again after a moment")

    def sweep(self, tenant: str) -> int:
        """Finish the deletions of a tenant's collections that were interrupted; returns how many."""
        return self._purge(tenant, "D#")

    def _purge(self, tenant: str, prefix: str) -> int:
        count = 0
        for note in self.table.query(tenant, prefix, f"{prefix}{END}"):
            name, generation = note[SORT][2:].split("#")
            pk = f"{tenant}#{name}#{generation}"
            self.table.delete_many(
                (pk, item[SORT]) for item in self.table.query(pk, " ", END, attributes=(SORT,))
            )
            self.objects.delete(self.objects.list(object_prefix(CollectionRef(tenant, name), generation)))
            self.table.delete_many([(tenant, note[SORT])])
            count += 1
        return count


def object_prefix(ref: CollectionRef, generation: str) -> str:
    """Where a collection's segments lie in the bucket."""
    return f"{ref.tenant}/{ref.name}/{generation}/"


__all__ = ["Collections", "object_prefix"]
